"""A stream that does not wait: which frame a learner sees next, and when its label arrives."""

from __future__ import annotations

import math
from collections import deque
from typing import final


@final
class StreamClock:
    """Simulated time of a stream whose frames arrive at a fixed rate, ready or not.

    Ghunaim et al., "Real-time evaluation in online continual learning" (CVPR 2023): a learner that
    is slower than the stream sees fewer of its frames. Here the newest wins, as with a camera.

    Args:
        frames: T.
        hz: Frames per second; None for a stream that waits.

    Example:
        >>> clock, seen = StreamClock(frames=6, hz=10), []
        >>> while (frame := clock.next_frame()) is not None:
        ...     seen.append(frame)
        ...     clock.spend(0.15)
        >>> seen, clock.dropped
        ([0, 1, 3, 4], 2)
    """

    def __init__(self, frames: int, hz: float | None = None) -> None:
        self.frames, self.hz = frames, hz
        self.now_s = 0.0
        self.dropped = 0
        self._next = 0

    def next_frame(self) -> int | None:
        """Return the newest frame that has arrived, or wait for the next; None at the end."""
        place = self._next
        if self.hz is not None:
            # Rounding: 0.3 * 10 is when the fourth frame arrives, not just before it.
            place = max(place, math.floor(self.now_s * self.hz + 1e-9))
        last = min(place, self.frames)
        self.dropped += last - self._next
        if place >= self.frames:
            self._next = self.frames
            return None
        if self.hz is not None:
            self.now_s = max(self.now_s, place / self.hz)
        self._next = place + 1
        return place

    def spend(self, seconds: float) -> None:
        """Let time pass: what the learner took for a frame."""
        self.now_s += seconds


@final
class LabelDelay:
    """Frames that wait for their labels.

    Args:
        frames: Frames of the stream after which the label arrives; 0 for immediately.

    Example:
        >>> delay = LabelDelay(2)
        >>> [delay.labelled(frame) for frame in (0, 1, 2, 3)], delay.rest()
        ([[], [], [0], [1]], [2, 3])
    """

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self._waiting: deque[int] = deque()

    def labelled(self, frame: int) -> list[int]:
        """Add a frame, and return those whose labels have arrived by then."""
        self._waiting.append(frame)
        labelled = []
        while self._waiting and self._waiting[0] <= frame - self.frames:
            labelled.append(self._waiting.popleft())
        return labelled

    def rest(self) -> list[int]:
        """Return the frames whose labels arrive after the end of the stream."""
        rest = list(self._waiting)
        self._waiting.clear()
        return rest
