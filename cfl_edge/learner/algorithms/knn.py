"""The k nearest stored samples vote (Cover and Hart 1967).

By the cosine, as is usual for features of networks (Wu et al., "Unsupervised Feature Learning via
Non-Parametric Instance Discrimination", 2018, Section 3.4). Its memory is that of replay: 8 bits a
value, `replay_mib` in all, balanced over the classes.
"""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from cfl_edge.core.features import Encoded
from cfl_edge.defaults import NEVER
from cfl_edge.learner.algorithms.algorithm import AlgorithmInputs
from cfl_edge.learner.algorithms.frozen import ClassifierAlgorithm, HeldOut
from cfl_edge.learner.replay import Replay

NEIGHBOURS = 3
CLOSENESS_WEIGHT = 0.1  # of the similarity beside a vote: less than one vote for all neighbours
SAME = 0.999  # cosine of a sample and itself, rounded to 8 bits
CHUNK = 1024  # stored samples that are read at a time


def vote_scores(similarities: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return the log of each class's share of the votes; the closer one wins where votes are equal.

    A vote counts 1 and a tenth of (1 + cosine) / 2. Every class has 1 / Z of a vote in advance
    (Laplace), so that the logarithm exists and its softmax is a probability.

    Args:
        similarities: Cosines of the neighbours, (N, k).
        labels: Their class indices, (N, k).
        classes: Z.

    Returns:
        (N, Z)

    Example:
        >>> cosines, labels = torch.tensor([[0.9, 0.8, 0.7]]), torch.tensor([[0, 1, 1]])
        >>> vote_scores(cosines, labels, 3).softmax(1)
        tensor([[0.33, 0.59, 0.08]])
    """
    weights = 1 + CLOSENESS_WEIGHT * (1 + similarities) / 2
    votes = similarities.new_zeros(len(labels), classes).scatter_add_(1, labels, weights)
    return (votes + 1 / classes).log()


def stored_dots(x: Tensor, values: Tensor, ranges: Tensor) -> Tensor:
    """Return the dot products with stored samples: their offset and step apply to the products.

    Args:
        x: (N, C).
        values: uint8 (M, C), of `quantise`.
        ranges: (M, 2), their offsets and steps.

    Returns:
        (N, M)
    """
    low, step = ranges.unbind(1)
    return x @ values.float().T * step + x.sum(dim=1, keepdim=True) * low


@final
class NearestNeighbours(HeldOut, ClassifierAlgorithm):
    """k nearest neighbours among stored features; it has no label embeddings to export.

    Args:
        inputs: What it is built on.

    Raises:
        UsageError: Not even two samples fit into `replay_mib`.
    """

    def __init__(self, inputs: AlgorithmInputs) -> None:
        super().__init__(inputs)
        self.replay = Replay(
            (self.reading.channels,),
            limit_mib=self.config.replay_mib,
            generator=inputs.generator,
            device=self.device,
            bits=8,  # read as they are by `stored_dots`
        )
        self.replay.declare(self.state)

    @property
    def readout(self) -> None:
        """None: a class is its samples."""
        return

    def fit(self, x: Tensor, targets: Tensor, *, hurried: bool) -> None:
        """Store the normalised features, or some of them when the memory is full."""
        self.replay.add(F.normalize(x), targets.tolist())

    def solve(self) -> None:
        """Do nothing: nothing is put off."""

    def _nearest(self, x: Tensor, more: int = 0) -> tuple[Tensor, Tensor]:
        """Return cosines and places of the samples nearest to unit vectors (N, C), in order."""
        stored = len(self.replay)
        values, ranges = self.replay.values[:stored], self.replay.ranges[:stored]
        parts = zip(torch.split(values, CHUNK), torch.split(ranges, CHUNK), strict=True)
        cosines = torch.cat([stored_dots(x, *part) for part in parts], dim=1)  # (N, stored)
        nearest, found = cosines.topk(min(NEIGHBOURS + more, stored), dim=1)
        return nearest, found

    def distances(self, encoded: Encoded) -> Tensor:
        """Return 1 less the cosine of the k-th nearest stored sample, (N,).

        Sun et al., "Out-of-Distribution Detection with Deep Nearest Neighbors", 2022.
        """
        if not len(self.replay):
            return encoded.h0.new_full((len(encoded.h0),), torch.nan)
        return 1 - self._nearest(F.normalize(self.reading.read(encoded)))[0][:, -1]

    def held_out(self, x: Tensor, targets: Tensor, copies: Tensor) -> Tensor:
        """Return the distances by all other stored samples: all that are not the same, (N,)."""
        if not len(self.replay):
            return x.new_zeros(0)
        cosines, _ = self._nearest(F.normalize(x), int(copies.max()))
        order = torch.arange(cosines.shape[1], device=x.device)
        same = ((cosines > SAME) & (order < copies[:, None])).sum(dim=1)  # the nearest ones
        last = same + NEIGHBOURS - 1  # of those that are left
        last = last.clamp(max=cosines.shape[1] - 1)
        distances = 1 - cosines.gather(1, last[:, None])[:, 0]
        return distances.masked_fill(same > last, torch.nan)  # no other one is stored

    def scores(self, encoded: Encoded) -> Tensor:
        """Return the log of each class's share of the votes, (N, Z)."""
        classes = len(self.replay.offered)
        if not len(self.replay):
            return encoded.h0.new_full((len(encoded.h0), classes), NEVER)
        nearest, found = self._nearest(F.normalize(self.reading.read(encoded)))
        labels = torch.tensor(self.replay.labels, device=self.device)
        scores = vote_scores(nearest, labels[found], classes)
        return scores.masked_fill(torch.tensor(self.replay.offered, device=self.device) == 0, NEVER)

    def distance_rows(self) -> None:
        """Return None: its distances are no product."""
        return

    def follow(self) -> None:
        """Do nothing: all that it needs is stored."""
