"""Label embeddings in closed form, from class means and one shared covariance.

This is linear discriminant analysis kept up to date sample by sample, as in streaming LDA (Hayes &
Kanan, "Lifelong Machine Learning with Deep Streaming Linear Discriminant Analysis", 2020): a class
is a mean, a new class needs nothing but its first sample, and no gradient is taken.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cfl_edge.core.factor import NEVER, Factor
from cfl_edge.core.triangle import Triangle, triangle_size

__all__ = ["NEVER", "ClassStatistics", "with_constant"]

GATHERED = 32  # rows that are added to the scatter together: each alone would read it all


class ClassStatistics:
    """Running mean of each class and one within-class scatter, of features (N, C).

    The scatter is brought up to date when it is read.

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
        self._scatter = torch.zeros(triangle_size(channels), device=device)  # (C, C), its triangle
        self._gathered: list[Tensor] = []  # (n, C) each, whose products it does not hold yet

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
        places, inverse = torch.unique(
            labels, return_inverse=True
        )  # (K,): only these classes change
        added = torch.bincount(inverse).to(self.counts)
        sums = self.means.new_zeros(len(places), self.means.shape[1])
        batch_means = sums.index_add_(0, inverse, h_mean) / added[:, None]
        within = (h_mean - batch_means[inverse])[added[inverse] > 1]  # one sample is its own mean
        before = self.counts[places]
        total = before + added
        # Two groups of n and m samples: n m / (n + m) times the square of their means' distance.
        weight = (before * added / total).sqrt()[:, None]
        apart = batch_means - self.means[places]
        self._gathered.append(torch.cat([within, (weight * apart)[before > 0]]))
        if sum(map(len, self._gathered)) >= GATHERED:
            self._add_gathered()
        self.means[places] += (added / total)[:, None] * apart
        self.counts[places] = total

    @property
    def scatter(self) -> Tensor:
        """Within-class scatter (C, C) of all samples, its triangle; setting it replaces it."""
        self._add_gathered()
        return self._scatter

    @scatter.setter
    def scatter(self, values: Tensor) -> None:
        self._scatter = values
        self._gathered.clear()

    def _add_gathered(self) -> None:
        if self._gathered:
            rows, self._gathered = torch.cat(self._gathered), []
            Triangle(self._scatter, self.means.shape[1]).add_products(rows)

    def decay(self, factor: float) -> None:
        """Let what was seen so far count `factor` times as much (0 to 1), for moving features."""
        self.counts *= factor
        self.scatter *= factor

    def triangle(self) -> Triangle:
        """Return the within-class scatter, a view of `scatter`."""
        return Triangle(self.scatter, self.means.shape[1])

    def embeddings(self) -> Tensor:
        """Return the label embeddings of all classes, (Z, C + 1), see `Factor.embeddings`."""
        return Factor(self).finish().embeddings(self.means, self.counts)


def with_constant(h_mean: Tensor) -> Tensor:
    """Append the constant 1 that carries the bias of the embeddings: (N, C) to (N, C + 1)."""
    return F.pad(h_mean, (0, 1), value=1.0)
