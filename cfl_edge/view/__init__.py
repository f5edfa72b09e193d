"""What the terminal and `--json` show."""
