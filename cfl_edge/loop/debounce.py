"""When a class counts as the state of the scene: once it has been seen for long enough."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from cfl_edge.defaults import STABLE_FRAMES


@dataclass(frozen=True)
class Stability:
    """How long a class must be seen before it is announced as the state.

    Args:
        frames: Consecutive frames of the class, at least 1.
        stable_s: Seconds from the first of them to the newest.
        hold_s: Seconds that an announced state is kept, whatever is seen meanwhile.
    """

    frames: int = STABLE_FRAMES
    stable_s: float = 0.0
    hold_s: float = 0.0


@final
class Debounce:
    """Follows the class of each frame and reports when another one has become the state.

    Nothing is announced between two frames: without frames nothing is known.

    Args:
        stability: How long a class must be seen, and how long a state is kept.

    Attributes:
        state: The class that was announced last; None for no class, as it is at first.

    Example:
        >>> door = Debounce(Stability(frames=2, hold_s=3))
        >>> seen = ["open", "open", "shut", "shut", "shut", "shut"]
        >>> [door.see(label, now_s) for now_s, label in enumerate(seen)]
        [False, True, False, False, True, False]
        >>> door.state
        'shut'
    """

    def __init__(self, stability: Stability = Stability()) -> None:
        self._stability = stability
        self.state: str | None = None
        self._candidate: str | None = None
        self._frames = 0
        self._last_s = math.nan
        self._candidate_s = 0.0  # since the first of its consecutive frames
        self._held_s = math.inf  # since the last announcement

    def see(self, label: str | None, now_s: float) -> bool:
        """Take the class of a frame, None for no class; return whether it is a new state.

        Args:
            label: The class.
            now_s: When the frame was taken, in seconds. Where that goes back, as from one clip to
                the next, no time has passed.
        """
        passed_s = max(0.0, now_s - self._last_s) if self._frames else 0.0
        self._last_s = now_s
        self._held_s += passed_s
        if label == self._candidate and self._frames:
            self._frames += 1
            self._candidate_s += passed_s
        else:
            self._candidate, self._frames, self._candidate_s = label, 1, 0.0
        wanted = self._stability
        if (
            label == self.state
            or self._frames < wanted.frames
            or self._candidate_s < wanted.stable_s
            or self._held_s < wanted.hold_s
        ):
            return False
        self.state, self._held_s = label, 0.0
        return True
