"""`python -m cfl_edge` is `cfl-edge`."""

from cfl_edge.cli import main

main()
