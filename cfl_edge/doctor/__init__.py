"""What `cfl-edge doctor` looks at. Every reading takes its paths and commands as arguments."""
