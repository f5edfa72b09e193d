"""From images to the features that predictions are made of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfl_edge.core.backbones import Backbone
from cfl_edge.core.class_statistics import with_constant
from cfl_edge.core.networks import Network

IntermediatePooling = Literal["mean", "mean-std"]
PooledScale = Literal["raw", "unit"]


@dataclass(frozen=True)
class BackboneReading:
    """How predictions read the frozen backbone.

    Args:
        end: The scale of its pooled end, see `scale_pooled`.
        cut: The pooling of its cut, see `pool_intermediate`.
    """

    end: PooledScale = "raw"
    cut: IntermediatePooling = "mean-std"


def scale_pooled(final: Tensor, scale: PooledScale) -> Tensor:
    """Return the backbone's pooled end as it is, or each sample at the same length.

    How long the features of an image are says little of its class, and hides from few samples what
    does (imprinting: Qi et al., "Low-Shot Learning with Imprinted Weights", 2018; DECISIONS.md,
    "Normalised backbone features").

    Args:
        final: (N, C_E).
        scale: `raw`, or `unit` for a mean square of 1 over the channels.

    Example:
        >>> scale_pooled(torch.tensor([[3.0, 4.0], [6.0, 8.0]]), "unit")
        tensor([[0.8485, 1.1314],
                [0.8485, 1.1314]])
    """
    if scale == "raw":
        return final
    return F.normalize(final, dim=1) * math.sqrt(final.shape[1])


def pool_intermediate(h0: Tensor, pooling: IntermediatePooling) -> Tensor:
    """Pool what the backbone returned at its cut.

    A mean says how much there is of a feature, a deviation whether it is all in one place
    (statistics pooling: Snyder et al., "X-vectors", 2018).

    Args:
        h0: (N, C, H, W).
        pooling: `mean`, or `mean-std` for the standard deviation over the positions as well.

    Returns:
        (N, C) or (N, 2C).

    Example:
        >>> pool_intermediate(torch.tensor([[[[0.0, 2.0]]]]), "mean-std")
        tensor([[1., 1.]])
    """
    mean = h0.mean(dim=(2, 3))
    if pooling == "mean":
        return mean
    deviation = (h0 - mean[:, :, None, None]).square().mean(dim=(2, 3)).sqrt()
    return torch.cat([mean, deviation], dim=1)


def frozen_sources(h0: Tensor, final: Tensor | None, reading: BackboneReading) -> list[Tensor]:
    """Return the pooled features that never change: the backbone's pooled features and its cut.

    Args:
        h0: The backbone's output, (N, C, H, W).
        final: Its pooled end, (N, C_E); None without one, and then nothing is returned.
        reading: Of end and cut.
    """
    if final is None:
        return []
    return [scale_pooled(final, reading.end), pool_intermediate(h0, reading.cut)]


@dataclass(frozen=True)
class Encoded:
    """Images as the layers see them.

    Args:
        images: uint8 (N, image_px, image_px, 3).
        h0: What the first layer reads, (N, C, H, W).
        features: Pooled features of every source, each (N, C_r).
    """

    images: Tensor
    h0: Tensor
    features: list[Tensor]


class FeatureExtractor(nn.Module):
    """Backbone and layers together: what the export holds.

    Args:
        backbone: Frozen.
        network: The layers.
        reading: Of the backbone.
    """

    def __init__(self, backbone: Backbone, network: Network, reading: BackboneReading) -> None:
        super().__init__()
        self.backbone = backbone
        self.network = network
        self.reading = reading

    def sources(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return h0 and the pooled features of every source, for uint8 images (N, H, W, 3)."""
        h0, final = self.backbone(images)
        return h0, self.from_backbone(h0, final)

    def from_backbone(self, h0: Tensor, final: Tensor | None) -> list[Tensor]:
        """Return the pooled features of every source, for what the backbone returned.

        Args:
            h0: The backbone's output, (N, C, H, W).
            final: Its pooled end, (N, C_E); None without one.
        """
        return frozen_sources(h0, final, self.reading) + list(self.network(h0))

    def forward(self, images: Tensor) -> Tensor:
        """Return the concatenated features and a constant 1, (N, F)."""
        return with_constant(torch.cat(self.sources(images)[1], dim=1))
