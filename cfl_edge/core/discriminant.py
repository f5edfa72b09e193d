"""How far a sample lies from every class, in the space that tells the classes apart.

The relative Mahalanobis distance (Ren et al., "A Simple Fix to Mahalanobis Distance for Improving
Near-OOD Detection", 2021): the distance to the nearest class mean under the covariance within
classes, less the distance to the mean of all under the total covariance. The two differ only within
the span of the class means (Woodbury), so both are taken there: Z - 1 directions instead of C, and
no matrix to invert beyond those that label embeddings have solved.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from cfl_edge.core.class_statistics import with_constant
from cfl_edge.defaults import NEVER_NEAREST

SMALLEST_SHARE = 1e-6  # of the largest variance between classes: what is below is rounding


@dataclass(frozen=True, eq=False)
class DistanceRows:
    """A distance as two tensors on features and a constant 1: what an export holds.

    The distance of x is sum_s min_z (nearest[s, z] . x) + |total x|^2: the quadratic term that all
    classes share stands apart, so what is left of each class is linear.

    Args:
        nearest: A row of each class in each of S terms, (S, Z, F).
        total: A row of each direction between the classes, (K, F); K may be 0.
    """

    nearest: Tensor
    total: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Return the distances of features (N, F - 1), as (N,); negative where a class is near."""
        x = with_constant(x)
        nearest = (x @ self.nearest.mT).amin(dim=2).sum(dim=0)  # (S, N, Z) to (N,)
        return nearest + (x @ self.total.T).square().sum(dim=1)


def relative_distance(rows: Tensor, means: Tensor, known: Tensor) -> DistanceRows:
    """Return the relative Mahalanobis distance, one term, all classes equally likely.

    With y the features, whitened by the covariance S within classes and projected on the directions
    between the class means, m_z the class means there and B their covariance, it is min_z |y -
    m_z|^2 - y^T (I + B)^-1 y. With the products of the means M S^-1 M^T = A D A^T, the coordinates
    are y = D^-1/2 A^T M S^-1 (x - centre), and B is D / Z.

    Args:
        rows: M S^-1, the label embeddings without bias, (Z, C); what all rows share does not count.
        means: M, (Z, C).
        known: Which classes have samples, bool (Z,).

    Example:
        >>> means = torch.tensor([[4.0, 0.0], [-4.0, 0.0]])  # S is the identity
        >>> distance = relative_distance(means, means, torch.tensor([True, True]))
        >>> distance(torch.tensor([[4.0, 0.0], [0.0, 0.0], [9.0, 0.0]]))
        tensor([-0.9412, 16.0000, 20.2353])
    """
    nearest = rows.new_zeros(len(rows), rows.shape[1] + 1)
    nearest[:, -1] = NEVER_NEAREST
    if not known.any():
        return DistanceRows(nearest[None], rows.new_zeros(0, rows.shape[1] + 1))
    solved, apart = rows[known].double(), means[known].double()
    solved, centre = solved - solved.mean(dim=0), apart.mean(dim=0)
    products = (apart - centre) @ solved.T
    products = (products + products.T) / 2
    # (Z, C + 1): their products with (x, 1) are (M - centre) S^-1 (x - centre)
    solved = torch.cat([solved, -(solved @ centre)[:, None]], dim=1)
    values, vectors = torch.linalg.eigh(products)
    large = values > max(SMALLEST_SHARE * float(values.max()), 0.0)
    values, vectors = values[large], vectors[:, large]
    between = values / len(products)
    scale = (between / (1 + between) / values).sqrt()  # (K,)
    nearest_known = -2 * solved
    nearest_known[:, -1] += products.diagonal()
    nearest[known] = nearest_known.to(rows)
    return DistanceRows(nearest[None], ((vectors * scale).T @ solved).to(rows))


@final
class GrowingDistance:
    """A relative distance to which classes are added as they are.

    What is common to all classes stays as it was: a new one adds to it little of many.

    Args:
        rows: Label embeddings without bias, (Z, C).
        means: (Z, C).
        known: Which classes have samples, bool (Z,).

    Attributes:
        distance: As it is now.
    """

    def __init__(self, rows: Tensor, means: Tensor, known: Tensor) -> None:
        self.distance = relative_distance(rows, means, known)
        self._centre, self._mean_row = means[known].mean(dim=0), rows[known].mean(dim=0)

    def renew(self, rows: Tensor, means: Tensor, places: Tensor) -> None:
        """Put in some classes, new ones among them.

        Args:
            rows: As given at first, of all classes.
            means: The same.
            places: Which classes have changed, (K,).
        """
        (nearest,) = self.distance.nearest
        added = len(rows) - len(nearest)
        nearest = F.pad(nearest, (0, 0, 0, added))
        nearest[len(nearest) - added :, -1] = NEVER_NEAREST
        solved = rows[places] - self._mean_row
        nearest[places, :-1] = -2 * solved
        nearest[places, -1] = (solved * (means[places] + self._centre)).sum(dim=1)
        self.distance = dataclasses.replace(self.distance, nearest=nearest[None])


def spread_distances(
    distances: Sequence[DistanceRows], channels: Sequence[int], first: int
) -> DistanceRows:
    """Return the sum of the distances in consecutive sources as matrices on all features.

    Args:
        distances: One of each source from `first` on.
        channels: C of every source.
        first: Number of the first source that has one.
    """

    def spread(rows: Tensor, source: int) -> Tensor:
        before, after = sum(channels[:source]), sum(channels[source + 1 :])
        return torch.cat([F.pad(rows[..., :-1], (before, after)), rows[..., -1:]], dim=-1)

    numbered = list(enumerate(distances, start=first))
    return DistanceRows(
        torch.cat([spread(distance.nearest, source) for source, distance in numbered]),
        torch.cat([spread(distance.total, source) for source, distance in numbered]),
    )
