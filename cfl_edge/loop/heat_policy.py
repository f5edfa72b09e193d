"""On a hot board learning gives way before prediction does.

Only gradient steps are skipped: they take the time. A labelled frame still enters statistics and
replay, and the first frame of a class still adds the class.
"""

from __future__ import annotations

from enum import Enum

from cfl_edge.loop.board_health import BoardHealth, Health
from cfl_edge.notices import Notice, log_notice

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
