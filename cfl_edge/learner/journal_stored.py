"""The journal in a saved model: put it in, read it, or take it out. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cfl_edge.learner.journal import MIB, Base, Journal
from cfl_edge.learner.journal_segment import COLUMNS, Array, Moment, Segment
from cfl_edge.model.checkpoint import Saved
from cfl_edge.model.class_table import Change

KEY = "journal"  # in the manifest
GROUP = "journal_"  # a group of tensors for each segment: one that is full is never written again

Groups = Mapping[str, dict[str, Array]]


def put_journal(saved: Saved, journal: Journal) -> None:
    """Put a journal into what is to be saved."""
    saved.manifest[KEY] = to_words(journal)
    saved.tensors.update(to_tensors(journal))


def to_tensors(journal: Journal) -> dict[str, dict[str, Array]]:
    """Return the frames as groups of tensors, to be stored."""
    return {
        f"{GROUP}{segment.number:09d}": {
            name: array[: segment.count] for name, array in segment.arrays.items()
        }
        for segment in journal.segments
    }


def to_words(journal: Journal) -> dict[str, Any]:
    """Return what else is to be stored, as JSON values."""
    return {
        "start": journal.start,
        "start_at": None if journal.start_at is None else list(journal.start_at),
        "bases": [list(base) for base in journal.bases],
        "changes": [
            {"checkpoint": checkpoint, **change._asdict(), "names": list(change.names)}
            for checkpoint, change in journal.changes
            if any(base.checkpoint <= checkpoint for base in journal.bases)
        ],
    }


def from_stored(
    words: Mapping[str, Any], tensors: Groups, limit_mib: float | None = None
) -> Journal:
    """Return the journal that words and tensors describe; other groups are passed over.

    What is added to it belongs to a new session. With a smaller limit than before, the oldest
    frames are dropped; without one, none.

    Raises:
        KeyError, TypeError, ValueError: They do not fit together.
    """
    segments = []
    for group in sorted(name for name in tensors if name.startswith(GROUP)):
        arrays = tensors[group]
        counts = {len(array) for array in arrays.values()}
        if len(counts) != 1 or counts == {0} or not arrays.keys() >= COLUMNS:
            raise ValueError(f"{group} has arrays of {sorted(counts)} frames, expected as many")
        number = int(group.removeprefix(GROUP))
        segments.append(Segment(number, dict(arrays), counts.pop()))
    if limit_mib is None:
        limit_mib = sum(segment.reserved_bytes for segment in segments) / MIB
    start_at = None
    if words["start_at"] is not None:
        session, time_s = words["start_at"]
        start_at = Moment(int(session), float(time_s))
    journal = Journal(
        limit_mib,
        start=int(words["start"]),
        start_at=start_at,
        bases=[Base(int(checkpoint), int(frames)) for checkpoint, frames in words["bases"]],
        segments=segments,
    )
    for each in words["changes"]:
        change = Change(each["verb"], tuple(each["names"]), each["into"])
        journal.changes.append((int(each["checkpoint"]), change))
    return journal


def saved_journal(saved: Saved, limit_mib: float | None = None) -> Journal | None:
    """Return the journal of a saved model; None if it has none, or one that does not fit.

    Args:
        saved: From `Store.load`.
        limit_mib: Bytes of the journal, in MiB. With less than before, the oldest frames go; None
            takes it as it is.
    """
    if KEY not in saved.manifest:
        return None
    classes, frames = saved.manifest["classes"], saved.manifest["counters"]["frames_learned"]
    try:
        journal = from_stored(saved.manifest[KEY], saved.tensors, limit_mib)
        entries = journal.entries(journal.start, journal.end)
        fits = journal.end == frames and all(0 <= e.label < len(classes) for e in entries)
    except (KeyError, TypeError, ValueError):
        return None
    return journal if fits else None


def forget_journal(saved: Saved) -> bool:
    """Take the journal out of a saved model, for good; return whether there was one."""
    for group in [name for name in saved.tensors if name.startswith(GROUP)]:
        del saved.tensors[group]
    return saved.manifest.pop(KEY, None) is not None
