"""Streaming linear discriminant analysis on frozen features.

Hayes & Kanan, "Lifelong Machine Learning with Deep Streaming Linear Discriminant Analysis", 2020:
class means and one covariance that all classes share, kept up to date sample by sample, in any
order. It is what people use; `core/class_statistics.py` says what CFL's own rows do beyond it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from cfl_edge.core.class_statistics import ClassStatistics
from cfl_edge.core.discriminant import (
    MeanProducts,
    RelativeDistance,
    mean_products,
    relative_distance,
)
from cfl_edge.core.distances import (
    DistanceRows,
    load_products,
    product_tensors,
    spread_distances,
)
from cfl_edge.core.features import Encoded
from cfl_edge.core.solving import solving_dtype
from cfl_edge.learner.algorithms.algorithm import AlgorithmInputs, Groups
from cfl_edge.learner.algorithms.frozen import FrozenAlgorithm, centred, require_shape, silenced

SHRINKAGE = 1e-2
"""Share of the mean variance in every direction: steady with few samples and 1280 channels."""
REFERENCE_SHRINKAGE = 1e-4
"""Of the published code, which adds it times the identity, not times the mean variance."""
SINGLE_PRECISION = 1e-3  # with less shrinkage the Cholesky factor needs double
# Makes the probabilities as sure as they are right, and changes no prediction: the log likelihoods
# of so many channels, with a covariance from few samples, are too sure of themselves. Least cross
# entropy on 4,000 CIFAR-10 images; with 1,000 of them, fewer than channels, 0.01 would be right.
TEMPERATURE = 0.1
SMALLEST = 1e-12
EARLY_FRAMES = (1, 2, 4, 8)  # of a class: each of them changes its mean much


def discriminant_rows(statistics: ClassStatistics, shrinkage: float = SHRINKAGE) -> Tensor:
    """Return the rows of linear discriminant analysis, all classes equally likely.

    Row z is (Sigma^-1 mu_z, -1/2 mu_z^T Sigma^-1 mu_z), with Sigma = (1 - shrinkage) S + shrinkage
    * trace(S) / C * I of the within-class covariance S: what scikit-learn's
    `LinearDiscriminantAnalysis(solver="lsqr", shrinkage=...)` solves.

    Args:
        statistics: Of Z classes.
        shrinkage: 0 to 1. More of it stands fewer samples, 1 is the nearest mean.

    Returns:
        (Z, C + 1)
    """
    samples = max(float(statistics.counts.sum()), 1.0)
    channels = statistics.means.shape[1]
    scale = float(statistics.scatter.trace()) / samples / channels
    if scale <= 0:  # not two samples of any class yet: the nearest mean, at the features' scale
        shrinkage, scale = 1.0, max(float(statistics.means.square().mean()), SMALLEST)
    dtype = torch.float64
    if shrinkage >= SINGLE_PRECISION:
        dtype = solving_dtype(statistics.means.device)
    shrunk = statistics.scatter.to(dtype) * ((1 - shrinkage) / samples)
    shrunk.diagonal().add_(shrinkage * scale)
    means = statistics.means.to(dtype)
    rows = torch.cholesky_solve(means.T, torch.linalg.cholesky(shrunk)).T  # (Z, C)
    bias = -0.5 * (rows * means).sum(dim=1, keepdim=True)
    return torch.cat([rows, bias], dim=1).float()


class StreamingDiscriminantAlgorithm(FrozenAlgorithm):
    """SLDA: statistics with every sample, rows every `refresh_frames` and for every new class.

    Args:
        inputs: What it is built on.
        shrinkage: See `discriminant_rows`.
    """

    def __init__(self, inputs: AlgorithmInputs, shrinkage: float = SHRINKAGE) -> None:
        super().__init__(inputs)
        self.shrinkage = shrinkage
        self.statistics = ClassStatistics(self.channels, self.device)
        self.refresh_frames = self.config.refresh_frames
        self._since_refresh = 0
        self._means: MeanProducts | None = None
        self._distance: RelativeDistance | None = None

    def add_class(self) -> None:
        """Append a class without samples."""
        super().add_class()
        self.statistics.add_class()

    def take(self, x: Tensor, numbers: Tensor, *, hurried: bool) -> None:
        """Update the statistics, and the rows where it is time."""
        self.statistics.update(x, numbers)
        self._since_refresh += len(x)
        after = self.statistics.counts
        before = after - torch.bincount(numbers, minlength=len(after)).to(after)
        is_new = bool(((before == 0) & (after > 0)).any())
        is_early = any(((before < frames) & (after >= frames)).any() for frames in EARLY_FRAMES)
        if is_new or (not hurried and (is_early or self._since_refresh >= self.refresh_frames)):
            self.refresh()

    def recalibrate(self) -> None:
        """Solve the rows, with all samples in them."""
        if self._since_refresh:
            self.refresh()

    def refresh(self) -> None:
        """Solve the rows of all classes."""
        known = self.statistics.counts > 0
        rows = TEMPERATURE * centred(discriminant_rows(self.statistics, self.shrinkage), known)
        self._readout = self.spread_out(silenced(rows, known))
        self._refresh_distance(None)
        self._since_refresh = 0

    def _refresh_distance(self, means: MeanProducts | None) -> None:
        """Take the distance from the readout; `means` None from the statistics of now."""
        assert self._readout is not None
        rows = self._readout[:, : self.channels] / TEMPERATURE
        known = self.statistics.counts > 0
        self._means = means or mean_products(rows, self.statistics.means, known)
        self._distance = relative_distance(rows, self._means)
        expected, variance = self._distance.expected.cpu(), self._distance.variance.cpu()
        self.novelty.expect(expected, variance.sqrt())

    def distances(self, encoded: Encoded) -> Tensor:
        """Return relative Mahalanobis distances in what it reads, (N,)."""
        assert self._distance is not None
        return self._distance(self.end(encoded))

    def distance_rows(self) -> DistanceRows | None:
        """Return what gives `distances`, zeros where it does not look."""
        if self._distance is None:
            return None
        channels = self.inputs.channels
        sources = channels if self.inputs.layer_source else [sum(channels)]
        return spread_distances([self._distance], sources, first=0)

    def warm_up(self) -> None:
        """Solve the rows of nothing."""
        spare = ClassStatistics(self.channels, self.device)
        spare.add_class()
        discriminant_rows(spare)

    def state(self) -> Groups:
        """Return the statistics as well."""
        groups = super().state()
        groups["state"] |= {
            "statistics.0.counts": self.statistics.counts,
            "statistics.0.means": self.statistics.means,
            "statistics.0.scatter": self.statistics.scatter,
            "since_refresh": torch.tensor(self._since_refresh),
        }
        if self._means is not None:
            groups["state"] |= product_tensors([self._means])
        return groups

    def class_rows(self) -> Sequence[str]:
        """Name readout, counts and means."""
        return ["readout", "statistics.0.counts", "statistics.0.means"]

    def load_state(self, groups: Mapping[str, Mapping[str, Tensor]], classes: int) -> None:
        """Take back the statistics; solve the rows where the classes were changed since."""
        super().load_state(groups, classes)
        state, c = groups["state"], self.channels
        shapes = {"counts": (classes,), "means": (classes, c), "scatter": (c, c)}
        for name, shape in shapes.items():
            value = require_shape(state, f"statistics.0.{name}", shape)
            setattr(self.statistics, name, value.to(self.device))
        self._since_refresh = int(state["since_refresh"])
        if classes:
            means = load_products(state, 1, classes, self.device)
            self._refresh_distance(means[0] if means else None)
        if self._since_refresh < 0 and classes:
            self.refresh()
