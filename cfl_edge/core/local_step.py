"""The reference local step: autograd on one layer whose input is cut off.

The layer's graph lives from its forward pass to its backward pass, a few lines later; then its
features go on without it. So the activations of one layer exist at a time.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cfl_edge.core.layers import LocalLayer
from cfl_edge.core.losses import LocalLoss

Step = Generator[None, None, tuple[Tensor, Tensor, Tensor]]


@dataclass(frozen=True)
class LocalTraining:
    """How the layers of a network take a step.

    Args:
        loss: Eq. 10, over all N samples whatever the chunk is.
        chunk: Samples that pass a layer at a time; None chooses a fast number for each layer. The
            result does not depend on it beyond rounding, the memory does.
        recompute: Keep no features of the batch between the layers: every chunk passes all layers
            twice, once for the losses, once for the gradients. Memory is that of a chunk then,
            however large the batch is; the gradients of all layers exist at once.
        closed_form: False takes autograd for every layer.
        bfloat16: Compute the products of the layers in bfloat16, see `multiplies_bfloat16`.
            Losses, weights, their gradients and what the optimizers store stay as they are.
        generator: Source of the noise on the embeddings.
    """

    loss: LocalLoss = field(default_factory=LocalLoss)
    chunk: int | None = None
    recompute: bool = False
    closed_form: bool = True
    bfloat16: bool = False
    generator: torch.Generator | None = None


def local_step(
    layer: LocalLayer,
    x: Tensor,
    labels: Tensor,
    embeddings: Tensor,
    how: LocalTraining,
) -> tuple[Tensor, Tensor, Tensor]:
    """Leave the gradients of the layer's own loss in its parameters.

    Args:
        layer: The only module that gets gradients.
        x: What the layer reads, (N, ...); no gradient reaches it.
        labels: Class indices, (N,).
        embeddings: D_l, (Z, C_D); gets a gradient if it asks for one.
        how: Its loss and generator count.

    Returns:
        h: Features of the layer, detached.
        h_mean: Its pooled features, (N, C), detached, in the precision of the embeddings.
        value: The loss, a scalar, detached.
    """
    h = layer(x.detach())
    h_mean = layer.pool(h).to(embeddings.dtype)
    value = how.loss(h_mean, labels, embeddings, how.generator)
    value.backward()  # type: ignore[no-untyped-call]
    return h.detach(), h_mean.detach(), value.detach()
