"""The shrunk covariance of class statistics, factorised, and the label embeddings that it gives."""

from __future__ import annotations

import math
from collections.abc import Generator

import torch
from torch import Tensor

from cfl_edge.core.class_statistics import ClassStatistics, silenced
from cfl_edge.core.low_rank import LowRank
from cfl_edge.core.shrunken_means import ShrunkenMeans
from cfl_edge.core.solving import solving_dtype
from cfl_edge.core.triangle import PROBES, OneBlock, Triangle, random_signs
from cfl_edge.errors import DIVERGED_HINT, ModelError

SMALLEST = 1e-12
ROUNDING = 1e-12  # of the means' mean square: variance of equal samples, summed in float32
PROBES_A_SLICE = 8  # of the trace's random signs, then the frame goes on
ONE_BLOCK = 256  # channels up to which panels would cost more in calls than in products
LEARNED_GAP = 5.0
"""How many times more than by chance the mean of what layers have learned is off, squared."""
MARGIN = 3.0
"""Standard deviations between two class means that no correction may use up, half on either side.

They are those of the shrunk covariance, new samples vary more: DECISIONS.md, "Means of what layers
have learned".
"""
MOST_OF_ITSELF = 0.95  # of the spread along a sample that is its own; the trace is an estimate


def shrinkage(trace: float, square_sum: float, channels: int, samples: float) -> float:
    """Choose how far to pull a covariance to a multiple of the identity, 0 to 1.

    The square root of the Oracle Approximating Shrinkage of Chen et al. 2010: that estimator
    minimises the error of the covariance, but classification wants its inverse to be calm, and
    more shrinkage than OAS gave better accuracy in every trial (DECISIONS.md, "Shrinkage").

    Args:
        trace: Of the covariance (C, C).
        square_sum: Of its entries' squares.
        channels: C.
        samples: How many samples it was estimated from.

    Example:
        >>> shrinkage(5.0, 17.0, 2, samples=1)
        1.0
        >>> shrinkage(5.0, 17.0, 2, samples=10_000) < 0.05
        True
    """
    numerator = (1 - 2 / channels) * square_sum + trace**2
    denominator = (samples + 1 - 2 / channels) * (square_sum - trace**2 / channels)
    if denominator <= 0 or samples < 2:
        return 1.0
    return math.sqrt(min(1.0, max(0.0, numerator / denominator)))


def _diverged(why: str) -> ModelError:
    return ModelError(
        f"learning has diverged, the covariance of its features is not usable: {why}",
        hint=DIVERGED_HINT,
    )


class Factor:
    """The Cholesky factor of a shrunk within-class covariance, of one moment.

    It is made in slices, so that a camera's frame need not wait for all of them; label embeddings
    of classes that came later are solved with it as well.

    Args:
        statistics: Of which it is made; they may go on changing afterwards.
        alpha: Shrinkage, 0 to 1; None chooses it by `shrinkage`.

    Attributes:
        alpha: Its shrinkage, 0 to 1.
        samples: N, of the covariance.
        spread: trace(Sigma^-1 S), how far samples lie from their class means on average, squared;
            0 until the factor is complete.
    """

    def __init__(self, statistics: ClassStatistics, alpha: float | None = None) -> None:
        scatter = statistics.within()
        self.samples = max(float(statistics.counts.sum()), 1.0)
        self.spread, channels = 0.0, scatter.channels
        self._freedom = max(self.samples - float((statistics.counts > 0).sum()), 1.0)
        self._device = statistics.means.device
        self._dtype = solving_dtype(self._device)
        self._scale = scatter.trace() / self.samples / channels
        square = float(statistics.means.square().mean()) if len(statistics.means) else 0.0
        # No two samples of any class differ yet, but for rounding: the nearest mean.
        if self._scale <= ROUNDING * square:
            self._scale, alpha = max(square, SMALLEST), 1.0
        if alpha is None:
            squares = scatter.square_sum() / self.samples**2
            alpha = shrinkage(self._scale * channels, squares, channels, self.samples)
        self.alpha = alpha
        # None: a multiple of the identity.
        self._matrix: Triangle | OneBlock | LowRank | None = None
        if alpha < 1:
            share = (1 - alpha) / self.samples
            if isinstance(scatter, Triangle) and channels <= ONE_BLOCK:
                self._matrix = OneBlock(scatter.dense().to(self._dtype).mul_(share))
            else:
                self._matrix = scatter.scaled(share, self._dtype)
            self._matrix.add_to_diagonal(alpha * self._scale)
        else:
            self.spread = float(channels)

    def slices(self) -> Generator[None, None, None]:
        """Factorise, pausing after each block.

        Raises:
            ModelError: The statistics are not finite: learning has diverged.
        """
        if not math.isfinite(self._scale):
            raise _diverged("it is not finite")
        if self._matrix is None:
            return
        try:
            yield from self._matrix.factor_slices()
        except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
            raise _diverged(str(error)) from error
        # With Sigma = (1 - a) S + a s I, trace(Sigma^-1 S) is (C - a s trace(Sigma^-1)) / (1 - a).
        # The trace is an estimate for few rows as well, or a merged model, which has none, would
        # differ.
        inverse_trace = 0.0
        for signs in torch.split(random_signs(self._matrix.channels), PROBES_A_SLICE, dim=1):
            lengths = self._matrix.lengths(signs.to(self._device, self._dtype))
            inverse_trace += float(lengths.sum()) / PROBES
            yield
        traced = self._matrix.channels - self.alpha * self._scale * inverse_trace
        self.spread = traced / (1 - self.alpha)

    @property
    def error(self) -> float:
        """How far a sample lies from its class mean where neither has seen the other.

        The squared Mahalanobis distance, on average: trace(Sigma^-1 S) of the samples that Sigma
        was estimated from is too small, by the part of each that is its own. Generalised
        cross-validation (Golub, Heath and Wahba 1979) takes that part to be the same for all.
        """
        return self.spread / self.certainty

    @property
    def certainty(self) -> float:
        """How far learned samples lie from their class means, of how far new ones do, 0 to 1."""
        itself = min((1 - self.alpha) * self.spread / self._freedom, MOST_OF_ITSELF)
        return self._freedom / self.samples * (1 - itself)

    def finish(self) -> Factor:
        """Factorise at once."""
        for _ in self.slices():
            pass
        return self

    def solve(self, means: Tensor) -> Tensor:
        """Return Sigma^-1 times class means (Z, C), as (Z, C)."""
        if self._matrix is None:
            return means / self._scale
        return self._matrix.solve(means.T.to(self._dtype)).T.to(means)

    def lengths(self, x: Tensor) -> Tensor:
        """Return x^T Sigma^-1 x of vectors (N, C), float64 (N,)."""
        if self._matrix is None:
            return x.double().square().sum(dim=1) / self._scale
        return self._matrix.lengths(x.T.to(self._dtype))

    def shrunken(self, rows: Tensor, means: Tensor, counts: Tensor) -> ShrunkenMeans:
        """Return how the class means are shrunk.

        Args:
            rows: Sigma^-1 times the means, (Z, C).
            means: (Z, C).
            counts: Samples of each, (Z,).
        """
        several = bool((counts > 1).any())  # or nothing says how far samples lie apart
        return ShrunkenMeans.of(rows, means, counts, self.error if several else 0.0)

    def embeddings(self, means: Tensor, counts: Tensor, *, learned: Tensor | None = None) -> Tensor:
        """Return the label embeddings that classify best if classes are Gaussian.

        Row z is (Sigma^-1 mu_z, -1/2 mu_z^T Sigma^-1 mu_z) with class mean mu_z: its dot product
        with (h_mean, 1) is the log likelihood of class z, up to a term that all classes share.
        Classes count alike, however often they were seen; means of few samples are shrunk
        (`ShrunkenMeans`).

        Args:
            means: (Z, C).
            counts: Samples of each, (Z,).
            learned: How many different samples of each class the layers have learned that give the
                features, (Z,). None for features that do not learn, or alone.

        Returns:
            (Z, C + 1); the row of a class without samples is 0 but for a bias that rules it out.
        """
        rows = self.solve(means)
        if learned is None:
            embeddings = self.shrunken(rows, means, counts).embeddings(rows, means, counts)
        else:
            bias = self._learned_biases(rows, means, counts, learned)
            embeddings = torch.cat([rows, bias[:, None]], dim=1)
        return silenced(embeddings, counts > 0)

    def _learned_biases(
        self, rows: Tensor, means: Tensor, counts: Tensor, learned: Tensor
    ) -> Tensor:
        """Return the last numbers of label embeddings on what layers have learned.

        The mean of n different samples is off by `LEARNED_GAP` times `error` / n, which lengthens
        mu^T Sigma^-1 mu by as much on average; that is taken off again, or a new class would be
        predicted too rarely. How long the mean of very few samples is varies much, so no class may
        gain from it so much that it would be preferred to one that has more samples, by what is
        near that one's mean.
        """
        different = torch.minimum(counts, learned.to(counts)).clamp(min=1)
        different = different.masked_fill(counts == 0, 0)
        lengths = (rows * means).sum(dim=1)  # (Z,)
        squared = lengths[:, None] + lengths - 2 * rows @ means.T
        excess = LEARNED_GAP * self.error / different.clamp(min=1)
        return -0.5 * (lengths - bounded(excess, squared, different))


def label_embeddings(statistics: ClassStatistics, *, learned: Tensor | None = None) -> Tensor:
    """Factorise the covariance, and return the label embeddings of all classes, (Z, C + 1).

    Args:
        statistics: Of Z classes.
        learned: See `Factor.embeddings`.

    Example:
        >>> from cfl_edge.core.class_statistics import with_constant
        >>> statistics = ClassStatistics(channels=2, classes=2)
        >>> h = torch.tensor([[0., 0.], [1., 0.], [9., 1.], [8., 0.]])
        >>> statistics.update(h, torch.tensor([0, 0, 1, 1]))
        >>> (with_constant(h) @ label_embeddings(statistics).T).argmax(1)
        tensor([0, 0, 1, 1])
    """
    factor = Factor(statistics).finish()
    return factor.embeddings(statistics.means, statistics.counts, learned=learned)


def bounded(excess: Tensor, squared: Tensor, counts: Tensor) -> Tensor:
    """Take back what a correction would cost classes that have more samples.

    Between class z and k the log likelihood ratio of a sample of k is normal, with mean (-D^2 +
    excess_z - excess_k) / 2 and variance D^2, D being the Mahalanobis distance of the two means.

    Args:
        excess: By how much the squared length of each mean is too long on average, (Z,).
        squared: D^2 of all pairs of classes, (Z, Z).
        counts: Samples, (Z,).

    Returns:
        (Z,), nowhere more than `excess`.
    """
    if not len(counts):
        return excess
    squared = squared.clamp(min=0)
    most = excess + (squared - MARGIN * squared.sqrt()).clamp(min=0)
    most = most.masked_fill(counts <= counts[:, None], math.inf)
    return torch.minimum(excess, most.min(dim=1).values)
