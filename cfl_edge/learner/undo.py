"""Undo what a model learned last: the main part of `cfl-edge undo`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from cfl_edge.config.models import UndoSettings
from cfl_edge.learner.classes import counts_of
from cfl_edge.learner.rewind import keep_examples, rewind, saved_examples
from cfl_edge.model.changing import OpenModel
from cfl_edge.notices import Notice, log_notice


@dataclass(frozen=True)
class Undone:
    """What `undo` did.

    Args:
        frames_taken_back: Frames undone.
        seconds_taken_back: From the last frame that stays to the last one undone; from the first
            one undone where a pause came before it.
        per_class: Frames undone of each class.
        classes_gone: Classes of which no frame is left.
        frames_learned: Frames that the model has learned now.
        classes: Names that it knows now, in the order of their targets.
        samples: Frames that it has learned now of each class.
        frames_left: Frames that another undo can reach.
        exported: ONNX files in the model folder, which still contain what was undone.
    """

    frames_taken_back: int
    seconds_taken_back: float
    per_class: dict[str, int]
    classes_gone: list[str]
    frames_learned: int
    classes: list[str]
    samples: dict[str, int]
    frames_left: int
    exported: Path | None


def undo(model: OpenModel, asked: UndoSettings, *, on_notice: Notice = log_notice) -> Undone:
    """Bring a model back to before the frames that it learned last, and save it.

    `cfl_edge.learner.rewind` says how, and how exactly.

    Args:
        model: The model.
        asked: How far back.
        on_notice: Called with what the user should know.

    Raises:
        DataError: The journal does not reach back that far; the text says how far it does.
        ModelError: There is no model, another process is at work on it, or it cannot be written.
    """
    store = model.store
    with model.changing() as saved:
        before = list(saved.manifest["classes"])
        back = rewind(model, saved, asked, command=asked.command, on_notice=on_notice)
        learner, journal, names = back.learner, back.journal, back.names
        count, seconds_back = back.count, journal.seconds_of(back.count)
        taken = Counter(names[entry.label] for entry in back.frames())
        learner.recalibrate(whole=model.again_s is None)
        # The image of a class is of its newest frame: where frames were undone, of one of those.
        stay = [(name, image) for name, image in saved_examples(saved) if name not in taken]
        keep_examples(learner, stay)
        journal.cut(back.cut)
        undone, keep = back.described(store, before)
        model.write(undone, keep=keep)
    exported = store.folder / "onnx"
    return Undone(
        frames_taken_back=count,
        seconds_taken_back=seconds_back,
        per_class={name: taken[name] for name in before if name in taken},
        classes_gone=[name for name in before if name not in learner.classes],
        frames_learned=learner.frames_learned,
        classes=undone.manifest["classes"],
        samples=counts_of(undone).frames,
        frames_left=journal.reach(),
        exported=exported if (exported / "model.onnx").exists() else None,
    )
