"""Recorded streams: what can be read at the reader's own pace, and ends."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import replace
from typing import final

from cfl_edge.frame.frame import Frame
from cfl_edge.notices import Notice, log_notice
from cfl_edge.stream.source import Skipped, Stream, closed_error

TOLD = 5
"""In a folder full of damaged files, the first few tell the user what is wrong."""


Images = Generator[Frame, None, None]
"""Of one epoch, not numbered yet; closing it releases what it holds."""


class Recording(ABC):
    """A source of images that ends: a folder, a clip, a rendered demo.

    It says what there is and yields it; `RecordedStream` counts, repeats and closes.
    """

    uri: str
    """Where the images come from."""

    length: int | None
    """Images in one epoch, unreadable ones counted; None where it is not known."""

    @abstractmethod
    def description(self) -> str:
        """Return what there is, in one line: "photos/: 25 files in 2 classes, shuffled"."""

    @abstractmethod
    def read(self, epoch: int, skip: Callable[[Skipped], None]) -> Images:
        """Yield the images of one epoch.

        Args:
            epoch: 0, 1, 2 and so on.
            skip: Called with each thing that cannot be read.

        Raises:
            StreamError: It is gone, or not one image can be read.
        """


@final
class RecordedStream(Stream):
    """The frames of a recording, in order: none is dropped, and then it ends.

    Args:
        recording: What to read.
        epochs: How many times, at least 1; None again and again, until it is closed.
        on_notice: Called with one sentence for each of the first few things that are skipped.

    Example:
        >>> from cfl_edge.stream.demo.stream import Demo
        >>> with RecordedStream(Demo(frames=3), epochs=2) as stream:
        ...     [frame.index for frame in stream]
        [0, 1, 2, 3, 4, 5]
    """

    live, dropped, damaged = False, 0, 0  # it waits for its reader

    def __init__(
        self, recording: Recording, epochs: int | None = 1, on_notice: Notice = log_notice
    ) -> None:
        self.uri = recording.uri
        self._recording, self._epochs, self._on_notice = recording, epochs, on_notice
        self.skipped: list[Skipped] = []
        self._seen: set[Skipped] = set()
        self._closed = False

    def description(self) -> str:
        """Return the recording's description, and how many times it is read."""
        times = {1: "", None: ", again and again"}.get(self._epochs, f", {self._epochs} times")
        return self._recording.description() + times

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames.

        Raises:
            StreamError: The stream is closed, or not one image can be read.
        """
        if self._closed:
            raise closed_error(self.uri)
        return self._frames()

    def close(self) -> None:
        """End the iteration."""
        self._closed = True

    def answer(self, label: str | None, score: float) -> None:
        """Do nothing: a recording does not listen."""

    @property
    def total(self) -> int | None:
        """Frames of all epochs, unreadable ones counted once; None where nobody knows."""
        length = self._recording.length
        if length is None or self._epochs is None:
            return None
        return length * self._epochs - len(self.skipped) * (self._epochs - 1)

    def _frames(self) -> Iterator[Frame]:
        index = 0
        for epoch in itertools.count() if self._epochs is None else range(self._epochs):
            with closing(self._recording.read(epoch, self._skip)) as frames:
                for frame in frames:
                    if self._closed:
                        return
                    yield replace(frame, index=index)
                    index += 1
        self.close()
        if len(self.skipped) > TOLD:
            self._on_notice(
                f"{self.uri}: {len(self.skipped)} skipped in all, the first {TOLD} are named above"
            )

    def _skip(self, skipped: Skipped) -> None:
        if skipped in self._seen:
            return
        self._seen.add(skipped)
        self.skipped.append(skipped)
        if len(self.skipped) <= TOLD:
            self._on_notice(f"{skipped.name} skipped: {skipped.reason}")
