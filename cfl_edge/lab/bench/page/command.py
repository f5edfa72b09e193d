"""Measure the page of `teach`: how old what it shows is, and what viewers cost the learner."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from cfl_edge.lab.bench.page.measure import SETTLE_S, Cost, PageRow, measure_page, percentiles
from cfl_edge.lab.bench.page.options import PageSettings
from cfl_edge.lab.bench.report import Report, medians_text
from cfl_edge.lab.machine import machine_text, system_facts
from cfl_edge.lab.tables import aligned
from cfl_edge.view.reporter import Reporter

USUAL_START_S = 20.0  # of `teach`, until it has learned enough to be measured; on a PC


@dataclass
class PageReport(Report):
    """What `bench page` found.

    Args:
        settings: The options.
        rows: An audience each, those that were measured.
    """

    settings: PageSettings
    rows: list[PageRow] = field(default_factory=list)

    def done(self) -> str:
        """Say how much was measured."""
        return f"{sum(len(row.costs) for row in self.rows)} measurements"

    def found(self) -> dict[str, Any]:
        """Return the options, and the number of cases."""
        return {
            "bench": "page",
            "seconds_each": self.settings.seconds,
            "repeats": self.settings.repeats,
            "cases": len(self.rows),
        }

    def lines(self, command: str) -> list[str]:
        """Return the Markdown."""
        measured = medians_text([len(row.costs) for row in self.rows])
        head = (
            f"{machine_text(self.machine)}; {measured}, {self.settings.seconds:g} s each, in turn; "
            f"`{command}`"
        )
        table = [
            [
                "",
                "prediction ms, median (95 %)",
                "picture ms, median (95 %)",
                "pictures/s each",
                "learned/s",
                "steps/s",
                "CPU % of a core",
                "memory MB",
            ]
        ]
        table += [_cells(row) for row in self.rows]
        return [
            head,
            "",
            *aligned(table),
            "",
            *(text for row in self.rows for text in _ratio_texts(row)),
        ]


def bench_page(settings: PageSettings, reporter: Reporter) -> PageReport:
    """Start `teach`, let viewers come and go, and measure.

    Args:
        settings: The options.
        reporter: Told of each measurement, and of each case at the end.

    Raises:
        UsageError: A wrong option.
        SessionError: `teach` fails.
    """
    plan = settings.plan()
    report = PageReport(settings, machine={**system_facts(), "torch": version("torch")})
    count = sum(map(len, plan)) * settings.repeats
    needed_s = len(plan) * USUAL_START_S + count * (SETTLE_S + settings.seconds)
    reporter.notice(
        f"{count} measurements of {settings.seconds:g} s take about {needed_s / 60:.1f} min"
    )
    with report.measuring() as interrupts:

        def check() -> None:
            if interrupts.requested:
                raise KeyboardInterrupt

        number = 0
        for cases in plan:
            for row, cost in measure_page(cases, settings.seconds, settings.repeats, check):
                number += 1
                reporter.notice(f"{number}/{count}  {row.audience.text()}  {_said(cost)}")
                if row not in report.rows:
                    report.rows.append(row)
    for row in report.rows:
        reporter.event("case", row.fields())
    return report


def _said(cost: Cost) -> str:
    return f"{cost.learned_per_s:.1f} frames learned/s, {cost.cpu_percent:.0f} % of a core"


def _cells(row: PageRow) -> list[str]:
    def latency(values: list[float]) -> str:
        median, late = percentiles(values)
        return "-" if median is None else f"{median:.0f} ({late:.0f})"

    def figure(name: str, digits: int, unit: float = 1) -> str:
        value = row.median(name)
        return "-" if value is None else f"{value / unit:.{digits}f}"

    return [
        row.audience.text(),
        latency(row.prediction_ms),
        latency(row.picture_ms),
        figure("pictures_per_s", 1),
        figure("learned_per_s", 1),
        figure("steps_per_s", 2),
        figure("cpu_percent", 0),
        figure("memory_bytes", 0, 1e6),
    ]


def _ratio_texts(row: PageRow) -> list[str]:
    """Say how much slower learning is than without viewers."""
    lines = []
    for name, what in (
        ("learned_per_s", "frames learned per second"),
        ("learned_per_cpu_s", "frames learned per second of processor time"),
    ):
        if ratios := row.ratios(name):
            spread = f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else ""
            middle = statistics.median(ratios)
            lines.append(f"- {what}, {row.audience.text()} / none: {middle:.2f}{spread}")
    return lines
