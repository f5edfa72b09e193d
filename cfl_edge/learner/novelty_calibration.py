"""How far known samples lie, updated while classes, and maybe layers, change.

Only samples that were not learned yet count: learned ones lie too near. Where the layers move,
replayed samples say how far each class lies by now, known ones how much farther than that.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cfl_edge.prediction import Floats, novelty_scores

KNOWN = 256  # known samples, the newest: what lies near changes as the covariance gets better
LEARNED_FRAMES = 8  # of a class before its next ones count as known
LEAST_CLASSES, LEAST_SAMPLES = 2, 30  # fewer say nothing
REPLAYED = 512  # distances of replayed samples, the newest: those of about 20 steps
LEVELS: Floats = np.linspace(0.0, 1.0, 201)  # of the table: steps of half a percent
TABLE_EVERY = 16  # known samples
SMALLEST = 1e-6  # spread: below it all distances of a class are the same


class NoveltyCalibration:
    """Distances of known samples, from before they were learned.

    A sample is stored as its distance above what was expected of its class then, in units of the
    spread that was expected. What is expected of every class now says where such samples would lie
    now: classes that came later and layers that moved change that.

    Example:
        >>> known = NoveltyCalibration()
        >>> known.add(torch.arange(30.0), torch.arange(30) % 2)
        >>> known.scores(np.array([-1.0, 14.5, 99.0]))
        array([0. , 0.5, 1. ])
    """

    def __init__(self) -> None:
        self._known: deque[float] = deque(maxlen=KNOWN)
        self._means: Floats | None = None  # of each class; None: the distances as they are
        self._spreads: Floats | None = None
        self._table: Floats | None = None
        self._since_table = 0

    def expect(self, means: npt.ArrayLike, spreads: npt.ArrayLike) -> None:
        """Take the distances that are expected of samples of each class from now on.

        Args:
            means: (Z,); nan of a class of which nothing is known.
            spreads: Their standard deviations, (Z,).
        """
        self._means = np.asarray(means, np.float64)
        self._spreads = np.maximum(np.asarray(spreads, np.float64), SMALLEST)
        self._solve()

    def add(self, distances: Tensor, targets: Tensor) -> None:
        """Take in known samples that were not learned yet.

        Args:
            distances: (N,).
            targets: Their class indices, (N,).
        """
        values = distances.double().cpu().numpy()
        if self._means is not None and self._spreads is not None:
            index = targets.cpu().numpy()
            is_known = index < len(self._means)
            index = index[is_known]
            values = (values[is_known] - self._means[index]) / self._spreads[index]
        values = values[np.isfinite(values)]
        self._known.extend(values.tolist())
        self._since_table += len(values)
        if self._since_table >= TABLE_EVERY or self._table is None:
            self._solve()

    def table(self) -> Floats | None:
        """Return the distances below which 0, 0.5, 1, ... 100 % of the known samples lie, (201,).

        None for fewer than 30 samples.
        """
        return self._table

    def _solve(self) -> None:
        self._since_table, self._table = 0, None
        if len(self._known) < LEAST_SAMPLES:
            return
        values = np.array(self._known)
        if self._means is not None and self._spreads is not None:
            is_known = np.isfinite(self._means)
            spread = values[:, None] * self._spreads[is_known]
            values = (spread + self._means[is_known]).ravel()
        if len(values):
            self._table = np.quantile(values, LEVELS)

    def scores(self, distances: npt.ArrayLike) -> Floats:
        """Return the share of known samples that lie nearer, 0 to 1, of distances (N,).

        nan where too little is known (`table` is None).
        """
        return novelty_scores(distances, self.table())

    @property
    def known(self) -> Tensor:
        """The known samples, to be stored, float64 (N,); setting it takes them back."""
        return torch.tensor(list(self._known), dtype=torch.float64)

    @known.setter
    def known(self, values: Tensor) -> None:
        self._known.clear()
        self._known.extend(values.tolist())
        self._solve()


class ReplayedDistances:
    """Distances of replayed samples: what is expected of each class while the layers move.

    Example:
        >>> replayed = ReplayedDistances()
        >>> replayed.add(torch.tensor([1.0, 3.0, 8.0]), torch.tensor([0, 0, 2]))
        >>> replayed.expected(3)[0]
        array([ 2., nan,  8.])
    """

    def __init__(self) -> None:
        self._newest: deque[tuple[int, float]] = deque(maxlen=REPLAYED)

    def add(self, distances: Tensor, targets: Tensor) -> None:
        """Take in samples, with the layers as they are now.

        Args:
            distances: (N,).
            targets: Their class indices, (N,).
        """
        self._newest.extend(zip(targets.tolist(), distances.tolist(), strict=True))

    def expected(self, classes: int) -> tuple[Floats, Floats]:
        """Return the mean distance in each class and the standard deviation within classes.

        Args:
            classes: Z.

        Returns:
            means: (Z,), nan for a class without samples.
            spreads: (Z,), the same for all: few samples of a class say little of its own.
        """
        targets = np.array([target for target, _ in self._newest], np.int64)
        distances = np.array([distance for _, distance in self._newest], np.float64)
        counts = np.bincount(targets, minlength=classes)
        means = np.full(classes, np.nan)
        sums = np.bincount(targets, weights=distances, minlength=classes)
        np.divide(sums, counts, out=means, where=counts > 0)
        within = distances - means[targets]
        spread = float(np.sqrt(np.square(within).mean())) if len(within) else math.nan
        return means, np.full(classes, spread)

    def samples(self) -> dict[str, Tensor]:
        """Return the samples as tensors, to be stored; `put_samples` takes them back."""
        labels, distances = zip(*self._newest, strict=True) if self._newest else ((), ())
        return {
            "labels": torch.tensor(labels, dtype=torch.long),
            "distances": torch.tensor(distances, dtype=torch.float64),
        }

    def put_samples(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `samples` returned."""
        self._newest.clear()
        labels, distances = tensors["labels"].tolist(), tensors["distances"].tolist()
        self._newest.extend(zip(labels, distances, strict=True))
