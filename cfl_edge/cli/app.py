"""The command line: puts the commands together; each parses, calls one function and reports.

Exit codes stand in `cfl_edge.errors`. Heavy packages are imported by the command that needs them:
`--help` loads none.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from cfl_edge import __version__
from cfl_edge.cli import bench as cli_bench
from cfl_edge.cli import boards as cli_boards
from cfl_edge.cli import classes as cli_classes
from cfl_edge.cli import fleet as cli_fleet
from cfl_edge.cli import paper as cli_paper
from cfl_edge.cli.classes import undo
from cfl_edge.cli.declare import command, without_types
from cfl_edge.cli.doctor import doctor
from cfl_edge.cli.evaluate import evaluate
from cfl_edge.cli.export import export
from cfl_edge.cli.learn import learn, teach
from cfl_edge.cli.look import look, region
from cfl_edge.cli.plan import plan
from cfl_edge.cli.run import run
from cfl_edge.errors import CflEdgeError
from cfl_edge.text import visible

app = typer.Typer(
    help="Learn to recognise things on the board that sees them, without backpropagation.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
command(app, config=True)(learn)
command(app, config=True)(teach)
command(app, config=True)(run)
command(app)(look)
command(app)(region)
command(app)(evaluate)
command(app)(export)
command(app)(cli_fleet.merge)
command(app)(cli_fleet.subtract)
app.add_typer(cli_fleet.app, name="fleet")
app.add_typer(cli_classes.app, name="classes")
command(app)(undo)
command(app)(plan)
command(app)(doctor)
app.add_typer(cli_boards.app, name="boards")
app.add_typer(cli_bench.app, name="bench")
command(app)(cli_paper.train)
command(app)(cli_paper.reproduce)


def main() -> None:
    """Run the command line; an error that a user can meet is one line and an exit code."""
    try:
        without_types(typer.main.get_command(app))(prog_name="cfl-edge")
    except CflEdgeError as error:
        problem, hint = visible(error.problem), visible(error.hint)
        print(f"error: {problem}\n  try: {hint}", file=sys.stderr)
        sys.exit(error.exit_code)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"cfl-edge {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass
