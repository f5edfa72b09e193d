"""When a learner is saved: every half minute, sooner where `undo` needs it, and at the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import final

from cfl_edge.errors import ModelWriteError
from cfl_edge.learner.learner import Learner
from cfl_edge.loop.disk_space import DiskSpace
from cfl_edge.loop.writes import Writes
from cfl_edge.notices import Notice, log_notice

CHECKPOINT_S = 30.0  # at most this much learning is lost to a power cut


@final
class Checkpoints:
    """Saves a learner as it learns.

    Args:
        save: Writes the learner.
        learner: What is saved: only where it has learned something since.
        writes: Counts the bytes, and says whether a checkpoint that is due fits its budget.
        space: Says at once where the next save will not fit; None for nobody.
        every_s: Seconds between checkpoints. Fewer lose less to a power cut and wear the card more.
        on_notice: Told where a checkpoint fails; learning goes on.

    Attributes:
        at_once: Whether the first save is not to wait: what is published would outlive the model.
        saved_frames: Frames ever learned that the newest checkpoint has.
    """

    def __init__(
        self,
        save: Callable[[], None],
        learner: Learner,
        writes: Writes | None = None,
        *,
        space: DiskSpace | None = None,
        every_s: float = CHECKPOINT_S,
        on_notice: Notice = log_notice,
    ) -> None:
        self._save, self._learner, self._writes = save, learner, writes
        self._space, self._every_s, self._on_notice = space, every_s, on_notice
        self._saved_s, self.saved_frames = time.monotonic(), learner.frames_learned
        self.at_once = False
        self._new_s: float | None = None  # when the first frame came that is not saved
        self._failed = False

    def save_if_due(self) -> None:
        """Save, if it is time and there is something new; a full disk is a notice."""
        if self._space is not None:
            self._space.look(self._on_notice)
        if self._new_s is None and self._learner.frames_learned > self.saved_frames:
            self._new_s = time.monotonic()
        if not self._is_due():
            return
        try:
            self.save()
            if self._failed:
                self._on_notice(f"saved again: all {self.saved_frames} learned frames")
            self._failed = False
        except ModelWriteError as error:
            self._failed = True
            self._on_notice(f"{error.problem}; learning goes on, next try in {self._every_s:.0f} s")
        self._saved_s = time.monotonic()

    def save(self, how: Callable[[], None] | None = None) -> None:
        """Save now.

        Args:
            how: Saves the learner together with a change; None for the usual way.

        Raises:
            ModelWriteError: Disk full, no permission. The checkpoint before it is intact.
        """
        with self._writes.counted() if self._writes is not None else nullcontext():
            (how or self._save)()
        self.saved_frames, self._new_s, self.at_once = self._learner.frames_learned, None, False

    @property
    def unsaved_s(self) -> float:
        """Seconds since the first frame was learned that is not saved; 0 if all are."""
        return 0.0 if self._new_s is None else time.monotonic() - self._new_s

    def _is_due(self) -> bool:
        due = time.monotonic() - self._saved_s >= self._every_s
        journal = self._learner.journal  # undo needs a checkpoint to start from
        wanted = self.at_once or (journal is not None and journal.base_is_due)
        due = due or (wanted and not self._failed)
        return (
            due
            and self._learner.frames_learned > self.saved_frames
            and (self._writes is None or self._writes.may_save())
        )
