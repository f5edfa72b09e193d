"""How much memory a learner takes within a process that others have used before."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import final

from cfl_edge.core.allocator import give_back
from cfl_edge.loop.metrics import PeakMemory

MIB = 2**20


@final
class LearningMemory:
    """Peak growth of resident memory while a learner is built, predicts and learns.

    Evaluations are left out (`pause`, `resume`). What earlier learners freed goes back to the
    system first, as far as the C library can: what it keeps all the same is used again without
    growth, and the first learner of a process brings what libraries load at their first use. The
    same learner differs by about 8 MiB by what ran before it. `cfl-edge bench memory` measures a
    step in a process of its own.

    Example:
        >>> memory = LearningMemory()
        >>> memory.pause()
        >>> memory.peak_bytes >= 0
        True
    """

    def __init__(self) -> None:
        gc.collect()
        give_back()
        self._start_bytes = resident_bytes()
        self._segment: PeakMemory | None = None
        self._before_bytes = 0
        self.peak_bytes = 0
        self.resume()

    def resume(self) -> None:
        """Begin to count."""
        self._before_bytes = resident_bytes() - self._start_bytes
        self._segment = PeakMemory()

    def pause(self) -> None:
        """Count no more until `resume`."""
        if self._segment is not None:
            growth = self._before_bytes + round(self._segment.growth_mib * MIB)
            self.peak_bytes = max(self.peak_bytes, growth)
            self._segment = None


def resident_bytes() -> int:
    """Return the resident memory of this process now; 0 where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:")), 0)
