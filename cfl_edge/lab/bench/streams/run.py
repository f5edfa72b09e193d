"""One learner on one stream: predict, score, learn, frame by frame, as the product does."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch

from cfl_edge.frame.frame import Frame
from cfl_edge.frame.prediction import Prediction, predict_label
from cfl_edge.frame.step import Lesson
from cfl_edge.lab.bench.measure import MemoryGrowth
from cfl_edge.lab.bench.streams import stream_metrics as metrics
from cfl_edge.lab.bench.streams.evaluation import Evaluations, unknown_figures
from cfl_edge.lab.bench.streams.figures import StreamRun
from cfl_edge.lab.bench.streams.images import BackboneOutputs, Images
from cfl_edge.lab.bench.streams.protocols import Integers, StreamOrder
from cfl_edge.lab.bench.streams.recall import NewClasses, TestImages
from cfl_edge.learner.conflicts import Conflicts
from cfl_edge.learner.learner import Encoded, Learner
from cfl_edge.loop.interrupts import Interrupts
from cfl_edge.loop.metrics import Prequential
from cfl_edge.loop.session import Session, Work
from cfl_edge.stream.realtime import Realtime
from cfl_edge.stream.recorded import Images as Shots
from cfl_edge.stream.recorded import RecordedStream, Recording
from cfl_edge.stream.source import Stream

NO_PIXELS = np.zeros((0, 0, 3), np.uint8)
NO_SCORES = np.zeros(0, np.float32)  # while no class is known
WINDOW_FRAMES = 16  # of timing: several gradient steps and a refresh of the label embeddings


@dataclass(frozen=True, eq=False)
class Task:
    """What a learner has to do.

    Args:
        images: The images of the stream and others.
        places: Which of them the stream is made of, (N,).
        labels: Their true targets, (N,).
        given: The targets that the learner is told, (N,).
        order: The order in which they arrive; numbers from 0 to N - 1.
        test: What it is evaluated on.
        backbone_s: Seconds that the backbone takes per frame.
        realtime_hz: Frames per second of a stream that does not wait; None for one that does.
        delay_frames: Frames after which the label of a frame arrives.
        unknown: Images of classes that the stream does not show; None for none.
    """

    images: Images
    places: Integers
    labels: Integers
    given: Integers
    order: StreamOrder
    test: TestImages
    backbone_s: float
    realtime_hz: float | None = None
    delay_frames: int = 0
    unknown: TestImages | None = None

    def outputs(self, number: int) -> BackboneOutputs:
        """Return what the backbone makes of a frame of the stream."""
        return self.images.get([int(self.places[self.order.frames[number]])])

    def target(self, number: int) -> int:
        """Return the true target of a frame of the stream."""
        return int(self.labels[self.order.frames[number]])


@final
class _Frames(Recording):
    """The frames of a task, without pixels: what the backbone makes of them is computed once."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.uri, self.length = "bench:", len(task.order.frames)

    def description(self) -> str:
        return f"{self.length} frames"

    def read(self, epoch: int, skip: object) -> Shots:
        for number in range(len(self._task.order.frames)):
            yield Frame(NO_PIXELS, 0.0, label=str(self._task.target(number)))


@final
class _Measured(Work):
    """Predicts, learns and evaluates, and measures how long and how well."""

    def __init__(self, learner: Learner, task: Task) -> None:
        self.learner, self.task = learner, task
        self.now_s = 0.0  # of a simulated clock: work lets time pass, and so does waiting
        self.waiting = deque[int]()  # frames whose labels are to come
        self.prequential = Prequential()
        self.new_classes = NewClasses(task.test)
        self.learn_s, self.predict_s = list[float](), list[float]()
        targets = task.labels[task.order.frames]
        self.evaluations = Evaluations(task.test, task.order, targets)
        self.conflicts, self.withheld = Conflicts(), 0
        self.excluded = dict[int, frozenset[str]]()  # by each prediction whose label is to come

    def spend(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds

    def begin(self, stream: Stream) -> None:
        self.stream = stream
        self.learner.warm_up()
        self.memory = MemoryGrowth()

    def predict(self, frames: Sequence[Frame], reject: float | None) -> list[Prediction]:
        number = frames[0].index
        self._evaluate_until(number)
        learner, outputs = self.learner, self.task.outputs(number)
        begin = time.perf_counter()
        self._encoded = learner.encode_backbone(*outputs)
        scores = learner.predict(self._encoded)[0] if learner.classes else NO_SCORES
        prediction = predict_label(scores, learner.classes)
        spent_s = time.perf_counter() - begin
        if learner.classes:
            self.excluded[number] = learner.excluded(prediction)
            self.predict_s.append(spent_s)
        self.new_classes.shown(self.task.target(number), self.now_s)
        self.spend(self.task.backbone_s + spent_s)
        return [prediction]

    def learn(self, frame: Frame, prediction: Prediction, began_s: float) -> Lesson:
        self.prequential.add(prediction.label == frame.label)
        self.waiting.append(frame.index)
        while self.waiting and self.waiting[0] <= frame.index - self.task.delay_frames:
            labelled = self.waiting.popleft()
            self._teach(labelled, self._encoded if labelled == frame.index else None)
        return Lesson(frame.label)

    def _teach(self, number: int, encoded: Encoded | None) -> None:
        """Learn a frame; one that waited for its label passes the layers as they are now.

        A label that the prediction of the frame has ruled out is not learned, as in the product.
        """
        learner, label = self.learner, str(self.task.given[self.task.order.frames[number]])
        if self.conflicts.check(label, self.excluded.pop(number, frozenset())):
            self.withheld += 1
            return
        outputs = None if encoded is not None else self.task.outputs(number)
        begin = time.perf_counter()
        if outputs is not None:
            encoded = learner.encode_backbone(*outputs)
        assert encoded is not None
        learner.learn(encoded, [label])
        if learner.device.type == "cuda":
            torch.cuda.synchronize()
        spent_s = time.perf_counter() - begin
        self.learn_s.append(spent_s)
        self.spend(spent_s)
        self.new_classes.learned(self.task.target(number), self.now_s, learner)

    def between_frames(self) -> None:
        pass

    def finish(self, interrupts: Interrupts, *, lost: bool) -> None:
        while self.waiting:
            self._teach(self.waiting.popleft(), None)
        self.memory.pause()
        self._evaluate_until(len(self.task.order.frames))

    def _evaluate_until(self, number: int) -> None:
        while self.evaluations.is_due(number):
            self.memory.pause()
            self.evaluations.evaluate(self.learner, self.prequential.overall)
            self.memory.resume()

    def figures(self) -> dict[str, Any]:
        """Return the figures of `StreamRun` by name, those of the evaluations included."""
        beyond_ms = metrics.window_median_ms(self.predict_s, WINDOW_FRAMES)
        backbone_ms = self.task.backbone_s * 1000
        return {
            "prequential_accuracy": self.prequential.overall,
            "learn_ms": metrics.window_median_ms(self.learn_s, WINDOW_FRAMES),
            "predict_ms": None if beyond_ms is None else beyond_ms + backbone_ms,
            "state_bytes": self.learner.algorithm.state_bytes(),
            "peak_bytes": self.memory.peak_bytes,
            "backbone_ms": backbone_ms,
            "frames": self.prequential.count,
            "dropped": self.stream.dropped,
            "withheld": self.withheld,
            **self.new_classes.figures(),
            **self.evaluations.figures(),
            **unknown_figures(self.learner, self.task.test, self.task.unknown),
        }


def run_stream(
    name: str,
    protocol: str,
    learner: Learner,
    task: Task,
    *,
    on_frame: Callable[[int, int], None] = lambda *_: None,
) -> StreamRun:
    """Let a new learner go through a stream once, and measure.

    Every frame is predicted, then learned in a call of its own. Before each evaluation the learner
    is recalibrated, as the product does at the end of a stream, and continues from there.

    Args:
        name: Of the learner.
        protocol: Of the stream.
        learner: A new one; it is told targets as names.
        task: The stream.
        on_frame: Called after each frame with the number of frames that have passed and the total;
            what it raises ends the run.
    """
    work = _Measured(learner, task)
    stream: Stream = RecordedStream(_Frames(task))
    if task.realtime_hz is not None:
        stream = Realtime(stream, task.realtime_hz, clock=lambda: work.now_s, sleep=work.spend)
    for step in Session(work).steps(stream):
        on_frame(step.frame.index + 1, len(task.order.frames))
    return StreamRun(learner=name, protocol=protocol, seed=learner.config.seed, **work.figures())
