"""The Markdown of `cfl-edge bench streams`, its figures over seeds, and its curves."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

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
        for frames, values in _by_frames(seeds).items():
            mean, spread = mean_and_spread(values)
            few = result[learner].setdefault("few", {})
            few[str(frames)] = {"mean": mean, "std": spread}
    return result


def _by_frames(runs: Sequence[StreamRun]) -> dict[int, list[float]]:
    """Return the accuracies of each number of frames a class; empty but for the protocol `few`."""
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
    counts = list(_by_frames(runs))
    if not counts:
        return []
    lines = [["accuracy % after frames a class", *map(str, counts)]]
    for learner, seeds in by_learner(runs).items():
        found = _by_frames(seeds).values()
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


PANELS = (
    ("accuracy", "test images of the\nclasses seen so far, %"),
    ("prequential", "predicted before\nlearned, so far, %"),
)


def _curve_of(
    runs: Sequence[StreamRun], field: str
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return mean frames, and mean and deviation over seeds of a curve's points, each (T,)."""
    points = min(len(run.curve) for run in runs)
    frames = np.array([[p["frames"] for p in run.curve[:points]] for run in runs], dtype=float)
    values = [
        [np.nan if p[field] is None else p[field] for p in run.curve[:points]] for run in runs
    ]
    of_seeds = np.array(values, dtype=float)
    spread = of_seeds.std(axis=0, ddof=1) if len(runs) > 1 else np.zeros(points)
    return frames.mean(axis=0), of_seeds.mean(axis=0), spread


def streams_png(runs: Sequence[StreamRun], title: str) -> bytes:
    """Draw the accuracy of all learners: above on the test images, below test-then-train.

    Args:
        runs: At least one.
        title: What was run.

    Returns:
        The bytes of a PNG.
    """
    from cfl_edge.lab import canvas

    learners = by_learner(runs)
    figure = canvas.new_figure(canvas.WIDTH_IN, 7.2)
    grid = figure.subplots(len(PANELS), 1, sharex=True)
    for axes, (field, label) in zip(grid, PANELS, strict=True):
        lines = zip(learners.items(), canvas.class_colours(max(2, len(learners))), strict=False)
        for (name, of_learner), colour in lines:
            frames, mean, spread = _curve_of(of_learner, field)
            axes.plot(frames, 100 * mean, color=colour, label=name, marker="o", markersize=3)
            if len(of_learner) > 1:
                low, high = 100 * (mean - spread), 100 * (mean + spread)
                axes.fill_between(frames, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.set_ylabel(label, fontsize=canvas.TEXT_PT)
        axes.set_ylim(0, 102)
        axes.grid(alpha=0.3)
        axes.tick_params(labelsize=canvas.TEXT_PT)
    grid[-1].set_xlabel("frames of the stream", fontsize=canvas.TEXT_PT)
    handles, names = grid[0].get_legend_handles_labels()
    figure.legend(
        handles,
        names,
        loc="outside lower center",
        ncols=min(5, len(names)),
        fontsize=canvas.TEXT_PT,
    )
    canvas.draw_title(figure, title)
    return canvas.png(figure)
