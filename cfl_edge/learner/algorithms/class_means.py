"""Nearest class mean and weight imprinting: a class is the mean of its features.

Both were made for frozen features: a new class needs one sample, nothing is forgotten, and nothing
else is learned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cfl_edge.learner.algorithms.algorithm import AlgorithmInputs, Groups
from cfl_edge.learner.algorithms.frozen import FrozenAlgorithm, centred, require_shape, silenced

# Makes the probabilities of `ncm` as sure as they are right: least cross entropy on CIFAR-10.
NEAREST_MEAN_SCALE = 16.0
# Times the cosine, which alone would say nearly the same of all classes: the same.
IMPRINTING_SCALE = 32.0
SMALLEST = 1e-12


class RunningMeans:
    """Mean of each class and mean of its samples' squared lengths, of features (N, C).

    Args:
        channels: C.
        device: Where they are kept.

    Example:
        >>> running = RunningMeans(channels=2)
        >>> running.add_class()
        >>> running.update(torch.tensor([[3.0, 4.0], [5.0, 0.0]]), torch.tensor([0, 0]))
        >>> running.means, running.squares
        (tensor([[4., 2.]]), tensor([25.]))
    """

    def __init__(self, channels: int, device: torch.device | str = "cpu") -> None:
        self.counts = torch.zeros(0, device=device)  # (Z,)
        self.means = torch.zeros(0, channels, device=device)  # (Z, C)
        self.squares = torch.zeros(0, device=device)  # (Z,)

    def add_class(self) -> None:
        """Append a class without samples."""
        self.counts, self.squares = F.pad(self.counts, (0, 1)), F.pad(self.squares, (0, 1))
        self.means = F.pad(self.means, (0, 0, 0, 1))

    def update(self, x: Tensor, labels: Tensor, squares: Tensor | None = None) -> None:
        """Take in a batch; the same result as sample by sample, in any order.

        Args:
            x: (N, C).
            labels: Class numbers, (N,).
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


@dataclass(frozen=True)
class Method:
    """What one of the two makes of features and means.

    Args:
        prepare: Features (N, C) to those whose mean is kept, (N, C).
        rows: Means to label embeddings (Z, C + 1), whose dot products with features as they come
            are logits.
    """

    prepare: Callable[[Tensor], Tensor]
    rows: Callable[[RunningMeans], Tensor]


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


def imprinted_rows(running: RunningMeans) -> Tensor:
    """Score by the cosine with the class's weight, a mean of normalised features normalised again.

    Qi, Brown, Lowe, "Low-Shot Learning with Imprinted Weights", 2018, Eq. 4 to 6. A sample's own
    length changes no prediction: in its place stands the root mean square length of all samples,
    so that the score is one dot product.

    Returns:
        (Z, C + 1), a bias of 0.
    """
    scale = IMPRINTING_SCALE / running.mean_square() ** 0.5
    return F.pad(scale * F.normalize(running.means, dim=1), (0, 1))


def _as_it_is(x: Tensor) -> Tensor:
    return x


NEAREST_MEAN = Method(_as_it_is, nearest_mean_rows)
IMPRINTING = Method(F.normalize, imprinted_rows)


class ClassMeansAlgorithm(FrozenAlgorithm):
    """Running means of the classes, and label embeddings made of them at once.

    Args:
        inputs: What it is built on.
        method: `NEAREST_MEAN` or `IMPRINTING`.
    """

    def __init__(self, inputs: AlgorithmInputs, method: Method) -> None:
        super().__init__(inputs)
        self.method = method
        self.running = RunningMeans(self.channels, self.device)

    def add_class(self) -> None:
        """Append a class without samples."""
        super().add_class()
        self.running.add_class()
        self._refresh()

    def take(self, x: Tensor, numbers: Tensor, *, hurried: bool) -> None:
        """Update the means."""
        self.running.update(self.method.prepare(x), numbers, x.square().sum(dim=1))
        self._refresh()

    def _refresh(self) -> None:
        rows = silenced(self.method.rows(self.running), self.running.counts > 0)
        self._readout = self.spread_out(rows)

    def state(self) -> Groups:
        """Return the means as well."""
        groups = super().state()
        groups["state"] |= {
            "statistics.0.counts": self.running.counts,
            "statistics.0.means": self.running.means,
            "statistics.0.squares": self.running.squares,
        }
        return groups

    def class_rows(self) -> Sequence[str]:
        """Name readout, counts, means and squared lengths."""
        return ["readout", *(f"statistics.0.{name}" for name in ("counts", "means", "squares"))]

    def load_state(self, groups: Mapping[str, Mapping[str, Tensor]], classes: int) -> None:
        """Take back the means; the readout follows from them."""
        super().load_state(groups, classes)
        state, running = groups["state"], self.running
        shapes = {"counts": (classes,), "means": (classes, self.channels), "squares": (classes,)}
        for name, shape in shapes.items():
            value = require_shape(state, f"statistics.0.{name}", shape)
            setattr(running, name, value.to(self.device))
        if classes:
            self._refresh()
