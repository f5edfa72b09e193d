"""Stacks of local layers: the default of streams and the paper's Table 4."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from cfl_edge.core.closed_form import closed_form_parts, features, normalised
from cfl_edge.core.layers import LocalLayer, normalised_conv, normalised_fc, paper_conv, paper_fc
from cfl_edge.core.transformer import transformer_layers
from cfl_edge.errors import UsageError

NO_LAYERS = "none"
KINDS = "conv256, conv512, vit, conv256-in, conv512-in, vgg8b, fc, widths such as 256,256, or 8x64"

# Channels, stride and padding of the convolutions of Table 4.
PAPER_CONVS = {
    "conv256": ((64, 1, 0), (256, 2, 1)),
    "conv512": ((64, 1, 0), (256, 2, 1), (512, 2, 1)),
}
# Units, K and dropout of the two fully connected layers of Table 4, for the data sets named.
PAPER_FCS = {"fc-mnist": (1024, 8, 0.0), "fc": (3072, 24, 0.0), "fc-cifar100": (3072, 12, 0.3)}
# Channels and pooling on the way in of Nokland and Eidnes (2019), VGG8b; a fully connected layer
# of 1024 follows. There, pooling stands behind a layer: here its loss sees it before the pooling.
VGG8B = ((128, 1), (256, 1), (256, 2), (512, 1), (512, 2), (512, 2))


class Network(nn.Module):
    """Layers in order. No gradient crosses from one to the next.

    Args:
        layers: From the input on.
        power: Of the pooled features that predictions read; losses have them as they are. Below 1
            it makes features that are mostly small and seldom large more like Gaussian ones, which
            closed-form embeddings take them for (Tukey's ladder of powers, 1977; with few samples
            Yang et al., "Free Lunch for Few-shot Learning: Distribution Calibration", 2021).

    Example:
        >>> network = build_network("8,16", (3, 12, 12))
        >>> [h_mean.shape for h_mean in network(torch.zeros(2, 3, 12, 12))]
        [torch.Size([2, 8]), torch.Size([2, 16])]
    """

    def __init__(self, layers: Sequence[LocalLayer], power: float = 1.0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.power = power

    def __iter__(self):  # type: ignore[no-untyped-def]
        """Iterate over the layers."""
        return iter(self.layers)

    @property
    def channels(self) -> list[int]:
        """C of each layer."""
        return [layer.channels for layer in self]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the pooled features of every layer as predictions read them, each (N, C_l)."""
        pooled = []
        for layer in self:
            parts = None if torch.is_grad_enabled() else closed_form_parts(layer)
            x = layer(x.detach()) if parts is None else features(parts, normalised(parts, x))
            pooled.append(self.read(layer.pool(x)))
        return pooled

    def read(self, h_mean: Tensor) -> Tensor:
        """Return pooled features as predictions read them: to `power`, with their sign.

        Args:
            h_mean: (N, C_l).

        Example:
            >>> Network([], power=0.5).read(torch.tensor([[0.0, 4.0, -9.0]]))
            tensor([[ 0.,  2., -3.]])
        """
        if self.power == 1:
            return h_mean
        return h_mean.sign() * h_mean.abs().pow(self.power)


def build_network(
    kind: str, input_shape: Sequence[int], *, positions: int | None = None, grid: int = 1
) -> Network:
    """Build the layers that learn.

    Args:
        kind: `conv256`, `conv512`, or `fc` (CIFAR-10), `fc-mnist` and `fc-cifar100` of the paper's
            Table 4; `vit` of Table 6; `conv256-in` and `conv512-in`,
            the same convolutions with normalisation on the way in instead of BatchNorm behind;
            `fc-in` (also `fc-mnist-in`, `fc-cifar100-in`) with LayerNorm on the way into the second
            layer, none behind, so that losses read rectified features;
            `vgg8b`; the widths of convolutions that normalise on the way in, `256,256`, of which
            the second and later ones halve the resolution where it is above 3; `8x64`: 8 of 64
            channels at the full resolution; or `none`.
        input_shape: (C, H, W) of what the first layer reads.
        positions: K of the fully connected layers, instead of Table 4's.
        grid: Of `conv256` and `conv512`, as in `LocalLayer`.

    Raises:
        UsageError: Another `kind`.
    """
    c_in, height, width = input_shape
    paper = PAPER_CONVS.get(kind.removesuffix("-in"))
    if paper is not None:
        layers = []
        for c_out, stride, padding in paper:
            if kind.endswith("-in"):
                layers.append(normalised_conv(c_in, c_out, stride))
            else:
                layers.append(paper_conv(c_in, c_out, stride, padding, grid=grid))
            c_in = c_out
        return Network(layers)
    if kind == NO_LAYERS:
        return Network([])
    if kind.removesuffix("-in") in PAPER_FCS:
        units, k, dropout = PAPER_FCS[kind.removesuffix("-in")]
        sizes = (math.prod(input_shape), units)
        places: Sequence[Literal["in", "out"] | None] = ("out", "out")
        if kind.endswith("-in"):
            places = (None, "in")
        return Network(
            [
                paper_fc(size, units, positions or k, dropout=dropout, normalise=place)
                for size, place in zip(sizes, places, strict=True)
            ]
        )
    if kind == "vit":
        return Network(transformer_layers(input_shape))
    if kind == "vgg8b":
        layers = []
        for c_out, pool in VGG8B:
            layers.append(normalised_conv(c_in, c_out, 1, pool=pool))
            c_in, height, width = c_out, height // pool, width // pool
        if min(height, width) < 2:
            raise UsageError(
                f"--layers vgg8b reads {input_shape[1]}x{input_shape[2]} positions, expected 16 "
                "or more a side",
                hint="--image 32",
            )
        features_in = c_in * (height // 2) * (width // 2)
        return Network([*layers, normalised_fc(features_in, 1024, pool=2)])
    return Network(_equal_layers(kind, c_in) or _halving_layers(kind, c_in, min(height, width)))


def _equal_layers(kind: str, c_in: int) -> list[LocalLayer]:
    """Build the layers of `8x64`; another kind has none."""
    match = re.fullmatch(r"([1-9]\d{0,2})x([1-9]\d*)", kind)
    if match is None:
        return []
    depth, channels = int(match[1]), int(match[2])
    return [normalised_conv(channels if i else c_in, channels, 1) for i in range(depth)]


def _halving_layers(kind: str, c_in: int, size: int) -> list[LocalLayer]:
    """Build the layers of `256,256`."""
    try:
        widths = [int(width) for width in kind.split(",")]
    except ValueError:
        widths = []
    if not widths or min(widths) < 1:
        raise UsageError(f"--layers is {kind!r}, expected {KINDS}", hint="--layers 256,256")
    layers = []
    for i, width in enumerate(widths):
        stride = 2 if i > 0 and size > 3 else 1
        layers.append(normalised_conv(c_in, width, stride))
        c_in, size = width, -(-size // stride)
    return layers


@torch.no_grad()
def initial_embeddings(classes: int, channels: int, generator: torch.Generator) -> Tensor:
    """Draw label embeddings from N(0, 1), as the published code does: (classes, channels)."""
    return torch.randn(classes, channels, generator=generator)
