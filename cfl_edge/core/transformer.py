"""The small vision transformer of the paper's Table 6: each encoder block is a layer of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cfl_edge.core.layers import LocalLayer
from cfl_edge.errors import UsageError

# The paper gives the number of parameters alone, 3.19M: this is a size that comes to it.
DEPTH, CHANNELS, LEARNERS, HIDDEN = 6, 256, 8, 512
PATCHES = 8  # a side: 4x4 pixels each at 32 px


class PatchEmbedding(nn.Module):
    """Cut images into square patches, multiply each, and add where it was.

    Args:
        input_shape: (C, H, W).
        channels: Of a token.

    Example:
        >>> PatchEmbedding((3, 32, 32), 16)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 64, 16])
    """

    def __init__(self, input_shape: Sequence[int], channels: int) -> None:
        super().__init__()
        c_in, height, width = input_shape
        side = min(height, width) // PATCHES
        if side < 1:
            raise UsageError(
                f"The transformer reads {height}x{width} positions, expected {PATCHES} or more",
                hint="a larger --image, or --backbone none --image 32",
            )
        self.project = nn.Conv2d(c_in, channels, side, stride=side)
        tokens = (height // side) * (width // side)
        self.place = nn.Parameter(torch.randn(1, tokens, channels) * 0.02)  # Dosovitskiy et al.

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens, (N, K, C)."""
        tokens: Tensor = self.project(x).flatten(2).transpose(1, 2)
        return tokens + self.place


def transformer_layers(input_shape: Sequence[int]) -> list[LocalLayer]:
    """Build the layers of `vit` (Dosovitskiy et al., "An Image is Worth 16x16 Words", 2021).

    The first layer holds the patch embedding as well. There is no class token: every loss and the
    prediction see the mean over the tokens.

    Args:
        input_shape: (C, H, W).
    """
    layers = []
    for i in range(DEPTH):
        block: nn.Module = nn.TransformerEncoderLayer(
            CHANNELS, LEARNERS, HIDDEN, dropout=0.0, activation="gelu", batch_first=True
        )
        if i == 0:
            block = nn.Sequential(PatchEmbedding(input_shape, CHANNELS), block)
        layers.append(LocalLayer(block, CHANNELS))
    return layers
