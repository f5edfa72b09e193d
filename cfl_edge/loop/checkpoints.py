"""When a learner is saved, and whether the disk has room for it."""

from __future__ import annotations

import math
import shlex
import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, final

from cfl_edge.errors import ModelError, ModelWriteError, existing
from cfl_edge.loop.writes import Writes
from cfl_edge.model.store import Store
from cfl_edge.notices import Notice, counted, log_notice, size_text

if TYPE_CHECKING:
    from cfl_edge.learner.learner import Learner

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
                self._on_notice(f"saved again: {counted(self.saved_frames, 'learned frame')}")
            self._failed = False
        except ModelError as error:
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


MIB = 2**20
LOOK_S = 2.0  # between two looks at the disk: one system call


@final
class DiskSpace:
    """Compares the free bytes of a disk with what the saves of a model take.

    A checkpoint is written before the one that it replaces goes, so a model takes twice its size.

    Args:
        store: Where it is saved.
        learner: What is saved.
        models: How many models share the disk: one for each zone.

    Attributes:
        save_bytes: Of one save, with every gradient step's moments and an empty replay memory.
    """

    def __init__(self, store: Store, learner: Learner, models: int = 1) -> None:
        self._store, self._config, self._models = store, learner.config, models
        self.save_bytes = learner.algorithm.state.planned_bytes()
        self.save_bytes += sum(weight.nbytes for weight in learner.network.state_dict().values())
        self._looked_s, self._is_short = -math.inf, False

    @property
    def _hint(self) -> str:
        folder = shlex.quote(str(existing(self._store.folder.absolute().parent)))
        return f"df -h {folder} shows the disk: free some of it, or --model on another one"

    def require(self, on_notice: Notice) -> None:
        """Refuse a disk that has no room for the next save; warn where it will not last.

        Args:
            on_notice: Told where the model fits now and will not once it has grown.

        Raises:
            ModelWriteError: There is no room.
        """
        checkpoints = len(self._store.numbers())
        free_bytes = _free_bytes(self._store.folder)
        needed_bytes = self._models * self.save_bytes
        if free_bytes < needed_bytes and checkpoints < 2:  # of two, the older makes room
            raise ModelWriteError(
                f"{self._store.folder}: there is no room to save what would be learned: a save "
                f"needs {size_text(needed_bytes)}, {size_text(free_bytes)} are free",
                hint=self._hint,
            )
        full_bytes = self.save_bytes + int(self._config.replay_mib * MIB)
        journal_bytes = int(self._config.journal_mib * MIB)
        most_bytes = self._models * ((2 - min(checkpoints, 2)) * full_bytes + journal_bytes)
        most_bytes = max(most_bytes, needed_bytes)
        if free_bytes < most_bytes:
            on_notice(
                f"{size_text(free_bytes)} are free where {self._store.folder} is saved, and it may "
                f"take {size_text(most_bytes)} more: {size_text(full_bytes)} for a checkpoint, of "
                f"which there are two while one replaces the other, and {size_text(journal_bytes)} "
                f"for undo; "
                f"{self._hint}"
            )

    def look(self, on_notice: Notice) -> None:
        """Say once, at once, that the next save will not fit, and once that it does again.

        Args:
            on_notice: Told of it.
        """
        now_s = time.monotonic()
        if now_s - self._looked_s < LOOK_S:
            return
        self._looked_s = now_s
        needed_bytes = max(self.save_bytes, _last_save_bytes(self._store))
        free_bytes = _free_bytes(self._store.folder)
        was_short, self._is_short = self._is_short, free_bytes < needed_bytes
        if self._is_short and not was_short:
            on_notice(
                f"{size_text(free_bytes)} are free where {self._store.folder} is saved, the next "
                f"save needs {size_text(needed_bytes)}: what is learned from now on cannot be "
                f"kept; {self._hint}"
            )
        elif was_short and not self._is_short:
            on_notice(
                f"{size_text(free_bytes)} are free again where {self._store.folder} is saved: what "
                "is learned is kept"
            )


def _free_bytes(folder: Path) -> float:
    try:
        return shutil.disk_usage(existing(folder)).free
    except OSError:  # whatever is wrong with it, the save will say
        return math.inf


def _last_save_bytes(store: Store) -> int:
    """Return what the newest checkpoint wrote: files that it shares with older ones are links."""
    try:
        newest = store.folder / f"checkpoint-{max(store.numbers(), default=0):06d}"
        sizes = [file.stat() for file in newest.glob("*")]
    except (ModelError, OSError):  # as above
        return 0
    return sum(size.st_size for size in sizes if size.st_nlink == 1)
