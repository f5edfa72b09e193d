"""Saving a learner together with its journal, so that `cfl-edge undo` finds where to begin."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cfl_edge.errors import DIVERGED_HINT, ModelError
from cfl_edge.learner.journal import Base, Journal
from cfl_edge.learner.journal_segment import Moment
from cfl_edge.learner.journal_stored import KEY, put_journal, saved_journal
from cfl_edge.learner.saved import to_saved
from cfl_edge.learner.saved_checks import not_finite
from cfl_edge.model.checkpoint import Saved, number_of
from cfl_edge.model.store import Store
from cfl_edge.notices import Notice

if TYPE_CHECKING:
    from cfl_edge.learner.batch_learner import BatchLearner


def save_learner(store: Store, learner: BatchLearner) -> None:
    """Save a learner; keep the checkpoints that its journal can begin from.

    Args:
        store: Of the model folder; its lock is held.
        learner: Not changed, but for its journal, which takes note of the save.

    Raises:
        ModelWriteError: Disk full, no permission. What was saved before is intact.
        ModelError: The folder holds something else, a newer cfl-edge wrote it, or learning has
            diverged.
    """
    saved, keep = with_journal(store, learner)
    folder = store.save(saved.manifest, saved.tensors, keep=keep)
    if learner.journal is not None:
        learner.journal.saved_as(number_of(folder) or 0, store.numbers())


@contextmanager
def in_folder(learner: BatchLearner, store: Store, on_notice: Notice) -> Iterator[None]:
    """Let a learner be of the folder that the block saves it in.

    Another folder has other checkpoints under the same numbers: only the model that has learned
    nothing stays a state to begin from. A block that fails leaves the learner as it was.

    Args:
        learner: Its journal and `checkpoint` are those of the folder afterwards.
        store: Of the model folder; its lock is held.
        on_notice: Told of a checkpoint that others saved since, which the new one does not follow.
    """
    before, known, place = learner.journal, learner.checkpoint, store.folder.resolve()
    newest = max(store.numbers(), default=0)
    if known is not None and known.parent != place and before is not None:
        learner.journal = copy.copy(before)
        learner.journal.bases = [base for base in before.bases if not base.checkpoint]
        learner.journal.changes = [(0, change) for _, change in before.changes]
    elif known is not None and known.parent == place and newest > (number_of(known) or 0):
        on_notice(
            f"{store.folder}: others saved checkpoint-{newest:06d} since this learner was loaded; "
            "what they learned or changed is not in what it saves now"
        )
    try:
        yield
    except BaseException:
        learner.journal = before
        raise
    learner.checkpoint = place / f"checkpoint-{max(store.numbers()):06d}"


def with_journal(store: Store, learner: BatchLearner) -> tuple[Saved, set[int]]:
    """Describe a learner together with its journal.

    Args:
        store: Of the model folder, for the error.
        learner: Not changed, but for its journal, which gives up bases that it can do without.

    Returns:
        What to save, and the numbers of the checkpoints to keep.

    Raises:
        ModelError: Learning has diverged.
    """
    saved, journal = to_saved(learner), learner.journal
    if found := not_finite(saved):
        raise ModelError(
            f"{store.folder} was not saved: learning has diverged, {found} is not finite",
            hint=DIVERGED_HINT,
        )
    if journal is None:
        return saved, set()
    keep = journal.thin()
    put_journal(saved, journal)
    return saved, keep


def open_journal(
    saved: Saved | None, learner: BatchLearner, on_notice: Callable[[str], None]
) -> Journal | None:
    """Return the journal to go on with; what was loaded is a state that undo can begin from.

    Args:
        saved: From `Store.load`; None for a new model.
        learner: What was made of it; its `journal_mib` of 0 switches the journal off.
        on_notice: Called with what the user should know.
    """
    limit_mib = learner.config.journal_mib
    if not limit_mib:
        return None
    if saved is None:
        return Journal(limit_mib, bases=[Base(0, 0)])
    journal = saved_journal(saved, limit_mib)
    if journal is not None and not journal.fits(learner.blank_entry()):
        journal = None
    frames = saved.manifest["counters"]["frames_learned"]
    if journal is None:
        if KEY in saved.manifest:
            on_notice("the journal for cfl-edge undo does not fit the model: a new one begins")
        journal = Journal(limit_mib, start=frames, start_at=Moment(0, 0.0))
    journal.bases.append(Base(saved.number, frames))
    return journal
