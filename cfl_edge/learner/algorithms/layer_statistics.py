"""Class means and covariance of every layer, while the layers move."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cfl_edge.core.class_statistics import ClassStatistics, with_constant
from cfl_edge.core.discriminant import DistanceRows, relative_distance, spread_distances

if TYPE_CHECKING:
    from cfl_edge.core.networks import Network

LAYERS_SCALE = 0.07  # makes the summed log likelihoods of layers alone probabilities
STATISTICS_DECAY = 0.97  # a step; about the last 1,000 samples count, while the layers move


def known_classes(sources: Sequence[ClassStatistics]) -> Tensor:
    """Return which classes have samples in all layers, bool (Z,)."""
    return torch.stack([source.counts > 0 for source in sources]).all(dim=0)


def take(sources: Sequence[ClassStatistics], features: Sequence[Tensor], targets: Tensor) -> None:
    """Take in samples.

    Args:
        sources: Of each layer.
        features: What predictions read of each, (N, C_l).
        targets: Class indices, (N,).
    """
    for source, of_layer in zip(sources, features, strict=True):
        source.update(of_layer, targets)


def follow_step(
    sources: Sequence[ClassStatistics], features: Sequence[Tensor], targets: Tensor
) -> None:
    """Take in samples of a gradient step, and let what was gathered before it count for less."""
    for source in sources:
        source.decay(STATISTICS_DECAY)
    take(sources, features, targets)


def replace(sources: Sequence[ClassStatistics], estimated: Sequence[ClassStatistics]) -> None:
    """Put in place of the statistics others of the same classes."""
    for source, other in zip(sources, estimated, strict=True):
        source.counts, source.means, source.scatter = other.counts, other.means, other.scatter


@torch.no_grad()
def layer_scores(embeddings: Sequence[Tensor], network: Network, h0: Tensor, chunk: int) -> Tensor:
    """Return the sum of the layers' log likelihoods of all classes, (N, Z).

    Args:
        embeddings: Label embeddings on each layer, (Z, C_l + 1) each.
        network: The layers.
        h0: What the first one reads, (N, C, H, W).
        chunk: Samples that pass the layers at a time.
    """
    rows, scores = [each.T for each in embeddings], []
    for part in torch.split(h0, chunk):
        pooled = zip(network(part), rows, strict=True)
        scores.append(torch.stack([with_constant(h) @ each for h, each in pooled]).sum(dim=0))
    return torch.cat(scores)


def layer_distances(
    sources: Sequence[ClassStatistics], readout: Tensor, channels: Sequence[int]
) -> DistanceRows:
    """Return what gives the sum of the relative distances in all layers.

    Args:
        sources: Of each layer.
        readout: Label embeddings of all layers together, (Z, F).
        channels: C of each layer.
    """
    known = known_classes(sources)
    blocks = torch.split(readout[:, :-1], list(channels), dim=1)
    measured = [
        relative_distance(block / LAYERS_SCALE, source.means, known)
        for block, source in zip(blocks, sources, strict=True)
    ]
    return spread_distances(measured, channels, first=0)
