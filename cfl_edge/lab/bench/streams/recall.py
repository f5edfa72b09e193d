"""What a learner recognises of the test images, and how soon it does so of a new class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np
import numpy.typing as npt

from cfl_edge.lab.bench.streams.images import BATCH, Images
from cfl_edge.lab.bench.streams.stream_metrics import RECALLED, Floats, Integers, median_reached
from cfl_edge.learner.learner import Encoded, Learner

Scores = npt.NDArray[np.float32]

PROBES = (1, 2, 5)  # frames of a class after which its recall is measured, and these times 10, 100


@final
class TestImages:
    """Labelled images that nothing is learned from.

    Args:
        images: Where they are.
        places: Which of them, (M,).
        labels: Their targets, (M,).
        classes: Z.
    """

    __test__ = False  # pytest: not a test, despite its name

    def __init__(self, images: Images, places: Integers, labels: Integers, classes: int) -> None:
        self.labels = labels
        self.counts = np.bincount(labels, minlength=classes)  # (Z,)
        self._images, self._places = images, places

    def scores(self, learner: Learner, of_class: int | None = None) -> Scores:
        """Return the scores of all classes of the task, (M, Z); -inf for those it does not know.

        Args:
            learner: Its class names are targets.
            of_class: Only the images of this class; None for all.
        """
        chosen = slice(None) if of_class is None else self.labels == of_class
        places = self._places[chosen].tolist()
        result = np.full((len(places), len(self.counts)), -np.inf, np.float32)
        known = [int(name) for name in learner.classes]
        for start in range(0, len(places) if known else 0, BATCH):
            encoded = self._encoded(learner, places[start : start + BATCH])
            result[start : start + BATCH, known] = learner.predict(encoded)
        return result

    def distances(self, learner: Learner) -> Scores:
        """Return how far each image lies from all classes that the learner knows, (M,)."""
        places = self._places.tolist()
        parts = [
            learner.distances(self._encoded(learner, places[start : start + BATCH]))
            for start in range(0, len(places), BATCH)
        ]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def _encoded(self, learner: Learner, places: Sequence[int]) -> Encoded:
        return learner.encode_backbone(*self._images.get(places))

    def recalls(self, scores: Scores, seen: Sequence[int]) -> Floats:
        """Return the recall of each class that was seen, (Z,); nan for the others.

        Args:
            scores: (M, Z), of all images. An image whose scores are all -inf counts as wrong.
            seen: Targets of these classes.
        """
        best = np.where(np.isfinite(scores).any(axis=1), scores.argmax(axis=1), -1)
        right = np.bincount(self.labels[best == self.labels], minlength=len(self.counts))
        recalls = np.full(len(self.counts), np.nan)
        shown = [z for z in seen if self.counts[z]]
        recalls[shown] = right[shown] / self.counts[shown]
        return recalls


@final
class NewClasses:
    """Note after how many frames, and seconds of work, each new class is recalled at 80 %.

    The recall is measured on the test images of the class, among all classes known by then, after
    1, 2, 5, 10, 20, 50, ... frames of the class. The first class of a stream does not count:
    it has no rival.

    Args:
        test: The test images.
    """

    def __init__(self, test: TestImages) -> None:
        self._test = test
        self._frames: dict[int, int] = {}
        self._begin_s: dict[int, float] = {}
        self._first: int | None = None
        self.frames_to: dict[int, int | None] = {}
        self.seconds_to: dict[int, float | None] = {}

    def shown(self, number: int, now_s: float) -> None:
        """Note that a frame of a class has arrived.

        Args:
            number: Its target.
            now_s: Seconds that the stream has taken so far.
        """
        if self._first is None:
            self._first = number
        self._begin_s.setdefault(number, now_s)
        if number != self._first and self._test.counts[number]:
            self.frames_to.setdefault(number, None)
            self.seconds_to.setdefault(number, None)

    def learned(self, number: int, now_s: float, learner: Learner) -> None:
        """Note that a frame of a class was learned; measure its recall where it is time to.

        Args:
            number: The true target.
            now_s: As in `shown`.
            learner: Not changed.
        """
        frames = self._frames[number] = self._frames.get(number, 0) + 1
        if self.frames_to.get(number, 0) is not None or not is_probe(frames):
            return
        scores = self._test.scores(learner, number)
        right = np.isfinite(scores[:, number]) & (scores.argmax(axis=1) == number)
        if right.mean() >= RECALLED:
            self.frames_to[number] = frames
            self.seconds_to[number] = now_s - self._begin_s[number]

    def figures(self) -> dict[str, float | None]:
        """Return the figures of `StreamRun` about new classes, by name."""
        return {
            "frames_to_80": median_reached(list(self.frames_to.values())),
            "seconds_to_80": median_reached(list(self.seconds_to.values())),
        }


def is_probe(frames: int) -> bool:
    """Return whether recall is measured after this number of frames of a class.

    Example:
        >>> [frames for frames in range(1, 600) if is_probe(frames)]
        [1, 2, 5, 10, 20, 50, 100, 200, 500]
    """
    while frames >= 10 and frames % 10 == 0:
        frames //= 10
    return frames in PROBES
