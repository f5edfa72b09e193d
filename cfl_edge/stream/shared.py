"""One stream that several read in turn: each frame is read, and decoded, once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, final

from cfl_edge.errors import CflEdgeError
from cfl_edge.stream.frame import Frame
from cfl_edge.stream.source import Stream


@final
class SharedStream:
    """Hands each frame of a stream to every branch, in the order in which they ask.

    No branch may ask for the next frame before all others have had this one.

    Args:
        source: Open; it is left open.

    Example:
        >>> from cfl_edge.stream.open import open_stream
        >>> with open_stream("demo:?frames=2") as source:
        ...     shared = SharedStream(source)
        ...     branches = [iter(shared.branch("door")), iter(shared.branch("bin"))]
        ...     [next(branch).index for _ in range(2) for branch in branches]
        [0, 0, 1, 1]
    """

    def __init__(self, source: Stream) -> None:
        self.source = source
        self._frames: Iterator[Frame] | None = None
        self._newest: Frame | None = None
        self._end: CflEdgeError | None = None
        self._count = 0
        self.branches: list[Branch] = []

    def branch(self, name: str | None) -> Branch:
        """Return a stream of the same frames.

        Args:
            name: What its answers begin with: "door" tells a board "door/open".
        """
        branch = Branch(self, name)
        self.branches.append(branch)
        return branch

    def fail(self, error: CflEdgeError) -> None:
        """End every branch with an error: one of its readers cannot go on."""
        self._end = self._end or error

    def wait(self) -> None:
        """Let every reader do what it does while no frame comes."""
        for branch in self.branches:
            if branch.on_wait is not None:
                branch.on_wait()

    def frame(self, had: int) -> Frame | None:
        """Return the next frame for a branch that has had so many; None at the end.

        Raises:
            CflEdgeError: The source has failed, or `fail` was called.
        """
        if self._end is None and had == self._count:
            if self._frames is None:
                self.source.on_wait = self.wait
                self._frames = iter(self.source)
            try:
                self._newest = next(self._frames, None)
            except CflEdgeError as error:
                self.fail(error)
            self._count += 1
        if self._end is not None:
            raise self._end
        return self._newest


@final
class Branch(Stream):
    """A stream that others read as well, see `SharedStream`."""

    def __init__(self, shared: SharedStream, name: str | None) -> None:
        self._shared, self._name = shared, name

    def __getattr__(self, name: str) -> Any:
        """Return `uri`, `dropped` and the like as the source has them."""
        return getattr(self._shared.source, name)

    @property
    def total(self) -> int | None:
        """As the source has it."""
        return self._shared.source.total

    def description(self) -> str:
        """As the source has it."""
        return self._shared.source.description()

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames.

        Raises:
            StreamError: The source fails for good.
        """
        had = 0
        while (frame := self._shared.frame(had)) is not None:
            had += 1
            yield frame

    def close(self) -> None:
        """Do nothing: the source is left open."""

    def answer(self, label: str | None, score: float) -> None:
        """Tell the source, with the name of this branch."""
        if self._name is not None:
            label = label and f"{self._name}/{label}"
        self._shared.source.answer(label, score)
