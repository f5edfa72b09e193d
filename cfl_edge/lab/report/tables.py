"""Tables and curves of a report: recall and precision of each class, what is taken for what.

Curves are SVG within HTML: both axes from 0 to 100 %, colours of the page.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape as escape_html
from typing import NamedTuple, TypeVar

from cfl_edge.lab.report.gallery import Cell, Gallery
from cfl_edge.loop.evaluate import Evaluation
from cfl_edge.loop.operating_point import Share, precision_of, recall_of
from cfl_edge.notices import counted
from cfl_edge.text import visible

MOST_CLASSES = 20  # of a matrix; of more, the largest mistakes are listed
MOST_MISTAKES = 40


def escape(text: str) -> str:
    """Return others' text for HTML, hidden characters as escapes."""
    return escape_html(visible(text))


def anchor(cell: Cell) -> str:
    """Return the name of a cell's pictures in links: no character of a class name is left in it."""
    return "-".join(["cell", *(name.encode("utf-8", "replace").hex() for name in cell)])


def class_table(result: Evaluation) -> Iterator[str]:
    """Yield recall and precision of each class, with their intervals."""
    rows = []
    for name in dict.fromkeys([*result.classes, *result.unknown_classes]):
        recall, precision = recall_of(result.confusion, name), precision_of(result.confusion, name)
        cells = "".join(f"<td>{_share(share)}</td>" for share in (recall, precision))
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    yield (
        "<h2>Each class</h2>"
        '<p class="dim">Recall: of the images of the class, how many were recognised. Precision: '
        "of the images called it, how many are it. Below each, its 95 % interval.</p>"
        '<div class="wide" tabindex="0" role="region" aria-label="Each class"><table><thead><tr>'
        '<th scope="col" class="left">Class</th><th scope="col">Recall</th>'
        f'<th scope="col">Precision</th></tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def _share(share: Share | None) -> str:
    if share is None:
        return "-"
    low, high = share.interval
    return (
        f'{100 * share.value:.1f} %<br><span class="dim">{100 * low:.1f} to {100 * high:.1f}<br>'
        f"{share.count} of {share.total}</span>"
    )


def confusion_table(result: Evaluation, gallery: Gallery) -> Iterator[str]:
    """Yield the confusion matrix, or the largest mistakes of many classes.

    Args:
        result: Of `evaluate`.
        gallery: Has the pictures that a number leads to.
    """
    confusion = result.confusion
    yield '<h2>Confusion</h2><p class="dim">A number leads to its pictures.</p>'
    if len(confusion.names) > MOST_CLASSES:
        yield _mistakes(result, gallery)
        return
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in confusion.names)
    rows = []
    for true, counts in zip(confusion.names, confusion.rows(), strict=True):
        if not sum(counts):  # only ever an answer
            continue
        cells = "".join(
            f'<td style="--share: {n / sum(counts):.3f}">{_link((true, said), n, gallery)}</td>'
            for said, n in zip(confusion.names, counts, strict=True)
        )
        rows.append(f'<tr><th scope="row">{escape(true)}</th>{cells}</tr>')
    yield (
        '<div class="wide" tabindex="0" role="region" aria-label="Confusion matrix">'
        '<table class="matrix"><thead><tr><th scope="col" class="left">is, taken for</th>'
        f"{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _mistakes(result: Evaluation, gallery: Gallery) -> str:
    counts = result.confusion.counts
    wrong = [(n, cell) for cell, n in counts.items() if cell[0] != cell[1]]
    wrong.sort(key=lambda one: (-one[0], one[1]))
    rows = "".join(
        f'<tr><td>{_link(cell, n, gallery)}</td><td class="left">{escape(cell[0])}</td>'
        f'<td class="left">{escape(cell[1])}</td></tr>'
        for n, cell in wrong[:MOST_MISTAKES]
    )
    return (
        '<div class="wide" tabindex="0" role="region" aria-label="The largest mistakes"><table>'
        '<thead><tr><th scope="col">Images</th><th scope="col" class="left">Is</th>'
        f'<th scope="col" class="left">Taken for</th></tr></thead><tbody>{rows}</tbody></table>'
        "</div>"
    )


def _link(cell: Cell, count: int, gallery: Gallery) -> str:
    if not count or not gallery.pictures(cell):
        return str(count)
    label = f"{counted(count, 'image')} of {escape(cell[0])} taken for {escape(cell[1])}"
    return f'<a href="#{anchor(cell)}" aria-label="{label}">{count}</a>'


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
