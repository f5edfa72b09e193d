"""What every stream of frames can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Self, final

from cfl_edge.errors import DataError, StreamError
from cfl_edge.frame.frame import Frame

WAIT_S = 0.2
"""Longest time between two calls of `Stream.on_wait`: what is asked then is answered at once."""


def closed_error(uri: str) -> StreamError:
    """Return the error for reading a stream after `close`.

    Args:
        uri: The stream's `uri`, credentials masked.
    """
    return StreamError(f"{uri} is closed", hint="open it again with open_stream")


def no_frame_error(uri: str) -> DataError:
    """Return the error for a stream that ended before its first frame."""
    return DataError(
        f"{uri} ended without a single frame",
        hint="a folder with images in it, a clip that plays, or demo:",
    )


class Skipped(NamedTuple):
    """An image that could not be read, and why.

    Args:
        name: Its path as the user would find it.
        reason: One sentence.
    """

    name: str
    reason: str


class Stream(ABC):
    """A source of frames: a context manager, and an iterable of `Frame`.

    A live stream (`live` is True) is a device or a network: the newest frame wins, frames that the
    reader was too slow for are dropped and counted, a lost source is reopened, and it never ends
    on its own. Any other stream drops nothing and ends.

    A stream is read once, by one reader; read to its end, it closes itself. `close`, also from
    another thread, ends the iteration; iterating a closed stream raises `closed_error`. What
    happens on the way (a source lost, found again, an image skipped) goes to the `on_notice` that
    the stream was opened with.

    Example:
        >>> from cfl_edge.stream.open import open_stream
        >>> with open_stream("demo:?frames=3") as stream:
        ...     [frame.index for frame in stream]
        [0, 1, 2]
    """

    uri: str
    """Where the frames come from, credentials masked."""

    live: bool
    """True where the newest frame wins (a device, a network), False where every frame comes."""

    dropped: int
    """Frames so far that the device or the reader was too slow for; 0 unless the stream is live."""

    damaged: int
    """Frames so far that arrived damaged; 0 unless the stream is live."""

    skipped: Sequence[Skipped]
    """Images that could not be read so far, each once; empty for live sources."""

    on_wait: Callable[[], None] | None = None
    """Called in the iterating thread while no frame comes, every `WAIT_S` at least."""

    @abstractmethod
    def description(self) -> str:
        """Return what is read: "/dev/video0: 1280x720 mjpeg at 30 fps (asked 25)"."""

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames.

        Raises:
            StreamError: The source fails for good, or the stream is closed.
        """

    @abstractmethod
    def close(self) -> None:
        """Release the source. Calling it again does nothing."""

    @abstractmethod
    def answer(self, label: str | None, score: float) -> None:
        """Tell the source what was recognised in the newest frame that was read.

        Only a board that listens does anything with it.

        Args:
            label: The class; None for no class.
            score: How sure, 0 to 1.
        """

    @property
    @abstractmethod
    def total(self) -> int | None:
        """Frames from beginning to end; None for live streams and where it is not known."""

    @final
    def __enter__(self) -> Self:
        """Return the stream itself."""
        return self

    @final
    def __exit__(self, *_: object) -> None:
        """Close the stream."""
        self.close()
