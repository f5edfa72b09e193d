"""Backpropagation layer by layer, the learner `layer-bp`.

Every source has a classifier of its own, whose gradient stays in the layer (greedy layers as in
Belilovsky et al., "Greedy Layerwise Learning Can Scale to ImageNet", 2019, but all at the same
time).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from cfl_edge.core.networks import Network
from cfl_edge.learner.algorithms.algorithm import Algorithm, AlgorithmInputs
from cfl_edge.learner.algorithms.backpropagation import classifier_loss
from cfl_edge.learner.algorithms.gradient import GradientAlgorithm


def backward_layer_by_layer(
    network: Network,
    h0: Tensor,
    frozen: Sequence[Tensor],
    rows: Sequence[Tensor],
    labels: Tensor,
) -> None:
    """Send the error of every classifier into its own layer: one layer's activations at a time.

    Args:
        network: Gets gradients.
        h0: What the first layer reads, (N, C, H, W).
        frozen: Features of the frozen sources, each (N, C_r).
        rows: Of the classifiers of all sources; get gradients.
        labels: Class indices, (N,).
    """
    for x, row in zip(frozen, rows[: len(frozen)], strict=True):
        classifier_loss(x, row, labels).backward()  # type: ignore[no-untyped-call]
    for layer, row in zip(network, rows[len(frozen) :], strict=True):
        h = layer(h0)
        classifier_loss(layer.pool(h), row, labels).backward()  # type: ignore[no-untyped-call]
        h0 = h.detach()


def build(inputs: AlgorithmInputs) -> Algorithm:
    """Build `layer-bp`."""
    return GradientAlgorithm(inputs, backward_layer_by_layer, together=False)
