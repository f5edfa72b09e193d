"""Label embeddings in closed form, from class means and one shared covariance.

This is linear discriminant analysis kept up to date sample by sample, as in streaming LDA (Hayes &
Kanan, "Lifelong Machine Learning with Deep Streaming Linear Discriminant Analysis", 2020): a class
is a mean, a new class needs nothing but its first sample, and no gradient is taken.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cfl_edge.core.low_rank import LowRank
from cfl_edge.core.triangle import Triangle, outside_heap, triangle_size
from cfl_edge.defaults import NEVER

MOST_SAMPLES = 1 << 23  # of a class: its mean hardly moves, and at 2^24 a float32 count stops
GATHERED = 32  # rows that are added to the scatter together: each alone would read it all
FEW_OF = 8  # the first C / 8 rows are stored as they are: a factor of few takes a tenth of the time


class ClassStatistics:
    """Running mean of each class and one within-class scatter, of features (N, C).

    The scatter is brought up to date when it is read.

    Args:
        channels: C.
        device: Where the sums are stored.
        classes: Z, without samples yet.

    Example:
        >>> statistics = ClassStatistics(channels=2, classes=2)
        >>> h = torch.tensor([[0., 0.], [1., 0.], [9., 1.], [8., 0.]])
        >>> statistics.update(h, torch.tensor([0, 0, 1, 1]))
        >>> statistics.means
        tensor([[0.5000, 0.0000],
                [8.5000, 0.5000]])
    """

    def __init__(
        self, channels: int, device: torch.device | str = "cpu", *, classes: int = 0
    ) -> None:
        self.counts = torch.zeros(classes, device=device)  # (Z,)
        self.means = torch.zeros(classes, channels, device=device)  # (Z, C)
        size = triangle_size(channels)
        self._scatter = outside_heap(size, torch.float32, device)  # (C, C), its triangle
        self._gathered: list[Tensor] = []  # (n, C) each, whose products it does not hold yet
        self._is_few = True  # it holds none yet
        self._few = max(GATHERED, channels // FEW_OF)  # so many are stored as they are
        self._folded = 0  # panels of the scatter that hold the products of these

    def grow(self, classes: int) -> None:
        """Append classes without samples until there are so many."""
        more = classes - len(self.counts)
        self.counts, self.means = F.pad(self.counts, (0, more)), F.pad(self.means, (0, 0, 0, more))

    def update(self, h_mean: Tensor, labels: Tensor) -> None:
        """Take in a batch; the same result as sample by sample, in any order.

        Args:
            h_mean: (N, C).
            labels: Class indices, (N,).
        """
        h_mean = h_mean.detach()
        has_room = self.counts[labels] < MOST_SAMPLES
        if not has_room.all():  # the scatter would grow on, without its count
            h_mean, labels = h_mean[has_room], labels[has_room]
            if not len(labels):
                return
        batch_means, within = h_mean, h_mean[:0]  # one sample is its own mean
        places, added = labels, torch.ones_like(self.counts[:1])  # (K,): only these classes change
        if len(labels) != 1:
            places, inverse = torch.unique(labels, return_inverse=True)
            added = torch.bincount(inverse).to(self.counts)
            sums = self.means.new_zeros(len(places), self.means.shape[1])
            batch_means = sums.index_add_(0, inverse, h_mean) / added[:, None]
            within = (h_mean - batch_means[inverse])[added[inverse] > 1]
        before = self.counts[places]
        total = before + added
        # Two groups of n and m samples: n m / (n + m) times the square of their means' distance.
        weight = (before * added / total).sqrt()[:, None]
        apart = batch_means - self.means[places]
        self._gathered.append(torch.cat([within, (weight * apart)[before > 0]]))
        rows = sum(map(len, self._gathered))
        if self._is_few:
            self._fold(rows - self._few)
        elif rows >= GATHERED:
            self._add_gathered()
        self.means[places] += (added / total)[:, None] * apart
        self.counts[places] = total

    @property
    def scatter(self) -> Tensor:
        """Within-class scatter (C, C) of all samples, its triangle; setting it replaces it.

        A copy while there are few samples.
        """
        rows = self.rows
        if rows is None:
            self._add_gathered()
        if rows is None or not len(rows):
            return self._scatter
        channels = self.means.shape[1]
        size, like = triangle_size(channels), self._scatter
        triangle = Triangle(outside_heap(size, like.dtype, like.device), channels)
        triangle.add_products(rows)
        return triangle.values

    @scatter.setter
    def scatter(self, values: Tensor) -> None:
        self._scatter, self._is_few = values, False
        self._gathered.clear()

    @property
    def rows(self) -> Tensor | None:
        """Rows (n, C) whose products are the scatter; None for more than a few samples.

        Setting it replaces the scatter.

        Raises:
            ValueError: Set to rows of another width.
        """
        if not self._is_few:
            return None
        if len(self._gathered) != 1:
            self._gathered = [torch.cat([self.means[:0], *self._gathered])]
        return self._gathered[0]

    @rows.setter
    def rows(self, rows: Tensor | None) -> None:
        if rows is None:
            return
        channels = self.means.shape[1]
        if rows.ndim != 2 or rows.shape[1] != channels:
            raise ValueError(f"rows have shape {tuple(rows.shape)}, expected (n, {channels})")
        like = self._scatter
        self._scatter = outside_heap(len(like), like.dtype, like.device)
        self._gathered, self._is_few, self._folded = [rows], True, 0

    def _fold(self, panels: int) -> None:
        """Have the products of the first few rows in so many panels of the scatter, at least.

        Each row beyond them asks for one more panel: no sample waits for the whole scatter. Until
        it is complete the rows are what is read.
        """
        triangle = Triangle(self._scatter, self.means.shape[1])
        if panels <= self._folded or not self._is_few or (rows := self.rows) is None:
            return
        triangle.add_products(rows[: self._few], slice(self._folded, panels))
        self._folded = panels
        if panels >= len(triangle.panels):
            self._gathered, self._is_few = [rows[self._few :]], False

    def _add_gathered(self) -> None:
        triangle = Triangle(self._scatter, self.means.shape[1])
        self._fold(len(triangle.panels))
        if self._gathered:
            rows, self._gathered = torch.cat(self._gathered), []
            triangle.add_products(rows)

    def decay(self, factor: float) -> None:
        """Let what was seen so far count `factor` times as much (0 to 1), for moving features."""
        self.counts *= factor
        self._add_gathered()
        self._scatter *= factor

    def triangle(self) -> Triangle:
        """Return the within-class scatter, a view of it."""
        self._add_gathered()
        return Triangle(self._scatter, self.means.shape[1])

    def within(self) -> Triangle | LowRank:
        """Return the within-class scatter in the form that is factorised sooner."""
        rows = self.rows
        return self.triangle() if rows is None else LowRank(rows)


def with_constant(h_mean: Tensor) -> Tensor:
    """Append the constant 1 that carries the bias of the embeddings: (N, C) to (N, C + 1)."""
    return F.pad(h_mean, (0, 1), value=1.0)


def silenced(rows: Tensor, known: Tensor) -> Tensor:
    """Return rows (Z, C + 1) in which a class that is not known, (Z,), is never predicted.

    Example:
        >>> silenced(torch.ones(2, 3), torch.tensor([True, False])).tolist()
        [[1.0, 1.0, 1.0], [0.0, 0.0, -10000.0]]
    """
    rows = rows.masked_fill(~known[:, None], 0)
    rows[~known, -1] = NEVER
    return rows
