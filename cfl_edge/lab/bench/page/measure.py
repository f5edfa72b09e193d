"""What an audience sees of the page, and what it costs the learner."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from cfl_edge.lab.bench.page.options import Audience
from cfl_edge.lab.bench.page.server import CHECK_S, TeachProcess
from cfl_edge.lab.bench.page.viewer import Viewer

SETTLE_S = 2.0  # for viewers to connect, and for the first pictures
LONGEST_S = 600.0  # for the rest of a run: its start, and answers on a busy machine


@dataclass(frozen=True, slots=True)
class Cost:
    """What the server did in one measurement.

    Args:
        learned_per_s: Frames learned per second.
        steps_per_s: Gradient steps per second.
        cpu_percent: Processor time of all its threads, in percent of one core.
        memory_bytes: Resident memory at the end.
        pictures_per_s: Of each viewer; None without any.
    """

    learned_per_s: float
    steps_per_s: float
    cpu_percent: float
    memory_bytes: int
    pictures_per_s: float | None

    @property
    def learned_per_cpu_s(self) -> float:
        """Frames learned per second of processor time: other programs change it little."""
        return 100 * self.learned_per_s / self.cpu_percent if self.cpu_percent else 0.0


@dataclass
class PageRow:
    """An audience with what was measured.

    Args:
        audience: Who watches.
        base: The row without viewers, measured in turn with this one; None for itself.
        costs: One for each repeat.
        prediction_ms: See `Viewer`; of all viewers and repeats.
        picture_ms: The same.
    """

    audience: Audience
    base: PageRow | None = None
    costs: list[Cost] = field(default_factory=list)
    prediction_ms: list[float] = field(default_factory=list)
    picture_ms: list[float] = field(default_factory=list)

    def median(self, name: str) -> float | None:
        """Return the median over the repeats of a figure of `Cost`; None if it is unknown."""
        known = [value for cost in self.costs if (value := getattr(cost, name)) is not None]
        return statistics.median(known) if known else None

    def ratios(self, name: str) -> list[float]:
        """Return a figure of `Cost` over that without viewers in the same repeat, for each."""
        pairs = zip(self.costs, [] if self.base is None else self.base.costs, strict=False)
        figures = [(getattr(cost, name), getattr(base, name)) for cost, base in pairs]
        return [value / base for value, base in figures if base]

    def fields(self) -> dict[str, Any]:
        """Return the fields of a JSON line."""
        audience = self.audience
        fields: dict[str, Any] = {
            "bench": "page",
            "rate_hz": audience.rate_hz,
            "viewers": audience.viewers,
            "bytes_per_s": audience.bytes_per_s,
        }
        for name in ("prediction_ms", "picture_ms"):
            median, late = percentiles(getattr(self, name))
            fields |= {f"{name}_median": median, f"{name}_p95": late}
        fields |= {name: self.median(name) for name in Cost.__slots__}
        for name in ("learned_per_s", "learned_per_cpu_s"):
            fields[f"{name}_over_none"] = self.ratios(name)
        return fields | {"repeats": len(self.costs)}


def measure_page(
    cases: Sequence[Audience], seconds: float, repeats: int, check: Callable[[], None]
) -> Iterator[tuple[PageRow, Cost]]:
    """Measure audiences of one server in turn, the first of which is nobody.

    Args:
        cases: Of one rate.
        seconds: Length of each measurement.
        repeats: Of each case; every other time they come in reverse order.
        check: Called again and again while it waits; what it raises ends the measurement.

    Yields:
        The row, and what was measured last.

    Raises:
        SessionError: The server fails.
    """
    base = PageRow(cases[0])
    rows = [base, *(PageRow(case, base) for case in cases[1:])]
    most_s = len(cases) * repeats * (seconds + SETTLE_S) + LONGEST_S
    with (
        TemporaryDirectory(prefix="cfl-edge-bench-") as folder,
        TeachProcess(Path(folder), cases[0].rate_hz, most_s, check) as server,
    ):
        for repeat in range(repeats):
            for row in rows[:: -1 if repeat % 2 else 1]:
                row.costs.append(asyncio.run(_measure(server, row, seconds, check)))
                yield row, row.costs[-1]


async def _measure(
    server: TeachProcess, row: PageRow, seconds: float, check: Callable[[], None]
) -> Cost:
    audience = row.audience
    viewers = [Viewer(server.address, audience.bytes_per_s) for _ in range(audience.viewers)]
    tasks = [asyncio.create_task(viewer.watch()) for viewer in viewers]
    try:
        await _watch(tasks, SETTLE_S, check)
        for viewer in viewers:
            viewer.prediction_ms.clear()
            viewer.picture_ms.clear()
        before, began_s = await asyncio.to_thread(server.status), time.monotonic()
        await _watch(tasks, seconds, check)
        after, took_s = await asyncio.to_thread(server.status), time.monotonic() - began_s
    except OSError as error:
        raise server.failure(str(error)) from error
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
    for viewer in viewers:
        row.prediction_ms += viewer.prediction_ms
        row.picture_ms += viewer.picture_ms

    def per_s(name: str) -> float:
        rate: float = (after[name] - before[name]) / took_s
        return rate

    pictures = [len(viewer.picture_ms) / took_s for viewer in viewers]
    return Cost(
        per_s("learned"),
        per_s("steps"),
        100 * per_s("cpu_s"),
        server.memory_bytes,
        statistics.fmean(pictures) if pictures else None,
    )


async def _watch(
    tasks: Sequence[asyncio.Task[None]], seconds: float, check: Callable[[], None]
) -> None:
    """Let viewers watch; raise the error of the first one that fails meanwhile."""
    end_s = time.monotonic() + seconds
    while (left_s := end_s - time.monotonic()) > 0:
        await asyncio.sleep(min(left_s, CHECK_S))
        check()
        for task in tasks:
            if task.done():
                task.result()


def percentiles(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Return the median and the 95th percentile; None for both where there is nothing.

    Example:
        >>> percentiles([*range(1, 101)]), percentiles([])
        ((50.5, 95.05), (None, None))
    """
    if not values:
        return None, None
    median, late = np.percentile(values, [50, 95])
    return float(median), float(late)
