"""How far known samples lie, kept up to date while classes, and maybe layers, change.

Only samples that were not learned yet count: learned ones lie too near. Where the layers move,
replayed samples say how much nearer or farther a class lies by now.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cfl_edge.online.novelty import Floats, novelty_scores

PER_CLASS = 32  # known samples of each class, the newest: follows what changes, a class as another
LEARNED_FRAMES = 8  # of a class before its next ones count as known
LEAST_CLASSES, LEAST_SAMPLES = 2, 30  # fewer say nothing
REPLAYED = 512  # distances of replayed samples, the newest: the steps of about 20 frames each
LEVELS: Floats = np.linspace(0.0, 1.0, 201)  # of the table: steps of half a percent


class NoveltyCalibration:
    """Distances of known samples before they were learned, and of replayed ones after.

    A known sample is kept as its distance above the mean distance of its class's replayed samples
    at that time. What that mean is now says where the sample would lie now.

    Args:
        replays: Whether distances of replayed samples come as well; without them distances are
            kept as they are.

    Example:
        >>> known = NoveltyCalibration(replays=False)
        >>> known.add(torch.arange(30.0), torch.arange(30) % 2)
        >>> known.scores(np.array([-1.0, 14.5, 99.0]))
        array([0. , 0.5, 1. ])
    """

    def __init__(self, *, replays: bool) -> None:
        self.replays = replays
        self._known: dict[int, deque[float]] = {}  # of each class
        self._replayed: deque[tuple[int, float]] = deque(maxlen=REPLAYED)
        self._table: Floats | None = None
        self._is_due = False  # the table

    def add(self, distances: Tensor, numbers: Tensor) -> None:
        """Take in known samples that were not learned yet.

        Args:
            distances: (N,).
            numbers: Their class numbers, (N,). Of a class without a replayed sample they say
                nothing yet.
        """
        if not len(numbers):
            return
        levels = self._class_levels()
        for distance, number in zip(distances.tolist(), numbers.tolist(), strict=True):
            level = levels.get(number) if self.replays else 0.0
            if level is not None:
                ring = self._known.setdefault(number, deque(maxlen=PER_CLASS))
                ring.append(distance - level)
                self._is_due = True

    def add_replayed(self, distances: Tensor, numbers: Tensor) -> None:
        """Take in learned samples, with the layers as they are now.

        Args:
            distances: (N,).
            numbers: Their class numbers, (N,).
        """
        self._replayed.extend(zip(numbers.tolist(), distances.tolist(), strict=True))
        self._is_due = True

    def _class_levels(self) -> dict[int, float]:
        if not self._replayed:
            return {}
        numbers = np.array([number for number, _ in self._replayed])
        sums = np.bincount(numbers, weights=[distance for _, distance in self._replayed])
        counts = np.bincount(numbers)
        return {int(z): float(sums[z] / counts[z]) for z in np.flatnonzero(counts)}

    def table(self) -> Floats | None:
        """Return the distances below which 0, 0.5, 1, ... 100 % of the known samples lie, (201,).

        None for fewer than 30 samples, or of a single class.
        """
        if self._is_due:
            levels = self._class_levels() if self.replays else dict.fromkeys(self._known, 0.0)
            of_classes = [
                np.array(ring) + levels[number]
                for number, ring in self._known.items()
                if number in levels and ring
            ]
            self._table = None
            if len(of_classes) >= LEAST_CLASSES and sum(map(len, of_classes)) >= LEAST_SAMPLES:
                self._table = np.quantile(np.concatenate(of_classes), LEVELS)
            self._is_due = False
        return self._table

    def scores(self, distances: npt.ArrayLike) -> Floats:
        """Return the share of known samples that lie nearer, 0 to 1, of distances (N,).

        nan where nothing is known yet (`table` is None).
        """
        return novelty_scores(distances, self.table())

    def state(self) -> dict[str, Tensor]:
        """Return everything as tensors, to be stored; `load_state` takes it back."""
        known = [(number, one) for number, ring in self._known.items() for one in ring]
        tensors: dict[str, Tensor] = {}
        for name, samples in (("known", known), ("replayed", list(self._replayed))):
            numbers, distances = zip(*samples, strict=True) if samples else ((), ())
            tensors[f"novelty.{name}.labels"] = torch.tensor(numbers, dtype=torch.long)
            tensors[f"novelty.{name}.distances"] = torch.tensor(distances, dtype=torch.float64)
        return tensors

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` returned; of an older model, which has nothing of it, nothing."""
        self._known.clear()
        self._replayed.clear()
        if "novelty.known.labels" in state:
            for number, distance in _pairs(state, "known"):
                self._known.setdefault(number, deque(maxlen=PER_CLASS)).append(distance)
            self._replayed.extend(_pairs(state, "replayed"))
        self._is_due = True


def _pairs(state: Mapping[str, Tensor], name: str) -> list[tuple[int, float]]:
    numbers = state[f"novelty.{name}.labels"].tolist()
    return list(zip(numbers, state[f"novelty.{name}.distances"].tolist(), strict=True))
