"""The reference local step: autograd on one layer whose input is cut off.

The layer's graph lives from its forward pass to its backward pass, a few lines later; then its
features go on without it. So the activations of one layer exist at a time.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cfl_edge.core.layers import LocalLayer
from cfl_edge.core.losses import LocalLoss


def local_step(
    layer: LocalLayer,
    x: Tensor,
    labels: Tensor,
    embeddings: Tensor,
    loss: LocalLoss,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Leave the gradients of the layer's own loss in its parameters.

    Args:
        layer: The only module that gets gradients.
        x: What the layer reads, (N, ...); no gradient reaches it.
        labels: Class numbers, (N,).
        embeddings: D_l, (Z, C_D); gets a gradient if it asks for one.
        loss: Eq. 10.
        generator: Source of the noise on the embeddings.

    Returns:
        h: Features of the layer, detached.
        h_mean: Its pooled features, (N, C), detached.
        value: The loss, a scalar, detached.
    """
    h = layer(x.detach())
    h_mean = layer.pool(h)
    value = loss(h_mean, labels, embeddings, generator)
    value.backward()  # type: ignore[no-untyped-call]
    return h.detach(), h_mean.detach(), value.detach()
