"""A layer that learns by itself: a block of modules and the pooling that its loss reads."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LocalLayer(nn.Module):
    """One f^l of the paper: any block, whose output is read as C channels at K positions.

    Args:
        block: Maps (N, ...) to (N, C, H, W), to (N, K, C) for tokens, or to (N, C * K) for a fully
            connected layer.
        channels: C.
        grid: Side of the grid that a map is averaged to; above 1, the loss sees where in the
            image something is, and every cell of the grid has channels of its own. For maps only.

    Example:
        >>> import torch
        >>> layer = LocalLayer(nn.Linear(6, 8), channels=4)
        >>> layer.pool(layer(torch.zeros(2, 6))).shape
        torch.Size([2, 4])
    """

    def __init__(self, block: nn.Module, channels: int, *, grid: int = 1) -> None:
        super().__init__()
        self.block = block
        self.channels = channels * grid**2
        self.grid = grid

    def forward(self, x: Tensor) -> Tensor:
        """Return the features h of the layer; the caller detaches what it hands to the next."""
        h: Tensor = self.block(x)
        return h

    def pool(self, h: Tensor) -> Tensor:
        """Average features over the K positions: h-bar, (N, C); with a grid (N, C * grid^2)."""
        if self.grid > 1:
            return F.adaptive_avg_pool2d(h, self.grid).flatten(1)
        if h.ndim == 4:  # (N, C, H, W)
            return h.mean(dim=(2, 3))
        if h.ndim == 3:  # (N, K, C)
            return h.mean(dim=1)
        return torch.unflatten(h, 1, (self.channels, -1)).mean(dim=2)  # (N, C, K) to (N, C)


def normalised_conv(c_in: int, c_out: int, stride: int, *, pool: int = 1) -> LocalLayer:
    """Normalise a sample on the way in, then convolve 3x3 and rectify.

    No gradient crosses a layer's input, so this normalisation costs no backward pass, and it needs
    no statistics of a batch: it is the same for a single frame.

    Args:
        c_in: Channels of the input.
        c_out: C.
        stride: Of the convolution.
        pool: Side of the squares whose largest value is taken on the way in; 1 for none.
    """
    block = nn.Sequential(
        *_pooling(pool),
        nn.GroupNorm(1, c_in, affine=False),  # over C, H and W of a sample
        nn.Conv2d(c_in, c_out, 3, stride, padding=1),
        nn.ReLU(inplace=True),
    )
    return LocalLayer(block, c_out)


def normalised_fc(features_in: int, features_out: int, *, pool: int = 1) -> LocalLayer:
    """Flatten and normalise a sample on the way in, then multiply and rectify; K is 1.

    Args:
        features_in: Length of the flattened input.
        features_out: C.
        pool: As in `normalised_conv`.
    """
    block = nn.Sequential(
        *_pooling(pool),
        nn.Flatten(),
        nn.LayerNorm(features_in, elementwise_affine=False),
        nn.Linear(features_in, features_out),
        nn.ReLU(inplace=True),
    )
    return LocalLayer(block, features_out)


def _pooling(side: int) -> list[nn.Module]:
    return [nn.MaxPool2d(side)] if side > 1 else []


def paper_conv(c_in: int, c_out: int, stride: int, padding: int, *, grid: int = 1) -> LocalLayer:
    """Convolve 3x3 without bias, normalise over the batch, rectify (Table 4, conv nets).

    Args:
        c_in: Channels of the input.
        c_out: C.
        stride: Of the convolution.
        padding: Of the convolution.
        grid: As in `LocalLayer`.
    """
    block = nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, stride, padding, bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU(inplace=True),
    )
    return LocalLayer(block, c_out, grid=grid)


def paper_fc(
    features_in: int,
    features_out: int,
    positions: int,
    *,
    dropout: float = 0.0,
    normalise: Literal["in", "out"] | None = "out",
) -> LocalLayer:
    """Flatten, multiply, rectify, drop out, normalise each sample (Table 4, FC).

    Args:
        features_in: Length of the flattened input.
        features_out: C * K.
        positions: K.
        dropout: Share of the features that a step leaves out (CIFAR-100: 0.3).
        normalise: Whether LayerNorm is on the way `in` or `out`; None for none. The loss reads
            rectified features where the next layer normalises them.
    """
    block = nn.Sequential(
        nn.Flatten(),
        *([nn.LayerNorm(features_in)] if normalise == "in" else []),
        nn.Linear(features_in, features_out),
        nn.ReLU(inplace=True),
        *([nn.Dropout(dropout)] if dropout else []),
        *([nn.LayerNorm(features_out)] if normalise == "out" else []),
    )
    return LocalLayer(block, features_out // positions)
