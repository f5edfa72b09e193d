"""Class means, shrunk towards their centre by what chance explains of their distance from it.

A mean of n samples is off by what a new sample is off by, divided by n, in a direction of its own.
James and Stein 1961 shrink several means at once; Efron and Morris 1973 take from the data how far
the true means lie apart, and shrink those of fewer samples by more.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

CHANCE = 0.5
"""The part of a mean's squared error that is taken off; with all of it, accuracy fell."""
LEAST_APART = 0.25  # of the squared distance of means, which estimates may not take away


@dataclass(frozen=True, eq=False)
class ShrunkenMeans:
    """How class means are shrunk, under one covariance.

    Args:
        centre: The mean of the class means, (C,).
        solved: Sigma^-1 times the centre, (C,).
        apart: How far the true class means lie from it on average, squared, by Mahalanobis.
        error: How far a new sample lies from its class mean, the same way; that of a mean of n
            samples is 1 / n of it. 0 where nothing is known of it.
    """

    centre: Tensor
    solved: Tensor
    apart: float
    error: float

    @classmethod
    def of(cls, rows: Tensor, means: Tensor, counts: Tensor, error: float) -> ShrunkenMeans:
        """Estimate it from class means.

        Args:
            rows: Sigma^-1 times the means, (Z, C).
            means: (Z, C).
            counts: Samples of each, (Z,); classes without any do not count.
            error: As above.
        """
        known = counts > 0
        rows, means, counts = rows[known], means[known], counts[known]
        if not len(counts):
            nothing = rows.new_zeros(rows.shape[1])
            return cls(nothing, nothing, 0.0, 0.0)
        centre, solved = means.mean(dim=0), rows.mean(dim=0)
        squared = ((rows - solved) * (means - centre)).sum(dim=1)
        samples = float(counts.sum())
        found = float((counts * squared).sum()) / samples
        apart = found - CHANCE * error * len(counts) / samples
        return cls(centre, solved, max(apart, LEAST_APART * found), error)

    def shares(self, counts: Tensor) -> Tensor:
        """Return which part of the way from the centre to its mean each class keeps, 0 to 1, (Z,).

        Example:
            >>> means = torch.tensor([[2.0, 0.0], [-2.0, 0.0]])
            >>> shrunken = ShrunkenMeans.of(means, means, torch.tensor([10.0, 10.0]), error=20.0)
            >>> shrunken.apart
            3.0
            >>> shrunken.shares(torch.tensor([1.0, 10.0, 1000.0]))
            tensor([0.2308, 0.7500, 0.9967])
        """
        chance = CHANCE * self.error / counts.clamp(min=1)
        return (self.apart / (self.apart + chance)).nan_to_num(nan=1.0)

    def embeddings(self, rows: Tensor, means: Tensor, counts: Tensor) -> Tensor:
        """Return the label embeddings of shrunken means, (K, C + 1).

        With m the way from the centre to a class mean and s its share, the dot product with
        (x, 1) is s m^T Sigma^-1 (x - centre) - 1/2 (s^2 m^T Sigma^-1 m - s^2 error / n), up to
        what all classes share: a shrunken mean is too long as well, by what its error adds.

        Args:
            rows: Sigma^-1 times the means of some classes, (K, C).
            means: (K, C).
            counts: (K,).
        """
        shares = self.shares(counts)
        rows = rows - self.solved
        lengths = (rows * (means - self.centre)).sum(dim=1)
        bias = -shares * (rows @ self.centre) - 0.5 * shares.square() * lengths
        bias += self.longer(counts)
        return torch.cat([shares[:, None] * rows, bias[:, None]], dim=1)

    def longer(self, counts: Tensor) -> Tensor:
        """Return what each bias gains since its shrunken mean is too long, (Z,)."""
        return 0.5 * self.shares(counts).square() * self.error / counts.clamp(min=1)
