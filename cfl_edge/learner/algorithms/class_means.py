"""Nearest class mean: a class is the mean of its features.

It was made for frozen features: a new class needs one sample, nothing is forgotten, and nothing
else is learned.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from cfl_edge.core.class_statistics import silenced, with_constant
from cfl_edge.learner.algorithms.algorithm import AlgorithmInputs, Logits
from cfl_edge.learner.algorithms.frozen import ClassifierAlgorithm, HeldOut, centred
from cfl_edge.learner.state import Rows

# Makes the probabilities of `ncm` as sure as they are right: least cross entropy on CIFAR-10.
NEAREST_MEAN_SCALE = 16.0
SMALLEST = 1e-12


class RunningMeans:
    """Mean of each class and mean of its samples' squared lengths, of features (N, C).

    Args:
        channels: C.
        device: Where they live.
        classes: Z, without samples yet.

    Example:
        >>> running = RunningMeans(channels=2, classes=1)
        >>> running.update(torch.tensor([[3.0, 4.0], [5.0, 0.0]]), torch.tensor([0, 0]))
        >>> running.means, running.squares
        (tensor([[4., 2.]]), tensor([25.]))
    """

    def __init__(
        self, channels: int, device: torch.device | str = "cpu", *, classes: int = 0
    ) -> None:
        self.counts = torch.zeros(classes, device=device)  # (Z,)
        self.means = torch.zeros(classes, channels, device=device)  # (Z, C)
        self.squares = torch.zeros(classes, device=device)  # (Z,)

    def update(self, x: Tensor, labels: Tensor, squares: Tensor | None = None) -> None:
        """Take in a batch; the same result as sample by sample, in any order.

        Args:
            x: (N, C).
            labels: Class indices, (N,).
            squares: Squared lengths, (N,), where they are not those of `x`.
        """
        squares = x.square().sum(dim=1) if squares is None else squares
        added = torch.bincount(labels, minlength=len(self.counts)).to(self.counts)  # (Z,)
        self.counts = self.counts + added
        share = 1 / self.counts.clamp(min=1)
        offsets = torch.zeros_like(self.means).index_add_(0, labels, x - self.means[labels])
        self.means = self.means + share[:, None] * offsets
        more = torch.zeros_like(self.squares).index_add_(0, labels, squares - self.squares[labels])
        self.squares = self.squares + share * more

    def remove(self, x: Tensor, label: int, square: Tensor, copies: float = 1.0) -> None:
        """Take out a sample (C,) of a class that has more, and its squared length.

        A copy made by `copy.copy` may be changed so: no tensor changes in place.
        """
        place = F.one_hot(torch.tensor(label, device=x.device), len(self.counts)).to(self.counts)
        place *= copies
        share = place / (self.counts - place).clamp(min=1)
        self.counts = self.counts - place
        self.means = self.means - share[:, None] * (x - self.means[label])
        self.squares = self.squares - share * (square - self.squares[label])

    def mean_square(self) -> float:
        """Return the mean squared length of all samples."""
        total = max(float(self.counts.sum()), 1.0)
        return max(float(self.counts @ self.squares) / total, SMALLEST)

    def within_square(self) -> float:
        """Return the mean squared distance of the samples from their class's mean.

        Where no class has two samples it says nothing; `mean_square` stands in.
        """
        total = max(float(self.counts.sum()), 1.0)
        apart = self.squares - self.means.square().sum(dim=1)
        within = float(self.counts @ apart.clamp(min=0)) / total
        return within if within > 1e-6 * self.mean_square() else self.mean_square()


def nearest_mean_rows(running: RunningMeans) -> Tensor:
    """Score by the squared Euclidean distance to the class's mean, less what all classes share.

    -|x - mu|^2 = 2 mu.x - |mu|^2 - |x|^2 (Mensink et al., "Distance-Based Image Classification:
    Generalizing to New Classes at Near-Zero Cost", 2013, Eq. 5). In units of the mean squared
    distance within a class and scaled to make probabilities, which changes no prediction.

    Returns:
        (Z, C + 1)
    """
    rows = torch.cat([2 * running.means, -running.means.square().sum(dim=1, keepdim=True)], dim=1)
    return centred(NEAREST_MEAN_SCALE / running.within_square() * rows, running.counts > 0)


@final
class ClassMeans(Logits, HeldOut, ClassifierAlgorithm):
    """Running means of the classes, and label embeddings made of them at once.

    Args:
        inputs: What it is built on.
        rows: Means to label embeddings (Z, C + 1), whose dot products with features as they come
            are logits.
        prepare: Features (N, C) to those whose mean is taken, (N, C).
    """

    def __init__(
        self,
        inputs: AlgorithmInputs,
        rows: Callable[[RunningMeans], Tensor] = nearest_mean_rows,
        prepare: Callable[[Tensor], Tensor] = lambda x: x,
    ) -> None:
        super().__init__(inputs)
        self._rows, self._prepare = rows, prepare
        self.running = RunningMeans(self.reading.channels, self.device)
        self._readout = torch.zeros(0, self.reading.width, device=self.device)
        counts = "statistics.0.counts"
        self.state.rows(counts, self.running, "counts", Rows(merge="sum"))
        for name in ("means", "squares"):
            rule = Rows(merge="weighted", counts=counts)
            self.state.rows(f"statistics.0.{name}", self.running, name, rule)
        self.state.rows("readout", self, "_readout", Rows(new="never"))

    @property
    def readout(self) -> Tensor:
        """Label embeddings on all features, (Z, F)."""
        return self._readout

    def fit(self, x: Tensor, targets: Tensor, *, hurried: bool) -> None:
        """Update the means."""
        self.running.update(self._prepare(x), targets, x.square().sum(dim=1))
        self._refresh()

    def _refresh(self) -> None:
        rows = silenced(self._rows(self.running), self.running.counts > 0)
        self._readout = self.reading.spread(rows)

    def held_out(self, x: Tensor, targets: Tensor, copies: Tensor) -> Tensor:
        """Return the distances of learned samples, each taken out of the mean of its class."""
        distances, squares = x.new_full((len(x),), torch.nan), x.square().sum(dim=1)
        for i, z in enumerate(targets.tolist()):
            if self.running.counts[z] <= copies[i]:  # its class is not known without it
                continue
            without = copy.copy(self.running)
            without.remove(self._prepare(x[i : i + 1])[0], z, squares[i], float(copies[i]))
            rows = silenced(self._rows(without), without.counts > 0)
            distances[i] = -(rows @ with_constant(x[i])).max()
        return distances

    def solve(self) -> None:
        """Do nothing: nothing is put off."""

    def follow(self) -> None:
        """Make the label embeddings: they follow from the means."""
        if len(self.running.counts):
            self._refresh()
