"""Boards over serial; knows nothing of `cfl_edge`."""
