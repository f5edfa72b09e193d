"""Joint features: what a frozen network sees at many depths, in one vector.

The end of a network knows the things that it was trained on; its early and middle blocks know
edges, parts and where they are, which is what tells things apart that it has never seen. A block is
averaged over the cells of a grid, some of its numbers are taken, and every block has the same
length in every image: how strongly a block responds says more of the light than of the class.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BYTES = 4  # of a number in float32


@dataclass(frozen=True)
class ReadPoint:
    """How the output of a block is read.

    Args:
        cells: It is averaged over a grid of cells x cells; 1 averages over all positions.
        share: Of the numbers that are read in all.
    """

    cells: int
    share: float


class JointFeatures(nn.Module):
    """Read the outputs of several blocks as one vector of about `numbers` numbers.

    Args:
        channels: C of each block that is read.
        points: How each of them is read.
        numbers: How many numbers to read in all, D. A block that has fewer than its share gives
            what it has.

    Example:
        >>> joint = JointFeatures([4, 8], [ReadPoint(2, 0.5), ReadPoint(1, 0.5)], numbers=16)
        >>> joint([torch.rand(3, 4, 6, 6), torch.rand(3, 8, 2, 2)]).shape
        torch.Size([3, 16])
    """

    def __init__(self, channels: Sequence[int], points: Sequence[ReadPoint], numbers: int) -> None:
        super().__init__()
        self.points = list(points)
        self.selected: list[Tensor] = []  # of each block: places among its C * cells^2 numbers
        available = [c * point.cells**2 for c, point in zip(channels, points, strict=True)]
        shares = [point.share for point in points]
        for size, taken in zip(available, _allot(numbers, shares, available), strict=True):
            self.selected.append(torch.arange(taken) * size // taken)

    @property
    def width(self) -> int:
        """D, the numbers that are read."""
        return sum(len(places) for places in self.selected)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return the joint features of the blocks' outputs, each (N, C, H, W), as (N, D)."""
        parts = []
        for x, point, places in zip(maps, self.points, self.selected, strict=True):
            cells = F.adaptive_avg_pool2d(x, point.cells).flatten(1)[:, places.to(x.device)]
            parts.append(F.normalize(cells, dim=1) * math.sqrt(len(places)))
        return torch.cat(parts, dim=1)


def _allot(numbers: int, shares: Sequence[float], most: Sequence[int]) -> list[int]:
    """Divide numbers by shares; what one cannot take goes to the others."""
    allotted = [0] * len(shares)
    full: set[int] = set()
    while len(full) < len(shares):
        rest = numbers - sum(allotted[i] for i in full)
        whole = sum(share for i, share in enumerate(shares) if i not in full)
        over = set()
        for i, share in enumerate(shares):
            if i not in full:
                allotted[i] = max(1, round(rest * share / whole))
                if allotted[i] >= most[i]:
                    allotted[i] = most[i]
                    over.add(i)
        if not over:
            break
        full |= over
    return allotted


def pooling_matrix(height: int, width: int, cells: int) -> Tensor:
    """Return the averages over a grid of cells as a matrix (H * W, cells^2).

    Example:
        >>> pooling_matrix(1, 4, cells=1).flatten()
        tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """
    positions = torch.eye(height * width).view(height * width, 1, height, width)
    return F.adaptive_avg_pool2d(positions, cells).flatten(1)


def numbers_within(statistics_mib: float) -> int:
    """Return how many numbers can be read if the triangle of their covariance has so many MiB.

    Example:
        >>> numbers_within(8), numbers_within(2)
        (2048, 1024)
    """
    return max(1, int(math.sqrt(2 * statistics_mib * 2**20 / BYTES)))
