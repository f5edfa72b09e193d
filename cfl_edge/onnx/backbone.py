"""Frozen backbones of torch in an ONNX graph, from uint8 images to what predictions read."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from cfl_edge.core.backbones import Backbone, CutNetwork, NoNetwork
from cfl_edge.core.joint import JointFeatures, pooling_matrix
from cfl_edge.onnx.builder import BackboneGraph, GraphBuilder, Value
from cfl_edge.onnx.metadata import IMAGE
from cfl_edge.onnx.modules import append_module

SHORTEST = np.float32(1e-12)  # as in torch.nn.functional.normalize


def backbone_graph(backbone: Backbone, size_px: int) -> BackboneGraph:
    """Build the graph of a backbone.

    Args:
        backbone: Its weights are not copied.
        size_px: Side of the input in pixels.

    Raises:
        ExportError: Only for torchvision's models: onnxscript is not installed, or torch cannot
            trace the model.
    """
    network = backbone.network
    if not isinstance(network, (NoNetwork, CutNetwork)):
        from cfl_edge.onnx.traced import trace_backbone

        return trace_backbone(backbone, size_px)
    from onnx import TensorProto

    graph = GraphBuilder()
    graph.describe("input", IMAGE, [size_px, size_px, 3], number=TensorProto.UINT8)
    turned = graph.node("Transpose", [IMAGE], perm=[0, 3, 1, 2])
    floats = graph.node("Cast", [turned], to=TensorProto.FLOAT)
    centred = graph.node("Sub", [floats, graph.constant(backbone.mean.cpu().numpy())])
    scaled = graph.node("Div", [centred, graph.constant(backbone.std.cpu().numpy())])
    x = Value(scaled, (3, size_px, size_px))
    if isinstance(network, NoNetwork):
        return BackboneGraph(graph, x, None)
    maps, h0 = [], x
    for number, module in enumerate(network.sequence):
        x = append_module(module, graph, x)
        if number in network.points:
            maps.append(x)
        if number == network.cut - 1:
            h0 = x
    end = graph.reduce("ReduceMean", x.name, [2, 3])
    read = [end, *append_joint(graph, maps, network.joint)]
    final = Value(graph.node("Concat", read, axis=1), (sum(network.widths),))
    return BackboneGraph(graph, h0, final)


def append_joint(graph: GraphBuilder, maps: Sequence[Value], joint: JointFeatures) -> list[str]:
    """Append the joint features, block by block, as `JointFeatures` computes them."""
    parts = []
    for x, point, places in zip(maps, joint.points, joint.selected, strict=True):
        channels, height, width = x.shape
        flat = graph.node("Reshape", [x.name, graph.integers([0, channels, height * width])])
        matrix = graph.constant(pooling_matrix(height, width, point.cells).numpy())
        cells = graph.node("MatMul", [flat, matrix])
        row = graph.node("Reshape", [cells, graph.integers([0, channels * point.cells**2])])
        taken = graph.node("Gather", [row, graph.integers(places.tolist())], axis=1)
        parts.append(append_unit_length(graph, taken, len(places)))
    return parts


def append_unit_length(graph: GraphBuilder, features: str, width: int) -> str:
    """Append features (N, C) scaled to a mean square of 1."""
    length = graph.reduce("ReduceL2", features, [1], keepdims=True)
    length = graph.node("Max", [length, graph.constant(SHORTEST)])
    unit = graph.node("Div", [features, length])
    return graph.node("Mul", [unit, graph.constant(np.float32(math.sqrt(width)))])
