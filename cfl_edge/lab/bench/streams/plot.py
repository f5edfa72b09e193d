"""Accuracy against frames, a line for each learner."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cfl_edge.lab.bench.streams.figures import StreamRun
from cfl_edge.lab.bench.streams.table import by_learner

PANELS = (
    ("accuracy", "test images of the\nclasses seen so far, %"),
    ("prequential", "predicted before\nlearned, so far, %"),
)


def curve_of(
    runs: Sequence[StreamRun], field: str
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return frames, mean and standard deviation over seeds of a curve's points, each (T,).

    The classes arrive in another order with each seed, so the frames of a point may differ; they
    are averaged too.

    Args:
        runs: Of one learner.
        field: `accuracy` or `prequential`.
    """
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
            frames, mean, spread = curve_of(of_learner, field)
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
