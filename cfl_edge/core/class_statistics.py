"""Label embeddings in closed form, from class means and one shared covariance.

This is linear discriminant analysis kept up to date sample by sample, as in streaming LDA (Hayes &
Kanan, "Lifelong Machine Learning with Deep Streaming Linear Discriminant Analysis", 2020): a class
is a mean, a new class needs nothing but its first sample, and no gradient is taken.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from cfl_edge.core.solving import factorise, scaled, solve, solving_dtype


def shrinkage(covariance: Tensor, samples: float) -> float:
    """Choose how far to pull a covariance to a multiple of the identity, 0 to 1.

    The square root of the Oracle Approximating Shrinkage of Chen et al. 2010: that estimator
    minimises the error of the covariance, but classification wants its inverse to be calm, and
    more shrinkage than OAS gave better accuracy in every trial (DECISIONS.md, "Shrinkage").

    Args:
        covariance: (C, C).
        samples: How many samples it was estimated from.

    Example:
        >>> shrinkage(torch.diag(torch.tensor([4., 1.])), samples=1)
        1.0
        >>> shrinkage(torch.diag(torch.tensor([4., 1.])), samples=10_000) < 0.05
        True
    """
    channels = len(covariance)
    trace = float(covariance.trace())
    trace_of_square = float(torch.linalg.matrix_norm(covariance)) ** 2
    numerator = (1 - 2 / channels) * trace_of_square + trace**2
    denominator = (samples + 1 - 2 / channels) * (trace_of_square - trace**2 / channels)
    if denominator <= 0 or samples < 2:
        return 1.0
    return math.sqrt(min(1.0, numerator / denominator))


class ClassStatistics:
    """Running mean of each class and one within-class scatter, of features (N, C).

    Args:
        channels: C.
        device: Where the sums are stored.

    Example:
        >>> statistics = ClassStatistics(channels=2)
        >>> statistics.add_class()
        >>> statistics.add_class()
        >>> h = torch.tensor([[0., 0.], [1., 0.], [9., 1.], [8., 0.]])
        >>> statistics.update(h, torch.tensor([0, 0, 1, 1]))
        >>> statistics.means
        tensor([[0.5000, 0.0000],
                [8.5000, 0.5000]])
        >>> (with_constant(h) @ statistics.embeddings().T).argmax(1)
        tensor([0, 0, 1, 1])
    """

    def __init__(self, channels: int, device: torch.device | str = "cpu") -> None:
        self.counts = torch.zeros(0, device=device)  # (Z,)
        self.means = torch.zeros(0, channels, device=device)  # (Z, C)
        self.scatter = torch.zeros(channels, channels, device=device)  # (C, C)
        self._solving_dtype = solving_dtype(self.means.device)

    def add_class(self) -> None:
        """Append a class without samples."""
        self.counts = torch.cat([self.counts, self.counts.new_zeros(1)])
        self.means = torch.cat([self.means, self.means.new_zeros(1, self.means.shape[1])])

    def update(self, h_mean: Tensor, labels: Tensor) -> None:
        """Take in a batch; the same result as sample by sample, in any order.

        Args:
            h_mean: (N, C).
            labels: Class indices, (N,).
        """
        h_mean = h_mean.detach()
        added = torch.bincount(labels, minlength=len(self.counts)).to(self.counts)  # (Z,)
        sums = torch.zeros_like(self.means).index_add_(0, labels, h_mean)  # (Z, C)
        batch_means = sums / added.clamp(min=1)[:, None]
        within = h_mean - batch_means[labels]  # (N, C)
        total = self.counts + added
        # Two groups of n and m samples: n m / (n + m) times the square of their means' distance.
        weight = (self.counts * added / total.clamp(min=1)).sqrt()[:, None]
        between = weight * (batch_means - self.means)  # (Z, C)
        self.scatter.addmm_(within.T, within).addmm_(between.T, between)
        self.means += (added / total.clamp(min=1))[:, None] * (batch_means - self.means)
        self.counts = total

    def decay(self, factor: float) -> None:
        """Let what was seen so far count `factor` times as much (0 to 1), for moving features."""
        self.counts *= factor
        self.scatter *= factor

    def embeddings(self) -> Tensor:
        """Return the label embeddings that classify best if classes are Gaussian.

        Row z is (Sigma^-1 mu_z, -1/2 mu_z^T Sigma^-1 mu_z) with the shrunk within-class covariance
        Sigma and class mean mu_z: its dot product with (h_mean, 1) is the log likelihood of class
        z, up to a term that all classes share. Classes count alike, however often they were seen.

        A mean of n samples lies off by a variance of Sigma / n, which lengthens mu^T Sigma^-1 mu by
        trace(Sigma^-1 S) / n on average, S being the covariance before shrinking; `CORRECTION`
        times that is taken off again, or a new class would be predicted too rarely. How long
        the mean of very few samples is varies much, so no class may gain from it so much that it
        would be preferred to one that has more samples, by what is near that one's mean.

        Returns:
            (Z, C + 1); the row of a class without samples is 0 but for a bias that rules it out.
        """
        samples = max(float(self.counts.sum()), 1.0)
        channels = self.means.shape[1]
        scale = float(self.scatter.trace()) / samples / channels
        if scale <= 0:  # not two samples of any class yet: the nearest mean, at the features' scale
            scale = max(float(self.means.pow(2).mean()), 1e-12)
            alpha = 1.0
        else:
            alpha = shrinkage(self.scatter, samples)
        dtype = self._solving_dtype
        means = self.means.to(dtype)
        shrunk = scaled(self.scatter, (1 - alpha) / samples, dtype)  # the only copy of (C, C)
        shrunk.diagonal().add_(alpha * scale)
        factor = factorise(shrunk)
        rows = solve(factor, means.T).T  # (Z, C)
        products = rows @ means.T  # (Z, Z)
        spread = _trace_of_ratio(factor, self.scatter) / samples
        excess = CORRECTION * spread / self.counts.clamp(min=1)
        excess = _bounded(excess, products, self.counts)
        bias = (-0.5 * (products.diagonal() - excess)).masked_fill(self.counts == 0, NEVER)
        return torch.cat([rows, bias[:, None]], dim=1).to(self.means)


CORRECTION = 1.3
"""Times the average error of a mean that is taken off its length (DECISIONS.md, "New classes").

With 1 a new class is recalled half as often from its first frame; what old ones may lose by it is
bounded by `MARGIN`.
"""

MARGIN = 2.5
"""Standard deviations between two class means that no correction may use up.

Half of them lie on either side: were classes Gaussian, a new one would take a tenth of an old one
by this source of features alone, and less by the sum of all (DECISIONS.md, "New classes").
"""


def _bounded(excess: Tensor, products: Tensor, counts: Tensor) -> Tensor:
    """Take back what a correction would cost classes that have more samples.

    Between class z and k the log likelihood ratio of a sample of k is normal, with mean (-D^2 +
    excess_z - excess_k) / 2 and variance D^2, D being the Mahalanobis distance of the two means.

    Args:
        excess: By how much the squared length of each mean is too long on average, (Z,).
        products: mu_z^T Sigma^-1 mu_k, (Z, Z).
        counts: Samples, (Z,).

    Returns:
        (Z,), nowhere more than `excess`.
    """
    if not len(counts):
        return excess
    lengths = products.diagonal()
    squared = (lengths[:, None] + lengths - products - products.T).clamp(min=0)  # (Z, Z)
    most = excess + (squared - MARGIN * squared.sqrt()).clamp(min=0)
    most = most.masked_fill(counts <= counts[:, None], math.inf)
    return torch.minimum(excess, most.min(dim=1).values)


PROBES = 32  # random signs: the trace comes out within about 1 % at 1280 channels


def _trace_of_ratio(factor: Tensor, covariance: Tensor) -> Tensor:
    """Estimate trace((L L^T)^-1 S), the number of directions that the samples spread in.

    With random signs z, the mean of z^T A z is trace(A) (Hutchinson 1989); the exact trace would
    take longer than all the rest. The signs are the same in every call.
    """
    signs = torch.randint(0, 2, (len(factor), PROBES), generator=torch.Generator().manual_seed(0))
    probes = (2.0 * signs - 1.0).to(factor)  # (C, PROBES)
    return (solve(factor, probes) * (covariance.to(probes) @ probes)).sum() / PROBES


NEVER = -1e4  # the bias of a class that has no samples


def with_constant(h_mean: Tensor) -> Tensor:
    """Append the constant 1 that carries the bias of the embeddings: (N, C) to (N, C + 1)."""
    return F.pad(h_mean, (0, 1), value=1.0)
