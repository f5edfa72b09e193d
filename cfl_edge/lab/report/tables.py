"""The tables of a report: recall and precision of each class, and what is taken for what."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape as escape_html

from cfl_edge.lab.report.gallery import Cell, Gallery
from cfl_edge.loop.evaluate import Evaluation
from cfl_edge.loop.operating_point import Share, precision_of, recall_of
from cfl_edge.names import visible

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
    label = f"{count} images of {escape(cell[0])} taken for {escape(cell[1])}"
    return f'<a href="#{anchor(cell)}" aria-label="{label}">{count}</a>'
