"""A ring of the newest frames, so that a late label still finds its frame.

Time here is stream time: the `timestamp_s` of frames, which for a camera is the monotonic clock. A
step back (the next clip begins at 0) counts as no time at all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import Generic, TypeVar, final

from cfl_edge.defaults import RING_S

T = TypeVar("T")

MIB = 2**20
RING_FRAMES = 300  # 10 s of a camera
RING_BYTES = 64 * MIB  # 300 frames of the default network need 13 MiB
RING_SHARE = 8  # of --memory-mib


def ring_bytes(memory_mib: float | None) -> int:
    """Return what a ring may hold: an eighth of `--memory-mib`, 64 MiB at most.

    Example:
        >>> ring_bytes(32) / MIB, ring_bytes(None) / MIB
        (4.0, 64.0)
    """
    return RING_BYTES if memory_mib is None else min(RING_BYTES, int(memory_mib * MIB / RING_SHARE))


@dataclass(slots=True)
class Kept(Generic[T]):
    """A frame that may be labelled later.

    Args:
        index: Number of the frame in its stream.
        item: What learning needs of it.
        size_bytes: Memory that the item takes.
        known: Its label, if that came with the frame.
        label: What it was labelled; set by `FrameRing.label` and `claim` alone.
        time_s: When it came; set by the ring.
    """

    index: int
    item: T
    size_bytes: int
    known: str | None = None
    label: str | None = None
    time_s: float = 0.0


@dataclass(frozen=True)
class RingLimits:
    """Limits of a ring, whichever is reached first; the newest frame always stays.

    Args:
        seconds: The oldest frame is younger than this.
        frames: How many.
        size_bytes: Memory of all frames together.
    """

    seconds: float = RING_S
    frames: int = RING_FRAMES
    size_bytes: int = RING_BYTES


class NotKeptError(LookupError):
    """The frame that a late label belongs to is not in the ring; the text says what is."""


class LabelledError(LookupError):
    """The frame that a late label belongs to has a label already.

    Args:
        frame: Its number.
        label: The label.
    """

    def __init__(self, frame: int, label: str) -> None:
        super().__init__(f"frame {frame} is labelled {label} already")
        self.frame, self.label = frame, label


@final
class FrameRing(Generic[T]):
    """The newest frames, and which of them is due for its label.

    Args:
        delay_s: Seconds from a frame to its label. With 0 each frame is due at once.
        limits: How much it holds. Frames that were due stay as well: a label may name one of
            them.

    Example:
        >>> ring = FrameRing(delay_s=2.0)
        >>> for i in range(4):
        ...     due, early = ring.add(Kept(i, "image", size_bytes=7), float(i))
        ...     [kept.index for kept in due]
        []
        []
        [0]
        [1]
        >>> ring.claim("mug", seconds_ago=1.5).index
        1
        >>> [kept.index for kept in ring.rest()]
        [2, 3]
    """

    def __init__(self, delay_s: float = 0.0, limits: RingLimits | None = None) -> None:
        self.delay_s = delay_s
        self.limits = limits or RingLimits()
        self._kept: deque[Kept[T]] = deque()
        self._waiting: deque[Kept[T]] = deque()  # the newest of them, which were not due yet
        self.size_bytes = 0  # of all of them
        self._last_s: float | None = None  # `timestamp_s` of the newest frame
        self._now_s = 0.0

    @property
    def frames(self) -> int:
        """How many frames it holds."""
        return len(self._kept)

    @property
    def reach_s(self) -> float:
        """Age of the oldest frame, in seconds."""
        return self._now_s - self._kept[0].time_s if self._kept else 0.0

    def add(self, kept: Kept[T], timestamp_s: float) -> tuple[list[Kept[T]], list[Kept[T]]]:
        """Add the next frame, and drop the oldest ones until all limits hold.

        Args:
            kept: The frame.
            timestamp_s: Its time in the stream, in seconds.

        Returns:
            Those that are due, and those that were dropped before they were due; oldest first.
        """
        due, early = self.pass_time(timestamp_s), []
        kept.time_s = self._now_s
        self._kept.append(kept)
        self._waiting.append(kept)
        self.size_bytes += kept.size_bytes
        due += self.pass_time(timestamp_s)  # itself, without a delay
        while self._is_over():
            oldest = self._kept.popleft()
            self.size_bytes -= oldest.size_bytes
            if self._waiting and self._waiting[0] is oldest:
                early.append(self._waiting.popleft())
        return due, early

    def pass_time(self, timestamp_s: float) -> list[Kept[T]]:
        """Take note of the time of a frame that is not added; return those that are due."""
        if self._last_s is not None:
            self._now_s += max(0.0, timestamp_s - self._last_s)
        self._last_s = timestamp_s
        due = []
        while self._waiting and self._now_s - self._waiting[0].time_s >= self.delay_s:
            due.append(self._waiting.popleft())
        return due

    def _is_over(self) -> bool:
        limits = self.limits
        return len(self._kept) > 1 and (
            self.reach_s >= limits.seconds
            or len(self._kept) > limits.frames
            or self.size_bytes > limits.size_bytes
        )

    def rest(self) -> list[Kept[T]]:
        """Return those that were not due yet, oldest first: the stream has ended."""
        rest = list(self._waiting)
        self._waiting.clear()
        return rest

    def follow(self, names: Collection[str], into: str | None) -> None:
        """Follow a change of the classes: labels that are gone are none.

        Args:
            names: Classes that were renamed, merged or removed.
            into: Their name from now on; None if they are gone.
        """
        for kept in self._kept:
            kept.known = into if kept.known in names else kept.known
            kept.label = into if kept.label in names else kept.label

    def mark(self, frames: Collection[int], label: str | None) -> None:
        """Give labelled frames another label; None for frames that are to be labelled anew.

        Args:
            frames: Their numbers; those that are no longer in memory are passed over.
            label: A checked name.
        """
        for kept in self._kept:
            if kept.index in frames:
                kept.label = label

    def claim(
        self, label: str, *, frame: int | None = None, seconds_ago: float | None = None
    ) -> Kept[T]:
        """Label one of the frames in the ring.

        Args:
            label: A checked name.
            frame: The frame's number in the stream.
            seconds_ago: Or its age: the frame captured this long before the newest one.

        Raises:
            NotKeptError: It is no longer there, or never came.
            LabelledError: It has a label already.
        """
        found = self._at_age(seconds_ago or 0.0) if frame is None else self._numbered(frame)
        if found.label is not None:
            raise LabelledError(found.index, found.label)
        found.label = label
        return found

    def _numbered(self, frame: int) -> Kept[T]:
        for kept in self._kept:
            if kept.index == frame:
                return kept
        if self._kept and self._kept[0].index < frame < self._kept[-1].index:
            raise NotKeptError(f"frame {frame} was dropped, nobody has seen it")
        raise NotKeptError(f"frame {frame} is not in memory, {self._span()}")

    def _at_age(self, seconds_ago: float) -> Kept[T]:
        for kept in reversed(self._kept):
            if self._now_s - kept.time_s >= seconds_ago:
                return kept
        text = f"seconds_ago is {seconds_ago:g}, {self._span()}"
        raise NotKeptError(text)

    def _span(self) -> str:
        if not self._kept:
            return "no frame has come yet"
        first, last = self._kept[0].index, self._kept[-1].index
        return f"expected {first} to {last}, the last {self.reach_s:.1f} s"
