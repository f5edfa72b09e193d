"""The Markdown of `cfl-edge bench streams`, and its figures over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from cfl_edge.lab.bench.streams.figures import StreamRun
from cfl_edge.lab.bench.table import aligned

MIB = 2**20


def _percent(value: float) -> float:
    return 100 * value


def _mib(value: float) -> float:
    return value / MIB


def _same(value: float) -> float:
    return value


# Name in the table, field, from the field to what is shown, digits.
COLUMNS: tuple[tuple[str, str, Callable[[float], float], int], ...] = (
    ("final %", "final_accuracy", _percent, 1),
    ("average incremental %", "average_incremental_accuracy", _percent, 1),
    ("prequential %", "prequential_accuracy", _percent, 1),
    ("forgetting", "forgetting", _percent, 1),
    ("backward transfer", "backward_transfer", _percent, 1),
    ("frames to 80 %", "frames_to_80", _same, 0),
    ("drop", "old_drop", _percent, 1),
    ("learn ms", "learn_ms", _same, 2),
    ("predict ms", "predict_ms", _same, 2),
    ("state MiB", "state_bytes", _mib, 1),
    ("peak MiB", "peak_bytes", _mib, 1),
)
SUMMARY_FIELDS = (
    *(field for _, field, _, _ in COLUMNS),
    *("single_head_forgetting", "seconds_to_80", "backbone_ms", "frames", "dropped", "withheld"),
    *("auroc_unknown", "fpr95_unknown", "known_rejected", "unknown_rejected"),
)


def by_learner(runs: Sequence[StreamRun]) -> dict[str, list[StreamRun]]:
    """Return the runs of each learner, in the order in which learners came."""
    found: dict[str, list[StreamRun]] = {}
    for run in runs:
        found.setdefault(run.learner, []).append(run)
    return found


def mean_and_spread(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Return the mean over seeds and the standard deviation (of a sample).

    Args:
        values: One of each seed; None where it is not known.

    Returns:
        None for both where a seed has no value: the mean of the others would be too good. No
        deviation for a single seed.

    Example:
        >>> mean_and_spread([1.0, 3.0]), mean_and_spread([1.0, None]), mean_and_spread([2.0])
        ((2.0, 1.4142135623730951), (None, None), (2.0, None))
    """
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None, None
    return statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None


def summary_of(runs: Sequence[StreamRun]) -> dict[str, Any]:
    """Return mean and standard deviation of each figure for each learner, and their seeds."""
    result: dict[str, Any] = {}
    for name, of_learner in by_learner(runs).items():
        figures: dict[str, Any] = {"seeds": [run.seed for run in of_learner]}
        for field in SUMMARY_FIELDS:
            mean, spread = mean_and_spread([getattr(run, field) for run in of_learner])
            figures[field] = {"mean": mean, "std": spread}
        result[name] = figures
    return result


def markdown(runs: Sequence[StreamRun]) -> list[str]:
    """Return the table, a line for each learner, and what its words mean.

    Args:
        runs: All that are done, in order.
    """
    if not runs:
        return ["No run was completed."]
    body = []
    for name, of_learner in by_learner(runs).items():
        cells = [name]
        for _, field, shown, digits in COLUMNS:
            values = [getattr(run, field) for run in of_learner]
            cells.append(cell([None if v is None else shown(v) for v in values], digits))
        body.append(cells)
    lines = aligned([["learner", *(title for title, _, _, _ in COLUMNS)], *body])
    return [*lines, "", *notes(runs)]


def cell(values: Sequence[float | None], digits: int) -> str:
    """Return mean ± standard deviation as it is shown; `-` for what is not known.

    Example:
        >>> cell([70.0, 72.0], 1), cell([70.0], 1), cell([None], 1)
        ('71.0 ± 1.4', '70.0', '-')
    """
    mean, spread = mean_and_spread(values)
    if mean is None:
        return "-"
    text = f"{mean:.{digits}f}" if abs(mean) >= 0.5 * 10**-digits else f"{0:.{digits}f}"
    return text if spread is None else f"{text} ± {spread:.{digits}f}"


def notes(runs: Sequence[StreamRun]) -> list[str]:
    """Return lines below the table: what is in no column of its own."""
    learners = by_learner(runs)

    def listed(field: str, shown: Callable[[float], float], digits: int) -> str:
        parts = []
        for name, of_learner in learners.items():
            values = [getattr(run, field) for run in of_learner]
            parts.append(
                f"{name} {cell([None if v is None else shown(v) for v in values], digits)}"
            )
        return ", ".join(parts)

    lines = [
        "- Forgetting, backward transfer and drop in points. Forgetting is among the rivals of the "
        "time when a class was learned; among all (Chaudhry et al. 2018): "
        f"{listed('single_head_forgetting', _percent, 1)}.",
        "- Seconds (of work; of the clock of a stream that does not wait) until a new class is "
        "recalled at 80 %: "
        f"{listed('seconds_to_80', _same, 2)}.",
        "- The backbone takes "
        f"{statistics.fmean(run.backbone_ms for run in runs):.2f} ms of the time to predict; "
        "learning comes on top of that. Both are medians over windows of 16 frames.",
    ]
    if any(run.auroc_unknown is not None for run in runs):
        lines.append(
            f"- Images of unknown classes: AUROC {listed('auroc_unknown', _same, 3)}; accepted "
            f"where 95 % of the known are, %: {listed('fpr95_unknown', _percent, 1)}; --reject "
            f"0.95 refuses of the known, %: {listed('known_rejected', _percent, 1)}, of the "
            f"unknown: {listed('unknown_rejected', _percent, 1)}."
        )
    if any(run.withheld for run in runs):
        lines.append(
            f"- Frames not learned, their label contradicted: {listed('withheld', _same, 0)}."
        )
    if any(run.dropped for run in runs):
        lines.append(f"- Frames that passed unseen: {listed('dropped', _same, 0)}.")
    return lines
