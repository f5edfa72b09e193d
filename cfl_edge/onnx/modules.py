"""The modules that `cfl_edge.core` builds networks of, each as operations of ONNX."""

from __future__ import annotations

import math
from functools import singledispatch

import numpy as np
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cfl_edge.core.efficientnet_lite import MBConv, SameConv
from cfl_edge.core.layers import LocalLayer
from cfl_edge.core.transformer import PatchEmbedding
from cfl_edge.errors import ExportError
from cfl_edge.onnx.builder import GraphBuilder, Value

RELU6 = np.float32(0), np.float32(6)


@singledispatch
def append_module(module: nn.Module, graph: GraphBuilder, x: Value) -> Value:
    """Append what a module does in evaluation mode.

    Args:
        module: One of those that `cfl_edge.core.networks` and the backbones use.
        graph: Appended to.
        x: Its input.

    Raises:
        ExportError: It is of another kind.
    """
    raise ExportError(
        f"A layer of kind {type(module).__name__} has no counterpart in cfl_edge/onnx/modules.py",
        hint="add it there",
    )


def append_pooling(layer: LocalLayer, graph: GraphBuilder, h: Value) -> Value:
    """Append the mean of a layer's output over its K positions, as `LocalLayer.pool`."""
    if layer.grid > 1:
        raise ExportError(
            f"A layer that pools to a grid of {layer.grid}x{layer.grid} has no export",
            hint="a network without a grid",
        )
    shape = (layer.channels,)
    if len(h.shape) == 3:  # (N, C, H, W)
        return Value(graph.reduce("ReduceMean", h.name, [2, 3]), shape)
    if len(h.shape) == 2:  # (N, K, C)
        return Value(graph.reduce("ReduceMean", h.name, [1]), shape)
    positions = h.shape[0] // layer.channels
    if positions == 1:
        return h
    by_channel = graph.node("Reshape", [h.name, graph.integers([0, layer.channels, positions])])
    return Value(graph.reduce("ReduceMean", by_channel, [2]), shape)


@append_module.register
def _(module: nn.Sequential, graph: GraphBuilder, x: Value) -> Value:
    parts: list[nn.Module] = []
    for part in module:
        last = parts[-1] if parts else None
        if isinstance(part, nn.BatchNorm2d) and isinstance(last, nn.Conv2d):
            parts[-1] = fuse_conv_bn_eval(last, part)
        else:
            parts.append(part)
    for part in parts:
        x = append_module(part, graph, x)
    return x


@append_module.register
def _(module: LocalLayer, graph: GraphBuilder, x: Value) -> Value:
    return append_module(module.block, graph, x)


@append_module.register
def _(module: nn.Conv2d, graph: GraphBuilder, x: Value) -> Value:
    vertical, horizontal = (int(side) for side in module.padding)
    return _convolution(module, graph, x, [horizontal, horizontal, vertical, vertical])


@append_module.register
def _(module: SameConv, graph: GraphBuilder, x: Value) -> Value:
    h = _convolution(module.conv, graph, x, module.padding(*x.shape[1:]))
    if not module.relu:
        return h
    low, high = (graph.constant(limit) for limit in RELU6)
    return Value(graph.node("Clip", [h.name, low, high]), h.shape)


@append_module.register
def _(module: MBConv, graph: GraphBuilder, x: Value) -> Value:
    y = append_module(module.convs, graph, x)
    return _sum(graph, y, x) if module.residual else y


@append_module.register
def _(module: nn.ReLU, graph: GraphBuilder, x: Value) -> Value:
    return Value(graph.node("Relu", [x.name]), x.shape)


@append_module.register
def _(module: nn.Dropout, graph: GraphBuilder, x: Value) -> Value:
    return x


@append_module.register
def _(module: nn.Flatten, graph: GraphBuilder, x: Value) -> Value:
    return Value(graph.node("Flatten", [x.name], axis=1), (math.prod(x.shape),))


@append_module.register
def _(module: nn.MaxPool2d, graph: GraphBuilder, x: Value) -> Value:
    side = module.kernel_size  # also the stride; what is left at the border is not read
    assert isinstance(side, int)
    pooled = graph.node("MaxPool", [x.name], kernel_shape=[side] * 2, strides=[side] * 2)
    channels, height, width = x.shape
    return Value(pooled, (channels, height // side, width // side))


@append_module.register
def _(module: nn.GroupNorm, graph: GraphBuilder, x: Value) -> Value:
    # Over C, H and W of a sample: an instance of one channel.
    assert module.num_groups == 1
    assert not module.affine
    flat = graph.node("Reshape", [x.name, graph.integers([0, 1, -1])])
    one, zero = (graph.constant(np.array([value], np.float32)) for value in (1, 0))
    inputs = [flat, one, zero]
    normalised = graph.node("InstanceNormalization", inputs, epsilon=module.eps)
    return Value(graph.node("Reshape", [normalised, graph.integers([0, *x.shape])]), x.shape)


@append_module.register
def _(module: nn.LayerNorm, graph: GraphBuilder, x: Value) -> Value:
    size = module.normalized_shape[-1]
    given = [None if tensor is None else _array(tensor) for tensor in (module.weight, module.bias)]
    scale = np.ones(size, np.float32) if given[0] is None else given[0]
    inputs = [x.name, graph.constant(scale)]
    if given[1] is not None:
        inputs.append(graph.constant(given[1]))
    return Value(graph.node("LayerNormalization", inputs, axis=-1, epsilon=module.eps), x.shape)


@append_module.register
def _(module: nn.Linear, graph: GraphBuilder, x: Value) -> Value:
    return _linear(graph, x, module.weight, module.bias)


@append_module.register
def _(module: PatchEmbedding, graph: GraphBuilder, x: Value) -> Value:
    patches = append_module(module.project, graph, x)  # (N, C, H, W)
    channels, height, width = patches.shape
    flat = graph.node("Reshape", [patches.name, graph.integers([0, channels, height * width])])
    tokens = graph.node("Transpose", [flat], perm=[0, 2, 1])  # (N, K, C)
    placed = graph.node("Add", [tokens, graph.constant(_array(module.place))])
    return Value(placed, (height * width, channels))


@append_module.register
def _(module: nn.TransformerEncoderLayer, graph: GraphBuilder, x: Value) -> Value:
    attended = _sum(graph, x, _attention(module.self_attn, graph, x))
    x = append_module(module.norm1, graph, attended)
    hidden = append_module(module.linear1, graph, x)
    returned = append_module(module.linear2, graph, _gelu(graph, hidden))
    return append_module(module.norm2, graph, _sum(graph, x, returned))


def _attention(module: nn.MultiheadAttention, graph: GraphBuilder, x: Value) -> Value:
    """Every token looks at every other (Vaswani et al., "Attention Is All You Need", 2017)."""
    tokens, channels = x.shape
    heads, width = module.num_heads, channels // module.num_heads
    joined = _linear(graph, x, module.in_proj_weight, module.in_proj_bias)  # (N, K, 3 C)
    apart = graph.integers([0, tokens, heads, width])
    query, key, value = (
        graph.node("Transpose", [graph.node("Reshape", [part, apart])], perm=order)
        for part, order in zip(
            graph.split(joined.name, [channels] * 3, axis=2),
            ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]),
            strict=True,
        )
    )
    products = graph.node("MatMul", [query, key])  # (N, heads, K, K)
    scale = graph.constant(np.float32(1 / math.sqrt(width)))
    weights = graph.node("Softmax", [graph.node("Mul", [products, scale])], axis=-1)
    seen = graph.node("Transpose", [graph.node("MatMul", [weights, value])], perm=[0, 2, 1, 3])
    together = graph.node("Reshape", [seen, graph.integers([0, tokens, channels])])
    return append_module(module.out_proj, graph, Value(together, x.shape))


def _gelu(graph: GraphBuilder, x: Value) -> Value:
    """X Phi(x), Phi the normal distribution: opset 20 has it as one operation."""
    root, one, half = (graph.constant(np.float32(value)) for value in (math.sqrt(2), 1, 0.5))
    erf = graph.node("Erf", [graph.node("Div", [x.name, root])])
    twice = graph.node("Mul", [x.name, graph.node("Add", [erf, one])])
    return Value(graph.node("Mul", [twice, half]), x.shape)


def _linear(graph: GraphBuilder, x: Value, weight: Tensor, bias: Tensor) -> Value:
    """Append x W^T + b for features (N, F) or tokens (N, K, F)."""
    shape = (*x.shape[:-1], len(weight))
    if len(x.shape) == 1:
        inputs = [x.name, graph.constant(_array(weight)), graph.constant(_array(bias))]
        return Value(graph.node("Gemm", inputs, transB=1), shape)
    product = graph.node("MatMul", [x.name, graph.constant(_array(weight).T)])
    return Value(graph.node("Add", [product, graph.constant(_array(bias))]), shape)


def _convolution(conv: nn.Conv2d, graph: GraphBuilder, x: Value, padding: list[int]) -> Value:
    """Append a convolution; padding is left, right, top, bottom in pixels, not what `conv` has."""
    left, right, top, bottom = padding
    inputs = [x.name, graph.constant(_array(conv.weight))]
    if conv.bias is not None:
        inputs.append(graph.constant(_array(conv.bias)))
    name = graph.node(
        "Conv",
        inputs,
        kernel_shape=list(conv.kernel_size),
        strides=list(conv.stride),
        pads=[top, left, bottom, right],
        group=conv.groups,
    )
    _, height, width = x.shape
    sides = zip(
        (height + top + bottom, width + left + right), conv.kernel_size, conv.stride, strict=True
    )
    return Value(name, (conv.out_channels, *((n - k) // stride + 1 for n, k, stride in sides)))


def _sum(graph: GraphBuilder, x: Value, y: Value) -> Value:
    return Value(graph.node("Add", [x.name, y.name]), x.shape)


def _array(tensor: Tensor) -> np.ndarray:
    array: np.ndarray = tensor.detach().cpu().numpy()
    return array
