"""How long learning may take before the next frame comes, and less of it on a hot board.

On a hot board only gradient steps are skipped: they take the time. A labelled frame still enters
statistics and replay, and the first frame of a class still adds the class.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from enum import Enum

from cfl_edge.frame.frame import Frame
from cfl_edge.learner.time_left import TimeLeft
from cfl_edge.loop.board_health import BoardHealth, Health
from cfl_edge.notices import Notice, log_notice

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
            frame (`cfl_edge.loop.pace.HeatPolicy`). Below 1, a live stream predicts every
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


WARM_C, HOT_C = 5.0, 0.0  # below a zone's limit
COOLER_C = 3.0  # hysteresis: a fan must not switch learning on and off


class Heat(Enum):
    """How hot the board is; the value is the share of its time that learning may take."""

    NORMAL = 1.0
    WARM = 0.25
    HOT = 0.0


def next_heat(heat: Heat, health: Health) -> Heat:
    """Return the state that follows from a reading.

    Warm at 5 degrees below a zone's limit or while the firmware slows the processor, hot at the
    limit; back 3 degrees further down. Under-voltage alone never stops learning: it can last.

    Example:
        >>> from cfl_edge.loop.board_health import Zone
        >>> zones = [Zone("cpu", degrees, 80.0) for degrees in (76.0, 81.0, 78.0, 74.0, 70.0)]
        >>> heats = [Heat.NORMAL]
        >>> for zone in zones:
        ...     heats.append(next_heat(heats[-1], Health(zones=(zone,))))
        >>> [heat.name for heat in heats[1:]]
        ['WARM', 'HOT', 'HOT', 'WARM', 'NORMAL']
    """
    margin_c = health.zones[0].margin_c if health.zones else float("inf")
    if margin_c <= HOT_C + (COOLER_C if heat is Heat.HOT else 0.0):
        return Heat.HOT
    warm_c = WARM_C + (0.0 if heat is Heat.NORMAL else COOLER_C)
    return Heat.WARM if health.slowed or margin_c <= warm_c else Heat.NORMAL


class HeatPolicy:
    """Limit the share of time that learning takes, and report changes.

    Args:
        board: Read at every call.
        on_notice: Told of each change, in one sentence.

    Attributes:
        board: As given.

    Example:
        >>> from pathlib import Path
        >>> HeatPolicy(BoardHealth(Path("/nowhere"), "no-such-command"), print)()
        1.0
    """

    def __init__(self, board: BoardHealth, on_notice: Notice = log_notice) -> None:
        self.board, self._on_notice = board, on_notice
        self._heat = Heat.NORMAL

    def __call__(self) -> float:
        """Return the share: 1 as usual, 0.25 warm, 0 hot."""
        health = self.board.read()
        heat = next_heat(self._heat, health)
        if heat is not self._heat:
            self._heat = heat
            self._on_notice(f"{_reason(health)}: {_OUTCOMES[heat]}")
        return heat.value


_OUTCOMES = {
    Heat.NORMAL: "learning steps run at full rate again",
    Heat.WARM: f"learning steps are limited to {Heat.WARM.value:.0%} of their time, "
    "prediction continues",
    Heat.HOT: "learning steps pause until it is cooler; labelled frames are stored, "
    "prediction continues",
}


def _reason(health: Health) -> str:
    if health.throttling is not None and health.throttling.now:
        return f"the board reports {', '.join(health.throttling.now)}" + (
            f", {health.zones[0]}" if health.zones else ""
        )
    return str(health.zones[0]) if health.zones else "the board is no longer throttled"
