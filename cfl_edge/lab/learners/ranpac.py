"""Random projection and ridge regression on frozen features.

McDonnell et al., "RanPAC: Random Projections and Pre-trained Models for Continual Learning", 2023,
without its first-session adaptation: features pass a random matrix and a ReLU, class labels are
regressed on the result, and the ridge is chosen by what it makes of samples that were left out. It
is exact and does not depend on the order, but for the samples that choose the ridge.
"""

from __future__ import annotations

import math
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from cfl_edge.core.features import Encoded
from cfl_edge.core.joint import numbers_within
from cfl_edge.core.triangle import Triangle
from cfl_edge.defaults import NEVER
from cfl_edge.learner.algorithms.algorithm import AlgorithmInputs
from cfl_edge.learner.algorithms.frozen import HeldOut
from cfl_edge.learner.algorithms.solved import SolvedAlgorithm
from cfl_edge.learner.state import Rows

RIDGE = -2  # power of ten, of the mean of the Gram matrix's diagonal, until samples have chosen
# The paper's grid has 17 powers in steps of ten; below 1e-6 is what rounding does to float32 sums.
SMALLEST_RIDGE, LARGEST_RIDGE = -6, 4
GROWTH = 0.1  # a factor of 2,048 numbers in float64 takes as long as many frames
SMALLEST = 1e-9  # of 1 minus a leverage


@final
class RandomProjection(HeldOut, SolvedAlgorithm):
    """Ridge regression of one-hot labels on h = ReLU(x W), W drawn from N(0, 1) and never stored.

    The Gram matrix of h, (M, M), is the scatter within the classes and that of their means; it has
    `statistics_mib`, which chooses M. The paper has M = 10,000, which takes 191 MiB.

    Args:
        inputs: What it is built on.
    """

    def __init__(self, inputs: AlgorithmInputs) -> None:
        width = numbers_within(inputs.config.statistics_mib)
        super().__init__(inputs, width, GROWTH)
        generator = torch.Generator().manual_seed(self.config.seed)
        drawn = torch.randn(self.reading.channels, width, generator=generator)
        self.projection = drawn.to(self.device)  # W, (C, M)
        self.weights = torch.zeros(0, width, device=self.device)  # (Z, M)
        self.ridge = RIDGE  # power of ten
        self.state.rows("weights", self, "weights", Rows())
        self.state.value("ridge", self, "ridge")

    @property
    def readout(self) -> None:
        """None: scores are no product with what it reads."""
        return

    def expanded(self, x: Tensor) -> Tensor:
        """Return ReLU(x W), (N, M)."""
        return F.relu(x @ self.projection)

    def _gram(self) -> Triangle:
        """Return the sum of h h^T over all samples, float64."""
        counts, means = self.statistics.counts, self.statistics.means
        gram = self.statistics.triangle().scaled(1.0, torch.float64)
        gram.add_products(counts.sqrt()[:, None].double() * means.double())
        return gram

    def _solved(self, gram: Triangle, ridge: int) -> tuple[Triangle, Tensor, int]:
        """Return the factor of G + 10^ridge trace(G) / M I, the weights (M, Z) and the ridge.

        Where the sums have rounding errors that outweigh the ridge, it is raised.
        """
        sums = self.statistics.counts[:, None].double() * self.statistics.means
        while True:
            factor = gram.scaled(1.0, torch.float64)
            factor.add_to_diagonal(max(10.0**ridge * gram.trace() / gram.channels, SMALLEST))
            try:
                factor.factorise()
            except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
                if ridge >= LARGEST_RIDGE:
                    raise
                ridge += 1
            else:
                return factor, factor.solve(sums.T), ridge

    def renew(self) -> None:
        """Solve the weights of all classes with the ridge as it is."""
        _, weights, self.ridge = self._solved(self._gram(), self.ridge)
        self.weights = weights.T.float()

    def held_out(self, x: Tensor, targets: Tensor, copies: Tensor) -> Tensor:
        """Choose the ridge by samples that are left out; return minus their largest score, (N,).

        From its present value the ridge goes by powers of ten to where the squared error of
        one-hot labels is least. Leaving a sample out has a closed form: with the leverage
        a = m h^T (G + r I)^-1 h of its m copies its score s becomes (s - a y) / (1 - a), y being
        its one-hot label.
        """
        gram, h = self._gram(), self.expanded(x).double()
        labels = F.one_hot(targets, len(self.weights)).double()  # (N, Z)
        tried: dict[int, tuple[float, Tensor, Tensor]] = {}

        def error(ridge: int) -> float:
            if ridge not in tried:
                factor, weights, used = self._solved(gram, ridge)
                leverage = (
                    factor.whiten(h.T).square().sum(dim=0)[:, None] * copies[:, None]
                )  # (N, 1)
                scores = (h @ weights - leverage * labels) / (1 - leverage).clamp(min=SMALLEST)
                squared = float((scores - labels).square().mean())
                tried[ridge] = squared if used == ridge else math.inf, scores, weights
            return tried[ridge][0]

        best = self.ridge
        for step in (-1, 1):
            while SMALLEST_RIDGE <= best + step <= LARGEST_RIDGE:
                if error(best + step) >= error(best):
                    break
                best += step
        self.ridge = best
        _, scores, weights = tried[best]
        self.weights = weights.T.float()
        return -scores[:, self.statistics.counts > 0].amax(dim=1)

    def scores(self, encoded: Encoded) -> Tensor:
        """Return the regressed labels, (N, Z): about 1 for the right class, about 0 for others."""
        scores = self.expanded(self.reading.read(encoded)) @ self.weights.T
        return scores.masked_fill(self.statistics.counts == 0, NEVER)

    def distances(self, encoded: Encoded) -> Tensor:
        """Return minus the largest score, (N,)."""
        return -self.scores(encoded).amax(dim=1)

    def distance_rows(self) -> None:
        """Return None: its distances are no product with what it reads."""
        return

    def follow(self) -> None:
        """Do nothing: all that it needs is stored."""
