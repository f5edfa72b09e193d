"""From images to the features that predictions are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfl_edge.core.class_statistics import with_constant
from cfl_edge.core.joint import JointFeatures
from cfl_edge.core.networks import Network

PooledScale = Literal["raw", "unit"]


class FrozenNetwork(Protocol):
    """A backbone, whoever computes it.

    Attributes:
        name: What it was asked for by.
        widths: C_E, the pooled features of its end, and D, its joint features; empty without a
            network.
    """

    name: str
    widths: list[int]

    @property
    def joint(self) -> JointFeatures | None:
        """How its joint features are read; None without a network, and where that is not known."""
        ...

    def __call__(self, images: Tensor, /) -> tuple[Tensor, Tensor | None]:
        """Turn uint8 images (N, H, W, 3) into `(h0, final)`, see `Backbone`."""
        ...

    def digest(self) -> str:
        """Return what tells its weights from others."""
        ...


def scale_pooled(final: Tensor, scale: PooledScale) -> Tensor:
    """Return the backbone's pooled features as they are, or each sample at the same length.

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


def frozen_sources(final: Tensor | None, widths: Sequence[int], scale: PooledScale) -> list[Tensor]:
    """Return what never changes: the backbone's pooled features and its joint features.

    Args:
        final: What predictions read of the backbone, (N, C_E + D); None without a network, and
            then nothing is returned.
        widths: C_E and D.
        scale: Of the pooled features, see `scale_pooled`.
    """
    if final is None:
        return []
    end, joint = torch.split(final, list(widths), dim=1)
    return [scale_pooled(end, scale), joint]


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
        scale: Of the backbone's pooled features, see `scale_pooled`.
    """

    def __init__(
        self, backbone: FrozenNetwork, network: Network, scale: PooledScale = "raw"
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.network = network
        self.scale = scale

    def sources(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return h0 and the pooled features of every source, for uint8 images (N, H, W, 3)."""
        h0, final = self.backbone(images)
        return h0, self.from_backbone(h0, final)

    def from_backbone(self, h0: Tensor, final: Tensor | None) -> list[Tensor]:
        """Return the pooled features of every source, for what the backbone returned.

        Args:
            h0: The backbone's output, (N, C, H, W).
            final: What predictions read of it, (N, C_E + D); None without a network.
        """
        return self.frozen(final) + list(self.network(h0))

    def frozen(self, final: Tensor | None) -> list[Tensor]:
        """Return the sources that never change, see `frozen_sources`."""
        return frozen_sources(final, self.backbone.widths, self.scale)

    def forward(self, images: Tensor) -> Tensor:
        """Return the concatenated features and a constant 1, (N, F)."""
        return with_constant(torch.cat(self.sources(images)[1], dim=1))
