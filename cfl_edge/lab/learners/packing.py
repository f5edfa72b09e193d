"""One vector for all that a gradient step reads of a sample: h0 and the backbone's own features."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


class Packing:
    """Pack h0 and the features of the frozen sources, and unpack them again.

    The replay memory has one range for the 8 bits of a sample, so the features are brought to the
    range of h0 first, by a factor that the first sample fixes.

    Args:
        h0_shape: (C, H, W).
        frozen: C of each frozen source.

    Example:
        >>> packing = Packing((1, 2, 2), [3])
        >>> packed = packing.pack(torch.full((1, 1, 2, 2), 8.0), [torch.ones(1, 3)])
        >>> packed
        tensor([[8., 8., 8., 8., 8., 8., 8.]])
        >>> h0, (end,) = packing.unpack(packed)
        >>> h0.shape, end
        (torch.Size([1, 1, 2, 2]), tensor([[1., 1., 1.]]))
    """

    def __init__(self, h0_shape: Sequence[int], frozen: Sequence[int]) -> None:
        self.h0_shape, self.frozen = tuple(h0_shape), list(frozen)
        self.factor = 0.0  # no sample yet

    @property
    def size(self) -> int:
        """Length of the vector."""
        return math.prod(self.h0_shape) + sum(self.frozen)

    def pack(self, h0: Tensor, frozen: Sequence[Tensor]) -> Tensor:
        """Return h0 (N, C, H, W) and features (N, C_r) as (N, size), a copy."""
        if not frozen:
            return h0.float().flatten(1).clone()
        features = torch.cat(list(frozen), dim=1).float()
        if not self.factor and len(h0):
            largest = float(features.abs().max())
            self.factor = (float(h0.abs().max()) / largest if largest else 0.0) or 1.0
        return torch.cat([h0.float().flatten(1), features * self.factor], dim=1)

    def unpack(self, packed: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return h0 (N, C, H, W) and the features of each frozen source, (N, C_r)."""
        h0, *frozen = torch.split(packed, [math.prod(self.h0_shape), *self.frozen], dim=1)
        return h0.reshape(-1, *self.h0_shape), [each / self.factor for each in frozen]
