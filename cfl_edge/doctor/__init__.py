"""The checks of `cfl-edge doctor`. Every reading takes its paths and commands as arguments."""
