"""The loop: predict, score, learn, save."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator

from cfl_edge.errors import DataError, ModelWriteError, StreamError
from cfl_edge.labels.ring import FrameRing
from cfl_edge.labels.source import LabelSource
from cfl_edge.learner.conflicts import softmax
from cfl_edge.learner.learner import Learner
from cfl_edge.loop.interrupts import Interrupts
from cfl_edge.loop.label_delay import Seen, open_ring
from cfl_edge.loop.metrics import PeakMemory
from cfl_edge.loop.pace import Pace
from cfl_edge.loop.progress import Progress
from cfl_edge.loop.quality import QualityGate
from cfl_edge.loop.summary import Summary
from cfl_edge.loop.teaching import Teaching
from cfl_edge.novelty import UNKNOWN, finite, is_rejected
from cfl_edge.preprocess import to_model_input
from cfl_edge.stream.frame import Frame
from cfl_edge.stream.source import Notice, Stream

CHECKPOINT_S = 30.0  # at most this much learning is lost to a power cut
FPS_FRAMES = 30

__all__ = ["Summary", "learn_stream"]


def learn_stream(
    stream: Stream,
    labels: LabelSource,
    learner: Learner,
    *,
    save: Callable[[], None],
    may_save: Callable[[], bool] = lambda: True,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_notice: Notice = lambda _: None,
    max_frames: int | None = None,
    checkpoint_s: float = CHECKPOINT_S,
    learn_budget_s: float | None = None,
    ring: FrameRing[Seen] | None = None,
    learn_flagged: bool = False,
    reject: float | None = None,
    allowed_share: Callable[[], float] = lambda: 1.0,
    on_end: Callable[[], None] = lambda: None,
) -> Summary:
    """Predict every frame of a stream, then learn from it if it has a label.

    Args:
        stream: Open; left open.
        labels: Where labels come from.
        learner: Changed by what it learns.
        save: Writes the learner down; called every `checkpoint_s` seconds if something was
            learned, sooner where the learner's journal fills, and at the end if there was a frame.
            A full disk at a checkpoint is a notice, at the end an error.
        may_save: Says whether a checkpoint that is due may be written now; the end asks nobody.
        on_progress: Called after every frame.
        on_notice: Called with what the user should know.
        max_frames: Stop after so many frames.
        checkpoint_s: Seconds between checkpoints. Less loses less at a power cut, and wears the
            card more.
        learn_budget_s: Seconds a frame that gradient steps may take. None leaves a live stream's
            frames the time until the next one, so that none is dropped because of learning, and
            takes every step whole on any other stream.
        ring: Of `open_ring`, where labels come late; None learns each frame as it comes.
        learn_flagged: Learn frames that are dark, blurred or at odds with their label as well
            (`cfl_edge.loop.quality`).
        reject: Answer `unknown` where the score of being none of the classes is larger, 0 to 1;
            None answers always. Such an answer counts as wrong.
        allowed_share: Of its time that learning may have, see `cfl_edge.loop.pace.Pace`.
        on_end: Called when there is no frame any more, before what waits is learned and saved.

    Returns:
        The summary; Ctrl-C and SIGTERM return it as well, with `interrupted` set.
    """
    if stream.live:
        learner.warm_up()
    ring = ring or open_ring(learner, labels)
    teaching = Teaching(learner, labels, ring, learn_flagged=learn_flagged, on_notice=on_notice)
    pace = Pace(stream.live, learn_budget_s, allowed_share)
    run = _Run(stream, labels, learner, teaching, on_progress, pace, reject)
    saved_s, saved_frames, failed = time.monotonic(), learner.frames_learned, False
    with Interrupts() as interrupts:
        try:
            for frame in _frames(stream, interrupts):
                run.handle(frame)
                if interrupts.requested or run.summary.frames == max_frames:
                    break
                due = time.monotonic() - saved_s >= checkpoint_s
                journal = learner.journal  # undo needs a saved state to begin from
                due = due or (journal is not None and journal.base_is_due and not failed)
                if due and learner.frames_learned > saved_frames and may_save():
                    failed = not _checkpoint(save, checkpoint_s, on_notice)
                    if not failed:
                        saved_frames = learner.frames_learned
                    saved_s = time.monotonic()
                if rest_s := pace.rest_s():
                    time.sleep(rest_s)
        except StreamError:  # the camera is gone for good: keep what it taught
            on_end()
            teaching.finish(lambda: learn_budget_s)
            if teaching.learned:
                save()
            raise
        on_end()
        # What waits is learned in any case; whoever asked for an end does not wait for steps.
        teaching.finish(lambda: 0.0 if interrupts.requested else learn_budget_s)
        if teaching.learned and not interrupts.requested:
            learner.recalibrate()
        if run.summary.frames:  # without any, the next start is free to choose another network
            save()
        run.summary.interrupted = interrupts.requested
    return run.finish()


def _checkpoint(save: Callable[[], None], checkpoint_s: float, on_notice: Notice) -> bool:
    try:
        save()
    except ModelWriteError as error:
        on_notice(f"{error.problem}; learning goes on, next try in {checkpoint_s:.0f} s")
        return False
    return True


def _frames(stream: Stream, interrupts: Interrupts) -> Iterator[Frame]:
    """Yield the frames; a signal while waiting for one ends them."""
    frames = iter(stream)
    while True:
        try:
            with interrupts.waiting():
                frame = next(frames, None)
        except KeyboardInterrupt:
            return
        if frame is None:
            return
        yield frame


class _Run:
    """What one run of the loop counts."""

    def __init__(
        self,
        stream: Stream,
        labels: LabelSource,
        learner: Learner,
        teaching: Teaching,
        on_progress: Callable[[Progress], None],
        pace: Pace,
        reject: float | None,
    ) -> None:
        self.stream, self.labels, self.learner = stream, labels, learner
        self.teaching, self.on_progress, self.pace = teaching, on_progress, pace
        self.reject = reject
        self.gate = QualityGate()
        self.memory = PeakMemory()
        algorithm = learner.algorithm
        self.steps_before, self.layer_steps_before = algorithm.steps, list(algorithm.layer_steps)
        self.summary = Summary()
        self.first_s = 0.0
        self.learned_s = 0.0
        self.times: deque[float] = deque(maxlen=FPS_FRAMES)

    def handle(self, frame: Frame) -> None:
        now = time.monotonic()
        self.first_s = self.first_s or now
        self.times.append(now)
        learner, summary, teaching = self.learner, self.summary, self.teaching
        self.pace.begin(frame)
        label = self.labels.label(frame)
        picture = to_model_input(frame.image, learner.image_px)
        encoded = learner.encode(picture[None])
        prediction, score, excluded = None, None, frozenset[str]()
        unknown = finite(learner.predict_unknown(encoded)[0])
        rejected = is_rejected(unknown, self.reject)
        if learner.classes:
            probabilities = softmax(learner.predict(encoded)[0])
            best = int(probabilities.argmax())
            prediction, score = learner.classes[best], float(probabilities[best])
            excluded = learner.excluded(probabilities)
        if rejected:
            prediction = UNKNOWN
        seen = Seen(encoded, prediction, excluded, self.gate.check(picture))
        learned_before = teaching.learned
        kept = teaching.take(frame, label, seen, self.pace.budget_s)
        learned = teaching.learned > learned_before
        if learned:
            self.learned_s = time.monotonic()
        elif (budget_s := self.pace.budget_s()) is not None:
            learner.work(budget_s)
        summary.frames += 1
        summary.rejected += rejected
        self.on_progress(
            Progress(
                frame=frame.index,
                label=kept.label,
                prediction=prediction,
                score=score,
                learned=learned,
                frames=summary.frames,
                total=self.stream.total,
                learned_frames=teaching.learned,
                dropped=frame.dropped,
                fps=self.fps(),
                rolling_accuracy=teaching.accuracy.rolling,
                prequential_accuracy=teaching.accuracy.overall,
                samples=learner.samples(),
                seconds=now - self.first_s,
                peak_rss_mib=self.memory.peak_mib,
                flags=teaching.flags(kept),
                flagged=dict(teaching.flagged),
                waiting=self.labels.waiting,
                unknown=unknown,
                rejected=rejected,
            )
        )

    def fps(self) -> float:
        span = self.times[-1] - self.times[0]
        return (len(self.times) - 1) / span if span > 0 else 0.0

    def finish(self) -> Summary:
        summary = self.summary
        if not summary.frames and not summary.interrupted:
            raise DataError(
                f"{self.stream.uri} ended without a single frame",
                hint="a folder with images in it, a clip that plays, or demo:",
            )
        end_s = self.times[-1] if self.times else self.first_s
        summary.dropped = self.stream.dropped
        summary.skipped = len(self.stream.skipped)
        teaching = self.teaching
        summary.learned, summary.withheld = teaching.learned, teaching.withheld
        summary.flagged, summary.let_go = dict(teaching.flagged), teaching.let_go
        summary.prequential_accuracy = teaching.accuracy.overall
        summary.last_quarter_accuracy = teaching.accuracy.last_quarter
        summary.classes = list(self.learner.classes)
        summary.seconds = max(self.learned_s, end_s) - self.first_s
        summary.fps = summary.frames / summary.seconds if summary.seconds else 0.0
        summary.peak_rss_mib = self.memory.peak_mib
        summary.growth_mib = self.memory.growth_mib
        algorithm = self.learner.algorithm
        summary.steps = algorithm.steps - self.steps_before
        summary.steps_per_s = summary.steps / summary.seconds if summary.seconds else 0.0
        summary.layer_steps = [
            now - before
            for now, before in zip(algorithm.layer_steps, self.layer_steps_before, strict=True)
        ]
        return summary
