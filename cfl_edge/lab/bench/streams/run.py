"""One learner on one stream: predict, score, learn, frame by frame, as the product does."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cfl_edge.lab.bench.memory import MemoryGrowth
from cfl_edge.lab.bench.streams import stream_metrics as metrics
from cfl_edge.lab.bench.streams.clock import LabelDelay, StreamClock
from cfl_edge.lab.bench.streams.figures import StreamRun
from cfl_edge.lab.bench.streams.images import Images
from cfl_edge.lab.bench.streams.protocols import Integers, StreamOrder, first_seen
from cfl_edge.lab.bench.streams.recall import NewClasses, Scores, TestImages
from cfl_edge.learner.conflicts import Conflicts, softmax
from cfl_edge.learner.learner import Encoded, Learner
from cfl_edge.loop.metrics import Prequential
from cfl_edge.novelty import auroc, false_positive_rate

REJECT = 0.95  # of `known_rejected` and `unknown_rejected`
WINDOW_FRAMES = 16  # of timing: several gradient steps and a refresh of the label embeddings


@dataclass(frozen=True, eq=False)
class Task:
    """What a learner has to do.

    Args:
        images: Where the stream's images are.
        places: Which of them the stream is made of, (N,).
        labels: Their true class numbers, (N,).
        given: The class numbers that the learner is told, (N,).
        order: In which order they arrive; numbers from 0 to N - 1.
        test: What it is evaluated on.
        backbone_s: Seconds that the backbone takes for a frame.
        realtime_hz: Frames a second of a stream that does not wait; None for one that does.
        delay_frames: After so many frames the label of a frame comes.
        unknown: Images of classes that do not come; None for none.
    """

    pictures: Images
    places: Integers
    labels: Integers
    given: Integers
    order: StreamOrder
    test: TestImages
    backbone_s: float
    realtime_hz: float | None = None
    delay_frames: int = 0
    unknown: TestImages | None = None


class _Progress:
    """What is known of a run before it is over."""

    def __init__(self, learner: Learner, task: Task) -> None:
        self.learner, self.task = learner, task
        self.clock = StreamClock(len(task.order.frames), task.realtime_hz)
        self.delay = LabelDelay(task.delay_frames)
        self.prequential = Prequential()
        self.new_classes = NewClasses(task.test)
        self.learn_s, self.predict_s = list[float](), list[float]()
        self.rows, self.seen, self.curve = list[metrics.Floats](), list[list[int]](), list[Any]()
        self.last_scores: Scores | None = None
        self.conflicts, self.withheld = Conflicts(), 0
        self.excluded = dict[int, frozenset[str]]()  # by each prediction whose label is to come

    def step(self, frame: int) -> None:
        """Predict a frame of the stream, and learn those whose labels have come."""
        encoded, spent_s = self._predict(frame)
        self.new_classes.shown(self._true(frame), self.clock.now_s)
        self.clock.spend(self.task.backbone_s + spent_s)
        for labelled in self.delay.labelled(frame):
            self.learn(labelled, encoded if labelled == frame else None)

    def _predict(self, frame: int) -> tuple[Encoded, float]:
        outputs = self.task.pictures.get([self._place(frame)])
        begin = time.perf_counter()
        encoded = self.learner.encode_backbone(outputs.images, outputs.h0, outputs.final)
        best: int | None = None
        if self.learner.classes:
            scores = self.learner.predict(encoded)[0]
            number = int(scores.argmax())
            spent_s = time.perf_counter() - begin
            self.excluded[frame] = self.learner.excluded(softmax(scores))
            self.predict_s.append(spent_s)
            best = int(self.learner.classes[number])
        else:
            spent_s = time.perf_counter() - begin
        self.prequential.add(best == self._true(frame))
        return encoded, spent_s

    def learn(self, frame: int, encoded: Encoded | None) -> None:
        """Learn a frame; one that waited for its label passes the layers as they are now.

        A label that the prediction of the frame has ruled out is not learned, as in the product.
        """
        label = str(self.task.given[self.task.order.frames[frame]])
        if self.conflicts.check(label, self.excluded.pop(frame, frozenset())):
            self.withheld += 1
            return
        outputs = None if encoded is not None else self.task.pictures.get([self._place(frame)])
        begin = time.perf_counter()
        if outputs is not None:
            encoded = self.learner.encode_backbone(outputs.images, outputs.h0, outputs.final)
        assert encoded is not None
        self.learner.learn(encoded, [label])
        if self.learner.device.type == "cuda":
            torch.cuda.synchronize()
        spent_s = time.perf_counter() - begin
        self.learn_s.append(spent_s)
        self.clock.spend(spent_s)
        self.new_classes.learned(self._true(frame), self.clock.now_s, self.learner)

    def evaluate(self, end: int) -> None:
        """Measure the recall of each class seen by then, with everything recalibrated."""
        if self.learner.classes:
            self.learner.recalibrate()
        test, labels = self.task.test, self.task.labels[self.task.order.frames[:end]]
        self.last_scores = test.scores(self.learner)
        self.seen.append(first_seen(labels))
        self.rows.append(test.recalls(self.last_scores, self.seen[-1]))
        accuracy = metrics.accuracy_of_seen(self.rows[-1][None], test.counts)[0]
        self.curve.append(
            {
                "frames": end,
                "classes": len(self.seen[-1]),
                "accuracy": float(accuracy),
                "prequential": self.prequential.overall,
            }
        )

    def _place(self, frame: int) -> int:
        return int(self.task.places[self.task.order.frames[frame]])

    def _true(self, frame: int) -> int:
        return int(self.task.labels[self.task.order.frames[frame]])


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
    is recalibrated, as the product does at the end of a stream: it goes on from there.

    Args:
        name: Of the learner.
        protocol: Of the stream.
        learner: A new one; it is told class numbers as names.
        task: The stream.
        on_frame: Called after each frame with the number of frames that have passed and the total;
            what it raises ends the run.
    """
    learner.warm_up()
    memory = MemoryGrowth()
    state = _Progress(learner, task)
    total, ends = len(task.order.frames), task.order.evaluation_ends()

    def evaluate_until(frame: int) -> None:
        while ends and ends[0] <= frame:
            memory.pause()
            state.evaluate(ends.pop(0))
            memory.resume()

    while (frame := state.clock.next_frame()) is not None:
        evaluate_until(frame)
        state.step(frame)
        on_frame(frame + 1, total)
    for waiting in state.delay.rest():
        state.learn(waiting, None)
    memory.pause()
    evaluate_until(total)
    return _figures(name, protocol, state, memory.peak_bytes)


def _figures(name: str, protocol: str, state: _Progress, peak_bytes: int) -> StreamRun:
    learner, task, order = state.learner, state.task, state.task.order
    recalls, counts = np.stack(state.rows), task.test.counts
    columns, drop = recalls, None
    if order.task_ends:
        columns = metrics.by_task(recalls, counts, _task_of(task))
        over = [sum(e <= point["frames"] for e in order.task_ends) for point in state.curve]
        drop = metrics.old_drop(recalls, counts, over)
    return StreamRun(
        learner=name,
        protocol=protocol,
        seed=learner.config.seed,
        final_accuracy=state.curve[-1]["accuracy"],
        average_incremental_accuracy=metrics.average_incremental_accuracy(recalls, counts),
        prequential_accuracy=state.prequential.overall,
        forgetting=_forgetting(state, recalls),
        frames_to_80=metrics.median_reached(list(state.new_classes.frames_to.values())),
        learn_ms=metrics.window_median_ms(state.learn_s, WINDOW_FRAMES),
        predict_ms=_predict_ms(state),
        state_bytes=learner.algorithm.state_bytes(),
        peak_bytes=peak_bytes,
        backward_transfer=metrics.backward_transfer(columns),
        old_drop=drop,
        backbone_ms=task.backbone_s * 1000,
        frames=state.prequential.count,
        dropped=state.clock.dropped,
        withheld=state.withheld,
        curve=state.curve,
        single_head_forgetting=metrics.single_head_forgetting(columns),
        seconds_to_80=metrics.median_reached(list(state.new_classes.seconds_to.values())),
        **_unknown(learner, task),
    )


def _unknown(learner: Learner, task: Task) -> dict[str, float | None]:
    """Return how well the recalibrated learner tells images of other classes from the test's."""
    names = ("auroc_unknown", "fpr95_unknown", "known_rejected", "unknown_rejected")
    if task.unknown is None or not len(task.unknown.labels) or not learner.classes:
        return dict.fromkeys(names)
    known, unknown = task.test.distances(learner), task.unknown.distances(learner)
    rejected: list[float | None] = [None, None]
    if learner.algorithm.novelty.table() is not None:
        rejected = [
            float((learner.algorithm.novelty.scores(distances) > REJECT).mean())
            for distances in (known, unknown)
        ]
    figures = [auroc(known, unknown), false_positive_rate(known, unknown), *rejected]
    return dict(zip(names, figures, strict=True))


def _predict_ms(state: _Progress) -> float | None:
    """Return the usual time from an image to its scores, the backbone's time included."""
    beyond = metrics.window_median_ms(state.predict_s, WINDOW_FRAMES)
    return None if beyond is None else beyond + state.task.backbone_s * 1000


def _forgetting(state: _Progress, then: metrics.Floats) -> float | None:
    assert state.last_scores is not None
    now = np.full_like(then, np.nan)
    for row, seen in enumerate(state.seen):
        scores = np.full_like(state.last_scores, -np.inf)
        scores[:, seen] = state.last_scores[:, seen]
        now[row] = state.task.test.recalls(scores, seen)
    return metrics.forgetting(then, now)


def _task_of(task: Task) -> Integers:
    """Return the number of the task that each class belongs to, (Z,)."""
    result = np.full(len(task.test.counts), -1)  # what stays so was not shown
    begin = 0
    for number, end in enumerate(task.order.task_ends):
        result[np.unique(task.labels[task.order.frames[begin:end]])] = number
        begin = end
    return result
