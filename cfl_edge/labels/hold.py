"""The label that somebody holds, and whether learning is paused: one for all who teach."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection
from typing import final

HEARTBEAT_S = 1.0  # of a label that lasts as long as somebody asks for it again


@final
class Hold:
    """What frames are taught from now on.

    Args:
        clock: Returns monotonic seconds.

    Attributes:
        paused: Frames are predicted, and none is learned, whatever its label.
        holds: How often a label was held so far; heartbeats and renames do not count.

    Example:
        >>> hold = Hold()
        >>> hold.set("mug", frames=1)
        'mug'
        >>> hold.take(), hold.take()
        ('mug', None)
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.paused, self.holds = False, 0
        self._clock = clock
        self._asked: str | None = None  # its name when the hold began
        self._label: str | None = None
        self._until_s = self._beat_until_s = math.inf
        self._frames_left = math.inf

    def set(
        self, label: str | None, *, seconds: float = math.inf, frames: float = math.inf
    ) -> str | None:
        """Let a label hold from now on; return what the class is called now.

        Heartbeats go on with what their class is called by now, and do not bring back one that is
        gone.

        Args:
            label: A checked name, or None for no label.
            seconds: How long; without end by default.
            frames: How many frames; without end by default.
        """
        now_s = self._clock()
        self.holds += self.current() is None or label != self._asked
        if label != self._asked or seconds > HEARTBEAT_S or now_s >= self._beat_until_s:
            self._asked = self._label = label
        self._until_s = self._beat_until_s = now_s + seconds
        self._frames_left = frames
        return self._label

    def current(self) -> str | None:
        """Return the label that holds now; None once its time is over."""
        is_over = self._clock() >= self._until_s or self._frames_left <= 0
        return None if is_over else self._label

    def take(self) -> str | None:
        """Return the label of the next frame; unless paused, this uses up one of its frames."""
        label = self.current()
        self._frames_left -= not self.paused
        return label

    def follow(self, names: Collection[str], into: str | None) -> None:
        """Follow a change of the classes: let go of a class that is gone.

        Args:
            names: Classes that were renamed, merged or removed.
            into: Their name from now on; None if they are gone.
        """
        if self._label in names:
            self._label = into
            self._beat_until_s = self._clock() + HEARTBEAT_S  # those that came meanwhile wait
