"""The board's clock on the host's: when was the image that has just arrived taken?"""

from __future__ import annotations

import math
from typing import final

WINDOW_S = 60.0
"""How long the fastest message counts: two clocks of 50 ppm each drift by 6 ms a minute."""

LONGEST_S = 10.0
"""No message takes longer to arrive: a larger difference means that the board's clock was reset."""


@final
class BoardClock:
    """Estimates the offset of the board's clock from the host's.

    Every message carries the board's time and arrives some time later. The smallest difference
    within one to two minutes belongs to the fastest message; what other messages need beyond that
    is their latency: capture, coding and wire, less what the fastest (a HELLO, an ACK) needs.

    Example:
        >>> clock = BoardClock()
        >>> clock.host_s(1000, arrived_s=50.0)
        50.0
        >>> clock.host_s(1500, arrived_s=50.7), f"{clock.latency_s:.1f} s"
        (50.5, '0.2 s')

    Source: the minimum filter of Mills, "Internet Time Synchronization", 1991 (NTP), one way.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start over: the board has restarted."""
        self.latency_s = 0.0
        self._t_ms: int | None = None
        self._board_s = 0.0
        self._begun_s = 0.0
        self._smallest_s = self._before_s = math.inf

    def host_s(self, t_ms: int, arrived_s: float) -> float:
        """Return when, on the host's clock, the board wrote this time; at most the arrival.

        Args:
            t_ms: The board's milliseconds, 32 bits that wrap; 0 is a board without a clock.
            arrived_s: The host's clock at the arrival, seconds.
        """
        if t_ms == 0:
            return arrived_s
        self._advance(t_ms)
        if arrived_s - self._begun_s > WINDOW_S:
            self._before_s, self._smallest_s = self._smallest_s, math.inf
            self._begun_s = arrived_s
        self._smallest_s = min(self._smallest_s, arrived_s - self._board_s)
        offset_s = min(self._smallest_s, self._before_s)
        self.latency_s = arrived_s - self._board_s - offset_s
        if self.latency_s > LONGEST_S:
            self.reset()
            return self.host_s(t_ms, arrived_s)
        return self._board_s + offset_s

    def _advance(self, t_ms: int) -> None:
        """Continue counting from the last time; images are older than what is sent between them."""
        step_ms = t_ms if self._t_ms is None else (t_ms - self._t_ms) & 0xFFFFFFFF
        if self._t_ms is not None and step_ms >= 1 << 31:
            step_ms -= 1 << 32
        self._t_ms = t_ms
        self._board_s += step_ms / 1000
