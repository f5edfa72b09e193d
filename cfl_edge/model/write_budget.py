"""How often a file may be rewritten, so that no day writes more than was agreed.

Flash memory wears by what is written. What is not written is saved up, so that an hour of teaching
is saved as often as was asked for; only who learns all day waits longer between two saves.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping

DAY_S = 86_400.0

SAVED_UP = 0.5
"""Of a day's bytes that may be saved up; the rest comes in evenly, so that both make a day.

Half of the default is 58 checkpoints of the default network: half an hour of teaching.
"""


RECENT = 8
"""Writes that tell what one takes: what did not change since the last is not written again."""


class WriteBudget:
    """Bytes that may be written, as a bucket that fills evenly and runs over.

    In any 24 hours no more than a day's bytes are written, as long as a file is smaller than the
    bucket. A larger one is written when the bucket is full, and the time it then takes to fill
    again makes up for it.

    Args:
        day_bytes: Bytes a day.
        what: What is written, as notices name it.
        option: What set the bytes, as notices name it.
        on_notice: Called when writes become rarer than was asked for.
        clock: Seconds that never go back.

    Example:
        >>> now_s = [0.0]
        >>> budget = WriteBudget(
        ...     100e6, "a checkpoint", "--write-gb-per-day 0.1", print, clock=lambda: now_s[0]
        ... )
        >>> for _ in range(3):
        ...     if budget.allows():
        ...         budget.note(25_000_000)
        a checkpoint writes 25.0 MB: --write-gb-per-day 0.1 allows one every 12.0 h
        >>> now_s[0] = 12 * 3600.0
        >>> budget.allows()
        True

    Source: token bucket (Turner, New directions in communications, 1986).
    """

    def __init__(
        self,
        day_bytes: float,
        what: str,
        option: str,
        on_notice: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._day_bytes, self._what, self._option = day_bytes, what, option
        self._on_notice, self._clock = on_notice, clock
        self._full_bytes = SAVED_UP * day_bytes
        self._bytes_per_s = (1 - SAVED_UP) * day_bytes / DAY_S
        self._left_bytes = self._full_bytes
        self._looked_s = clock()
        self._told = False
        self._recent_bytes: deque[int] = deque(maxlen=RECENT)

    @property
    def write_bytes(self) -> int:
        """Bytes that a write takes: the most of the last few; 0 before the first."""
        return max(self._recent_bytes, default=0)

    @property
    def left_bytes(self) -> float:
        """Bytes in the bucket; less than 0 for a debt."""
        now_s = self._clock()
        flowed_bytes = (now_s - self._looked_s) * self._bytes_per_s
        self._left_bytes = min(self._full_bytes, self._left_bytes + flowed_bytes)
        self._looked_s = now_s
        return self._left_bytes

    def allows(self) -> bool:
        """Return whether a write may follow now."""
        left_bytes = self.left_bytes
        if left_bytes >= min(self.write_bytes, self._full_bytes):
            self._told = self._told and left_bytes < self._full_bytes
            return True
        if not self._told:
            self._told = True
            every_s = self.write_bytes / self._bytes_per_s
            wait_s = (min(self.write_bytes, self._full_bytes) - left_bytes) / self._bytes_per_s
            late = f", the next in {duration(wait_s)}" if wait_s > every_s else ""
            self._on_notice(
                f"{self._what} writes {self.write_bytes / 1e6:.1f} MB: {self._option} allows one "
                f"every {duration(every_s)}{late}"
            )
        return False

    def note(self, written_bytes: int) -> None:
        """Subtract a write from the bucket, allowed or not.

        Args:
            written_bytes: Of one write, whether it succeeded or not.
        """
        self._left_bytes = self.left_bytes - written_bytes
        self._recent_bytes.append(written_bytes)

    def a_day_bytes(self, interval_s: float) -> float:
        """Return what a day writes at most, with a write after each interval.

        Args:
            interval_s: Seconds between two writes where the budget does not make them rarer.
        """
        return min(self.write_bytes * DAY_S / interval_s, max(self._day_bytes, self.write_bytes))

    def saved(self, unix_s: float) -> dict[str, float]:
        """Return the bucket as it will be after the next write, for `resume`.

        Args:
            unix_s: Now.
        """
        return {
            "left_bytes": round(self.left_bytes - self.write_bytes),
            "write_bytes": self.write_bytes,
            "unix_s": round(unix_s),
        }

    def resume(self, saved: Mapping[str, float], unix_s: float) -> None:
        """Continue with the bucket of an earlier run.

        A clock that was set back meanwhile adds no bytes; one set forward fills the bucket.

        Args:
            saved: From `saved`.
            unix_s: Now.
        """
        away_s = max(0.0, unix_s - saved["unix_s"])
        left_bytes = saved["left_bytes"] + away_s * self._bytes_per_s
        self._left_bytes, self._looked_s = min(self._full_bytes, left_bytes), self._clock()
        self._recent_bytes.append(int(saved["write_bytes"]))


def duration(seconds: float) -> str:
    """Return a time in the unit that one would say it in.

    Example:
        >>> [duration(s) for s in (42.4, 570, 9000, 400_000)]
        ['42 s', '9.5 min', '2.5 h', '4.6 days']
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    for unit, unit_s, below in (("min", 60.0, 100), ("h", 3600.0, 48)):
        if seconds < below * unit_s:
            return f"{seconds / unit_s:.1f} {unit}"
    return f"{seconds / DAY_S:.1f} days"
