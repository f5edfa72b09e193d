"""Curves of shares as SVG within HTML: both axes from 0 to 100 %, colours of the page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple, TypeVar

WIDTH, HEIGHT = 420, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 28, 12, 46
MOST_POINTS = 200  # of a curve: half a point per pixel of a phone

T = TypeVar("T")
Point = tuple[float, float]


class Curve(NamedTuple):
    """One line of a chart.

    Args:
        name: In the legend.
        points: x and y, each 0 to 1, in the order of x.
    """

    name: str
    points: Sequence[Point]


def chart(title: str, x_name: str, curves: Sequence[Curve], mark: float | None = None) -> str:
    """Return a chart as HTML.

    Args:
        title: What it shows, also for those who cannot see it.
        x_name: Of the horizontal axis.
        curves: Two at most: the first is drawn solid, the second dashed.
        mark: Where a vertical line stands, 0 to 1.

    Example:
        >>> chart("Recall", "threshold", [Curve("recall", [(0, 1), (1, 0.5)])])
        '<figure class="chart">...<polyline class="curve curve-0" points="52.0,12.0 392.0,108.0"...'
    """
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    for tick in range(0, 101, 25):
        x, y = _place((tick / 100, tick / 100))
        parts += [
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>',
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick} %</text>',
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{tick} %</text>',
        ]
    if mark is not None:
        x, _ = _place((mark, 0.0))
        parts.append(
            f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        )
    for number, curve in enumerate(curves):
        places = map(_place, thinned(curve.points))
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline class="curve curve-{number}" points="{points}"/>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text x="{middle:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_name)}</text>'
        "</svg>"
    )
    names = "".join(
        f'<span><svg class="key" viewBox="0 0 24 8" aria-hidden="true">'
        f'<polyline class="curve curve-{number}" points="0,4 24,4"/></svg> '
        f"{escape(curve.name)}</span>"
        for number, curve in enumerate(curves)
    )
    caption = f"<figcaption>{escape(title)}<br>{names}</figcaption>"
    return f'<figure class="chart">{"".join(parts)}{caption}</figure>'


def _place(point: Point) -> Point:
    """Return where a point stands in the drawing."""
    x, y = (min(1.0, max(0.0, value)) for value in point)
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    return LEFT + x * wide, TOP + (1 - y) * high


def thinned(points: Sequence[T]) -> list[T]:
    """Return evenly chosen elements of a long sequence, its ends included.

    Example:
        >>> len(thinned(range(1000))), thinned(range(1000))[-1], thinned("abc")
        (200, 999, ['a', 'b', 'c'])
    """
    if len(points) <= MOST_POINTS:
        return list(points)
    step = (len(points) - 1) / (MOST_POINTS - 1)
    return [points[round(number * step)] for number in range(MOST_POINTS)]
