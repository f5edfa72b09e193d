"""How many requests one side may send in a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import final

MESSAGES_PER_S = 50.0  # in the long run; acknowledgements and heartbeats of a page are 20
BURST = 100  # at once after a silence


@final
class Rate:
    """A bucket of allowances that fills with time; not for several threads.

    Args:
        clock: Gives seconds that never go back.

    Example:
        >>> rate = Rate(clock=lambda: 0.0)
        >>> [rate.allows() for _ in range(BURST + 2)].count(True) == BURST
        True
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left, self._then_s = float(BURST), clock()

    def allows(self) -> bool:
        """Return whether one more request may pass now, and count it if so."""
        now_s = self._clock()
        self._left = min(BURST, self._left + (now_s - self._then_s) * MESSAGES_PER_S)
        self._then_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True
