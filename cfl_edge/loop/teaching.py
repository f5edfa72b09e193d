"""Which frame is learned, with which label, and when."""

from __future__ import annotations

import itertools
import math
import time
from bisect import bisect
from collections import Counter, deque
from collections.abc import Callable, Collection
from typing import Any

from cfl_edge.core.features import Encoded
from cfl_edge.frame.frame import Frame
from cfl_edge.frame.preprocess import Image, to_model_input
from cfl_edge.frame.region import View
from cfl_edge.labels.hold import Hold
from cfl_edge.labels.ring import FrameRing, Kept, LabelledError
from cfl_edge.labels.source import LabelSource
from cfl_edge.learner.conflicts import Conflicts
from cfl_edge.learner.journal import PAUSE_S
from cfl_edge.learner.learner import Learner
from cfl_edge.learner.moved_pictures import picture_of
from cfl_edge.learner.suspects import Suspect, suspects
from cfl_edge.loop.label_delay import Seen, tensor_bytes
from cfl_edge.loop.metrics import Prequential
from cfl_edge.loop.quality import quality, withheld_notice
from cfl_edge.loop.taught import Taught
from cfl_edge.notices import Notice
from cfl_edge.text import visible

FIRST_PICTURE = 1 << 52  # number of a picture that is no frame: above them, exact in JavaScript
MOST_REMEMBERED = 10_000  # learned frames whose place in the journal is known; it has 1,100 of them

Budget = Callable[[], float | None]  # see `Learner.learn`


class Teaching:
    """Match labels to frames, and learn the frames that are labelled.

    A label that comes with its frame (a folder's) is learned after the delay. A label given while
    the stream runs (a key, HTTP, a button) applies to the frame captured that long ago. A frame
    with a flag is not learned; a label that contradicts the predictions is accepted once repeated.

    Args:
        learner: Changed by what it learns.
        labels: Where labels come from.
        ring: Of frames that wait for their label.
        learn_flagged: Also learn frames with a flag.
        on_notice: Told once of each flag, and once of frames that could not be stored long enough.
        hold: The label that somebody holds, which counts more than what the source says, and
            whether learning is paused.

    Attributes:
        hold: As given.
        on_learned: Called with each frame that was learned, and its label; None for nothing.
        on_hold: Called before the first frame of a label that a person holds; None for nothing.
        accuracy: Whether predictions were right, before the frame was learned and not undone.
        taught: The same of each class.
        flagged: Frames of each flag.
        refused: Of pictures that came with a label at odds with the prediction, `picture_of` and
            that label.
        withheld, let_go: As in `cfl_edge.frame.step.Summary`.
    """

    def __init__(
        self,
        learner: Learner,
        labels: LabelSource,
        ring: FrameRing[Seen],
        *,
        learn_flagged: bool,
        on_notice: Notice,
        hold: Hold | None = None,
    ) -> None:
        self.hold = hold or Hold()
        self.on_hold: Callable[[], None] | None = None
        self.on_learned: Callable[[Encoded, str], None] | None = None
        self._began_s = -math.inf  # the last hold
        # Of the newest frame: its label, which hold it is, and which stretch of frames with both.
        self._run: tuple[str | None, int, int] = None, 0, 0
        self._last: object = None  # what was learned last: such a stretch, or a batch of pictures
        self._names: dict[str, str | None] = {}  # what the source still calls by an old name
        # Its number in the stream, among all that were ever learned, and among those labelled.
        self._learned: deque[tuple[int, int, int]] = deque(maxlen=MOST_REMEMBERED)
        self._learner, self._labels, self._ring = learner, labels, ring
        self._learn_flagged, self._on_notice = learn_flagged, on_notice
        self._told: set[str] = set()
        self._searched: tuple[int, list[Suspect]] = -1, []  # frames learned by then, and suspects
        self._conflicts = Conflicts()
        self._conflicting: Kept[Seen] | None = None  # the newest frame that was flagged so
        self.accuracy, self.taught = Prequential(), Taught()
        self.flagged: Counter[str] = Counter()
        self.refused: deque[tuple[int, str]] = deque(maxlen=MOST_REMEMBERED)
        self.withheld = self.let_go = 0
        self._before = learner.frames_learned  # by earlier sessions, and not undone
        self._pictures = itertools.count(FIRST_PICTURE)

    @property
    def learned(self) -> int:
        """Frames of this session that the model has learned now: neither undone nor removed."""
        known = sum(self._learner.samples().values())
        return min(self._learner.frames_learned - self._before, known)

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
        label, with_frame = self._label_of(frame)
        if self._run[:2] != (label, self.hold.holds):
            self._run = label, self.hold.holds, self._run[2] + 1
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
        return kept

    def is_taught(self, frame: Frame) -> bool:
        """Return whether the next frame has a label, whoever gives it."""
        return self.hold.current() is not None or self._labels.label(frame) is not None

    def pass_over(self, frame: Frame, seen: Seen | None, budget_s: Budget) -> None:
        """Take a frame that the model did not look at: it is not learned, unless somebody names it.

        Args:
            frame: The frame.
            seen: What learning needs from one that looks the same; None where there is none.
            budget_s: See `take`.
        """
        if seen is None:
            over = self._ring.pass_time(frame.timestamp_s)
        else:
            kept = Kept(frame.index, seen, tensor_bytes(seen.encoded), None)
            due, early = self._ring.add(kept, frame.timestamp_s)
            over = [*due, *early]
        for one in over:
            self._label(one, one.known, budget_s)

    def finish(self, budget_s: Budget) -> None:
        """Learn what still waits and is labelled: the stream has ended."""
        for one in self._ring.rest():
            self._label(one, one.known, budget_s)

    def flags(self, kept: Kept[Seen]) -> tuple[str, ...]:
        """Return the flags of a frame with the label that it has."""
        return kept.item.quality.flags or ("conflict",) * (kept is self._conflicting)

    def teach_past(
        self, label: str, *, frame: int | None = None, seconds_ago: float | None = None
    ) -> tuple[int, bool]:
        """Label one past frame, and learn it.

        Args:
            label: A checked name.
            frame: Its number in the stream.
            seconds_ago: Or its age.

        Returns:
            Its number, and whether it was learned: a flag may withhold it.

        Raises:
            NotKeptError, LabelledError: See `FrameRing.claim`.
        """
        try:
            kept = self._ring.claim(label, frame=frame, seconds_ago=seconds_ago)
        except LabelledError as error:
            if self.numbers((error.frame,)):
                raise
            self._ring.mark((error.frame,), None)  # a flag withheld it: it taught nothing
            kept = self._ring.claim(label, frame=error.frame)
        return kept.index, self._insist(kept, label)

    def teach_picture(self, label: str, image: Image, batch: int | None = None) -> tuple[int, bool]:
        """Learn a picture that is no frame of the stream: all of it, fitted as a frame would be.

        Args:
            label: A checked name.
            image: uint8 RGB, (H, W, 3).
            batch: Number of the pictures that are undone together with it; None where it is alone.

        Returns:
            Its number, as if it were a frame, and whether it was learned: a flag may withhold it.
        """
        square = to_model_input(image, self._learner.image_px, View(self._learner.view.fit))
        encoded = self._learner.encode(square[None])
        (prediction,) = self._learner.predict_encoded(encoded)
        seen = Seen(encoded, prediction.label, frozenset(), quality(square))
        number = next(self._pictures)
        return number, self._insist(Kept(number, seen, 0), label, batch)

    def _insist(self, kept: Kept[Seen], label: str, batch: int | None = None) -> bool:
        """Learn one frame that somebody has looked at: a confident prediction is no objection."""
        before = self.learned
        self._teach(kept, label, lambda: None, insisted=True, batch=batch)
        return self.learned > before

    def follow(self, names: Collection[str], into: str | None) -> None:
        """Follow a change of the classes: labels that are held or wait have the new name.

        Args:
            names: Classes that were renamed, merged or removed.
            into: Their name from now on; None if they are gone.
        """
        self.hold.follow(names, into)
        self._ring.follow(names, into)
        if self._labels.follow is not None:
            self._labels.follow(names, into)
        else:
            for name, now in self._names.items():
                self._names[name] = into if now in names else now
            self._names |= dict.fromkeys(names, into)
        if into is not None:
            self._names.pop(into, None)
        self.taught.follow(names, into)

    def numbers(self, frames: Collection[int]) -> dict[int, int]:
        """Return which frame of all that were ever learned each is; others are left out.

        Args:
            frames: Their numbers in the stream.
        """
        return {frame: number for frame, number, _ in self._learned if frame in frames}

    def relabelled(self, frames: Collection[int], label: str) -> None:
        """Take note that frames were learned again under another label."""
        self._ring.mark(frames, label)

    def forgotten(self, numbers: Collection[int]) -> None:
        """Take note that frames were forgotten: the numbers of later ones are smaller now.

        Args:
            numbers: Which of all frames that were ever learned they were.
        """
        gone, self._last = sorted(numbers), None
        self._ring.mark({frame for frame, number, _ in self._learned if number in numbers}, None)
        kept = [one for one in self._learned if one[1] not in numbers]
        self._learned.clear()
        self._learned.extend(
            (frame, number - bisect(gone, number), at) for frame, number, at in kept
        )

    def suspects(self) -> list[dict[str, Any]]:
        """Return runs of frames that may have a wrong label, the clearest first, as JSON values.

        It is looked for again once something was learned, or changed.
        """
        if self._searched[0] != self._learner.frames_learned:
            self._searched = self._learner.frames_learned, suspects(self._learner)
        frame_of = {number: frame for frame, number, _ in self._learned}
        found = []
        for run in self._searched[1]:
            frames = [frame_of[number] for number in run.numbers if number in frame_of]
            if frames:
                words = {"label": run.label, "looks_like": run.looks_like, "margin": run.margin}
                found.append({"frames": frames, **words})
        return found

    def changed(self) -> None:
        """Take note that what was learned is not what it was: what looked wrong may be right."""
        self._searched = -1, []

    def undone(self) -> None:
        """Take note that the learner went back: frames that it forgot can be labelled anew."""
        self._before = min(self._before, self._learner.frames_learned)
        self._last = None
        gone, count = set(), 0
        while self._learned and self._learned[-1][1] > self._learner.frames_learned:
            frame, _, labelled = self._learned.pop()
            gone.add(frame)
            count = self.accuracy.count - labelled + 1
        self._ring.mark(gone, None)
        self.accuracy.take_back(self.taught.take_back(count))

    def _label_of(self, frame: Frame) -> tuple[str | None, bool]:
        """Return the label that counts now, and whether it came with the frame."""
        label, with_frame = self._labels.label(frame), self._labels.with_frame
        label = label if label is None else self._names.get(label, label)
        held = self.hold.take()
        if held is not None:
            label, with_frame = held, False
        return (None if self.hold.paused else label), with_frame

    def _label(self, kept: Kept[Seen], label: str | None, budget_s: Budget) -> None:
        if self.hold.paused:
            return
        if label is not None and kept.label is None:
            kept.label = label
            self._teach(kept, label, budget_s)

    def _teach(
        self,
        kept: Kept[Seen],
        label: str,
        budget_s: Budget,
        *,
        insisted: bool = False,
        batch: int | None = None,
    ) -> None:
        seen = kept.item
        self.accuracy.add(seen.prediction == label)
        self.taught.add(label, seen.prediction)
        labelled = self.accuracy.count
        is_checked = not seen.quality.flags and not insisted
        if is_checked and self._conflicts.check(label, seen.excluded):
            self._conflicting = kept
            self.flagged["conflict"] += 1
        flags = seen.quality.flags if insisted else self.flags(kept)
        if flags and not self._learn_flagged:
            self.withheld += 1
            if kept.known is not None and "conflict" in flags:
                self.refused.extend(
                    (picture_of(entry), label) for entry in self._learner.entries_of(seen.encoded)
                )
            for flag in set(flags) - self._told:
                self._told.add(flag)
                what = "a picture" if kept.index >= FIRST_PICTURE else f"frame {kept.index}"
                what += f" ({visible(seen.name)})" if seen.name else ""
                self._on_notice(
                    withheld_notice(flag, what, seen.quality, label, seen.prediction or "")
                )
            return
        run = batch if insisted or label != self._run[0] else self._run
        goes_on = run is not None and run == self._last
        if not goes_on and (self._labels.looks_back or self.hold.current() is not None):
            self._note_hold()
        self._learner.learn(seen.encoded, [label], budget_s=budget_s())
        if goes_on and self._learner.journal is not None:
            self._learner.journal.join()  # however long this frame took to come
        self._last = run
        if self.on_learned is not None:
            self.on_learned(seen.encoded, label)
        self._learned.append((kept.index, self._learner.frames_learned, labelled))

    def _note_hold(self) -> None:
        """Call `on_hold` where a hold begins, but not at each of many labels for past frames."""
        now_s = time.monotonic()
        if now_s - self._began_s > PAUSE_S and self.on_hold is not None:
            self._began_s = now_s
            self.on_hold()

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
