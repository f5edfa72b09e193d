"""The closed-form local step: the weight gradient of one layer without an autograd graph.

The loss sees the pooled features (N, C) alone, so its gradient g is an (N, C) matrix. With ReLU,
the gradient at position k is `mask * g / K`: it is made for a few samples at a time and dropped
again. No gradient crosses the layer's input, so what lies on the way in (normalisation, pooling)
needs no backward pass, and of the two products of a backward pass only the weights' is left.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from cfl_edge.core.conv_gradient import (
    convolved,
    is_faster_by_patches,
    library_gradients,
    products_of_patches,
)
from cfl_edge.core.layers import LocalLayer
from cfl_edge.core.local_step import LocalTraining, Step

T = TypeVar("T")
# More makes no step faster, but its memory larger (DECISIONS.md, "Chunks").
CHUNK_BYTES = 10 * 2**20
ON_THE_WAY_IN = (nn.GroupNorm, nn.LayerNorm, nn.MaxPool2d, nn.AvgPool2d, nn.Flatten, nn.Identity)


@dataclass(frozen=True)
class Parts:
    """A layer that has a closed form: ReLU(product(entry(x))).

    Args:
        entry: Modules without parameters that treat each sample by itself.
        product: The only parameters of the layer.
        shapes: Output shapes of a sample that were asked for, by input shape.
    """

    entry: nn.Sequential
    product: nn.Conv2d | nn.Linear
    shapes: dict[tuple[int, ...], tuple[int, ...]] = field(default_factory=dict)


_KNOWN: WeakKeyDictionary[LocalLayer, Parts | None] = WeakKeyDictionary()


def closed_form_parts(layer: LocalLayer) -> Parts | None:
    """Take a layer apart, or return None if its gradient has no closed form.

    Example:
        >>> from cfl_edge.core.layers import normalised_conv, paper_conv
        >>> closed_form_parts(normalised_conv(3, 8, stride=1)).product
        Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
        >>> closed_form_parts(paper_conv(3, 8, stride=1, padding=0)) is None  # BatchNorm behind
        True
    """
    if layer not in _KNOWN:
        _KNOWN[layer] = _taken_apart(layer)
    return _KNOWN[layer]


def _taken_apart(layer: LocalLayer) -> Parts | None:
    if not isinstance(layer.block, nn.Sequential) or len(layer.block) < 2 or layer.grid > 1:
        return None
    *entry, product, relu = layer.block
    known = all(isinstance(m, ON_THE_WAY_IN) and not list(m.parameters()) for m in entry)
    if not known or not isinstance(relu, nn.ReLU):
        return None
    if isinstance(product, nn.Conv2d):
        if product.padding_mode != "zeros" or isinstance(product.padding, str):
            return None
    elif not isinstance(product, nn.Linear):
        return None
    return Parts(nn.Sequential(*entry), product)


def closed_form_step(
    layer: LocalLayer,
    x: Tensor,
    labels: Tensor,
    embeddings: Tensor,
    how: LocalTraining,
) -> Step:
    """Leave the gradients of the layer's own loss in its parameters, as `local_step` does.

    A generator: it pauses after each chunk, so that a caller short of time can go on later.
    `finish` runs it through.

    Args:
        layer: One that `closed_form_parts` takes apart.
        x: What the layer reads, (N, ...); not changed.
        labels: Class indices, (N,).
        embeddings: D_l, (Z, C_D); gets a gradient if it asks for one.
        how: Its loss, generator and chunk; without a chunk, `fast_chunk` chooses.

    Returns:
        h, h_mean and the loss, as `local_step` returns them.

    Raises:
        TypeError: The layer has no closed form.

    Example:
        >>> from cfl_edge.core.layers import normalised_conv
        >>> layer = normalised_conv(3, 8, stride=1)
        >>> x, labels, rows = torch.randn(4, 3, 6, 6), torch.tensor([0, 1, 0, 1]), torch.eye(2, 8)
        >>> how = LocalTraining(chunk=2)
        >>> h, h_mean, _ = finish(closed_form_step(layer, x, labels, rows, how))
        >>> h.shape, h_mean.shape, layer.block[1].weight.grad.shape
        (torch.Size([4, 8, 6, 6]), torch.Size([4, 8]), torch.Size([8, 3, 3, 3]))
    """
    parts = closed_form_parts(layer)
    if parts is None:
        raise TypeError("the layer has no closed form: entry, Conv2d or Linear, ReLU")
    places = list(chunks(len(x), how.chunk or fast_chunk(parts, x)))
    h_mean = embeddings.new_empty(len(x), layer.channels)  # (N, C)
    h, kept = x.new_empty(0), None
    for place in places:
        x_hat = normalised(parts, x[place])
        h_chunk = features(parts, x_hat)
        h_mean[place] = layer.pool(h_chunk.to(h_mean.dtype))
        if len(places) == 1:
            h, kept = h_chunk, x_hat
        else:
            if not len(h):
                h = empty_like_batch(h_chunk, len(x))
            h[place] = h_chunk
        del h_chunk, x_hat
        yield
    value, g = vector_gradient(h_mean, labels, embeddings, how)
    for place in places:
        x_hat = normalised(parts, x[place]) if kept is None else kept
        add_weight_gradient(parts, x_hat, h[place], g[place])
        del x_hat
        yield
    return h, h_mean, value


def finish(step: Generator[Any, None, T]) -> T:
    """Run a step that pauses through to its end and return what it returns."""
    while True:
        try:
            next(step)
        except StopIteration as end:
            result: T = end.value
            return result


def chunks(samples: int, chunk: int) -> Iterator[slice]:
    """Yield the slices of at most `chunk` samples."""
    for start in range(0, samples, chunk):
        yield slice(start, min(start + chunk, samples))


def fast_chunk(parts: Parts, x: Tensor) -> int:
    """Return how many samples make a chunk of about CHUNK_BYTES, input and output together.

    Args:
        parts: The layer.
        x: What it reads, (N, ...).
    """
    sample = math.prod(x.shape[1:]) + math.prod(output_shape(parts, x.shape[1:]))
    return max(1, min(len(x), CHUNK_BYTES // (sample * x.element_size())))


def output_shape(parts: Parts, input_shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of a sample's features, (C, H, W) or (C * K,).

    A blank sample is run once for each input shape; torch's "meta" device would import a compiler.

    Example:
        >>> from cfl_edge.core.layers import normalised_conv
        >>> output_shape(closed_form_parts(normalised_conv(3, 8, stride=2)), (3, 9, 9))
        (8, 5, 5)
    """
    key = tuple(input_shape)
    if key not in parts.shapes:
        blank = parts.product.weight.new_zeros(1, *key)
        parts.shapes[key] = tuple(features(parts, normalised(parts, blank)).shape[1:])
    return parts.shapes[key]


def empty_like_batch(h_chunk: Tensor, samples: int) -> Tensor:
    """Return room for `samples` of the features of a chunk, in the same memory format."""
    room = h_chunk.new_empty((samples, *h_chunk.shape[1:]))
    if h_chunk.ndim == 4 and h_chunk.is_contiguous(memory_format=torch.channels_last):
        return room.to(memory_format=torch.channels_last)
    return room


@torch.no_grad()
def normalised(parts: Parts, x: Tensor) -> Tensor:
    """Return what the layer's product reads of x (N, ...), without a graph."""
    x_hat: Tensor = parts.entry(x)
    return x_hat


@torch.no_grad()
def features(parts: Parts, x_hat: Tensor) -> Tensor:
    """Return h of a chunk without a graph, (N, C, H, W) or (N, C * K)."""
    product = parts.product
    h = convolved(product, x_hat) if isinstance(product, nn.Conv2d) else product(x_hat)
    return h.relu_()


def vector_gradient(
    h_mean: Tensor, labels: Tensor, embeddings: Tensor, how: LocalTraining
) -> tuple[Tensor, Tensor]:
    """Return the loss and its gradient g with respect to h_mean, (N, C).

    The only place of the closed form with a graph: it starts at the pooled features. `embeddings`
    get their gradient here too.
    """
    with torch.enable_grad(), torch.autocast(h_mean.device.type, enabled=False):
        leaf = h_mean.detach().requires_grad_()
        value = how.loss(leaf, labels, embeddings, how.generator)
        value.backward()  # type: ignore[no-untyped-call]
    g = leaf.grad if leaf.grad is not None else torch.zeros_like(leaf)
    return value.detach(), g


@torch.no_grad()
def add_weight_gradient(parts: Parts, x_hat: Tensor, h: Tensor, g: Tensor) -> None:
    """Add the gradient of one chunk to the `.grad` of the layer's parameters.

    Args:
        parts: The layer.
        x_hat: What its product read, (N, ...).
        h: What it returned, (N, C, H, W) or (N, C * K).
        g: Gradient of the loss with respect to the pooled features, (N, C).
    """
    product = parts.product
    delta = torch.ops.aten.threshold_backward(spread(g, h), h, 0)  # mask * g / K, shaped as h
    x_hat = x_hat.to(h.dtype)
    if isinstance(product, nn.Linear):
        gradient = product.weight.grad
        if gradient is None:
            _add(product.weight, delta.T @ x_hat)
        else:  # no second matrix of this size
            gradient.addmm_(delta.T.to(gradient.dtype), x_hat.to(gradient.dtype))
        if product.bias is not None:
            _add(product.bias, delta.sum(0))
        return
    gradients = products_of_patches if is_faster_by_patches(product) else library_gradients
    weight, bias = gradients(product, x_hat, delta)
    _add(product.weight, weight)
    if product.bias is not None and bias is not None:
        _add(product.bias, bias)


def spread(g: Tensor, h: Tensor) -> Tensor:
    """Return g / K at every position, shaped as h: the gradient of the mean over K positions."""
    if h.ndim == 4:  # (N, C, H, W)
        return (g / (h.shape[2] * h.shape[3])).to(h.dtype)[:, :, None, None].expand_as(h)
    positions = h.shape[1] // g.shape[1]
    return (g / positions).to(h.dtype).repeat_interleave(positions, dim=1)  # (N, C * K)


def _add(parameter: Tensor, gradient: Tensor) -> None:
    if parameter.grad is not None:
        parameter.grad += gradient
    elif (gradient.stride(), gradient.dtype) == (parameter.stride(), parameter.dtype):
        parameter.grad = gradient
    else:  # torch's fused optimizers read both in the order of memory
        parameter.grad = torch.empty_like(parameter).copy_(gradient)
