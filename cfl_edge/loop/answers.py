"""Predictions back to the source, where there is somebody to tell: a board that listens."""

from __future__ import annotations

from collections.abc import Callable

from cfl_edge.loop.progress import Progress
from cfl_edge.stream.source import Stream


def answering(
    stream: Stream, on_progress: Callable[[Progress], None]
) -> Callable[[Progress], None]:
    """Return an `on_progress` that also tells the stream what was seen in its newest frame.

    Args:
        stream: Where the frames come from.
        on_progress: Called after that.
    """

    def tell(progress: Progress) -> None:
        stream.answer(progress.prediction, progress.score or 0.0)
        on_progress(progress)

    return tell
