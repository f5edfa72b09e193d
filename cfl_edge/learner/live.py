"""The model of a learner at work: changed as its folder would be, while it learns."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import final

from cfl_edge.learner.journal_stored import KEY
from cfl_edge.learner.journalled import open_journal, with_journal
from cfl_edge.learner.learner import Learner
from cfl_edge.learner.saved import to_saved
from cfl_edge.model.changing import OpenModel
from cfl_edge.model.store import Saved, Store
from cfl_edge.notices import Notice

Saving = Callable[[Callable[[], None]], None]
"""Runs what saves: `cfl_edge.loop.checkpoints.Checkpoints.save`, which counts its bytes."""
AGAIN_S = 0.2  # of steps in a correction: a camera waits, and steps go on between its frames


@final
class LiveModel(OpenModel):
    """A learner at work, and the folder that it is saved in.

    A change is saved at once, and the learner goes on as if it had been loaded from that: a
    gradient step that is under way is given up, as by a checkpoint.

    Args:
        store: Of the model folder; its lock is held by this process.
        learner: Becomes what is written.
        saving: Runs each save.
        on_notice: Called with what the user should know.
    """

    def __init__(self, store: Store, learner: Learner, saving: Saving, on_notice: Notice) -> None:
        self.store = store
        self.parts = {"device": str(learner.device), "backbone": learner.backbone}
        self.again_s = AGAIN_S
        self._learner, self._saving, self._on_notice = learner, saving, on_notice
        self._remembered: Saved | None = None

    def remember(self) -> None:
        """Copy the learner as it is now: undo can begin here, and need not learn much again.

        It replaces the copy before it, and goes with the next change.
        """
        saved = to_saved(self._learner)
        copies = {
            group: {name: array.copy() for name, array in arrays.items()}
            for group, arrays in saved.tensors.items()
        }
        self._remembered = Saved(saved.manifest, copies)

    def quiet_s(self) -> float:
        """Return the seconds since the session learned its last frame; endless before the first."""
        journal = self._learner.journal
        if journal is None or journal.last is None or journal.last.session != journal.session:
            return math.inf
        return time.monotonic() - journal.last.time_s

    def recall(self, least: int, most: int) -> Saved | None:
        """Give the copy away: whatever is built from it may share its arrays."""
        saved, self._remembered = self._remembered, None
        if saved is None or not least <= saved.manifest["counters"]["frames_learned"] <= most:
            return None
        return saved

    def look(self) -> Saved:
        """Describe the learner as it is now."""
        saved, _ = with_journal(self.store, self._learner)
        saved.number = max(self.store.numbers(), default=0)  # it comes after all of these
        return saved

    @contextmanager
    def changing(self) -> Iterator[Saved]:
        """Describe the learner: only the thread that learns changes it, and calls this."""
        yield self.look()

    def write(self, saved: Saved, *, keep: Collection[int] = ()) -> None:
        """Save, and let the learner be what was saved."""
        self._saving(lambda: self._save(saved, keep))

    def _save(self, saved: Saved, keep: Collection[int]) -> None:
        learner = self._learner
        self.store.save(saved.manifest, saved.tensors, keep=keep)
        saved.number = self.store.numbers()[0]
        network = saved.manifest["network"]
        config = learner.config.looking(network["fit"], network["region"])
        other = Learner.from_saved(saved, config=config, **self.parts)
        other.journal = open_journal(saved, other, self._on_notice)
        if KEY in saved.manifest and other.journal is not None and learner.journal is not None:
            other.journal.session = learner.journal.session  # its clock goes on
        learner.become(other)
        self._remembered = None  # it is from before the change
