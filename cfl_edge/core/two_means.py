"""Two groups among samples: the two means that the samples lie closest to."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

STARTS = 8  # the best of so many; few samples and two groups seldom need more than one
ROUNDS = 100  # of each start, at most: it ends by itself, mostly within ten


class TwoGroups(NamedTuple):
    """A division of N samples.

    Args:
        smaller: Whether a sample is in the group with fewer samples, bool (N,).
        means: Of the larger and the smaller group, (2, C).
        apart: Share of the samples' variance that lies between the groups, 0 to 1.
    """

    smaller: Tensor
    means: Tensor
    apart: float


def two_means(x: Tensor, seed: int = 0) -> TwoGroups | None:
    """Divide samples so that the squared distances to their group's mean add up to the least.

    Lloyd's rounds (1982) from starts of k-means++ (Arthur and Vassilvitskii 2007), the best of
    `STARTS`: nearly always the least there is. The same seed gives the same groups.

    Args:
        x: (N, C).
        seed: Of the starts.

    Returns:
        The groups; None where no two samples differ.

    Example:
        >>> groups = two_means(torch.tensor([[0.0], [9.0], [0.5], [0.2]]))
        >>> groups.smaller.tolist(), groups.means.flatten()
        ([False, True, False, False], tensor([0.2333, 9.0000]))
    """
    x = x.double()
    total = float((x - x.mean(dim=0)).square().sum())
    if not len(x) or not bool((x != x[0]).any()):
        return None
    generator = torch.Generator().manual_seed(seed)
    least, best = total, None
    for _ in range(STARTS):
        second = _lloyd(x, generator)
        within = sum(float((x[g] - x[g].mean(dim=0)).square().sum()) for g in (second, ~second))
        if best is None or within < least:
            least, best = within, second
    assert best is not None
    smaller = best if 2 * int(best.sum()) <= len(x) else ~best
    means = torch.stack([x[~smaller].mean(dim=0), x[smaller].mean(dim=0)])
    return TwoGroups(smaller, means.float(), 1 - least / total)


def _lloyd(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return which samples are in the second group after the rounds of one start, bool (N,)."""
    first = x[int(torch.randint(len(x), (1,), generator=generator))]
    distances = (x - first).square().sum(dim=1).cpu()
    second = x[int(torch.multinomial(distances, 1, generator=generator))]
    groups = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for _ in range(ROUNDS):
        closer = (x - second).square().sum(dim=1) < (x - first).square().sum(dim=1)
        if (closer == groups).all():
            break
        groups = closer
        first, second = x[~groups].mean(dim=0), x[groups].mean(dim=0)
    return groups
