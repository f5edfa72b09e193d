"""Give frames that were learned last another label: `classes split`, `relabel` and `forget`.

Their label was wrong, or not switched in time: the journal has them, and they are learned again
under their right name, or not at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cfl_edge.config.models import ReachSettings, SplitSettings
from cfl_edge.errors import DataError, quoted
from cfl_edge.learner.classes import Counts, counts_of, patch_exported, says_what_is_new
from cfl_edge.learner.rewind import keep_examples, learn_again, rewind, saved_examples
from cfl_edge.model import class_table
from cfl_edge.model.changing import OpenModel
from cfl_edge.model.store import Saved
from cfl_edge.model.tensors import network_digest
from cfl_edge.notices import Notice, counted, log_notice

if TYPE_CHECKING:
    from cfl_edge.learner.learner import Learner


@dataclass(frozen=True)
class Relabelled:
    """What became of frames whose label was wrong.

    Args:
        counts: Of all classes afterwards.
        moved: Frames that were learned again under the right name, or forgotten, by the name they
            had.
    """

    counts: Counts
    moved: dict[str, int]


@dataclass(frozen=True)
class _Task:
    """The model as it was, and which of its last frames are meant."""

    model: OpenModel
    saved: Saved
    reach: ReachSettings
    command: str | None  # with another number of frames, for errors; None for a program's
    what: str  # the frames have in common, for errors: "was learned as 'cup'"
    on_notice: Notice


def split(model: OpenModel, asked: SplitSettings, *, on_notice: Notice = log_notice) -> Relabelled:
    """Make a new class of part of another, and save.

    Those among the last frames that were learned as `name` are learned again as `into`: the model
    is what it would be, had the label been right (`cfl_edge.learner.rewind` says how exactly), and
    undo still reaches behind them.

    Args:
        model: The model.
        asked: The names, and how far back.
        on_notice: Called with what the user should know.

    Raises:
        DataError: `name` does not exist, `into` does, the journal does not reach back that far, or
            none of the frames is of `name`.
        ModelError: The model or the ONNX files fail.
    """
    name, into = asked.name, asked.into
    with model.changing() as saved:
        class_table.require_known(saved, name)
        kept = quoted(into)
        merge = f"cfl-edge classes merge {quoted(asked.model)} {kept} NEW --into {kept}"
        hint = f"--into NEW, a new name; then {merge}"
        class_table.require_unknown(saved, into, hint=hint if into != name else "--into NEW")
        task = _Task(model, saved, asked, asked.command, f"was learned as {name!r}", on_notice)
        return _relearn(task, into, lambda _, label: label == name, onnx=asked.onnx)


def relabel(
    model: OpenModel,
    label: str | None,
    asked: ReachSettings,
    *,
    learned: Collection[int] | None = None,
    on_notice: Notice = log_notice,
) -> Relabelled:
    """Learn frames again under the label that they should have had, and save.

    Args:
        model: The model.
        label: The right label; a new name becomes a class. None forgets the frames.
        asked: How far back the frames go.
        learned: Which of them it is: the first frame that the model ever learned is 1. None for
            all.
        on_notice: Called with what the user should know.

    Raises:
        DataError: The journal does not reach back that far, or all of them have that label.
        ModelError: The model cannot be written.
    """
    what = f"was learned under another label than {label!r}"
    with model.changing() as saved:
        task = _Task(model, saved, asked, None, what, on_notice)
        return _relearn(
            task,
            label,
            lambda number, old: old != label and (learned is None or number in learned),
        )


def _relearn(
    task: _Task,
    label: str | None,
    is_meant: Callable[[int, str], bool],
    *,
    onnx: Path | None = None,
) -> Relabelled:
    """Learn the last frames again; those meant, by number and name, as `label` or not at all."""
    store, on_notice = task.model.store, task.on_notice
    order = list(task.saved.manifest["classes"])
    back = rewind(task.model, task.saved, task.reach, command=task.command, on_notice=on_notice)
    learner, entries = back.learner, back.frames()
    before = [back.names[entry.label] for entry in entries]
    after = [label if is_meant(i, old) else old for i, old in enumerate(before, back.cut + 1)]
    moved = Counter(old for old, new in zip(before, after, strict=True) if old != new)
    if not moved:
        journal, reach = back.journal, counted(back.journal.reach(), "frame")
        first = journal.end - journal.reach()
        older = enumerate(journal.entries(first, journal.end), first + 1)
        meant = [i for i, entry in older if is_meant(i, back.names[entry.label])]
        hint = f"older frames: the journal reaches back {reach}"
        if not meant:
            hint = f"teach it anew: the journal reaches back {reach}, and none of them {task.what}"
        elif task.command:
            moving = f"{task.command} --frames {journal.end - meant[-1] + 1} moves the newest one"
            hint = f"{moving} that was, and a larger number moves more"
        raise DataError(
            f"{store.folder}: none of the last {counted(back.count, 'frame')} {task.what}",
            hint=hint,
        )
    how = f"{moved.total()} of them as {label!r}" if label else f"without {moved.total()} of them"
    on_notice(f"learning {counted(back.count, 'frame')} again, {how}")
    stay = [(each, entry) for each, entry in zip(after, entries, strict=True) if each is not None]
    learn_again(learner, stay, task.model)
    learner.recalibrate(whole=task.model.again_s is None)
    # The image of a class is of its newest frame: it moves with that.
    newest = dict(zip(before, after, strict=True))
    images = [(newest.get(of, of), image) for of, image in saved_examples(task.saved)]
    keep_examples(learner, [(of, image) for of, image in images if of is not None])
    numbers = [None if each is None else learner.classes.index(each) for each in after]
    back.journal.relabel(back.cut, numbers)
    changed, keep = back.described(store, order)
    _change_exported(task, changed, learner, onnx)
    with says_what_is_new(onnx):
        task.model.write(changed, keep=keep)
    return Relabelled(counts_of(changed), dict(moved))


def _change_exported(task: _Task, changed: Saved, learner: Learner, onnx: Path | None) -> None:
    """Bring exported files in step: before the save, so that the command can be given again."""
    if onnx is None:
        return
    digests = {network_digest(saved.tensors["state"]) for saved in (task.saved, changed)}
    if len(digests) == 1 or not onnx.is_dir():
        patch_exported(changed, task.model.store.folder, onnx, on_notice=task.on_notice)
    else:  # the layers have moved: a whole new export
        from cfl_edge.learner.export import export_learner

        device, backbone = str(learner.device), learner.backbone
        export_learner(type(learner).from_saved(changed, device=device, backbone=backbone), onnx)
