"""Two ways to train layers with linear classifiers and autograd: end to end, and layer by layer.

`bp` and `bp-replay`: one classifier reads all sources, its gradient crosses all layers (Rumelhart,
Hinton, Williams 1986). `layer-bp`: every source has a classifier of its own, whose gradient stays
in the layer (greedy layers as in Belilovsky et al., "Greedy Layerwise Learning Can Scale to
ImageNet", 2019, but all at the same time).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cfl_edge.core.class_statistics import with_constant
from cfl_edge.core.networks import Network


@dataclass(frozen=True)
class Training:
    """What one of the two does with the layers.

    Args:
        pooled: Network and h0 to the pooled features of each layer, each (N, C_l).
        together: One classifier on all sources; otherwise one on each.
    """

    pooled: Callable[[Network, Tensor], list[Tensor]]
    together: bool

    def reads(self, sources: Sequence[Tensor]) -> list[Tensor]:
        """Return what each classifier reads of the sources (N, C_r)."""
        return [torch.cat(list(sources), dim=1)] if self.together else list(sources)


def pooled_end_to_end(network: Network, h0: Tensor) -> list[Tensor]:
    """Return the pooled features of every layer with the graph back to the first one."""
    pooled = []
    for layer in network:
        h0 = layer(h0)
        pooled.append(layer.pool(h0))
    return pooled


def pooled_layer_by_layer(network: Network, h0: Tensor) -> list[Tensor]:
    """Return the pooled features of every layer; no graph crosses a layer's input."""
    pooled: list[Tensor] = network(h0)
    return pooled


def classifier_loss(reads: Sequence[Tensor], rows: Sequence[Tensor], labels: Tensor) -> Tensor:
    """Return the sum of the classifiers' cross entropies, each a mean over the batch.

    Args:
        reads: What each classifier reads, (N, C_r).
        rows: Of each classifier, (Z, C_r + 1).
        labels: Class numbers, (N,).

    Example:
        >>> float(classifier_loss([torch.ones(1, 2)], [torch.zeros(2, 3)], torch.tensor([1])))
        0.6931
    """
    losses = [
        F.cross_entropy(with_constant(x) @ each.T, labels)
        for x, each in zip(reads, rows, strict=True)
    ]
    return torch.stack(losses).sum()


def summed_rows(rows: Sequence[Tensor]) -> Tensor:
    """Return one matrix whose scores are the sum of the classifiers' logits.

    Args:
        rows: Of each classifier, (Z, C_r + 1).

    Returns:
        (Z, C_1 + C_2 + … + 1)
    """
    biases = torch.stack([each[:, -1] for each in rows]).sum(dim=0)
    return torch.cat([*(each[:, :-1] for each in rows), biases[:, None]], dim=1)


END_TO_END = Training(pooled_end_to_end, together=True)
LAYER_BY_LAYER = Training(pooled_layer_by_layer, together=False)
