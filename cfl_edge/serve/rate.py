"""How many requests one side may send in a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import final

MESSAGES_PER_S = 50.0  # acknowledgements and heartbeats of a page are 20
BURST = 100


@final
class Rate:
    """A bucket of allowances that fills with time; not for several threads.

    Args:
        per_s: Requests a second in the long run.
        burst: Requests at once after a silence.
        clock: Gives seconds that never go back.

    Example:
        >>> rate = Rate(per_s=1.0, burst=2, clock=lambda: 0.0)
        >>> rate.allows(), rate.allows(), rate.allows()
        (True, True, False)
    """

    def __init__(
        self,
        per_s: float = MESSAGES_PER_S,
        burst: float = BURST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_s, self._burst, self._clock = per_s, burst, clock
        self._left, self._then_s = float(burst), clock()

    def allows(self) -> bool:
        """Return whether one more request may pass now, and count it if so."""
        now_s = self._clock()
        self._left = min(self._burst, self._left + (now_s - self._then_s) * self._per_s)
        self._then_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True
