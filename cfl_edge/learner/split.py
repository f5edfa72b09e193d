"""Split a class off another: the main part of `cfl-edge classes split`.

The frames learned last were of a new class, because the label was not switched in time: the journal
has them, and they are learned again under their right name.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cfl_edge.config.models import SplitSettings
from cfl_edge.errors import DataError
from cfl_edge.learner.classes import Counts, counts_of, patch_exported, says_what_is_new
from cfl_edge.learner.rewind import (
    check_reach,
    keep_examples,
    learn_again,
    rewind,
    saved_examples,
)
from cfl_edge.model import class_table
from cfl_edge.model.changing import changing
from cfl_edge.model.store import Saved, Store
from cfl_edge.model.tensors import network_digest
from cfl_edge.notices import Notice, counted, log_notice

if TYPE_CHECKING:
    from cfl_edge.learner.learner import Learner


@dataclass(frozen=True)
class Split:
    """What became of a class.

    Args:
        counts: Of all classes afterwards.
        moved: Frames that were learned again under the new name.
        stayed: Frames that the class still has.
    """

    counts: Counts
    moved: int
    stayed: int


@dataclass(frozen=True)
class _Task:
    """One call of `split`: what is asked, and the model as it was."""

    asked: SplitSettings
    store: Store
    saved: Saved
    on_notice: Notice

    @property
    def command(self) -> str:
        words = ("cfl-edge", "classes", "split", str(self.asked.model), self.asked.name)
        return shlex.join([*words, "--into", self.asked.into])


def split(settings: SplitSettings, *, on_notice: Notice = log_notice) -> Split:
    """Make a new class of part of another, and save.

    Those among the last frames that were learned as `name` are learned again as `into`: the model
    is what it would be, had the label been right (`cfl_edge.learner.rewind` says how exactly), and
    undo still reaches behind them.

    Args:
        settings: The model folder, the names, and how far back.
        on_notice: Called with what the user should know.

    Raises:
        UsageError: Not one of `seconds` and `frames`.
        DataError: `name` does not exist, `into` does, the journal does not reach back that far, or
            none of the frames is of `name`.
        ModelError: The model or the ONNX files fail.
    """
    command = ["cfl-edge", "classes", "split", settings.model, settings.name]
    check_reach("split", shlex.join(map(str, [*command, "--into", settings.into])), settings)
    with changing(settings.model, on_notice) as (store, saved):
        class_table.require_known(saved, settings.name)
        class_table.require_unknown(saved, settings.into)
        return _relearn(_Task(settings, store, saved, on_notice))


def _relearn(task: _Task) -> Split:
    """Learn the last frames again, some of them under the new name."""
    from cfl_edge.learner.journalled import save_learner
    from cfl_edge.learner.saved import to_saved

    name, into = task.asked.name, task.asked.into
    back = rewind(
        task.store, task.saved, task.asked, command=task.command, on_notice=task.on_notice
    )
    learner, entries = back.learner, back.frames()
    before = [back.names[entry.label] for entry in entries]
    moved = before.count(name)
    if not moved:
        raise DataError(
            f"{task.store.folder}: none of the last {counted(back.count, 'frame')} was learned as "
            f"{name!r}",
            hint=f"{task.command} with more --frames",
        )
    after = [into if each == name else each for each in before]
    task.on_notice(f"learning {counted(back.count, 'frame')} again, {moved} of them as {into!r}")
    learn_again(learner, zip(after, entries, strict=True))
    learner.recalibrate()
    # The newest image of the class is of a frame that moved.
    images = saved_examples(task.saved)
    keep_examples(learner, [(into if of == name else of, image) for of, image in images])
    back.journal.relabel(back.cut, [learner.classes.index(each) for each in after])
    changed = to_saved(learner)
    _change_exported(task, changed, learner)
    learner.journal = back.journal
    with says_what_is_new(task.asked.onnx):
        save_learner(task.store, learner)
    counts = counts_of(changed)
    return Split(counts, moved, counts.frames.get(name, 0))


def _change_exported(task: _Task, changed: Saved, learner: Learner) -> None:
    """Bring exported files in step: before the save, so that the command can be given again."""
    onnx = task.asked.onnx
    if onnx is None:
        return
    digests = {network_digest(saved.tensors["state"]) for saved in (task.saved, changed)}
    if len(digests) == 1 or not onnx.is_dir():
        patch_exported(changed, task.store.folder, onnx, on_notice=task.on_notice)
    else:  # the layers have moved: a whole new export
        from cfl_edge.learner.export import export_learner

        export_learner(learner, onnx)
