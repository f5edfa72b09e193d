"""`cfl-edge merge`, `subtract` and `fleet`."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import Field, NonNegativeInt, PositiveFloat

from cfl_edge import defaults
from cfl_edge.cli.declare import command
from cfl_edge.config.settings import ModelSettings, Option, Settings
from cfl_edge.errors import ModelError, ModelVersionError, UsageError, quoted
from cfl_edge.names import check_name
from cfl_edge.notices import counted
from cfl_edge.text import nfc
from cfl_edge.view.reporter import Reporter

if TYPE_CHECKING:
    from cfl_edge.fleet.shared import Synced
    from cfl_edge.model.checkpoint import Saved

app = typer.Typer(
    help="Let boards share what they learn, and look at a model merged from theirs.",
    no_args_is_help=True,
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


class SubtractSettings(ModelSettings):
    """Every option of `cfl-edge subtract`."""

    board: Annotated[str, Option("The board to take out.", metavar="BOARD", example="board1")]
    out: Out


Board = Annotated[
    str | None,
    Option("Name of this board.", metavar="NAME", default="the host's, or that of the group"),
]
BoardModel = Annotated[
    Path, Option("Model folder of this board; learn may be using it.", metavar="DIR")
]
MinCount = Annotated[
    NonNegativeInt, Option("Classes of fewer frames are not given away.", metavar="N")
]
Address = Annotated[str, Option("HOST:PORT of the server.", positional=True, metavar="ADDRESS")]
Ca = Annotated[
    Path | None,
    Option("Certificate that the server's is checked with; without it, no TLS.", metavar="FILE"),
]


class SyncSettings(Settings):
    """Every option of `cfl-edge fleet sync`."""

    shared: Annotated[
        Path, Option("Folder that all boards see, or that rsync copies.", positional=True)
    ]
    model: BoardModel = defaults.MODEL_FOLDER
    group: Annotated[
        Path | None,
        Option("In place of a model: the folder of boards that take part as one.", metavar="DIR"),
    ] = None
    board: Board = None
    min_count: MinCount = 0
    every: Annotated[
        PositiveFloat | None, Option("Sync again and again, with S seconds between.", metavar="S")
    ] = None


class ServerSettings(Settings):
    """Every option of `cfl-edge fleet server`."""

    shared: Annotated[Path, Option("Folder for the boards' reports.", positional=True)]
    host: Annotated[str, Option("Address to listen on; 0.0.0.0 for all.", metavar="HOST")] = (
        "127.0.0.1"
    )
    port: Annotated[int, Field(ge=1, le=65535), Option("Port to listen on.", metavar="PORT")] = (
        defaults.FLEET_PORT
    )
    cert: Annotated[Path | None, Option("Certificate, for TLS.", metavar="FILE")] = None
    key: Annotated[Path | None, Option("Its private key.", metavar="FILE")] = None
    ca: Annotated[Path | None, Option("Certificate that signed it.", metavar="FILE")] = None
    registered: Annotated[
        bool, Option("Only boards whose key was registered take part, see docs/fleet.md.")
    ] = False


class JoinSettings(Settings):
    """Every option of `cfl-edge fleet join`."""

    address: Address
    model: BoardModel = defaults.MODEL_FOLDER
    board: Board = None
    min_count: MinCount = 0
    ca: Ca = None
    key: Annotated[
        Path | None, Option("Private key of this board, where --registered asks.", metavar="FILE")
    ] = None


class RoundSettings(Settings):
    """Every option of `cfl-edge fleet round`."""

    address: Address
    ca: Ca = None
    answer_s: Annotated[
        PositiveFloat, Option("Seconds that boards have for an answer.", metavar="S")
    ] = 60.0


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
def status(settings: ModelSettings, reporter: Reporter) -> None:
    """List the boards of a merged model with their frames, and its classes.

    The generation of a board is the number of the checkpoint that it reported.
    """
    from cfl_edge.model.store import Store

    saved = Store(settings.model, on_notice=reporter.notice).load()
    _tell(saved, settings.model, reporter)


@command(app)
def server(settings: ServerSettings, reporter: Reporter) -> None:
    """Run the server of a fleet, Flower's SuperLink, until it is stopped."""
    from cfl_edge.fleet import flower_run

    if not settings.shared.is_dir():
        raise UsageError(
            f"{settings.shared} does not exist, expected the folder for the boards' reports",
            hint=f"mkdir -p {quoted(settings.shared)}",
        )
    words = ["--host", settings.host, "--port", str(settings.port)]
    of_tls = {"certfile": settings.cert, "keyfile": settings.key, "ca-certfile": settings.ca}
    if not any(of_tls.values()):
        words.append("--insecure")
    else:
        hint = "--cert server.pem --key server.key --ca ca.crt"
        for name, path in of_tls.items():
            words += [f"--ssl-{name}", _file(path, hint)]
    words += ["--enable-supernode-auth"] if settings.registered else []
    address = f"{settings.host}:{settings.port}"
    reporter.notice(f"fleet server on {address}, reports in {settings.shared}")
    flower_run.run_server(words, settings.shared)


@command(app)
def join(settings: JoinSettings, reporter: Reporter) -> None:
    """Let a board take part in the rounds of a server until stopped; learn may be running."""
    from cfl_edge.fleet import flower_run
    from cfl_edge.fleet.contribution import check_board

    board = check_board(settings.board or socket.gethostname())
    words = ["--superlink", settings.address]
    if settings.ca is None:
        words.append("--insecure")
    else:
        words += ["--root-certificates", _file(settings.ca, "--ca ca.crt")]
    if settings.key is not None:
        words += ["--auth-supernode-private-key", _file(settings.key, "--key board.key")]
    reporter.notice(f"{board} takes part in the rounds of {settings.address}")
    flower_run.run_board(words, board, settings.model, settings.min_count)


@command(app, "round")
def round_(settings: RoundSettings, reporter: Reporter) -> None:
    """Ask all boards of a server for what is new, and send each the sum of the others."""
    from cfl_edge.fleet import flower_run

    ca = None if settings.ca is None else _file(settings.ca, "--ca ca.crt")
    done = flower_run.run_round(settings.address, ca, settings.answer_s)
    lines = [
        f"reported   {', '.join(done['boards']) or 'no board'}",
        f"took       {', '.join(done['took']) or 'no board'}",
        f"received   {done['received_bytes'] / 1e6:.2g} MB",
        *(f"problem    {name}: {why}" for name, why in done["problems"].items()),
    ]
    reporter.summary(done, lines)


def _file(path: Path | None, hint: str) -> str:
    """Return the absolute path of a file that Flower reads; its own error is a traceback."""
    if path is None or not path.is_file():
        raise UsageError(
            f"{'no file was given' if path is None else f'{path} is no file'}, expected a "
            "certificate or key in PEM",
            hint=hint,
        )
    return str(path.resolve())


@command(app)
def sync(settings: SyncSettings, reporter: Reporter) -> None:
    """Share what a board has learned through a folder, and take what other boards have there.

    The generation of a report is the number of the model's checkpoint, so a later one replaces it.
    With --every it goes on where a share or a model is missing, which may come; what does not heal
    by itself, such as two boards of one name, ends it.
    """
    from cfl_edge.fleet import shared
    from cfl_edge.fleet.contribution import check_board

    group, told, news = settings.group, set[str](), set[str]()
    if group is not None and "model" in settings.model_fields_set:
        raise UsageError(
            f"--model is {settings.model} and --group is {group}, expected one of them: a group "
            "takes part with what its boards report, not with a model",
            hint=f"cfl-edge fleet sync {quoted(settings.shared)} --group {quoted(group)}",
        )

    def notice(text: str) -> None:
        """Tell what was not told in the round before."""
        news.add(text)
        if text not in told:
            reporter.notice(text)

    board = settings.board or (group.resolve().name if group else socket.gethostname())
    check_board(board)
    while True:
        try:
            done = shared.sync(
                group or settings.model,
                settings.shared,
                board,
                notice,
                min_count=settings.min_count,
                is_group=group is not None,
            )
            if settings.every is None:
                break
            if done.sent_bytes or done.changed:
                reporter.notice("; ".join(_synced(done)))
        except ModelError as error:  # no share for a while, or no model yet
            if settings.every is None or isinstance(error, ModelVersionError):
                raise
            notice(f"{error.problem}; trying again every {settings.every:g} s")
        told, news = news, set()
        time.sleep(settings.every)
    reporter.summary(vars(done), _synced(done))


def _synced(done: Synced) -> list[str]:
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
    for text in texts:
        name, _, into = text.partition("=")
        if not name or not into:
            raise UsageError(f"--alias is {text!r}, expected NAME=CLASS", hint="--alias mug=cup")
        name, into = nfc(name.strip()), check_name(into, source="--alias")
        if aliases.setdefault(name, into) != into:
            raise UsageError(
                f"--alias gives {name!r} two names, {aliases[name]!r} and {into!r}",
                hint=f"--alias {name}={into}",
            )
    return aliases


def _tell(saved: Saved, model: Path, reporter: Reporter) -> None:
    """Show the boards and classes of a merged model."""
    from cfl_edge.fleet.folder import boards_of
    from cfl_edge.learner.classes import counts_of

    boards, frames = boards_of(saved, model), counts_of(saved).frames
    lines = ["  frames  generation  board"]
    lines += [f"{b.frames:8d}  {b.generation:10d}  {name}" for name, b in boards.items()]
    lines += ["  frames  class", *(f"{count:8d}  {name}" for name, count in frames.items())]
    lines.append(f"next      cfl-edge export {quoted(model)} -o {quoted(model / 'onnx')}")
    fields = {
        "model": model,
        "boards": {name: vars(board) for name, board in boards.items()},
        "classes": frames,
    }
    reporter.summary(fields, lines)
