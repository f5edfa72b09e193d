"""The Markdown of `cfl-edge bench streams`, and its figures over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from cfl_edge.lab.bench.streams.figures import StreamRun, figures_of
from cfl_edge.lab.tables import aligned, cell, mean_and_spread


def by_learner(runs: Sequence[StreamRun]) -> dict[str, list[StreamRun]]:
    """Return the runs of each learner, in the order in which learners came."""
    found: dict[str, list[StreamRun]] = {}
    for run in runs:
        found.setdefault(run.learner, []).append(run)
    return found


def summary_of(runs: Sequence[StreamRun]) -> dict[str, Any]:
    """Return mean and standard deviation of each figure for each learner, and their seeds."""
    result: dict[str, Any] = {}
    for learner, seeds in by_learner(runs).items():
        result[learner] = {"seeds": [run.seed for run in seeds]}
        for name in figures_of(type(seeds[0])):
            mean, spread = mean_and_spread([getattr(run, name) for run in seeds])
            result[learner][name] = {"mean": mean, "std": spread}
        for frames, values in by_frames(seeds).items():
            mean, spread = mean_and_spread(values)
            few = result[learner].setdefault("few", {})
            few[str(frames)] = {"mean": mean, "std": spread}
    return result


def by_frames(runs: Sequence[StreamRun]) -> dict[int, list[float]]:
    """Return the accuracies of each number of frames a class; empty but for the protocol `few`.

    Args:
        runs: Of one learner, one for each seed.
    """
    found: dict[int, list[float]] = {}
    for run in runs:
        for point in run.curve if run.protocol == "few" else ():
            found.setdefault(point["frames"] // point["classes"], []).append(point["accuracy"])
    return found


def markdown(runs: Sequence[StreamRun]) -> list[str]:
    """Return the table, a line for each learner, and what its words mean.

    Args:
        runs: All that are done, in order.
    """
    if not runs:
        return ["No run was completed."]
    figures = figures_of(type(runs[0]))
    columns = {name: figure for name, figure in figures.items() if figure.title}
    lines = [["learner", *(figure.title for figure in columns.values())]]
    for learner, seeds in by_learner(runs).items():
        cells = (figure.cell(_values(seeds, name)) for name, figure in columns.items())
        lines.append([learner, *cells])
    return [*few_table(runs), *aligned(lines), "", *notes(runs)]


def few_table(runs: Sequence[StreamRun]) -> list[str]:
    """Return the table of accuracy by frames a class; no line but for the protocol `few`."""
    counts = list(by_frames(runs))
    if not counts:
        return []
    lines = [["accuracy % after frames a class", *map(str, counts)]]
    for learner, seeds in by_learner(runs).items():
        found = by_frames(seeds).values()
        lines.append([learner, *(cell([100 * value for value in each], 1) for each in found)])
    return [*aligned(lines), ""]


def notes(runs: Sequence[StreamRun]) -> list[str]:
    """Return lines below the table: what is in no column of its own."""
    figures, learners = figures_of(type(runs[0])), by_learner(runs)

    def listed(name: str) -> str:
        return ", ".join(
            f"{learner} {figures[name].cell(_values(seeds, name))}"
            for learner, seeds in learners.items()
        )

    lines = [
        "- Forgetting, backward transfer and drop are in points. Forgetting compares a class with "
        "the classes known when it was learned; among all classes (Chaudhry et al. 2018): "
        f"{listed('single_head_forgetting')}.",
        "- Seconds (of work; on the stream's clock with --realtime) until a new class is recalled "
        f"at 80 %: {listed('seconds_to_80')}.",
        "- The backbone takes "
        f"{statistics.fmean(run.backbone_ms for run in runs):.2f} ms of the time to predict; "
        "learning comes on top of that. Both are medians over windows of 16 frames.",
    ]
    if any(run.auroc_unknown is not None for run in runs):
        lines.append(
            f"- Images of unknown classes: AUROC {listed('auroc_unknown')}; accepted "
            f"where 95 % of the known are, %: {listed('fpr95_unknown')}; --reject "
            f"0.95 rejects of the known, %: {listed('known_rejected')}, of the "
            f"unknown: {listed('unknown_rejected')}."
        )
    if any(run.withheld for run in runs):
        lines.append(f"- Frames not learned, their label contradicted: {listed('withheld')}.")
    if any(run.dropped for run in runs):
        lines.append(f"- Frames dropped while the learner was busy: {listed('dropped')}.")
    return lines


def _values(runs: Sequence[StreamRun], name: str) -> list[float | None]:
    return [getattr(run, name) for run in runs]
