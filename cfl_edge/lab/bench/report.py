"""What every benchmark reports: the machine, what was measured in which time, and how it ended."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, final

from cfl_edge.loop.interrupts import Interrupts


@dataclass(kw_only=True)
class Report(ABC):
    """What a benchmark found, as far as it came.

    Args:
        machine: See `machine_text`.
        seconds: Of the whole run.
        interrupted: Whether Ctrl-C, SIGTERM or SIGHUP ended it.
    """

    machine: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    interrupted: bool = False

    @abstractmethod
    def done(self) -> str:
        """Say how much was measured."""

    @abstractmethod
    def found(self) -> dict[str, Any]:
        """Return the fields of the last JSON line that are this benchmark's own."""

    @abstractmethod
    def lines(self, command: str) -> list[str]:
        """Return the Markdown.

        Args:
            command: The command line.
        """

    @final
    def fields(self) -> dict[str, Any]:
        """Return the fields of the last JSON line."""
        ended = {"seconds": self.seconds, "interrupted": self.interrupted}
        return {**self.found(), **self.machine, **ended}

    @final
    @contextmanager
    def measuring(self) -> Iterator[Interrupts]:
        """Take the time; a signal ends the block, and what was measured until then stays."""
        began_s = time.monotonic()
        with Interrupts() as interrupts:
            try:
                yield interrupts
            except KeyboardInterrupt:
                self.interrupted = True
        self.seconds = time.monotonic() - began_s


def medians_text(counts: Sequence[int]) -> str:
    """Say of how many measurements the figures are medians.

    Args:
        counts: Of each case.

    Example:
        >>> medians_text([3, 3]), medians_text([3, 2]), medians_text([1]), medians_text([])
        ('median of 3', 'median of 2 to 3', 'measured once', 'nothing measured')
    """
    if not any(counts):
        return "nothing measured"
    least, most = min(counts), max(counts)
    if most == 1:
        return "measured once"
    return f"median of {most}" if least == most else f"median of {least} to {most}"
