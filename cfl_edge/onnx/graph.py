"""A learned network as an ONNX graph, from uint8 images to scores, built operation by operation.

    image ─▶ backbone ─▶ h0 ─▶ layer 1 ─▶ … ─▶ layer L-1
                │         └────────┴──────────────┴─pooled─▶ features ─▶ label embeddings ─▶ scores
                └─────────────────────────────────pooled────────┘

The graphs of our own networks need no tracer: `torch.onnx` would take 20 s and 270 MiB more for
them. Only torchvision's models are traced (`cfl_edge.onnx.traced`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cfl_edge.core.backbones import Backbone
from cfl_edge.core.discriminant import DistanceRows
from cfl_edge.core.features import FeatureExtractor
from cfl_edge.core.networks import Network
from cfl_edge.onnx.backbone import append_unit_length, backbone_graph
from cfl_edge.onnx.builder import GraphBuilder, Value
from cfl_edge.onnx.frozen import OnnxBackbone
from cfl_edge.onnx.metadata import (
    FEATURES,
    JOINED_FEATURES,
    LABEL_EMBEDDINGS,
    SCORES,
    UNKNOWN_DISTANCE,
    UNKNOWN_NEAREST,
    UNKNOWN_SHAPE,
    UNKNOWN_TOTAL,
)
from cfl_edge.onnx.modules import append_module, append_pooling


@dataclass(frozen=True, eq=False)
class Classifier:
    """What turns features into answers.

    Args:
        embeddings: float32, shape (F, Z): scores = features @ embeddings.
        classes: Z names.
        distances: Of a second output, the distance from all classes; None for none.
    """

    embeddings: npt.NDArray[np.float32]
    classes: tuple[str, ...]
    distances: DistanceRows | None = None


def model_graph(extractor: FeatureExtractor, size_px: int, classifier: Classifier) -> GraphBuilder:
    """Build the graph from `image` (N, size_px, size_px, 3) to `scores` (N, Z).

    Args:
        extractor: Its weights must not change until the graph is serialised.
        size_px: Side of the input in pixels.
        classifier: What follows the features.

    Raises:
        ExportError: The network holds a module that has no counterpart in ONNX here.

    Example:
        >>> from cfl_edge.core.backbones import build_backbone
        >>> from cfl_edge.core.networks import build_network
        >>> layers = build_network("4", (3, 8, 8))
        >>> extractor = FeatureExtractor(build_backbone("none"), layers)
        >>> graph = model_graph(extractor, 8, Classifier(np.zeros((5, 2), np.float32), ("a", "b")))
        >>> [output.name for output in graph.model.graph.output]
        ['scores']
    """
    backbone, sources = extractor.backbone, list[str]()
    if isinstance(backbone, OnnxBackbone):
        graph, h0, final = backbone.graph()
    else:
        assert isinstance(backbone, Backbone)
        graph, h0, final = backbone_graph(backbone, size_px)
    if final is not None:  # what `cfl_edge.core.features.frozen_sources` computes
        end, joint = graph.split(final.name, backbone.widths, axis=1)
        if extractor.scale == "unit":
            end = append_unit_length(graph, end, backbone.widths[0])
        sources = [end, joint]
    sources += _append_layers(graph, h0, extractor.network)
    joined = graph.node("Concat", sources, JOINED_FEATURES, axis=1)
    padding, one = graph.integers([0, 0, 0, 1]), graph.constant(np.float32(1))
    graph.node("Pad", [joined, padding, one], FEATURES)  # (N, F)
    _append_classifier(graph, FEATURES, classifier)
    return graph


def classifier_graph(classifier: Classifier) -> GraphBuilder:
    """Build the classifier alone: `features` (N, F) to `scores` (N, Z)."""
    graph = GraphBuilder()
    graph.describe("input", FEATURES, classifier.embeddings.shape[:1])
    _append_classifier(graph, FEATURES, classifier)
    return graph


def _append_classifier(graph: GraphBuilder, features: str, classifier: Classifier) -> None:
    """End a graph in features @ label_embeddings, and in the distance where there is one."""
    embeddings = graph.constant(classifier.embeddings, LABEL_EMBEDDINGS)
    graph.node("MatMul", [features, embeddings], SCORES)
    graph.describe("output", SCORES, classifier.embeddings.shape[1:])
    if classifier.distances is not None:
        _append_distance(graph, features, classifier.distances)


def _append_distance(graph: GraphBuilder, features: str, distances: DistanceRows) -> None:
    """End a graph also in sum_s min_z (nearest[s, z] . x) + |total x|^2."""
    terms, classes, _ = distances.nearest.shape
    nearest = graph.constant(distances.nearest.flatten(0, 1).T.cpu().numpy(), UNKNOWN_NEAREST)
    linear = graph.node("MatMul", [features, nearest], "unknown_linear")
    shape = graph.constant(np.array([0, terms, classes], np.int64), UNKNOWN_SHAPE)  # 0: N
    of_classes = graph.node("Reshape", [linear, shape], "unknown_of_classes")
    least = graph.reduce("ReduceMin", of_classes, [2], "unknown_least")
    if not len(distances.total):
        graph.reduce("ReduceSum", least, [1], UNKNOWN_DISTANCE)
    else:
        summed = graph.reduce("ReduceSum", least, [1], "unknown_sum")
        total = graph.constant(distances.total.T.cpu().numpy(), UNKNOWN_TOTAL)
        between = graph.node("MatMul", [features, total], "unknown_between")
        square = graph.reduce("ReduceSumSquare", between, [1], "unknown_square")
        graph.node("Add", [summed, square], UNKNOWN_DISTANCE)
    graph.describe("output", UNKNOWN_DISTANCE, [])


def _append_layers(graph: GraphBuilder, h0: Value, network: Network) -> list[str]:
    """Append the layers; return the pooled features of each as predictions read them."""
    sources, h = [], h0
    for layer in network:
        h = append_module(layer, graph, h)
        pooled = append_pooling(layer, graph, h).name
        if network.power != 1:
            power = graph.constant(np.float32(network.power))
            size = graph.node("Pow", [graph.node("Abs", [pooled]), power])
            pooled = graph.node("Mul", [graph.node("Sign", [pooled]), size])
        sources.append(pooled)
    return sources
