"""The seconds of one frame, shared by all that is done in them."""

from __future__ import annotations

import time
from typing import final


@final
class TimeLeft:
    """What is left of a budget, for one piece of work after the other.

    The first one may have all of it, and a budget of 0 lets it do its smallest piece.

    Args:
        budget_s: Seconds; below 0 nothing is to be done, None is for as long as it takes.

    Example:
        >>> TimeLeft(None)(), TimeLeft(0.0)(), TimeLeft(-1.0)()
        (None, 0.0, -1.0)
    """

    def __init__(self, budget_s: float | None) -> None:
        self.budget_s = budget_s
        self._began: float | None = None

    def __call__(self) -> float | None:
        """Return the seconds that are left, as a budget."""
        if self.budget_s is None:
            return None
        now = time.monotonic()
        if self._began is None:
            self._began = now
        return self.budget_s - (now - self._began)
