"""Where labels come from."""
