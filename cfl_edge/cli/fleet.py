"""`cfl-edge merge`, `subtract` and `fleet`."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import Field

from cfl_edge import defaults
from cfl_edge.cli.declare import command
from cfl_edge.config.settings import ModelFolder, Option, Settings
from cfl_edge.errors import DataError, ModelError, UsageError
from cfl_edge.names import check_name, nfc
from cfl_edge.notices import counted
from cfl_edge.view.reporter import Reporter

if TYPE_CHECKING:
    from cfl_edge.fleet.shared import Synced
    from cfl_edge.model.checkpoint import Saved

app = typer.Typer(
    help="Look at a model that was merged from those of several boards.", no_args_is_help=True
)

Out = Annotated[
    Path,
    Option(
        "New folder for the merged model.", metavar="DIR", flags=("--out", "-o"), example="merged"
    ),
]


class MergeSettings(Settings):
    """Every option of `cfl-edge merge`."""

    models: Annotated[
        list[str],
        Option(
            "Model folders, DIR or BOARD=DIR; a merged one stands for its boards.",
            positional=True,
            metavar="DIR",
        ),
    ]
    out: Out
    alias: Annotated[
        list[str],
        Option(
            "Call what boards call NAME by the name CLASS in the merged model.",
            metavar="NAME=CLASS",
        ),
    ] = []  # noqa: RUF012 - pydantic copies it


class SubtractSettings(Settings):
    """Every option of `cfl-edge subtract`."""

    model: ModelFolder
    board: Annotated[str, Option("The board to take out.", metavar="BOARD", example="board1")]
    out: Out


class SyncSettings(Settings):
    """Every option of `cfl-edge fleet sync`."""

    shared: Annotated[
        Path, Option("Folder that all boards see, or that rsync copies.", positional=True)
    ]
    model: Annotated[
        Path, Option("Model folder of this board; learn may be using it.", metavar="DIR")
    ] = defaults.MODEL_FOLDER
    board: Annotated[
        str | None,
        Option("Name of this board in the folder.", metavar="NAME", default="the host's name"),
    ] = None
    every: Annotated[
        float | None,
        Field(gt=0),
        Option("Sync again and again, with S seconds between.", metavar="S"),
    ] = None


class StatusSettings(Settings):
    """Every option of `cfl-edge fleet status`."""

    model: ModelFolder


def merge(settings: MergeSettings, reporter: Reporter) -> None:
    """Merge models of several boards into one that knows what each of them was taught."""
    from cfl_edge.fleet import folder

    aliases = _aliases(settings.alias)
    saved = folder.merge(settings.models, settings.out, aliases=aliases, notice=reporter.notice)
    _tell(saved, settings.out, reporter)


def subtract(settings: SubtractSettings, reporter: Reporter) -> None:
    """Take a board out of a merged model, as if it had never been in it."""
    from cfl_edge.fleet import folder

    saved = folder.subtract(settings.model, settings.board, settings.out, reporter.notice)
    _tell(saved, settings.out, reporter)


@command(app)
def status(settings: StatusSettings, reporter: Reporter) -> None:
    """List the boards of a merged model with their generations and frames, and its classes."""
    from cfl_edge.model.store import Store

    saved = Store(settings.model, on_notice=reporter.notice).load()
    _tell(saved, settings.model, reporter)


@command(app)
def sync(settings: SyncSettings, reporter: Reporter) -> None:
    """Share what a board has learned through a folder, and take what other boards have there."""
    from cfl_edge.fleet import shared

    board = settings.board or socket.gethostname()
    while True:
        try:
            done = shared.sync(settings.model, settings.shared, board, reporter.notice)
            if settings.every is None:
                break
            if done.sent_bytes or done.changed:
                reporter.notice("; ".join(_synced(done)))
        except (DataError, ModelError) as error:  # no share for a while, or no model yet
            if settings.every is None:
                raise
            reporter.notice(f"{error.problem}; next try in {settings.every:g} s")
        time.sleep(settings.every)
    reporter.summary(vars(done), _synced(done))


def _synced(done: Synced) -> list[str]:
    """Say what a sync did, a line each."""
    sent = f"{done.sent_bytes / 1e6:.2g} MB" if done.sent_bytes else "nothing new"
    boards = counted(len(done.boards), "other board")
    news = "" if done.changed else ", nothing new"
    return [
        f"sent {sent}, generation {done.generation} of {done.board}",
        f"{boards} with {counted(done.frames, 'frame')}{news}",
        *(f"{name} is left out: {why}" for name, why in done.left_out.items()),
    ]


def _aliases(texts: Sequence[str]) -> dict[str, str]:
    """Return the name in the merged model of each name on a board."""
    aliases: dict[str, str] = {}
    for name, into in map(_alias, texts):
        if aliases.setdefault(name, into) != into:
            raise UsageError(
                f"--alias gives {name!r} two names, {aliases[name]!r} and {into!r}",
                hint=f"--alias {name}={into}",
            )
    return aliases


def _alias(text: str) -> tuple[str, str]:
    name, _, into = text.partition("=")
    if not name or not into:
        raise UsageError(f"--alias is {text!r}, expected NAME=CLASS", hint="--alias mug=cup")
    return nfc(name.strip()), check_name(into, source="--alias")


def _tell(saved: Saved, model: Path, reporter: Reporter) -> None:
    """Show the boards and classes of a merged model."""
    from cfl_edge.fleet.folder import boards_of
    from cfl_edge.learner.classes import counts_of

    boards, frames = boards_of(saved, model), counts_of(saved).frames
    lines = ["  frames  generation  board"]
    lines += [f"{b.frames:8d}  {b.generation:10d}  {name}" for name, b in boards.items()]
    lines += ["  frames  class", *(f"{count:8d}  {name}" for name, count in frames.items())]
    lines.append(f"next      cfl-edge export {model} -o {model / 'onnx'}")
    fields = {
        "model": model,
        "boards": {name: vars(board) for name, board in boards.items()},
        "classes": frames,
    }
    reporter.summary(fields, lines)
