"""Backpropagation through the layers of a network: what CFL does without."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint as checkpointed

from cfl_edge.core.losses import LocalLoss
from cfl_edge.core.networks import Network
from cfl_edge.errors import UsageError

DICTIONARY_LOSS = LocalLoss(feat_weight=0.0)  # a cross entropy: no sample needs another one


def bp_step(
    network: Network,
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    labels: Tensor,
    embeddings: Tensor,
    loss: LocalLoss = DICTIONARY_LOSS,
    generator: torch.Generator | None = None,
    *,
    checkpoint: bool = False,
    accumulate: int | None = None,
) -> float:
    """Update all layers at once from the loss of the last one (Rumelhart, Hinton, Williams 1986).

    The prediction is the last layer's of CFL: the dot products of its pooled features with the
    label embeddings, which learn as well.

    Args:
        network: L - 1 layers; their graph lives from the first forward to the last backward pass.
        optimizer: Of all layers' parameters and `embeddings`.
        x: What the first layer reads, (N, ...).
        labels: Class numbers, (N,).
        embeddings: D, (Z, C_D), a leaf that requires gradients.
        loss: Of the last layer's pooled features.
        generator: Source of the noise on the embeddings.
        checkpoint: Keep what stands between the layers only, and run each layer again when its
            gradient is wanted (Chen et al. 2016): less memory, one more forward pass.
        accumulate: Samples that pass the network at a time, their gradients added up: the memory
            of so many samples. None for all at once.

    Returns:
        The loss before the update, the mean over the batch.

    Raises:
        UsageError: `accumulate` with a loss that couples the samples of a batch.

    Example:
        >>> from cfl_edge.core.networks import build_network
        >>> _ = torch.manual_seed(0)
        >>> network = build_network("4,8", (3, 8, 8))
        >>> rows = torch.eye(2, 8).requires_grad_()
        >>> optimizer = torch.optim.SGD([*network.parameters(), rows], lr=0.1)
        >>> x, labels = torch.randn(2, 3, 8, 8), torch.tensor([0, 1])
        >>> first = bp_step(network, optimizer, x, labels, rows)
        >>> bp_step(network, optimizer, x, labels, rows) < first
        True
    """
    if accumulate is not None and (loss.batch_weight or loss.feat_weight):
        raise UsageError(
            "accumulate needs a loss of single samples, this one contrasts those of a batch",
            hint="LocalLoss(feat_weight=0.0)",
        )
    total = x.new_zeros(())
    for start in range(0, len(x), accumulate or len(x)):
        place = slice(start, start + (accumulate or len(x)))
        h_mean = last_features(network, x[place], checkpoint=checkpoint)
        share = len(h_mean) / len(x)
        value = share * loss(h_mean, labels[place], embeddings, generator)
        value.backward()  # type: ignore[no-untyped-call]
        total += value.detach()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(total)


def last_features(network: Network, x: Tensor, *, checkpoint: bool = False) -> Tensor:
    """Return the last layer's pooled features with the graph back to the first layer.

    Args:
        network: Of at least one layer.
        x: What the first layer reads, (N, ...).
        checkpoint: As in `bp_step`.

    Returns:
        (N, C).
    """
    layer = None
    for layer in network:
        x = checkpointed(layer, x, use_reentrant=False) if checkpoint else layer(x)
    assert layer is not None
    h_mean: Tensor = layer.pool(x)
    return h_mean
