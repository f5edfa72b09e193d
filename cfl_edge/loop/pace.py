"""How long learning may take before the next frame comes, less on a hot board."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from cfl_edge.learner.time_left import TimeLeft
from cfl_edge.stream.frame import Frame

FRAMES = 30  # the last ones, over which the camera's rate is measured
USED = 0.75  # of a frame's time; the rest is for reading the next one, and for misjudgement
LATE = 0.25  # of a frame's time; a frame that waited longer for its turn is only predicted
RESTS = -1.0  # budget of a frame without any step, on a hot board
LONGEST_REST_S = 1.0  # between two recorded frames: Ctrl-C must not wait longer


class Pace:
    """Measure the rate of a live stream, and the time that is left for learning a frame.

    Args:
        live: Whether frames come at their own rate.
        budget_s: Seconds per frame, as set by the user; None for the time that is left, or no
            limit where the stream waits.
        allowed_share: Returns the share of its time that learning may take, 0 to 1; called for each
            frame (`cfl_edge.loop.heat_policy.HeatPolicy`). Below 1, a live stream predicts every
            frame and takes steps at some; a recorded stream waits in between, so that it is learned
            all the same.
        part: Of a frame's time that is this learner's, 0 to 1; the rest is of other zones.

    Example:
        >>> Pace(live=False).budget_s() is None
        True
        >>> Pace(live=True, budget_s=0.005).budget_s()
        0.005
    """

    def __init__(
        self,
        live: bool,
        budget_s: float | None = None,
        allowed_share: Callable[[], float] = lambda: 1.0,
        part: float = 1.0,
    ) -> None:
        self._part = part
        self._live, self.given_s, self._allowed_share = live, budget_s, allowed_share
        self._share = 1.0
        self._saved = 0.0  # learning time saved up, in frames
        self._rests = False
        self._taken: deque[tuple[int, float]] = deque(maxlen=FRAMES)
        self._waited_s: deque[float] = deque(maxlen=FRAMES)  # from its time to its turn
        self._began_s = 0.0
        self._given_left_s = TimeLeft(budget_s)

    def begin(self, frame: Frame, began_s: float | None = None) -> None:
        """Note that work on a frame begins.

        Args:
            frame: The frame.
            began_s: Monotonic time at which it began; None for now.
        """
        self._began_s = time.monotonic() if began_s is None else began_s
        self._given_left_s = TimeLeft(self.given_s)
        self._taken.append((frame.index, frame.timestamp_s))
        self._waited_s.append(self._began_s - frame.timestamp_s)
        self._share = self._allowed_share()
        if self._live:
            self._saved = min(1.0, self._saved + self._share)
            self._rests = self._saved < 1.0
            self._saved -= not self._rests

    @property
    def period_s(self) -> float | None:
        """Seconds between two frames of the camera, dropped ones included; None while unknown."""
        if len(self._taken) < 2:
            return None
        (first, first_s), (last, last_s) = self._taken[0], self._taken[-1]
        return (last_s - first_s) / (last - first) if last > first else None

    def rest_s(self) -> float:
        """Return how long to wait after a recorded frame, to keep learning within its share.

        Example:
            >>> Pace(live=False).rest_s()
            0.0
        """
        if self._live or self._share >= 1:
            return 0.0
        if self._share <= 0:
            return LONGEST_REST_S
        took_s = time.monotonic() - self._began_s
        return min(LONGEST_REST_S, took_s * (1 / self._share - 1))

    def budget_s(self) -> float | None:
        """Return the seconds that learning may take now.

        None: no limit. 0: one piece of work. Below 0: no work at all, because earlier frames took
        too long and this one is late, or because the board is hot.
        """
        if self._rests:
            return RESTS
        if self.given_s is not None:
            return self._given_left_s()
        if not self._live:
            return None
        period_s = self.period_s
        if period_s is None:
            return 0.0
        late_s = self._waited_s[-1] - min(self._waited_s)
        left_s = self._part * USED * period_s - late_s - (time.monotonic() - self._began_s)
        return left_s if late_s > LATE * period_s else max(0.0, left_s)
