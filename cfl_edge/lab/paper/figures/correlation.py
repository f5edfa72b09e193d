"""Figure 1: do label embeddings that tell fine classes apart also make good coarse ones?"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cfl_edge.errors import DataError
from cfl_edge.lab import canvas
from cfl_edge.lab.paper.recipes import RECIPES
from cfl_edge.lab.paper.run import RunConfig, RunResult
from cfl_edge.lab.paper.table import chosen

FEWEST = 3  # points: two always lie on a line
NETWORKS = {
    "conv256": "tab:blue",
    "conv512": "tab:orange",
    "fc": "tab:green",
    "other": "tab:gray",
}
"""The colour of a network's points."""

MARKERS = {"cfl": "o", "bp": "s"}  # by the first part of a recipe's name; others are triangles


@dataclass(frozen=True)
class Point:
    """A finished run.

    Args:
        config: What it was.
        network: One of `NETWORKS`.
        zero_shot: Accuracy in % on coarse classes that were never labels, at the last layer.
        fine: Accuracy in % of the prediction on the classes that were learned.
    """

    config: RunConfig
    network: str
    zero_shot: float
    fine: float


def points(results: Iterable[RunResult], fingerprint: str | None = None) -> list[Point]:
    """Return the runs that have a zero-shot accuracy.

    Args:
        results: Finished runs, of any data.
        fingerprint: Of the data that counts; None for all whose name starts with `cifar100`.

    Raises:
        DataError: There are fewer than `FEWEST`.
    """
    found = []
    for result in results:
        config = result.config
        if fingerprint is None and not config.data.startswith("cifar100"):
            continue
        if fingerprint is not None and config.fingerprint != fingerprint:
            continue
        zero_shot = chosen(result.coarse_test, "zero-shot")
        fine = chosen(result.last_test, "prediction")
        if zero_shot is not None and fine is not None:
            found.append(Point(config, network_of(config.recipe), 100 * zero_shot, 100 * fine))
    if len(found) < FEWEST:
        raise DataError(
            f"figure1 has {len(found)} finished runs with label embeddings on data with coarse "
            f"classes, expected {FEWEST} or more",
            hint="cfl-edge reproduce table2 --data cifar100, with the same --out",
        )
    return found


def network_of(recipe: str) -> str:
    """Return which of `NETWORKS` a recipe trains.

    Example:
        >>> network_of("cfl-conv256-no-noise"), network_of("bp-vit"), network_of("unheard-of")
        ('conv256', 'other', 'other')
    """
    known = RECIPES.get(recipe)
    network = (known.network if known else None) or "other"
    return network if network in NETWORKS else "other"


def correlate(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float] | None:
    """Correlate two lists of numbers and lay a line through them.

    Args:
        x: Numbers.
        y: As many.

    Returns:
        Pearson's correlation coefficient, and slope and intercept of the least-squares line y over
        x; None where x or y is always the same.

    Example:
        >>> correlate([1, 2, 3], [5, 7, 9])
        (1.0, 2.0, 3.0)
    """
    try:
        r = statistics.correlation(x, y)
    except statistics.StatisticsError:
        return None
    return r, *statistics.linear_regression(x, y)


def draw_correlation(
    results: Iterable[RunResult], fingerprint: str | None = None
) -> tuple[str, bytes]:
    """Draw figure 1: a point for each run, and the line through them.

    Args:
        results: Finished runs, of any data.
        fingerprint: As in `points`.

    Returns:
        The name of the data, and the PNG.

    Raises:
        DataError: Too few runs.
    """
    found = points(results, fingerprint)
    line = correlate([p.zero_shot for p in found], [p.fine for p in found])
    data = sorted({p.config.data for p in found})
    figure = canvas.new_figure(canvas.WIDTH_IN, 5.5)
    axes = figure.subplots()
    groups: dict[tuple[str, str], list[Point]] = {}
    for point in found:
        system = point.config.recipe.partition("-")[0]
        groups.setdefault((point.network, system), []).append(point)
    for (network, system), members in sorted(groups.items()):
        axes.scatter(
            [p.zero_shot for p in members], [p.fine for p in members], s=45,
            color=NETWORKS[network], marker=MARKERS.get(system, "^"),
            edgecolors="black", linewidths=0.5, zorder=3,
            label=f"{canvas.literal(system).upper()} {network}",
        )  # fmt: skip
    r = "undefined"
    if line is not None:
        pearson, slope, intercept = line
        r = f"{pearson:.3f}"
        ends = [min(p.zero_shot for p in found), max(p.zero_shot for p in found)]
        label = f"least squares: {slope:.2f} x {intercept:+.1f}"
        axes.plot(ends, [slope * x + intercept for x in ends], "--", color="0.4", label=label)
    epochs = _range([p.config.epochs for p in found])
    images = _range([p.config.train_images for p in found])
    axes.set_title(
        f"{canvas.literal(', '.join(data), 40)}: {epochs} epochs of {images} images\n"
        f"Pearson's r = {r} over {len(found)} runs",
        fontsize=canvas.TITLE_PT,
    )
    axes.set_xlabel("zero-shot accuracy on coarse classes, last layer (%)")
    axes.set_ylabel("accuracy on fine classes, prediction (%)")
    axes.grid(color="0.9")
    axes.legend(fontsize=canvas.TEXT_PT)
    return data[0], canvas.png(figure)


def _range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
