"""Stacks of local layers: the default of streams and the paper's Table 4."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cfl_edge.core.layers import LocalLayer, normalised_conv, paper_conv, paper_fc
from cfl_edge.errors import UsageError

LAYERS_WITH_STEM = "256,256"  # two layers on the stem's features
LAYERS_WITHOUT_STEM = "conv256"
KINDS = "conv256, conv512, fc, or widths such as 256,256"


class Network(nn.Module):
    """Layers in order. No gradient crosses from one to the next.

    Args:
        layers: From the input on.

    Example:
        >>> network = build_network("8,16", (3, 12, 12))
        >>> [h_mean.shape for h_mean in network(torch.zeros(2, 3, 12, 12))]
        [torch.Size([2, 8]), torch.Size([2, 16])]
    """

    def __init__(self, layers: Sequence[LocalLayer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def __iter__(self):  # type: ignore[no-untyped-def]
        """Iterate over the layers."""
        return iter(self.layers)

    @property
    def channels(self) -> list[int]:
        """C of each layer."""
        return [layer.channels for layer in self]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the pooled features of every layer, each (N, C_l)."""
        pooled = []
        for layer in self:
            x = layer(x.detach())
            pooled.append(layer.pool(x))
        return pooled


def build_network(kind: str, input_shape: Sequence[int]) -> Network:
    """Build the layers that learn.

    Args:
        kind: `conv256`, `conv512` or `fc` of the paper's Table 4, or the widths of convolutions
            that normalise on the way in: `256,256`. The second and later ones halve the resolution
            where it is above 3.
        input_shape: (C, H, W) of what the first layer reads.

    Raises:
        UsageError: `kind` is none of these.
    """
    c_in = input_shape[0]
    if kind == "conv256":
        return Network([paper_conv(c_in, 64, 1, 0), paper_conv(64, 256, 2, 1)])
    if kind == "conv512":
        return Network(
            [paper_conv(c_in, 64, 1, 0), paper_conv(64, 256, 2, 1), paper_conv(256, 512, 2, 1)]
        )
    if kind == "fc":
        return Network([paper_fc(math.prod(input_shape), 3072, 24), paper_fc(3072, 3072, 24)])
    try:
        widths = [int(width) for width in kind.split(",")]
    except ValueError:
        widths = []
    if not widths or min(widths) < 1:
        raise UsageError(f"--layers is {kind!r}, expected {KINDS}", hint="--layers 256,256")
    layers, size = [], min(input_shape[1:])
    for i, width in enumerate(widths):
        stride = 2 if i > 0 and size > 3 else 1
        layers.append(normalised_conv(c_in, width, stride))
        c_in, size = width, -(-size // stride)
    return Network(layers)


@torch.no_grad()
def initial_embeddings(classes: int, channels: int, generator: torch.Generator) -> Tensor:
    """Draw label embeddings from N(0, 1), as the published code does: (classes, channels)."""
    return torch.randn(classes, channels, generator=generator)
