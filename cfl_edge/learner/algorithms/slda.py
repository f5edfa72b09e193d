"""Streaming linear discriminant analysis on frozen features.

Hayes & Kanan, "Lifelong Machine Learning with Deep Streaming Linear Discriminant Analysis", 2020:
class means and one covariance that all classes share, updated sample by sample, in any
order. It is what people use; `core/class_statistics.py` says what CFL's own rows do beyond it.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from cfl_edge.core.class_statistics import ClassStatistics, silenced
from cfl_edge.core.discriminant import DistanceRows, relative_distance, spread_distances
from cfl_edge.core.factor import Factor
from cfl_edge.core.held_out import held_out_distances
from cfl_edge.learner.algorithms.algorithm import AlgorithmInputs, Linear
from cfl_edge.learner.algorithms.frozen import HeldOut, centred
from cfl_edge.learner.algorithms.solved import SolvedAlgorithm
from cfl_edge.learner.state import Rows

# Makes the probabilities as sure as they are right, and changes no prediction: the log likelihoods
# of so many channels, with a covariance from few samples, are too sure of themselves. Least cross
# entropy on 4,000 CIFAR-10 images; with 1,000 of them, fewer than channels, 0.01 would be right.
TEMPERATURE = 0.1


def discriminant_rows(statistics: ClassStatistics, shrinkage: float | None = None) -> Tensor:
    """Return the rows of linear discriminant analysis, all classes equally likely.

    Row z is (Sigma^-1 mu_z, -1/2 mu_z^T Sigma^-1 mu_z), with Sigma = (1 - shrinkage) S + shrinkage
    * trace(S) / C * I of the within-class covariance S: what scikit-learn's
    `LinearDiscriminantAnalysis(solver="lsqr", shrinkage=...)` solves. What all classes share, the
    row of the mean of their means, is left away before it is solved: it can be many times longer.

    Args:
        statistics: Of Z classes.
        shrinkage: 0 to 1; None chooses it by the samples, as for `cfl`. The paper has 1e-4, with
            which more samples may be worse (DECISIONS.md, "Shrinkage").

    Returns:
        (Z, C + 1)
    """
    known = statistics.counts > 0
    centre = statistics.means[known].mean(dim=0) if known.any() else 0.0
    rows = Factor(statistics, shrinkage).finish().solve(statistics.means - centre)  # (Z, C)
    bias = -0.5 * (rows * (statistics.means + centre)).sum(dim=1, keepdim=True)
    return torch.cat([rows, bias], dim=1)


@final
class StreamingDiscriminant(Linear, HeldOut, SolvedAlgorithm):
    """SLDA: linear discriminant analysis of all samples so far.

    Args:
        inputs: What it is built on.
    """

    def __init__(self, inputs: AlgorithmInputs) -> None:
        super().__init__(inputs)
        self._readout = torch.zeros(0, self.reading.width, device=self.device)
        self._distance: DistanceRows | None = None
        self.state.rows("readout", self, "_readout", Rows(new="never"))

    @property
    def readout(self) -> Tensor:
        """Classifier weights on all features, (Z, F)."""
        return self._readout

    def expanded(self, x: Tensor) -> Tensor:
        """Return what it reads, as it is."""
        return x

    def renew(self) -> None:
        """Solve the rows of all classes."""
        known = self.statistics.counts > 0
        rows = TEMPERATURE * centred(discriminant_rows(self.statistics), known)
        self._readout = self.reading.spread(silenced(rows, known))
        self._refresh_distance()

    def _refresh_distance(self) -> None:
        rows = self._readout[:, : self.reading.channels] / TEMPERATURE
        measured = relative_distance(rows, self.statistics.means, self.statistics.counts > 0)
        sources = self.reading.sources if self.has_backbone else [self.reading.channels]
        self._distance = spread_distances([measured], sources, first=0)

    def distance_rows(self) -> DistanceRows | None:
        """Return what gives relative Mahalanobis distances in what it reads."""
        return self._distance

    def held_out(self, x: Tensor, targets: Tensor, copies: Tensor) -> Tensor:
        """Return the relative Mahalanobis distances by all other samples, (N,)."""
        factor = Factor(self.statistics).finish()
        return held_out_distances(factor, self.statistics, x, targets, copies)

    def follow(self) -> None:
        """Take the distance from the rows."""
        if len(self._readout):
            self._refresh_distance()
