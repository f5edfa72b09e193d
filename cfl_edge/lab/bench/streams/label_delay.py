"""When the labels of the frames of a stream arrive."""

from __future__ import annotations

from collections import deque
from typing import final


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
