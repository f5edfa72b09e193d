"""Evaluations of a learner on its way through a stream, and the figures that follow."""

from __future__ import annotations

from typing import Any, final

import numpy as np

from cfl_edge.frame.prediction import auroc, false_positive_rate
from cfl_edge.lab.bench.streams import stream_metrics as metrics
from cfl_edge.lab.bench.streams.protocols import Integers, StreamOrder, first_seen
from cfl_edge.lab.bench.streams.recall import Scores, TestImages
from cfl_edge.learner.learner import Learner

REJECT = 0.95  # of `known_rejected` and `unknown_rejected`


@final
class Evaluations:
    """Recalls of the classes seen, at the end of each part of a stream.

    Args:
        test: The test images.
        order: Of the stream.
        targets: True target of each frame, (T,).
    """

    def __init__(self, test: TestImages, order: StreamOrder, targets: Integers) -> None:
        self._test, self._order, self._targets = test, order, targets
        self._ends = order.evaluation_ends()
        self._recalls, self._seen = list[metrics.Floats](), list[list[int]]()
        self._scores: Scores | None = None
        self._curve = list[dict[str, Any]]()

    def is_due(self, frames: int) -> bool:
        """Return whether an evaluation is due after this number of frames."""
        return bool(self._ends) and self._ends[0] <= frames

    def evaluate(self, learner: Learner, prequential: float | None) -> None:
        """Measure the recall of each class seen by then, with everything recalibrated.

        Args:
            learner: Recalibrated if it knows a class.
            prequential: Its prequential accuracy so far, for the curve.
        """
        end = self._ends.pop(0)
        if learner.classes:
            learner.recalibrate()
        self._scores = self._test.scores(learner)
        self._seen.append(first_seen(self._targets[:end]))
        self._recalls.append(self._test.recalls(self._scores, self._seen[-1]))
        accuracy = metrics.accuracy_of_seen(self._recalls[-1][None], self._test.counts)[0]
        self._curve.append(
            {
                "frames": end,
                "classes": len(self._seen[-1]),
                "accuracy": float(accuracy),
                "prequential": prequential,
            }
        )

    def figures(self) -> dict[str, Any]:
        """Return the figures of `StreamRun` that follow from the evaluations, by name."""
        recalls, counts = np.stack(self._recalls), self._test.counts
        columns, drop = recalls, None
        if self._order.task_ends:
            columns = metrics.by_task(recalls, counts, self._task_of())
            ends = self._order.task_ends
            over = [sum(end <= point["frames"] for end in ends) for point in self._curve]
            drop = metrics.old_drop(recalls, counts, over)
        return {
            "final_accuracy": self._curve[-1]["accuracy"],
            "average_incremental_accuracy": metrics.average_incremental_accuracy(recalls, counts),
            "forgetting": metrics.forgetting(recalls, self._now_among_rivals_of_then()),
            "backward_transfer": metrics.backward_transfer(columns),
            "old_drop": drop,
            "single_head_forgetting": metrics.single_head_forgetting(columns),
            "curve": self._curve,
        }

    def _now_among_rivals_of_then(self) -> metrics.Floats:
        """Return the last recalls with only the classes seen at each evaluation, (T, Z)."""
        assert self._scores is not None
        rows = []
        for seen in self._seen:
            scores = np.full_like(self._scores, -np.inf)
            scores[:, seen] = self._scores[:, seen]
            rows.append(self._test.recalls(scores, seen))
        return np.stack(rows)

    def _task_of(self) -> Integers:
        """Return the number of the task of each class, (Z,); -1 for one that was not shown."""
        result = np.full(len(self._test.counts), -1)
        begin = 0
        for number, end in enumerate(self._order.task_ends):
            result[np.unique(self._targets[begin:end])] = number
            begin = end
        return result


def unknown_figures(
    learner: Learner, test: TestImages, unknown: TestImages | None
) -> dict[str, float | None]:
    """Return how well a recalibrated learner tells images of unknown classes from the test images.

    Args:
        learner: Its novelty is measured.
        test: Images of classes of the stream.
        unknown: Images of other classes; None or no images give None for all figures.
    """
    names = ("auroc_unknown", "fpr95_unknown", "known_rejected", "unknown_rejected")
    if unknown is None or not len(unknown.labels) or not learner.classes:
        return dict.fromkeys(names)
    distances = test.distances(learner), unknown.distances(learner)
    novelty = learner.algorithm.novelty
    rejected: list[float | None] = [None, None]
    if novelty.table() is not None:
        rejected = [float((novelty.scores(each) > REJECT).mean()) for each in distances]
    figures = [auroc(*distances), false_positive_rate(*distances), *rejected]
    return dict(zip(names, figures, strict=True))
