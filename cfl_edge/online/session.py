"""The loop: predict, score, learn, save."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from cfl_edge.errors import DataError, ModelWriteError, StreamError
from cfl_edge.online.interrupts import Interrupts
from cfl_edge.online.labels import LabelSource
from cfl_edge.online.learner import Learner
from cfl_edge.online.metrics import PeakMemory, Prequential
from cfl_edge.online.pace import Pace
from cfl_edge.online.progress import Progress
from cfl_edge.preprocess import to_model_input
from cfl_edge.stream.frame import Frame
from cfl_edge.stream.source import Notice, Stream

CHECKPOINT_S = 30.0  # at most this much learning is lost to a power cut
FPS_FRAMES = 30


@dataclass
class Summary:
    """What a run of the loop did.

    Args:
        frames: Frames handled.
        learned: Frames learned from.
        dropped: Frames that the stream dropped.
        skipped: Pictures that could not be read.
        fps: Frames handled a second.
        prequential_accuracy: Test-then-train accuracy, 0 to 1; None without labels.
        last_quarter_accuracy: The same over the last quarter of the labelled frames.
        classes: Names, in the order of their rows.
        seconds: From the first frame to the last learning step.
        peak_rss_mib: Largest resident memory of the process, MiB.
        growth_mib: Largest resident memory above that at the start of the loop, MiB.
        steps: Gradient steps taken.
        steps_per_s: The same a second.
        layer_steps: How many updates each layer had.
        interrupted: Whether Ctrl-C or SIGTERM ended it.
    """

    frames: int = 0
    learned: int = 0
    dropped: int = 0
    skipped: int = 0
    fps: float = 0.0
    prequential_accuracy: float | None = None
    last_quarter_accuracy: float | None = None
    classes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    peak_rss_mib: float = 0.0
    growth_mib: float = 0.0
    steps: int = 0
    steps_per_s: float = 0.0
    layer_steps: list[int] = field(default_factory=list)
    interrupted: bool = False


def learn_stream(
    stream: Stream,
    labels: LabelSource,
    learner: Learner,
    *,
    save: Callable[[], None],
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_notice: Notice = lambda _: None,
    max_frames: int | None = None,
    checkpoint_s: float = CHECKPOINT_S,
    learn_budget_s: float | None = None,
) -> Summary:
    """Predict every frame of a stream, then learn from it if it has a label.

    Args:
        stream: Open; left open.
        labels: Where labels come from.
        learner: Changed by what it learns.
        save: Writes the learner down; called every `checkpoint_s` seconds if something was
            learned, and at the end if there was a frame. A full disk at a checkpoint is a notice,
            at the end an error.
        on_progress: Called after every frame.
        on_notice: Called with what the user should know.
        max_frames: Stop after so many frames.
        checkpoint_s: Seconds between checkpoints. Less loses less at a power cut, and wears the
            card more.
        learn_budget_s: Seconds a frame that gradient steps may take. None leaves a live stream's
            frames the time until the next one, so that none is dropped because of learning, and
            takes every step whole on any other stream.

    Returns:
        The summary; Ctrl-C and SIGTERM return it as well, with `interrupted` set.
    """
    if stream.live:
        learner.warm_up()
    run = _Run(stream, labels, learner, on_progress, Pace(stream.live, learn_budget_s))
    saved_s, saved_frames = time.monotonic(), learner.frames_learned
    with Interrupts() as interrupts:
        try:
            for frame in _frames(stream, interrupts):
                run.handle(frame)
                if interrupts.requested or run.summary.frames == max_frames:
                    break
                due = time.monotonic() - saved_s >= checkpoint_s
                if due and learner.frames_learned > saved_frames:
                    if _checkpoint(save, checkpoint_s, on_notice):
                        saved_frames = learner.frames_learned
                    saved_s = time.monotonic()
        except StreamError:  # the camera is gone for good: keep what it taught
            if run.summary.learned:
                save()
            raise
        if run.summary.learned and not interrupts.requested:
            learner.settle()
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
        on_progress: Callable[[Progress], None],
        pace: Pace,
    ) -> None:
        self.stream, self.labels, self.learner = stream, labels, learner
        self.on_progress, self.pace = on_progress, pace
        self.memory = PeakMemory()
        head = learner.head
        self.steps_before, self.layer_steps_before = head.steps, list(head.layer_steps)
        self.summary = Summary()
        self.accuracy = Prequential()
        self.first_s = 0.0
        self.learned_s = 0.0
        self.times: deque[float] = deque(maxlen=FPS_FRAMES)

    def handle(self, frame: Frame) -> None:
        now = time.monotonic()
        self.first_s = self.first_s or now
        self.times.append(now)
        learner, summary = self.learner, self.summary
        self.pace.begin(frame)
        label = self.labels.label(frame)
        encoded = learner.encode(to_model_input(frame.image, learner.image_px)[None])
        prediction, score = None, None
        if learner.classes:
            scores = learner.predict(encoded)[0]
            best = int(scores.argmax())
            prediction = learner.classes[best]
            score = float(1 / np.exp(scores - scores[best]).sum())
        if label is not None:
            self.accuracy.add(prediction == label)
            learner.learn(encoded, [label], budget_s=self.pace.budget_s())
            summary.learned += 1
            self.learned_s = time.monotonic()
        elif (budget_s := self.pace.budget_s()) is not None:
            learner.work(budget_s)
        summary.frames += 1
        self.on_progress(
            Progress(
                frame=frame.index,
                label=label,
                prediction=prediction,
                score=score,
                learned=label is not None,
                frames=summary.frames,
                total=getattr(self.stream, "total", None),
                learned_frames=summary.learned,
                dropped=frame.dropped,
                fps=self.fps(),
                rolling_accuracy=self.accuracy.rolling,
                prequential_accuracy=self.accuracy.overall,
                samples=learner.samples(),
                seconds=now - self.first_s,
                peak_rss_mib=self.memory.peak_mib,
                waiting=self.labels.waiting,
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
                hint="a folder with pictures in it, a clip that plays, or demo:",
            )
        end_s = self.times[-1] if self.times else self.first_s
        summary.dropped = self.stream.dropped
        summary.skipped = len(self.stream.skipped)
        summary.prequential_accuracy = self.accuracy.overall
        summary.last_quarter_accuracy = self.accuracy.last_quarter
        summary.classes = list(self.learner.classes)
        summary.seconds = max(self.learned_s, end_s) - self.first_s
        summary.fps = summary.frames / summary.seconds if summary.seconds else 0.0
        summary.peak_rss_mib = self.memory.peak_mib
        summary.growth_mib = self.memory.growth_mib
        head = self.learner.head
        summary.steps = head.steps - self.steps_before
        summary.steps_per_s = summary.steps / summary.seconds if summary.seconds else 0.0
        summary.layer_steps = [
            now - before
            for now, before in zip(head.layer_steps, self.layer_steps_before, strict=True)
        ]
        return summary
