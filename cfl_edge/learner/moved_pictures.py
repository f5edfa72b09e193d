"""Pictures that this session was given as another class than one before it: moved in between.

The journal has what the frozen network returned for a picture: the same bytes whenever it is read.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import chain

from cfl_edge.learner.journal import Journal
from cfl_edge.learner.journal_segment import Array


def picture_of(arrays: Mapping[str, Array]) -> int:
    """Return what tells a picture from others, by its entry in the journal, in this process."""
    return hash(tuple((name, a.tobytes()) for name, a in sorted(arrays.items())))


def moved_pictures(
    journal: Journal, refused: Iterable[tuple[int, int]] = ()
) -> tuple[Counter[tuple[int, int]], int]:
    """Count the frames that were given as two classes, by that of before and that of now.

    Args:
        journal: What it no longer has is not found.
        refused: Pictures that this session did not learn, and the class index of each.

    Returns:
        The counts, by class indices, and how many frames ago the first of them was learned.
    """
    seen = [
        (picture_of(entry.arrays), entry.label)
        for entry in journal.entries(journal.start, journal.end)
    ]
    first_new = len(seen)
    if journal.last is not None and journal.last.session == journal.session:
        first_new = max(0, len(seen) - journal.frames_within(math.inf))
    now = defaultdict[int, set[int]](set)
    for picture, label in chain(seen[first_new:], refused):
        now[picture].add(label)
    old = [
        place
        for place, (picture, label) in enumerate(seen[:first_new])
        if label not in now.get(picture, {label})
    ]
    moved = Counter((seen[i][1], min(now[seen[i][0]])) for i in old)
    return moved, len(seen) - min(old, default=len(seen))
