"""What each command of `cfl-edge` does, as a function that a program can call as well."""
