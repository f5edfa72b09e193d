"""From pictures to the features that predictions are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from cfl_edge.core.class_statistics import with_constant
from cfl_edge.core.networks import Network
from cfl_edge.core.stems import Stem

CutPooling = Literal["mean", "mean-std"]


def pool_cut(h0: Tensor, pooling: CutPooling) -> Tensor:
    """Pool what the stem returned at its cut.

    A mean says how much there is of a feature, a deviation whether it is all in one place
    (statistics pooling: Snyder et al., "X-vectors", 2018).

    Args:
        h0: (N, C, H, W).
        pooling: `mean`, or `mean-std` for the standard deviation over the positions as well.

    Returns:
        (N, C) or (N, 2C).

    Example:
        >>> pool_cut(torch.tensor([[[[0.0, 2.0]]]]), "mean-std")
        tensor([[1., 1.]])
    """
    mean = h0.mean(dim=(2, 3))
    if pooling == "mean":
        return mean
    deviation = (h0 - mean[:, :, None, None]).square().mean(dim=(2, 3)).sqrt()
    return torch.cat([mean, deviation], dim=1)


def frozen_sources(h0: Tensor, final: Tensor | None, pooling: CutPooling) -> list[Tensor]:
    """Return the pooled features that never change: the stem's end and its cut.

    Args:
        h0: The stem's output, (N, C, H, W).
        final: Its pooled end, (N, C_E); None without one, and then nothing is returned.
        pooling: Of the cut.
    """
    return [] if final is None else [final, pool_cut(h0, pooling)]


@dataclass(frozen=True)
class Encoded:
    """Pictures as the layers see them.

    Args:
        images: uint8 (N, image_px, image_px, 3).
        h0: What the first layer reads, (N, C, H, W).
        features: Pooled features of every source, each (N, C_r).
    """

    images: Tensor
    h0: Tensor
    features: list[Tensor]


class FeatureExtractor(nn.Module):
    """Stem and layers together: what the export holds.

    Args:
        stem: Frozen.
        network: The layers.
        cut_pooling: Of the stem's cut.
    """

    def __init__(self, stem: Stem, network: Network, cut_pooling: CutPooling) -> None:
        super().__init__()
        self.stem = stem
        self.network = network
        self.cut_pooling = cut_pooling

    def sources(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return h0 and the pooled features of every source, for uint8 pictures (N, H, W, 3)."""
        h0, final = self.stem(images)
        return h0, self.from_stem(h0, final)

    def from_stem(self, h0: Tensor, final: Tensor | None) -> list[Tensor]:
        """Return the pooled features of every source, for what the stem returned.

        Args:
            h0: The stem's output, (N, C, H, W).
            final: Its pooled end, (N, C_E); None without one.
        """
        return frozen_sources(h0, final, self.cut_pooling) + list(self.network(h0))

    def forward(self, images: Tensor) -> Tensor:
        """Return the concatenated features and a constant 1, (N, F)."""
        return with_constant(torch.cat(self.sources(images)[1], dim=1))
