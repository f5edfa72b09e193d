"""Comparisons and the paper: what no command that runs on a board imports."""
