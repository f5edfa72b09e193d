"""From pictures to the features that predictions are made of."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cfl_edge.core.class_statistics import with_constant
from cfl_edge.core.networks import Network
from cfl_edge.core.stems import Stem


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
    """

    def __init__(self, stem: Stem, network: Network) -> None:
        super().__init__()
        self.stem = stem
        self.network = network

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
        frozen = [] if final is None else [final, h0.mean(dim=(2, 3))]
        return frozen + list(self.network(h0))

    def forward(self, images: Tensor) -> Tensor:
        """Return the concatenated features and a constant 1, (N, F)."""
        return with_constant(torch.cat(self.sources(images)[1], dim=1))
