"""The journal in a saved model: read it, or take it out. No torch."""

from __future__ import annotations

from cfl_edge.learner.journal import GROUP, Journal
from cfl_edge.model.checkpoint import Saved

KEY = "journal"  # in the manifest


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
        journal = Journal.restored(saved.manifest[KEY], saved.tensors, limit_mib)
        entries = journal.entries(journal.start, journal.end)
        fits = journal.end == frames and all(0 <= e.label < len(classes) for e in entries)
    except (KeyError, TypeError, ValueError):
        return None
    return journal if fits else None


def forget_journal(saved: Saved) -> bool:
    """Take the journal out of a saved model, for good.

    Returns:
        Whether there was one.
    """
    for group in [name for name in saved.tensors if name.startswith(GROUP)]:
        del saved.tensors[group]
    return saved.manifest.pop(KEY, None) is not None
