"""Memory and time of one step, within a process that does nothing else."""

from __future__ import annotations

import gc
import resource
import statistics
import time
from collections.abc import Callable
from typing import final

import torch

from cfl_edge.core.allocator import MIB, give_back, keep_freed_memory, return_freed_memory
from cfl_edge.lab.bench.cases import STEPS, network_of, random_batch, warm_up_batch
from cfl_edge.lab.bench.sweeps import MEMORY, Quantity, Setting
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


MIN_STEPS, MIN_S = 5, 1.0  # both, for the median of the step times
LONG_S = 10.0  # then two steps are enough


def measure(quantity: Quantity, case: str, setting: Setting, optimizer: str, device: str) -> float:
    """Build a case and measure it; to be called once in a process.

    The C library treats freed memory as in `cfl-edge learn`, for all cases alike: with a memory
    limit it returns it at once, so `memory` measures what is needed; without one it retains it, so
    `speed` measures the step and not the clearing of pages.

    Args:
        quantity: What to measure.
        case: One of CASES.
        setting: The configuration.
        optimizer: `sgd`, `momentum` or `adamw`.
        device: "cpu" or "cuda".

    Returns:
        Bytes or milliseconds.

    Raises:
        MemoryError: It does not fit, or RuntimeError from torch's allocator.
    """
    torch.set_num_threads(setting.threads)
    gc.freeze()  # what was loaded before is not searched again
    if quantity == MEMORY:
        return_freed_memory()
    else:
        keep_freed_memory()
    if device == "cpu":
        limit_to_available_memory()
    network = network_of(setting).to(device)
    step = STEPS[case](network, optimizer, setting)
    x, targets = random_batch(setting, device)
    if quantity == MEMORY:
        step(*warm_up_batch(setting, network, device))
        return peak_bytes(lambda: step(x, targets), device)
    step(x, targets)
    return step_ms(lambda: step(x, targets), device)


def peak_bytes(call: Callable[[], object], device: str = "cpu") -> int:
    """Return the peak of memory in a call, above what was used just before it.

    On the CPU this is the resident memory of the process, on CUDA what torch allocates.

    Args:
        call: Runs once.
        device: "cpu" or "cuda".
    """
    if device == "cuda":
        gc.collect()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    memory = MemoryGrowth()
    call()
    memory.pause()
    return memory.peak_bytes


def step_ms(call: Callable[[], object], device: str = "cpu") -> float:
    """Return the median time of a call in milliseconds, after it was called once.

    At least 5 calls and a second, but at most about 10 seconds where two calls take as long.
    """
    times: list[float] = []
    begin = time.perf_counter()
    while True:
        start = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        times.append(now - start)
        enough = len(times) >= MIN_STEPS and now - begin >= MIN_S
        if enough or (len(times) >= 2 and now - begin >= LONG_S):
            return 1e3 * statistics.median(times)
