"""Split a class off another: the main part of `cfl-edge classes split`.

The frames learned last were of a new class, because the label was not switched in time: the journal
has them, and they are learned again under their right name.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cfl_edge.cli.commands.classes import Counts, counts_of, patch_exported
from cfl_edge.cli.commands.rewind import (
    counted,
    keep_examples,
    learn_again,
    require_one,
    rewind,
    saved_examples,
)
from cfl_edge.errors import DataError
from cfl_edge.model import class_table
from cfl_edge.model.lock import ModelLock
from cfl_edge.model.store import Saved, Store
from cfl_edge.model.tensors import network_digest
from cfl_edge.stream.source import Notice, log_notice

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
    """One call of `split`: the model as it was, and what is asked."""

    store: Store
    saved: Saved
    name: str
    into: str
    onnx: Path | None
    device: str
    on_notice: Notice

    @property
    def counters(self) -> dict[str, int]:
        return {"runs": self.saved.manifest["counters"].get("runs", 0)}

    @property
    def command(self) -> str:
        words = ("cfl-edge", "classes", "split", str(self.store.folder), self.name)
        return shlex.join([*words, "--into", self.into])


def split(
    model: Path,
    name: str,
    into: str,
    *,
    seconds: float | None = None,
    frames: int | None = None,
    onnx: Path | None = None,
    device: str = "auto",
    on_notice: Notice = log_notice,
) -> Split:
    """Make a new class of part of another, and save.

    Those among the last frames that were learned as `name` are learned again as `into`: the model
    is what it would be, had the label been right (`cfl_edge.cli.commands.rewind` says how exactly),
    and undo still reaches behind them.

    Args:
        model: The model folder.
        name: The class.
        into: The new one.
        seconds: How far back from the last frame learned.
        frames: How many of the frames learned last, of whatever class.
        onnx: Exported files to be changed in step, a folder or one file.
        device: "auto", "cpu" or "cuda".
        on_notice: Called with what the user should know.

    Raises:
        UsageError: Not one of `seconds` and `frames`, or one that is not above 0.
        DataError: `name` does not exist, `into` does, the journal does not reach back that far, or
            none of the frames is of `name`.
        ModelError: The model or the ONNX files fail.
    """
    store = Store(model, on_notice=on_notice)
    require_one("split", f"cfl-edge classes split {model} NAME --into NEW", seconds, frames)
    store.require_usable()
    if not store.exists():
        store.load()  # says what is missing and what to do
    with ModelLock(model):
        saved = store.load()
        class_table.require_known(saved, name)
        class_table.require_unknown(saved, into)
        task = _Task(store, saved, name, into, onnx, device, on_notice)
        return _relearn(task, seconds, frames)


def _relearn(task: _Task, seconds: float | None, frames: int | None) -> Split:
    """Learn the last frames again, some of them under the new name."""
    from cfl_edge.learner.journalled import save_learner
    from cfl_edge.learner.saved import to_saved

    name, into = task.name, task.into
    back = rewind(
        task.store,
        task.saved,
        seconds=seconds,
        frames=frames,
        device=task.device,
        command=task.command,
        on_notice=task.on_notice,
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
    changed = to_saved(learner, task.counters)
    _change_exported(task, changed, learner)
    learner.journal = back.journal
    save_learner(task.store, learner, task.counters)
    counts = counts_of(changed)
    return Split(counts, moved, counts.frames.get(name, 0))


def _change_exported(task: _Task, changed: Saved, learner: Learner) -> None:
    """Bring exported files in step: before the save, so that the command can be given again."""
    if task.onnx is None:
        return
    digests = {network_digest(saved.tensors["state"]) for saved in (task.saved, changed)}
    if len(digests) == 1 or not task.onnx.is_dir():
        patch_exported(changed, task.store.folder, task.onnx, on_notice=task.on_notice)
    else:  # the layers have moved: a whole new export
        from cfl_edge.learner.export import export_learner

        export_learner(learner, task.onnx)
