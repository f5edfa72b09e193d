"""One update of every layer, in order, each from its own loss.

Layers whose gradient has a closed form take `closed_form_step`, all others `local_step`. Both
leave the gradients in the layer's parameters; here they are applied and freed.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from cfl_edge.core.allocator import LARGE_BYTES, give_back
from cfl_edge.core.closed_form import (
    Parts,
    add_weight_gradient,
    chunks,
    closed_form_parts,
    closed_form_step,
    fast_chunk,
    features,
    finish,
    normalised,
    output_shape,
    vector_gradient,
)
from cfl_edge.core.embeddings import visible_to_layer
from cfl_edge.core.layers import LocalLayer
from cfl_edge.core.local_step import LocalTraining, Step, local_step
from cfl_edge.core.networks import Network
from cfl_edge.core.optimizers import Optimizer

Trained = tuple[list[Tensor], list[float]]
Training = Generator[int | None, None, Trained]


def train_step(
    network: Network,
    optimizers: Sequence[Optimizer],
    x: Tensor,
    labels: Tensor,
    embeddings: Tensor,
    how: LocalTraining,
) -> Trained:
    """Update every layer once.

    Args:
        network: L - 1 layers.
        optimizers: One for each layer's parameters; the last one holds `embeddings` as well,
            which learn at the last layer only (Eq. 3).
        x: What the first layer reads, (N, ...).
        labels: Class indices, (N,).
        embeddings: D, (Z, C_D), a leaf that requires gradients.
        how: Loss, chunks, recomputing.

    Returns:
        The pooled features of each layer before its update, (N, C_l), and the loss of each.

    Raises:
        TypeError: `recompute` with a layer that has no closed form.

    Example:
        >>> from cfl_edge.core.networks import build_network
        >>> network = build_network("8,8", (3, 12, 12))
        >>> optimizers = [Optimizer("sgd", layer.parameters(), 0.1) for layer in network]
        >>> rows = torch.eye(2, 8).requires_grad_()
        >>> x, labels = torch.randn(4, 3, 12, 12), torch.tensor([0, 1, 0, 1])
        >>> how = LocalTraining(chunk=2)
        >>> pooled, losses = train_step(network, optimizers, x, labels, rows, how)
        >>> [h_mean.shape for h_mean in pooled]
        [torch.Size([4, 8]), torch.Size([4, 8])]
    """
    return finish(training_slices(network, optimizers, x, labels, embeddings, how))


def training_slices(
    network: Network,
    optimizers: Sequence[Optimizer],
    x: Tensor,
    labels: Tensor,
    embeddings: Tensor,
    how: LocalTraining,
) -> Training:
    """Update every layer once, pausing after each chunk: `train_step` for those short of time.

    Yields:
        The number of the layer that was just updated, or None in the middle of one.

    Returns:
        What `train_step` returns.
    """
    if how.bfloat16:
        how = replace(how, bfloat16=False)
        steps = training_slices(network, optimizers, x, labels, embeddings, how)
        return (yield from _in_bfloat16(steps))
    if how.recompute:
        return (yield from _recomputing(network, optimizers, x, labels, embeddings, how))
    pooled, losses = [], []
    layers = len(optimizers)
    for i, (layer, optimizer) in enumerate(zip(network, optimizers, strict=True)):
        d_l = visible_to_layer(embeddings, i, layers)
        x, h_mean, value = yield from layer_slices(layer, x, labels, d_l, how)
        optimizer.step()
        if x.nbytes >= LARGE_BYTES:
            give_back()
        pooled.append(h_mean)
        losses.append(float(value))
        yield i
    return pooled, losses


def _in_bfloat16(steps: Training) -> Training:
    """Go on in bfloat16, but for what the caller does in the pauses."""
    while True:
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            try:
                layer = next(steps)
            except StopIteration as end:
                trained: Trained = end.value
                return trained
        yield layer


def layer_slices(
    layer: LocalLayer, x: Tensor, labels: Tensor, embeddings: Tensor, how: LocalTraining
) -> Step:
    """Leave the gradients of a layer's own loss in its parameters, pausing after each chunk.

    Args:
        layer: The layer.
        x: What it reads, (N, ...).
        labels: Class indices, (N,).
        embeddings: D_l, (Z, C_D); gets a gradient if it asks for one.
        how: `closed_form` is taken where the layer has one.

    Returns:
        h, h_mean and the loss, as `local_step` returns them.
    """
    if how.closed_form and closed_form_parts(layer) is not None:
        return (yield from closed_form_step(layer, x, labels, embeddings, how))
    return local_step(layer, x, labels, embeddings, how)


def _recomputing(
    network: Network,
    optimizers: Sequence[Optimizer],
    x: Tensor,
    labels: Tensor,
    embeddings: Tensor,
    how: LocalTraining,
) -> Training:
    layers = list(network)
    parts = [closed_form_parts(layer) for layer in layers]
    known = [part for part in parts if part is not None]
    if len(known) < len(layers):
        raise TypeError("recompute needs a closed form of every layer: entry, product, ReLU")
    pooled = [x.new_empty(len(x), layer.channels) for layer in layers]
    size = how.chunk or min(fast_chunks(known, x))
    for place in chunks(len(x), size):
        x_chunk = x[place]
        for layer, part, h_mean in zip(layers, known, pooled, strict=True):
            x_chunk = features(part, normalised(part, x_chunk))
            h_mean[place] = layer.pool(x_chunk.to(h_mean.dtype))
        yield None
    values, gradients = [], []
    for i, h_mean in enumerate(pooled):
        d_l = visible_to_layer(embeddings, i, len(layers))
        value, g = vector_gradient(h_mean, labels, d_l, how)
        values.append(float(value))
        gradients.append(g)  # (N, C_l)
    for place in chunks(len(x), size):
        x_chunk = x[place]
        for part, g in zip(known, gradients, strict=True):
            x_hat = normalised(part, x_chunk)
            x_chunk = features(part, x_hat)
            add_weight_gradient(part, x_hat, x_chunk, g[place])
        yield None
    for i, optimizer in enumerate(optimizers):
        optimizer.step()
        yield i
    return pooled, values


def fast_chunks(parts: Sequence[Parts], x: Tensor) -> list[int]:
    """Return `fast_chunk` of every layer, for the samples x (N, ...) that the first one reads."""
    sizes = []
    for part in parts:
        sizes.append(fast_chunk(part, x))
        shape = output_shape(part, x.shape[1:])
        x = torch.empty(len(x), *shape, dtype=x.dtype, device="meta")
    return sizes
