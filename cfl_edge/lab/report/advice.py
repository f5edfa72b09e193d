"""What to teach next, in words, with the commands."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import NamedTuple

from cfl_edge.defaults import UNKNOWN
from cfl_edge.lab.report.gallery import Gallery
from cfl_edge.loop.evaluate import FEW_IMAGES, Evaluation, UnknownEvaluation
from cfl_edge.loop.metrics import scarce
from cfl_edge.loop.operating_point import images_to_show, recall_of
from cfl_edge.notices import counted, first_of
from cfl_edge.text import visible

SURE = 0.95  # a wrong answer with more than this is often a wrong label
USEFUL_AUROC = 0.7  # below it, a limit that accepts most known things accepts most others too
MANY_REFUSED = 0.15  # of known images; --reject 0.95 means 0.05, give or take what few images do
MOST_SENTENCES = 3  # of a kind


class Advice(NamedTuple):
    """One thing to do.

    Args:
        text: Why, and what.
        command: That does it; empty where none does.
    """

    text: str
    command: str = ""


def advice(result: Evaluation, gallery: Gallery, model: Path) -> list[Advice]:
    """Return what the result says about the next thing to do, the most useful first.

    Args:
        result: Of `evaluate`.
        gallery: Its pictures.
        model: The model folder, for commands.
    """
    confusion = result.confusion
    mistakes = [
        (n, true, said)
        for (true, said), n in confusion.counts.items()
        if true != said and true in result.classes and said != UNKNOWN
    ]
    mistakes.sort(key=lambda one: (-one[0], one[1], one[2]))
    found = [
        Advice(f"The model has no class {visible(name)}. Teach it:", _teach(name, model))
        for name in result.unknown_classes
    ]
    for n, true, said in mistakes[:MOST_SENTENCES]:
        total = sum(k for (one, _), k in confusion.counts.items() if one == true)
        text = (
            f"{n} of {counted(total, 'picture')} of {visible(true)} {'is' if n == 1 else 'are'} "
            f"taken for {visible(said)}. "
        )
        (few, count), (many, more) = sorted(
            ((name, result.learned[name]) for name in (true, said)), key=lambda one: one[1]
        )
        if few in scarce({few: count, many: more}):
            text += (
                f"{counted(count, 'frame')} of {visible(few)} were learned and {more} of "
                f"{visible(many)}: teach more of {visible(few)}:"
            )
            found.append(Advice(text, _teach(few, model)))
            continue
        text += (
            f"Teach {visible(true)} as it looks there, and {visible(said)} in the same place and "
            "light:"
        )
        found.append(Advice(text, _teach(true, model)))
    few_learned = {UNKNOWN, *scarce(result.learned)}  # where that explains a wrong answer
    sure = [
        one
        for cell, one in gallery.wrong()
        if one.weight >= SURE and few_learned.isdisjoint(cell) and cell[0] in result.classes
    ]
    if sure:
        text = (
            f"Look at the labels of the {counted(len(sure), 'wrong picture')} with more than "
            f"{100 * SURE:.0f} %: a picture in the wrong folder looks like that."
        )
        found.append(Advice(text))
    total = sum(n for (true, _), n in confusion.counts.items() if true in result.classes)
    refused = sum(confusion.counts[name, UNKNOWN] for name in result.classes)
    often_refused = refused > max(MANY_REFUSED * total, MOST_SENTENCES)
    if often_refused:
        text = (
            f"{refused} of {counted(total, 'picture')} of known classes are refused as "
            f"{UNKNOWN}: "
            "they differ from what was taught. Teach some of them, or evaluate without --reject."
        )
        found.append(Advice(text))
    found += map(Advice, _few_images(result))
    if (unknown := result.unknown) is not None and unknown.rejected is None:
        found.append(_reject(unknown))
    if not mistakes and not result.unknown_classes and not often_refused:
        text = (
            "No class is taken for another one here. Try pictures of another day, another light "
            "and another distance before you trust it."
        )
        found.append(Advice(text))
    return found


def _reject(unknown: UnknownEvaluation) -> Advice:
    """Say what --reject can do about things that are none of the classes."""
    area = unknown.auroc
    if doubt := unknown.doubt():
        return Advice(f"{doubt}.")
    if area < USEFUL_AUROC:
        return Advice(
            f"The model hardly tells things that are none of the classes from these (AUROC "
            f"{area:.2f}, chance is 0.5): teach them as a class of their own, such as other."
        )
    return Advice(
        "Things that are none of the classes get the name of a class: --reject 0.95 reports them "
        f"as unknown instead (AUROC {area:.2f}, 1 tells all of them apart)."
    )


def _few_images(result: Evaluation) -> list[str]:
    """Return a sentence on classes that too few images measure."""
    shares = {name: recall_of(result.confusion, name) for name in result.classes}
    missing = [name for name, share in shares.items() if share is None]
    few = [name for name, share in shares.items() if share and share.total < FEW_IMAGES]
    sentences = []
    if missing:
        sentences.append(
            f"No picture shows {_listed(missing)}: how well it is recognised is not known."
        )
    if few:
        sentences.append(
            f"Fewer than {FEW_IMAGES} pictures measure {_listed(few)}. "
            f"{images_to_show(0.9)} pictures that are all right show 90 %, {images_to_show(0.99)} "
            "show 99 %."
        )
    return sentences


def _listed(names: list[str]) -> str:
    """Return names for a sentence, the first few of many."""
    return first_of([visible(name) for name in names], MOST_SENTENCES)


def _teach(name: str, model: Path) -> str:
    return (
        f"cfl-edge learn --stream /dev/video0 --label {shlex.quote(visible(name))} "
        f"--model {shlex.quote(str(model))}"
    )
