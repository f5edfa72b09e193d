"""What was learned last, frame by frame, in a bounded number of bytes: so that it can be undone.

A state of the model that was saved before the frames to be undone, a base, learns again what
the journal has between it and them. So undo needs no arithmetic that runs backward, and is right
for every kind of learner.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cfl_edge.learner.journal_segment import COLUMNS, Array, Moment, Segment, reserved
from cfl_edge.model.class_table import MOST_CHANGES, Change

MIB = 2**20
SEGMENTS = 8  # the oldest goes as a whole; more of them waste less of the bytes and are more files
MOST_BASES = 3  # beside the newest two states, which stay anyway: a bound for the disk
# Frames after which a base is wanted, as a share of the journal. By simulation of all distances
# between saves: with three bases, half of the journal at least can always be undone.
BASE_EVERY = 3 / 8
# Without a learned frame, after which a label is held anew: slow boards learn a frame a second.
PAUSE_S = 2.0


class Base(NamedTuple):
    """A saved state that undo can begin from.

    Args:
        checkpoint: Its number in the model folder; 0 is a model that has learned nothing.
        frames: How many frames it has learned.
    """

    checkpoint: int
    frames: int


class Entry(NamedTuple):
    """A frame that was learned: its class index, and what the learner read of it."""

    label: int
    arrays: dict[str, Array]


class Journal:
    """The frames learned last, and the saved states that undo can begin from.

    Args:
        limit_mib: Bytes of all frames, in MiB. More of it reaches back further.
        start: Frames learned before the first one of the journal.
        start_at: When the last of these was learned; None if there is none.
        bases: Saved states to begin from.
        segments: Its frames; with a smaller limit than before, the oldest are dropped.

    Attributes:
        segments: The frames, in stretches; the oldest first.
        session: Number of the session whose frames are added from now on.
        changes: Of the class table: with each, the number of the last checkpoint before it.

    Example:
        >>> journal = Journal(1.0, bases=[Base(0, 0)])
        >>> for i in range(4):
        ...     journal.add(i % 2, {"h0": np.full(3, i, np.uint8)}, time_s=100.0 + i)
        >>> journal.end, journal.frames_within(1.5), journal.reach()
        (4, 2, 4)
        >>> [entry.label for entry in journal.entries(1, 3)]
        [1, 0]
        >>> journal.cut(3)
        >>> journal.end, journal.frames_within(1.5)
        (3, 2)
    """

    def __init__(
        self,
        limit_mib: float,
        *,
        start: int = 0,
        start_at: Moment | None = None,
        bases: Sequence[Base] = (),
        segments: Sequence[Segment] = (),
    ) -> None:
        self.limit_bytes = int(limit_mib * MIB)
        self.start, self.start_at = start, start_at
        self.bases = list(bases)
        self.changes: list[tuple[int, Change]] = []
        self.segments = list(segments)
        self.session = 0 if self.last is None else self.last.session + 1
        self._shrink()

    @property
    def end(self) -> int:
        """Frames learned in all, with those of the journal."""
        return self.start + sum(segment.count for segment in self.segments)

    @property
    def last(self) -> Moment | None:
        """When the last frame was learned; None before the first."""
        if not self.segments:
            return self.start_at
        return self.segments[-1].moment(self.segments[-1].count - 1)

    @property
    def reserved_bytes(self) -> int:
        """Bytes of its arrays; touched only as frames come."""
        return sum(segment.reserved_bytes for segment in self.segments)

    @property
    def base_is_due(self) -> bool:
        """Whether so much was learned since the last save that the next should not wait."""
        if not self.segments:
            return False
        newest = self.segments[-1]
        room = self._room(newest.reserved_bytes // newest.room) * SEGMENTS
        last = max((base.frames for base in self.bases), default=self.start)
        return self.end - last >= max(1, room * BASE_EVERY)

    def add(self, label: int, arrays: Mapping[str, Array], *, time_s: float) -> None:
        """Write down a frame that was learned.

        Args:
            label: Its class index.
            arrays: Name to what is to be learned again; the same shapes in every frame.
            time_s: When it was learned, monotonic time of this session in seconds.
        """
        entry: dict[str, Array] = {
            "labels": np.array(label, np.int32),
            "sessions": np.array(self.session, np.int32),
            "times_s": np.array(time_s, np.float64),
            "holds": np.array(self._hold(label, time_s), np.int32),
            **arrays,
        }
        if not self.segments or self.segments[-1].count == self.segments[-1].room:
            self._make_room(entry)
        if self.segments:
            self.segments[-1].add(entry)
        else:  # not even one fits
            self.start, self.start_at = self.start + 1, Moment(self.session, time_s)
            self._shrink()

    def _hold(self, label: int, time_s: float) -> int:
        """Return the number of the hold that a frame belongs to: the last one or the next."""
        if not self.segments:
            return 0
        newest, place = self.segments[-1], self.segments[-1].count - 1
        session, last_s = newest.moment(place)
        goes_on = label == newest.arrays["labels"][place] and session == self.session
        return int(newest.arrays["holds"][place]) + (not goes_on or time_s - last_s > PAUSE_S)

    def _make_room(self, entry: Mapping[str, Array]) -> None:
        """Begin a segment, or grow one that was saved part full; the oldest go if need be."""
        entry_bytes = sum(array.nbytes for array in entry.values())
        room = self._room(entry_bytes)
        last = self.segments[-1] if self.segments else None
        if last is not None and last.room < room:
            self._shrink((room - last.room) * entry_bytes)
            self.segments[-1] = last.grown(room)
            return
        self._shrink(room * entry_bytes)
        if room * entry_bytes <= self.limit_bytes:
            number = last.number + 1 if last is not None else self.start + 1
            self.segments.append(Segment(number, reserved(entry, room), 0))

    def _room(self, entry_bytes: int) -> int:
        return max(1, self.limit_bytes // SEGMENTS // entry_bytes)

    def _shrink(self, wanted_bytes: int = 0) -> None:
        while self.segments and self.reserved_bytes + wanted_bytes > self.limit_bytes:
            oldest = self.segments.pop(0)
            self.start += oldest.count
            self.start_at = oldest.moment(oldest.count - 1)
        self.bases = [base for base in self.bases if base.frames >= self.start]

    def entries(self, after: int, until: int) -> Iterator[Entry]:
        """Yield the frames after the `after`-th up to the `until`-th of all that were learned."""
        first = self.start
        for segment in self.segments:
            for i in range(max(0, after - first), min(segment.count, until - first)):
                arrays = {name: a[i] for name, a in segment.arrays.items() if name not in COLUMNS}
                yield Entry(int(segment.arrays["labels"][i]), arrays)
            first += segment.count

    def frames_within(self, seconds: float, *, across_sessions: bool = False) -> int:
        """Count the frames learned in the seconds before the last one, and that one.

        Args:
            seconds: The pause between two sessions does not count, whatever the clock said then.
            across_sessions: Go on into the sessions before the last frame's.

        Returns:
            The count; one more than the journal has, if the frame before it is within as well.
        """
        ages_s, sessions = self._ages_s(), self._column("sessions")
        is_within = ages_s <= seconds
        if not across_sessions:
            is_within &= sessions == sessions[-1]
        within = int(is_within.sum())
        return within if self.start_at is not None else min(within, self.end - self.start)

    def join(self) -> None:
        """Let the last frame be of the same hold as the one before it: see `frames_of_hold`.

        So pictures of several classes are one import, and frames that come seldom one hold.
        """
        if self.segments:
            newest = self.segments[-1]
            newest.arrays["holds"][newest.count - 1] = self._column("holds")[-2]

    def frames_of_hold(self) -> int:
        """Count the last frames that have one label without a pause, or were joined."""
        holds = self._column("holds")[1:]
        return int((holds == holds[-1:]).sum())

    def _column(self, name: str) -> npt.NDArray[Any]:
        """Return an array of every frame, the frame before the journal first: twice the first."""
        parts = [segment.arrays[name][: segment.count] for segment in self.segments]
        if self.start_at is not None:
            moment = self.start_at
            before = {"sessions": moment.session, "times_s": moment.time_s}.get(name, -1)
        else:
            before = parts[0][0] if parts else 0
        return np.concatenate([[before], *parts])

    def _ages_s(self) -> npt.NDArray[np.float64]:
        """Return the seconds of learning from each frame to the last one.

        Of the frame before the journal first.
        """
        steps_s = np.diff(self._column("times_s"))
        steps_s[np.diff(self._column("sessions")) != 0] = 0.0
        return np.append(np.cumsum(steps_s[::-1])[::-1], 0.0)

    def reach(self) -> int:
        """Return how many frames can be undone."""
        return self.end - min((base.frames for base in self.bases), default=self.end)

    def seconds_of(self, frames: int) -> float:
        """Return the seconds that the last `frames` took to learn; a pause before them is none.

        Args:
            frames: 1 or more.
        """
        before_s, first_s = self._ages_s()[[-frames - 1, -frames]]
        return float(first_s if before_s - first_s > PAUSE_S else before_s)

    def cut(self, frames: int) -> None:
        """Forget what was learned after the first `frames` of all frames.

        Args:
            frames: From `start` to `end`.
        """
        kept, first = [], self.start
        for segment in self.segments:
            segment.count = min(segment.count, max(0, frames - first))
            first += segment.count
            if segment.count:
                kept.append(segment)
        self.segments = kept
        self.bases = [base for base in self.bases if base.frames <= frames]

    def relabel(self, after: int, labels: Sequence[int | None]) -> None:
        """Give the last frames other classes; states saved among them are no bases any more.

        Args:
            after: Frames learned before the first of them, from `start` on.
            labels: Class index of each; None takes the frame out.
        """
        first, kept = self.start, list[Segment]()
        given = np.array([-1 if label is None else label for label in labels], np.int32)
        for segment in self.segments:
            begin, count = max(0, after - first), segment.count
            if begin < count:
                changed = segment.arrays["labels"].copy()  # it may be a file's, read only
                changed[begin:count] = given[first + begin - after :][: count - begin]
                segment.arrays["labels"] = changed
                if len(stays := np.flatnonzero(changed[:count] >= 0)) < count:
                    segment.arrays = {name: a[stays] for name, a in segment.arrays.items()}
                    segment.count = len(stays)
            first += count
            if segment.count:
                kept.append(segment)
        self.segments = kept
        self.bases = [base for base in self.bases if base.frames <= after]

    def follow(self, change: Change, checkpoint: int, numbers: Sequence[int]) -> None:
        """Take note of a change of the class table, which older states follow when undo loads them.

        Args:
            change: What was changed.
            checkpoint: Number of the last one from before the change.
            numbers: The new class index of each old one.
        """
        names = tuple(dict.fromkeys(change.names))  # each once
        self.changes.append((checkpoint, change._replace(names=names)))
        if len(self.changes) > MOST_CHANGES:
            lost, _ = self.changes.pop(0)
            self.bases = [base for base in self.bases if base.checkpoint > lost]
        self.renumber(numbers)

    def renumber(self, numbers: Sequence[int]) -> None:
        """Give the classes of all frames other indices.

        Args:
            numbers: The new index of each old one.
        """
        if list(numbers) != list(range(len(numbers))):
            for segment in self.segments:
                labels = segment.arrays["labels"].copy()  # it may be a file's, read only
                # Behind them may stand frames that were undone.
                labels[: segment.count] = np.array(numbers, np.int32)[labels[: segment.count]]
                segment.arrays["labels"] = labels

    def thin(self) -> set[int]:
        """Choose the bases to keep, and return their checkpoints.

        Of more than `MOST_BASES` beside the last, the one goes whose neighbours are closest.
        """
        bases = sorted(self.bases, key=lambda base: base.frames)
        while len(bases) > MOST_BASES + 1:
            holes = [bases[i + 1].frames - bases[i - 1].frames for i in range(1, len(bases) - 1)]
            del bases[1 + int(np.argmin(holes))]
        self.bases = bases
        return {base.checkpoint for base in bases}

    def saved_as(self, checkpoint: int, present: Sequence[int]) -> None:
        """Take note of a save: what it holds is the next base.

        Args:
            checkpoint: Its number.
            present: The checkpoints that the folder has now; a full disk may have cost some.
        """
        self.keep_bases(present)
        self.bases.append(Base(checkpoint, self.end))

    def keep_bases(self, present: Sequence[int]) -> None:
        """Strike out the bases whose checkpoint the folder no longer has."""
        self.bases = [base for base in self.bases if base.checkpoint in (0, *present)]

    def fits(self, entry: Mapping[str, Array]) -> bool:
        """Return whether every frame has arrays of the types and shapes of an entry's."""
        expected = {name: (array.dtype, array.shape) for name, array in entry.items()}
        return all(
            expected
            == {n: (a.dtype, a.shape[1:]) for n, a in one.arrays.items() if n not in COLUMNS}
            for one in self.segments
        )
