"""A video file as a stream of frames."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from typing import final

from cfl_edge.errors import StreamFormatError, UsageError
from cfl_edge.stream.files.clip import Clip
from cfl_edge.stream.files.skips import Skips
from cfl_edge.stream.frame import Frame
from cfl_edge.stream.source import Notice, Skipped, Stream, closed_error, log_notice


@final
class VideoFileStream(Stream):
    """Every frame of a video file, in order.

    The label is the file's name without its ending: `clips/bottle.mp4` shows a bottle. A clip in a
    class's folder is labelled by `FolderStream` instead. `timestamp_s` is the position in the clip.

    Args:
        path: The file.
        epochs: How many times it is gone through, at least 1.
        on_notice: Takes what cannot be decoded, one sentence a call; the rest is read on.

    Raises:
        UsageError: `epochs` is below 1.
        StreamNotFoundError: There is no such file.
        StreamPermissionError: The user may not read it.
        StreamFormatError: It is no video.

    Example:
        >>> with VideoFileStream("bottle.mp4") as stream:  # doctest: +SKIP
        ...     print(next(iter(stream)).label)
        bottle
    """

    live = False

    def __init__(self, path: str, *, epochs: int = 1, on_notice: Notice = log_notice) -> None:
        if epochs < 1:
            raise UsageError(f"epochs is {epochs}, expected at least 1", hint="--epochs 1")
        self.uri = path
        self.label = os.path.splitext(os.path.basename(path))[0]
        self._epochs = epochs
        self._clip: Clip | None = Clip(path)
        self._description = self._clip.description()
        self._total = self._clip.frames and self._clip.frames * epochs
        self._skips = Skips(on_notice)
        self._closed = False
        self._lock = threading.Lock()

    def description(self) -> str:
        """Return size, codec, rate and, where the file tells it, the number of frames."""
        if self.total is None:
            return self._description
        return f"{self._description}, {self.total} frames"

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames.

        Raises:
            StreamError: The stream is closed.
            StreamFormatError: Not one frame could be decoded.
        """
        if self._closed:
            raise closed_error(self.uri)
        return self._read()

    def close(self) -> None:
        """End the iteration; where there is one, its thread closes the file."""
        self._closed = True
        clip = self._take_clip()
        if clip is not None:
            clip.close()

    def answer(self, label: str | None, score: float) -> None:
        """Do nothing: a recording does not listen."""

    @property
    def dropped(self) -> int:
        """0: it waits for its reader."""
        return 0

    @property
    def total(self) -> int | None:
        """Frames of all epochs; None where the file does not tell."""
        return self._total

    @property
    def skipped(self) -> Sequence[Skipped]:
        """The places where frames could not be decoded."""
        return self._skips.all()

    def _read(self) -> Iterator[Frame]:
        index = 0
        for _ in range(self._epochs):
            if self._closed:
                return
            clip = self._take_clip() or Clip(self.uri)
            for image, position_s in clip.read(self._skips.add):
                if self._closed:
                    clip.close()
                    return
                yield Frame(image, timestamp_s=position_s, index=index, label=self.label)
                index += 1
        self.close()
        self._skips.finish(self.uri)
        if index == 0:
            raise StreamFormatError(
                f"{self.uri} has no frame that can be decoded",
                hint=f"look at it with: ffprobe {self.uri}",
            )

    def _take_clip(self) -> Clip | None:
        """Return the clip that was opened to look at it, to one thread only."""
        with self._lock:
            clip, self._clip = self._clip, None
            return clip
