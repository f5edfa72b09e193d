"""Which frame is learned, with which label, and when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from cfl_edge.labels.ring import FrameRing, Kept
from cfl_edge.labels.source import LabelSource
from cfl_edge.learner.conflicts import Conflicts
from cfl_edge.learner.learner import Learner
from cfl_edge.loop.label_delay import Seen, tensor_bytes
from cfl_edge.loop.metrics import Prequential
from cfl_edge.loop.quality import withheld_notice
from cfl_edge.notices import Notice
from cfl_edge.stream.frame import Frame

Budget = Callable[[], float | None]  # see `Learner.learn`


class Teaching:
    """Match labels to frames, and learn the frames that are labelled.

    A label that comes with its frame (a folder's) is learned after the delay. A label given while
    the stream runs (a key, HTTP, a button) applies to the frame captured that long ago. A frame
    with a flag is not learned; a label that contradicts the predictions is accepted once repeated.

    Args:
        learner: Changed by what it learns.
        labels: Where labels come from; may name past frames.
        ring: Of frames that wait for their label.
        learn_flagged: Also learn frames with a flag.
        on_notice: Told once of each flag, and once of frames that could not be stored long enough.
    """

    def __init__(
        self,
        learner: Learner,
        labels: LabelSource,
        ring: FrameRing[Seen],
        *,
        learn_flagged: bool,
        on_notice: Notice,
    ) -> None:
        self._learner, self._labels, self._ring = learner, labels, ring
        self._learn_flagged, self._on_notice = learn_flagged, on_notice
        self._told: set[str] = set()
        self._conflicts = Conflicts()
        self._conflicting: Kept[Seen] | None = None  # the newest frame that was flagged so
        self.accuracy = Prequential()
        self.flagged: Counter[str] = Counter()
        self.learned = self.withheld = self.let_go = 0

    @property
    def waiting(self) -> str:
        """Message of the label source."""
        return self._labels.waiting

    def take(self, frame: Frame, seen: Seen, budget_s: Budget) -> Kept[Seen]:
        """Take the next frame; learn those whose label is known now.

        Args:
            frame: The frame.
            seen: What learning needs from it.
            budget_s: Asked before each frame that is learned.

        Returns:
            The frame, with its label if that is known already.
        """
        label, with_frame = self._labels.label(frame), self._labels.with_frame
        known = label if with_frame else None
        kept = Kept(frame.index, seen, tensor_bytes(seen.encoded), known)
        self.flagged.update(seen.quality.flags)
        due, early = self._ring.add(kept, frame.timestamp_s)
        for one in due:
            self._label(one, one.known if with_frame else label, budget_s)
        for one in early:
            self._tell_full()
            self.let_go += one.known is None and one.label is None
            self._label(one, one.known, budget_s)
        self._teach_late(budget_s)
        return kept

    def finish(self, budget_s: Budget) -> None:
        """Learn what still waits and is labelled: the stream has ended."""
        for one in self._ring.rest():
            self._label(one, one.known, budget_s)
        self._teach_late(budget_s)

    def flags(self, kept: Kept[Seen]) -> tuple[str, ...]:
        """Return the flags of a frame with the label that it has."""
        return kept.item.quality.flags or ("conflict",) * (kept is self._conflicting)

    def _teach_late(self, budget_s: Budget) -> None:
        for one in self._labels.late(self._ring) if self._labels.late is not None else ():
            assert one.label is not None
            self._teach(one, one.label, budget_s)

    def _label(self, kept: Kept[Seen], label: str | None, budget_s: Budget) -> None:
        if label is not None and self._ring.label(kept, label):
            self._teach(kept, label, budget_s)

    def _teach(self, kept: Kept[Seen], label: str, budget_s: Budget) -> None:
        seen = kept.item
        self.accuracy.add(seen.prediction == label)
        if not seen.quality.flags and self._conflicts.check(label, seen.excluded):
            self._conflicting = kept
            self.flagged["conflict"] += 1
        flags = self.flags(kept)
        if flags and not self._learn_flagged:
            self.withheld += 1
            for flag in set(flags) - self._told:
                self._told.add(flag)
                self._on_notice(
                    withheld_notice(flag, kept.index, seen.quality, label, seen.prediction or "")
                )
            return
        self._learner.learn(seen.encoded, [label], budget_s=budget_s())
        self.learned += 1

    def _tell_full(self) -> None:
        if "full" in self._told:
            return
        self._told.add("full")
        ring = self._ring
        outcome = "learned sooner" if self._labels.with_frame else "not learned"
        self._on_notice(
            f"--label-delay {ring.delay_s:g} is longer than the last {ring.frames} frames, "
            f"{ring.reach_s:.1f} s, that fit into memory: older ones are {outcome}; "
            f"--label-delay {int(10 * ring.reach_s) / 10:g} fits"
        )
