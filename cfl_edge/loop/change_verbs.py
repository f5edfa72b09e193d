"""What can be asked of a model about what it has learned: one method for each verb.

A label was wrong, or a class has another name: what was learned follows. These verbs work on a
model that learns and on one that nobody uses.
"""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from cfl_edge.config.models import SplitSettings, UndoSettings
from cfl_edge.core.allocator import give_back
from cfl_edge.errors import DataError, SessionError
from cfl_edge.learner.classes import Counts, change, counts_of, remove
from cfl_edge.learner.split import relabel, split
from cfl_edge.learner.undo import undo
from cfl_edge.loop import verb_arguments as given
from cfl_edge.loop.running import Running
from cfl_edge.model.changing import OpenModel
from cfl_edge.model.class_table import Change
from cfl_edge.model.last_stream import learn_command
from cfl_edge.notices import Notice, counted, log_notice

Answer = dict[str, Any]


class ChangeVerbs:
    """The verbs that change what was learned; `cfl_edge.loop.verbs.Verbs` has the others.

    Args:
        model: What it is asked of.
        running: The session that learns on it, in this thread; None where nobody does.
        on_notice: Called with what the user should know; answers have it as well.
    """

    def __init__(
        self, model: OpenModel, running: Running | None = None, *, on_notice: Notice = log_notice
    ) -> None:
        self._model, self._maybe_running, self._on_notice = model, running, on_notice
        self._notices: list[str] = []
        self._held: tuple[str, int] | None = None  # a label, and the frames learned before it

    def relabel(self, asked: given.Relabel) -> Answer:
        """Learn frames again under the label that they should have had."""
        asked.require_one("relabel", "frames", "last_s")
        label = asked.label
        if asked.frames is None:
            reach, learned = self._reach(seconds=asked.last_s), None
        else:
            learned = self._learned(asked.frames, "relabelled")
            reach = self._back_to(min(learned))
        done = relabel(self._model, label, reach, learned=learned, on_notice=self._notice)
        if self._maybe_running is not None:
            teaching = self._maybe_running.teaching
            teaching.relabelled(asked.frames or (), label)
        self._changed()
        frames = counted(sum(done.moved.values()), "frame")
        said = f"{frames} learned again as {label}, instead of {_listed(done.moved)}"
        return {"said": said, "label": label, "moved": done.moved} | _counts(done.counts)

    def forget(self, asked: given.Forget) -> Answer:
        """Forget frames that were learned, as if they had never been seen."""
        teaching = self._running("forget").teaching
        learned = self._learned(asked.frames, "forgotten")
        reach = self._back_to(min(learned))
        done = relabel(self._model, None, reach, learned=learned, on_notice=self._notice)
        teaching.forgotten(learned)
        self._changed()
        said = f"{counted(len(learned), 'frame')} forgotten: {_listed(done.moved)}"
        return {"said": said, "moved": done.moved} | _counts(done.counts)

    def undo(self, asked: given.Undo) -> Answer:
        """Undo what was learned last, as if those frames had never been seen."""
        asked.require_one("undo", "seconds", "frames", "hold")
        undone = undo(self._model, self._reach(**asked.model_dump()), on_notice=self._notice)
        frames = counted(undone.frames_taken_back, "frame")
        said = f"undone {frames}: {_listed(undone.per_class)}"
        if self._maybe_running is not None:
            teaching = self._maybe_running.teaching
            teaching.undone()
            if teaching.hold.current() in undone.per_class:
                said += f"; {teaching.hold.current()} is not held any more"
                teaching.hold.set(None)
                self._held = None
        self._changed()
        exported = undone.exported and str(undone.exported)
        return {"said": said, **dataclasses.asdict(undone), "exported": exported}

    def add(self, asked: given.Add) -> Answer:
        """Add a class to be learned later."""
        return self._change(Change("add", (), asked.name), asked.onnx)

    def rename(self, asked: given.Rename) -> Answer:
        """Rename a class."""
        return self._change(Change("rename", (asked.name,), asked.to), asked.onnx)

    def merge(self, asked: given.Merge) -> Answer:
        """Merge several classes into one."""
        return self._change(Change("merge", tuple(asked.names), asked.into), asked.onnx)

    def split(self, asked: given.Split) -> Answer:
        """Make a new class of the frames of a class that were learned last."""
        asked.require_one("split", "seconds", "frames", "hold")
        settings = SplitSettings(model=self._model.store.folder, **asked.model_dump())
        done = split(self._model, settings, on_notice=self._notice)
        self._changed()
        moved, stayed = done.moved[asked.name], done.counts.frames.get(asked.name, 0)
        left = f"{stayed} left" if stayed else "none left: it is gone"
        frames = counted(moved, "frame")
        said = f"{frames} learned again as {asked.into}; {asked.name} has {left}"
        return {"said": said, "moved": moved, "stayed": stayed} | _counts(done.counts)

    def remove(self, asked: given.Remove) -> Answer:
        """Forget a class; this ends what undo can take back."""
        counts = remove(self._model, asked.name, onnx=_path(asked.onnx), on_notice=self._notice)
        said = f"removed {asked.name}"
        if self._maybe_running is not None:
            was_held = self._maybe_running.teaching.hold.current() == asked.name
            said += "; it is not held any more" if was_held else ""
            self._held = None if was_held else self._held
            self._maybe_running.teaching.follow((asked.name,), None)
            self._maybe_running.teaching.undone()
        self._changed()
        return {"said": said} | _counts(counts)

    def classes(self, asked: given.Nothing) -> Answer:
        """Count the frames learned of each class, and the samples in the replay memory."""
        counts = counts_of(self._model.look())
        return {"said": _listed(counts.frames) or "no class yet"} | _counts(counts)

    def _running(self, verb: str) -> Running:
        if self._maybe_running is None:
            folder = self._model.store.folder
            raise SessionError(
                f"{verb} needs a session, and nobody learns on {folder} now",
                hint=learn_command(folder),
            )
        return self._maybe_running

    def _notice(self, text: str) -> None:
        self._notices.append(text)
        self._on_notice(text)

    def _reach(self, **how: Any) -> UndoSettings:
        return UndoSettings(model=self._model.store.folder, **how)

    def _back_to(self, number: int) -> UndoSettings:
        """Return how far back the frame with this number, of all ever learned, is."""
        end = self._running("relabel").learner.frames_learned
        return self._reach(frames=end - number + 1)

    def _learned(self, frames: Collection[int], what: str) -> set[int]:
        """Return which of all frames ever learned these are; one that is gone is a DataError."""
        running = self._running("relabel")
        numbers = running.teaching.numbers(frames)
        journal = running.learner.journal
        oldest = running.learner.frames_learned - (0 if journal is None else journal.reach())
        missing = sorted(set(frames) - numbers.keys())
        old = sorted(frame for frame, number in numbers.items() if number <= oldest)
        if missing:
            raise DataError(
                f"{_frames(missing)} cannot be {what}: not learned, or undone since",
                hint="label_frame teaches a frame that was not learned",
            )
        if old:
            raise DataError(
                f"{_frames(old)} cannot be {what}: too old, the journal reaches back "
                f"{counted(running.learner.frames_learned - oldest, 'frame')}",
                hint="leave them out; learn with more --journal-mib reaches further",
            )
        return set(numbers.values())

    def _change(self, asked: Change, onnx: str | None) -> Answer:
        counts = change(self._model, asked, onnx=_path(onnx), on_notice=self._notice)
        if self._maybe_running is not None:
            self._maybe_running.teaching.follow(asked.names, asked.into)
        self._changed()
        said = f"{_DONE[asked.verb]} {' and '.join(asked.names) or asked.into}"
        said += f" into {asked.into}" if asked.verb == "merge" else ""
        said += f" to {asked.into}" if asked.verb == "rename" else ""
        return {"said": said} | _counts(counts)

    def _changed(self) -> None:
        if self._maybe_running is None:
            return
        gc.collect()  # it took another learner: the one before has cycles, and 60 MiB
        give_back()  # which are holes in the heap by now
        self._maybe_running.teaching.changed()
        if self._maybe_running.glance is not None:
            self._maybe_running.glance.forget()
        if self._maybe_running.publisher is not None:
            self._maybe_running.publisher.forget()


_DONE = {"add": "added", "rename": "renamed", "merge": "merged"}


def _counts(counts: Counts) -> Answer:
    return {"classes": counts.frames, "replay": counts.replay}


def _listed(frames: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in frames.items())


def _frames(numbers: list[int]) -> str:
    some = ", ".join(map(str, numbers[:5]))
    return f"{'frames' if len(numbers) > 1 else 'frame'} {some}{' …' * (len(numbers) > 5)}"


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
