"""Options that several commands share, and what they do with a stream and its view."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cfl_edge.loop.progress import Progress
    from cfl_edge.view.view import View

Json = Annotated[bool, typer.Option("--json", help="JSON lines on stdout, the summary last.")]
Stream = Annotated[
    str | None,
    typer.Option(
        help="/dev/video0, rtsp://…, http://…, serial:///dev/ttyACM0, clip.mp4, folder/, "
        "'dir/*.jpg' or demo:",
        show_default=False,
    ),
]
RealtimeHz = Annotated[
    float | None,
    typer.Option(
        metavar="HZ",
        help="Frames a second of what was recorded, as a camera sends them: the newest wins.",
    ),
]
Reject = Annotated[
    float | None,
    typer.Option(
        metavar="P",
        help="Answer unknown where more than this share of known things lies nearer: 0.95.",
    ),
]
MaxFrames = Annotated[int | None, typer.Option(min=1, help="Stop after so many frames.")]


def show_on(view: View) -> Callable[[Progress], None]:
    """Show every frame; once nobody reads any more (`| algorithm`), end the loop as Ctrl-C does."""

    def show(progress: Progress) -> None:
        view.show(progress)
        if view.closed:
            signal.raise_signal(signal.SIGINT)

    return show


def require_stream(stream: str | None) -> str:
    """Return the address of the stream.

    Raises:
        UsageError: There is none.
    """
    from cfl_edge.errors import UsageError

    if stream is None:
        raise UsageError("--stream is missing", hint="--stream demo: or --stream /dev/video0")
    return stream
