"""Interleaved measurements, each in a process of its own, and their medians."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from cfl_edge.lab.bench.child import ChildError
from cfl_edge.lab.bench.sweeps import MEMORY, SPEED, Group, Quantity, Setting

# Measures a case of a setting once and returns its figure.
Measure = Callable[[str, Setting], float]


@dataclass
class Row:
    """A case of a setting with what was measured.

    Args:
        quantity: What is measured.
        case: One of CASES.
        group: The setting, with its sweeps, depth and chunk.
        figures: One for each repeat: bytes or milliseconds.
        over_inference: Each divided by inference's figure of the same repeat.
        error: Why there is none.
    """

    quantity: Quantity
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
            >>> Row(SPEED, "bp", group, [2.0, 3.0, 2.5]).fields()["step_ms"]
            2.5
        """
        keys = (key for each in (MEMORY, SPEED) for key in (each.key, each.ratio_key))
        figure = round(self.figure) if self.figure and self.quantity is MEMORY else self.figure
        fields = {
            "bench": self.quantity.bench,
            "case": self.case,
            "network": self.setting.network,
            "depth": self.group.depth,
            "image_px": self.setting.image_px,
            "batch": self.setting.batch,
            "chunk": {"cfl": self.group.chunk, "bp-accumulate": 1}.get(self.case),
            "threads": self.setting.threads,
            **dict.fromkeys(keys),
            self.quantity.key: figure,
            self.quantity.ratio_key: self.ratio,
            "repeats": len(self.figures),
            "spread": self.spread,
        }
        return fields | ({"error": self.error} if self.error else {})


def measure_in_turn(rows: Sequence[Row], repeats: int, measure: Measure) -> Iterator[Row]:
    """Measure the cases of a setting in turn, then all of them again, so that drift hits all alike.

    A case that fails is not tried again.

    Args:
        rows: The cases of one setting; they take the figures.
        repeats: Times that each case is measured.
        measure: Raises ChildError where a case fails.

    Yields:
        Each row after it was measured once more.

    Example:
        >>> group = Group(Setting("2x4", 16, 2, threads=1), ["base"], ["inference", "bp"])
        >>> figures = iter([2.0, 5.0, 2.0, 6.0])
        >>> rows = [Row(SPEED, case, group) for case in group.cases]
        >>> done = list(measure_in_turn(rows, 2, lambda case, _: next(figures)))
        >>> [(row.case, row.figure, row.ratio) for row in rows]
        [('inference', 2.0, 1.0), ('bp', 5.5, 2.75)]
    """
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
            yield row


def compare(rows: Sequence[Row], case: str, other: str) -> float | None:
    """Return the median over the repeats of one case's figure divided by another's.

    Args:
        rows: Of one setting.
        case: Above the line.
        other: Below the line.
    """
    figures = {row.case: row.figures for row in rows if not row.error}
    pairs = zip(figures.get(case, ()), figures.get(other, ()), strict=False)
    ratios = [above / below for above, below in pairs if below]
    return statistics.median(ratios) if ratios else None


def by_setting(rows: Sequence[Row]) -> list[list[Row]]:
    """Return the rows of each setting together, in order."""
    groups: dict[Setting, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.setting, []).append(row)
    return list(groups.values())
