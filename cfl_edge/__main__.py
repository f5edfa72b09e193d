"""`python -m cfl_edge` is `cfl-edge`."""

from cfl_edge.cli.app import main

main()
