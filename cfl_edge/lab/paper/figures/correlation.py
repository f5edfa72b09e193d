"""Figure 1: do label embeddings that tell fine classes apart also make good coarse ones?"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cfl_edge.errors import DataError
from cfl_edge.lab.paper.recipes import RECIPES
from cfl_edge.lab.paper.run import RunConfig, RunResult
from cfl_edge.lab.paper.table import chosen

FEWEST = 3  # points: two always lie on a line
NETWORKS = ("conv256", "conv512", "fc", "other")
"""What the points are coloured by, in the order of the legend."""


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


@dataclass(frozen=True)
class Line:
    """How two accuracies go together.

    Args:
        r: Pearson's correlation coefficient; None where one of them is always the same.
        slope: Of the least-squares line, fine over zero-shot; None where there is none.
        intercept: Of that line, in %.
    """

    r: float | None
    slope: float | None = None
    intercept: float | None = None


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


def correlate(x: Sequence[float], y: Sequence[float]) -> Line:
    """Correlate two lists of numbers and lay a line through them.

    Args:
        x: Numbers.
        y: As many.

    Example:
        >>> correlate([1, 2, 3], [5, 7, 9])
        Line(r=1.0, slope=2.0, intercept=3.0)
    """
    try:
        r = statistics.correlation(x, y)
    except statistics.StatisticsError:  # one of them is always the same
        return Line(None)
    slope, intercept = statistics.linear_regression(x, y)
    return Line(r, slope, intercept)
