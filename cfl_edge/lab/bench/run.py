"""Interleaved measurements, each in a process of its own, and their medians."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cfl_edge.lab.bench.child import ChildError
from cfl_edge.lab.bench.sweeps import Group, Setting

FIGURES = {"memory": "peak_bytes", "speed": "step_ms"}  # what a bench is about
OVER_INFERENCE = {"memory": "peak_over_inference", "speed": "step_over_inference"}

# Measures a case of a setting once and returns its figure.
Measure = Callable[[str, Setting], float]


@dataclass
class Row:
    """A case of a setting with what was measured.

    Args:
        bench: `memory` or `speed`.
        case: One of CASES.
        group: The setting, with its sweeps, depth and chunk.
        figures: One for each repeat: bytes or milliseconds.
        over_inference: Each divided by inference's figure of the same repeat.
        error: Why there is none.
    """

    bench: str
    case: str
    group: Group
    figures: list[float] = field(default_factory=list)
    over_inference: list[float] = field(default_factory=list)
    error: str | None = None

    @property
    def setting(self) -> Setting:
        """The configuration."""
        return self.group.setting

    @property
    def figure(self) -> float | None:
        """The median, None after an error."""
        return statistics.median(self.figures) if self.figures and not self.error else None

    @property
    def ratio(self) -> float | None:
        """The median of `over_inference`, None after an error."""
        known = self.over_inference and not self.error
        return statistics.median(self.over_inference) if known else None

    @property
    def spread(self) -> float | None:
        """(largest - smallest) / median of the figures."""
        if not self.figure:
            return None
        return (max(self.figures) - min(self.figures)) / self.figure

    def fields(self) -> dict[str, Any]:
        """Return what `--json` has of a row.

        Example:
            >>> group = Group(Setting("2x4", 16, 2, threads=1), ["base"], ["bp"], depth=2, chunk=2)
            >>> Row("speed", "bp", group, [2.0, 3.0, 2.5]).fields()["step_ms"]
            2.5
        """
        figures = dict.fromkeys([*FIGURES.values(), *OVER_INFERENCE.values()])
        figures[FIGURES[self.bench]] = self.figure if self.bench == "speed" else _whole(self.figure)
        figures[OVER_INFERENCE[self.bench]] = self.ratio
        chunks = {"cfl": self.group.chunk, "bp-accumulate": 1}
        fields = {
            "bench": self.bench,
            "case": self.case,
            "network": self.setting.network,
            "depth": self.group.depth,
            "image_px": self.setting.image_px,
            "batch": self.setting.batch,
            "chunk": chunks.get(self.case),
            "threads": self.setting.threads,
            "peak_bytes": figures["peak_bytes"],
            "peak_over_inference": figures["peak_over_inference"],
            "step_ms": figures["step_ms"],
            "step_over_inference": figures["step_over_inference"],
            "repeats": len(self.figures),
            "spread": self.spread,
        }
        return fields | ({"error": self.error} if self.error else {})


def run_group(
    bench: str,
    group: Group,
    repeats: int,
    measure: Measure,
    *,
    on_figure: Callable[[Row], None] = lambda _: None,
    on_row: Callable[[Row], None] = lambda _: None,
) -> None:
    """Measure the cases of a setting in turn, then all of them again, so that drift hits all alike.

    A case that fails is not tried again.

    Args:
        bench: `memory` or `speed`.
        group: The setting and its cases.
        repeats: Times that each case is measured.
        measure: Raises ChildError where a case fails.
        on_figure: Called after each measurement, with what its row has by then.
        on_row: Called with each row at the end; where the run is broken off, with those that have
            a figure.

    Example:
        >>> group = Group(Setting("2x4", 16, 2, threads=1), ["base"], ["inference", "bp"])
        >>> figures = iter([2.0, 5.0, 2.0, 6.0])
        >>> rows = []
        >>> run_group("speed", group, 2, lambda case, _: next(figures), on_row=rows.append)
        >>> [(row.case, row.figure, row.ratio) for row in rows]
        [('inference', 2.0, 1.0), ('bp', 5.5, 2.75)]
    """
    rows = [Row(bench, case, group) for case in group.cases]
    try:
        for _ in range(repeats):
            inference = None
            for row in rows:
                if row.error:
                    continue
                try:
                    figure = measure(row.case, row.setting)
                except ChildError as error:
                    row.error = str(error)
                else:
                    row.figures.append(figure)
                    inference = figure if row.case == "inference" else inference
                    if inference:
                        row.over_inference.append(figure / inference)
                on_figure(row)
    finally:
        for row in rows:
            if row.figures or row.error:
                on_row(row)


def compare(rows: Sequence[Row], case: str, other: str) -> float | None:
    """Return the median over the repeats of one case's figure divided by another's.

    Args:
        rows: Of one setting.
        case: Above the line.
        other: Below the line.
    """
    by_case: Mapping[str, Row] = {row.case: row for row in rows}
    if not {case, other} <= set(by_case):
        return None
    above, below = by_case[case], by_case[other]
    if above.error or below.error:
        return None
    ratios = [a / b for a, b in zip(above.figures, below.figures, strict=False) if b]
    return statistics.median(ratios) if ratios else None


def by_setting(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Yield the rows of each setting together, in order."""
    groups: dict[Setting, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.setting, []).append(row)
    yield from groups.values()


def _whole(figure: float | None) -> int | None:
    return None if figure is None else round(figure)
