"""Layers and linear classifiers that autograd trains.

`bp` and `bp-replay`: one classifier reads all sources, its gradient crosses all layers (Rumelhart,
Hinton, Williams 1986). `layer-bp`: every source has a classifier of its own, whose gradient stays
in the layer (greedy layers as in Belilovsky et al., "Greedy Layerwise Learning Can Scale to
ImageNet", 2019, but all at the same time).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cfl_edge.core.class_statistics import with_constant
from cfl_edge.core.networks import Network

Backward = Callable[[Network, Tensor, Sequence[Tensor], Sequence[Tensor], Tensor], None]


def classifier_loss(x: Tensor, rows: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross entropy of a linear classifier.

    Args:
        x: What it reads, (N, C).
        rows: (Z, C + 1), the last column on a constant 1.
        labels: Class indices, (N,).

    Example:
        >>> float(classifier_loss(torch.ones(1, 2), torch.zeros(2, 3), torch.tensor([1])))
        0.6931
    """
    return F.cross_entropy(with_constant(x) @ rows.T, labels)


def backward_end_to_end(
    network: Network,
    h0: Tensor,
    frozen: Sequence[Tensor],
    rows: Sequence[Tensor],
    labels: Tensor,
) -> None:
    """Send the error of one classifier through all layers: their activations live together.

    Args:
        network: Gets gradients.
        h0: What the first layer reads, (N, C, H, W).
        frozen: Features of the frozen sources, each (N, C_r).
        rows: Of the classifier on all sources; gets gradients.
        labels: Class indices, (N,).
    """
    sources = list(frozen)
    for layer in network:
        h0 = layer(h0)
        sources.append(layer.pool(h0))
    (row,) = rows
    loss = classifier_loss(torch.cat(sources, dim=1), row, labels)
    loss.backward()  # type: ignore[no-untyped-call]


def backward_layer_by_layer(
    network: Network,
    h0: Tensor,
    frozen: Sequence[Tensor],
    rows: Sequence[Tensor],
    labels: Tensor,
) -> None:
    """Send the error of every classifier into its own layer: one layer's activations at a time.

    Arguments are those of `backward_end_to_end`; `rows` are of the classifiers of all sources.
    """
    for x, row in zip(frozen, rows[: len(frozen)], strict=True):
        classifier_loss(x, row, labels).backward()  # type: ignore[no-untyped-call]
    for layer, row in zip(network, rows[len(frozen) :], strict=True):
        h = layer(h0)
        classifier_loss(layer.pool(h), row, labels).backward()  # type: ignore[no-untyped-call]
        h0 = h.detach()


def summed_rows(rows: Sequence[Tensor]) -> Tensor:
    """Return one matrix whose scores are the sum of the classifiers' logits.

    Args:
        rows: Of each classifier, (Z, C_r + 1).

    Returns:
        (Z, C_1 + C_2 + … + 1)
    """
    biases = torch.stack([each[:, -1] for each in rows]).sum(dim=0)
    return torch.cat([*(each[:, :-1] for each in rows), biases[:, None]], dim=1)
