"""The HTML of a report. Names of classes and files are others' text: each is escaped."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cfl_edge.lab.report.advice import advice
from cfl_edge.lab.report.gallery import Cell, Gallery, Picture
from cfl_edge.lab.report.tables import (
    Curve,
    Point,
    anchor,
    chart,
    class_table,
    confusion_table,
    escape,
    thinned,
)
from cfl_edge.loop.evaluate import Evaluation
from cfl_edge.loop.operating_point import STOPPED, Threshold, accuracy_of
from cfl_edge.notices import counted, first_of
from cfl_edge.text import visible

REPORT_FILE = "report.html"
CSS = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
# No script, nothing from elsewhere, whatever a class is called.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class Source:
    """What a report is about.

    Args:
        model: The model folder.
        data: Where the images come from, credentials masked.
        day: When it was measured, as text.
    """

    model: Path
    data: str
    day: str


def report_page(source: Source, result: Evaluation, gallery: Gallery) -> str:
    """Return the page.

    Args:
        source: What was measured.
        result: Of `evaluate`.
        gallery: Was given each step of it.
    """
    title = f"How well {source.model.name or source.model} recognises {source.data}"
    body = [
        *_head(source, result),
        *_next(source, result, gallery),
        *_wrong(result, gallery),
        *_threshold(result.threshold),
        *class_table(result),
        *confusion_table(result, gallery),
        *_sure(gallery),
        *_unknown(result),
        *_right(result, gallery),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def _head(source: Source, result: Evaluation) -> Iterator[str]:
    share = accuracy_of(result.confusion)
    low, high = share.interval
    yield f"<h1>{escape(str(source.model))} on {escape(source.data)}</h1>"
    yield f'<p class="figure">{100 * share.value:.1f} % right</p>'
    yield (
        f'<p class="dim">{share.count} of {counted(share.total, "image")}; with 95 % confidence '
        f"the true accuracy is between {100 * low:.1f} and {100 * high:.1f} % (Wilson). "
        f"{escape(source.day)}.</p>"
    )
    if result.rejected:
        answered = ""
        if result.answered_accuracy is not None:
            answered = f"; {100 * result.answered_accuracy:.1f} % of the others are right"
        refused = counted(result.rejected, "image")
        yield f"<p>Reported as unknown, which counts as wrong: {refused}{answered}.</p>"
    if result.skipped:
        files = counted(len(result.skipped), "file")
        names = escape(first_of([visible(name) for name in result.skipped]))
        yield f"<p>{files} could not be read and did not count: {names}.</p>"


def _next(source: Source, result: Evaluation, gallery: Gallery) -> Iterator[str]:
    items = []
    for text, command in advice(result, gallery, source.model):
        code = f"<code>{escape(command)}</code>" if command else ""
        items.append(f"<li>{escape(text)}{code}</li>")
    yield f"<h2>What to do next</h2><ol>{''.join(items)}</ol>"


def _wrong(result: Evaluation, gallery: Gallery) -> Iterator[str]:
    counts = result.confusion.counts
    cells = sorted({cell for cell, _ in gallery.wrong()}, key=lambda cell: (-counts[cell], cell))
    wrong = sum(n for (true, said), n in counts.items() if true != said)
    yield f"<h2>Wrong pictures: {wrong}</h2>"
    if not wrong:
        yield "<p>None.</p>"
    for cell in cells:
        yield _cell_section(cell, counts[cell], gallery.pictures(cell), "surest")


def _right(result: Evaluation, gallery: Gallery) -> Iterator[str]:
    yield "<h2>Right pictures of which it was least sure</h2>"
    for name in result.classes:
        if pictures := gallery.pictures((name, name)):
            count = result.confusion.counts[name, name]
            yield _cell_section((name, name), count, pictures, "least sure")


def _cell_section(cell: Cell, count: int, pictures: Sequence[Picture], which: str) -> str:
    true, said = map(escape, cell)
    title = f"{true}, taken for {said}" if cell[0] != cell[1] else f"{true}, recognised"
    shown = f", the {which} {len(pictures)}" if len(pictures) < count else ""
    shots = "".join(_shot(cell, picture) for picture in pictures)
    return (
        f'<section id="{anchor(cell)}"><h3>{title}: {count}{shown}</h3>'
        f'<div class="shots">{shots}</div></section>'
    )


def _shot(cell: Cell, picture: Picture) -> str:
    score = "" if picture.score is None else f", {100 * picture.score:.1f} %"
    data = base64.b64encode(picture.jpeg).decode("ascii")
    name = escape(picture.name)
    return (
        f'<figure><img src="data:image/jpeg;base64,{data}" alt="{name}" loading="lazy">'
        f"<figcaption>{escape(cell[1])}{score}<br>{name}</figcaption></figure>"
    )


def _threshold(threshold: Threshold | None) -> Iterator[str]:
    if threshold is None:
        return
    point, wanted = threshold.point(), threshold.requirement
    name = escape(wanted.name)
    yield f"<h2>The threshold that stops {100 * wanted.recall:g} % of {name}</h2>"
    for line in point.lines():
        sentence = line.removeprefix("threshold").strip()
        yield f"<p>{escape(sentence[0].upper() + sentence[1:])}.</p>"
    yield (
        f'<p class="dim">The threshold was chosen on these images, so it does a little worse on '
        f"others. It is compared with the probability of {name}: with two classes, that is the "
        f"score where the answer is {name}, and 100 % less the score where it is not.</p>"
    )
    scores = sorted(set(threshold.of_class + threshold.of_others) - {STOPPED})
    points = [threshold.at(value) for value in [0.0, *thinned(scores), 1.0]]
    curves = [Curve(f"{wanted.name} stopped", [(p.threshold, p.recall.value) for p in points])]
    if point.cost is not None:
        others: list[Point] = [(p.threshold, p.cost.value) for p in points if p.cost is not None]
        curves.append(Curve("other images stopped", others))
    title = f"What a threshold on the probability of {visible(wanted.name)} stops"
    yield chart(title, "threshold", curves, point.threshold)


def _sure(gallery: Gallery) -> Iterator[str]:
    """Show what answering only when sure is worth: accuracy and share of the answers kept."""
    answers = sorted(gallery.answers, reverse=True)
    if not answers:
        return
    accuracy, kept, right = list[Point](), list[Point](), 0
    for number, (score, is_right) in enumerate(answers, 1):
        right += is_right
        accuracy.append((score, right / number))
        kept.append((score, number / len(answers)))
    yield "<h2>Answering only when sure</h2>"
    yield chart(
        "Accuracy of the answers whose score is at least the threshold, and how many these are",
        "threshold on the score",
        [Curve("right among them", accuracy[::-1]), Curve("images answered", kept[::-1])],
    )


def _unknown(result: Evaluation) -> Iterator[str]:
    unknown = result.unknown
    if unknown is None:
        return
    yield "<h2>Things that are none of the classes</h2>"
    yield (
        f"<p>{counted(unknown.samples, 'image')}: AUROC {unknown.auroc:.3f} (1 tells all of them "
        "from the known ones, 0.5 none). Where 95 % of the known images are accepted, "
        f"{100 * unknown.fpr95:.1f} % of these are.</p>"
    )
    if unknown.rejected is not None:
        yield f"<p>{100 * unknown.rejected:.1f} % of them were reported as unknown.</p>"
