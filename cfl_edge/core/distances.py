"""Distances as matrices on the features of all layers: what an export holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cfl_edge.core.class_statistics import with_constant
from cfl_edge.core.discriminant import RelativeDistance


@dataclass(frozen=True, eq=False)
class DistanceRows:
    """A distance as two tensors on concatenated features and a constant 1: what an export holds.

    The distance of x is sum_s min_z (nearest[s, z] . x) + |total x|^2.

    Args:
        nearest: (S, Z, F), S terms.
        total: (K, F); K may be 0.
    """

    nearest: Tensor
    total: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Return the distances of concatenated features (N, F - 1), as (N,)."""
        x = with_constant(x)
        nearest = (x @ self.nearest.mT).amin(dim=2).sum(dim=0)  # (S, N, Z) to (N,)
        return nearest + (x @ self.total.T).square().sum(dim=1)


def spread_distances(
    distances: Sequence[RelativeDistance], channels: Sequence[int], first: int
) -> DistanceRows:
    """Return the sum of the distances in consecutive sources as matrices on all features.

    Args:
        distances: One of each source from `first` on.
        channels: C of every source.
        first: Number of the first source that has one.
    """

    def spread(rows: Tensor, source: int) -> Tensor:
        before, after = sum(channels[:source]), sum(channels[source + 1 :])
        return torch.cat([F.pad(rows[:, :-1], (before, after)), rows[:, -1:]], dim=1)

    numbered = list(enumerate(distances, start=first))
    return DistanceRows(
        torch.stack([spread(distance.nearest, source) for source, distance in numbered]),
        torch.cat([spread(distance.total, source) for source, distance in numbered]),
    )
