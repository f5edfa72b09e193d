"""How much memory a computation takes within this process."""

from __future__ import annotations

import gc
import resource
from typing import final

from cfl_edge.core.allocator import MIB, give_back
from cfl_edge.loop.metrics import PeakMemory, status_bytes


@final
class MemoryGrowth:
    """Peak growth of resident memory from now on, pauses left out.

    What was freed before goes back to the system first, as far as the C library can: what it
    retains is used again without growth, and the first user of a process pays for what libraries
    load at their first use. The same learner differs by about 8 MiB by what ran before it in the
    process; `cfl-edge bench memory` measures in a process of its own.

    Example:
        >>> memory = MemoryGrowth()
        >>> memory.pause()
        >>> memory.peak_bytes >= 0
        True
    """

    def __init__(self) -> None:
        gc.collect()
        give_back()
        self._start_bytes = status_bytes("VmRSS")
        self._segment: PeakMemory | None = None
        self._before_bytes = 0
        self.peak_bytes = 0
        self.resume()

    def resume(self) -> None:
        """Start counting."""
        self._before_bytes = status_bytes("VmRSS") - self._start_bytes
        self._segment = PeakMemory()

    def pause(self) -> None:
        """Stop counting until `resume`."""
        if self._segment is not None:
            growth = self._before_bytes + round(self._segment.growth_mib * MIB)
            self.peak_bytes = max(self.peak_bytes, growth)
            self._segment = None


def limit_to_available_memory() -> None:
    """Let allocations fail beyond what the system can give, instead of having Linux kill us."""
    available = status_bytes("MemAvailable", "/proc/meminfo")
    if available:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (status_bytes("VmData") + available, hard))
