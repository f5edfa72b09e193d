"""Label embeddings of features as they are, in closed form, beside those that gradients move.

The layers' loss needs embeddings that stand still; a prediction wants those that fit the features
as they have become. Class means and one covariance of training images, gathered before an
evaluation, give them without a gradient (`core/class_statistics.py`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cfl_edge.core.class_statistics import ClassStatistics, with_constant
from cfl_edge.core.triangle import triangle_size


class ClosedFormReadout(nn.Module):
    """Class statistics of pooled features, and the scores that follow from them.

    All its numbers are buffers: nothing here is learned by gradients or counted as a parameter.

    Args:
        classes: Z.
        channels: C of the features.

    Example:
        >>> readout = ClosedFormReadout(classes=2, channels=2)
        >>> h = torch.tensor([[0., 0.], [1., 0.], [9., 1.], [8., 0.]])
        >>> readout.update(h, torch.tensor([0, 0, 1, 1]))
        >>> readout.scores(h).argmax(dim=1)
        tensor([0, 0, 1, 1])
    """

    counts: Tensor
    means: Tensor
    scatter: Tensor

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("counts", torch.zeros(classes))
        self.register_buffer("means", torch.zeros(classes, channels))
        self.register_buffer("scatter", torch.zeros(triangle_size(channels)))
        self._solved: tuple[tuple[int, ...], Tensor] | None = None  # for the buffers' versions

    def clear(self) -> None:
        """Forget everything."""
        for numbers in (self.counts, self.means, self.scatter):
            numbers.zero_()

    @torch.no_grad()
    def update(self, h_mean: Tensor, labels: Tensor) -> None:
        """Take in a batch.

        Args:
            h_mean: Pooled features, (N, C).
            labels: Class indices, (N,).
        """
        statistics = self._statistics()
        statistics.update(h_mean, labels)
        self.counts.copy_(statistics.counts)
        self.scatter.copy_(statistics.scatter)

    def scores(self, h_mean: Tensor) -> Tensor:
        """Return log likelihoods up to a term that all classes share, (N, Z).

        Args:
            h_mean: Pooled features, (N, C).
        """
        versions = (self.counts._version, self.means._version, self.scatter._version)
        if self._solved is None or self._solved[0] != versions:
            self._solved = versions, self._statistics().embeddings()
        return with_constant(h_mean) @ self._solved[1].T

    def _statistics(self) -> ClassStatistics:
        """Return the statistics on these buffers; an update changes them in place."""
        statistics = ClassStatistics(self.means.shape[1], self.means.device)
        statistics.counts, statistics.means = self.counts, self.means
        statistics.scatter = self.scatter
        return statistics
