"""From a torch module to an ONNX graph that ends in the label embeddings."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from cfl_edge.errors import ExportError
from cfl_edge.onnx.metadata import (
    LABEL_EMBEDDINGS,
    UNKNOWN_DISTANCE,
    UNKNOWN_NEAREST,
    UNKNOWN_SHAPE,
    UNKNOWN_TOTAL,
)

if TYPE_CHECKING:
    import onnx

    from cfl_edge.core.distances import DistanceRows

_log = logging.getLogger(__name__)

# onnxruntime 1.23 (JetPack 6) and 1.32 read these; newer stamps lock boards with old packages out.
OPSET = 20
IR_VERSION = 10


def trace_features(features: nn.Module, size_px: int, *, dynamic: bool) -> onnx.ModelProto:
    """Turn a module into a graph from `image` (N, size_px, size_px, 3) to `features` (N, F).

    Args:
        features: In evaluation mode; uint8 (N, size_px, size_px, 3) to float32 (N, F).
        size_px: Side of the input in pixels.
        dynamic: Trace with a symbolic N: right for every module, but twice as slow (12 s against
            6 s for MobileNetV3-small on one x86 core). Otherwise it is traced with N = 1 and the
            result must be tried with another N: a module that builds in the N it saw fails then.

    Raises:
        ExportError: torch cannot trace or translate it.
    """
    image = torch.zeros((2 if dynamic else 1, size_px, size_px, 3), dtype=torch.uint8)
    # no_grad: torch.export then skips the joint graph for a backward pass, half of its time.
    with torch.no_grad(), _quiet():
        try:
            program = torch.onnx.export(
                features,
                (image,),
                dynamo=True,
                verbose=False,
                external_data=False,
                opset_version=OPSET,
                input_names=["image"],
                output_names=["features"],
                dynamic_shapes=({0: torch.export.Dim("N")},) if dynamic else None,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            reason = next(iter(str(error.__cause__ or error).splitlines()), type(error).__name__)
            raise ExportError(
                f"torch {torch.__version__} cannot trace the network: {reason}",
                hint="cfl-edge doctor shows the versions; another one of torch may do it",
            ) from error
    assert program is not None  # without a file name there is always one
    model: onnx.ModelProto = program.model_proto
    model.ir_version = IR_VERSION
    _strip(model)
    return model


def append_head(
    model: onnx.ModelProto,
    embeddings: npt.NDArray[np.float32],
    distances: DistanceRows | None = None,
) -> None:
    """Let a graph of features end in scores = features @ label_embeddings, in place.

    Args:
        model: With one output, float32 (N, F).
        embeddings: float32, shape (F, Z): the initializer that a change of classes rewrites.
        distances: Of a second output, the distance from all classes; None for none.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    features = graph.output[0].name
    graph.node.append(
        helper.make_node("MatMul", [features, LABEL_EMBEDDINGS], ["scores"], name="head")
    )
    graph.initializer.append(numpy_helper.from_array(embeddings, LABEL_EMBEDDINGS))
    del graph.output[:]
    shape = ["N", embeddings.shape[1]]
    graph.output.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, shape))
    if distances is not None:
        _append_distance(graph, features, distances)


def _append_distance(graph: onnx.GraphProto, features: str, distances: DistanceRows) -> None:
    """Let a graph also end in sum_s min_z (nearest[s, z] . x) + |total x|^2, in place."""
    from onnx import TensorProto, helper, numpy_helper

    terms, classes, _ = distances.nearest.shape
    directions = len(distances.total)

    def constant(name: str, value: npt.NDArray[Any]) -> str:
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(kind: str, inputs: list[str], name: str) -> str:
        attributes: dict[str, Any] = {"keepdims": 0} if kind.startswith("Reduce") else {}
        graph.node.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    nearest = distances.nearest.flatten(0, 1).T.cpu().numpy()
    linear = node("MatMul", [features, constant(UNKNOWN_NEAREST, nearest)], "unknown_linear")
    shape = constant(UNKNOWN_SHAPE, np.array([0, terms, classes], np.int64))  # 0: N, as it is
    of_classes = node("Reshape", [linear, shape], "unknown_of_classes")
    last = constant("unknown_last_axis", np.array([-1], np.int64))
    least = node("ReduceMin", [of_classes, last], "unknown_least")
    summed = UNKNOWN_DISTANCE if not directions else "unknown_sum"
    node("ReduceSum", [least, last], summed)
    if directions:
        total = constant(UNKNOWN_TOTAL, distances.total.T.cpu().numpy())
        between = node("MatMul", [features, total], "unknown_between")
        square = node("ReduceSumSquare", [between, last], "unknown_square")
        node("Add", [summed, square], UNKNOWN_DISTANCE)
    output = helper.make_tensor_value_info(UNKNOWN_DISTANCE, TensorProto.FLOAT, ["N"])
    graph.output.append(output)


def make_head(
    embeddings: npt.NDArray[np.float32], distances: DistanceRows | None = None
) -> onnx.ModelProto:
    """Return the head alone: `features` (N, F) to `scores` (N, Z).

    Args:
        embeddings: float32, shape (F, Z).
        distances: As in `append_head`.
    """
    from onnx import TensorProto, helper

    features = helper.make_tensor_value_info(
        "features", TensorProto.FLOAT, ["N", embeddings.shape[0]]
    )
    graph = helper.make_graph([], "head", [], [features])
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    model.graph.input.append(features)
    append_head(model, embeddings, distances)
    return model


def _strip(model: onnx.ModelProto) -> None:
    """Remove what the exporter notes for its own debugging, and make N symbolic.

    The notes hold stack traces, with paths of the machine that exported.
    """
    graph = model.graph
    del graph.value_info[:]
    for item in (*graph.node, *graph.input, *graph.output, *graph.initializer, graph):
        del item.metadata_props[:]
        item.doc_string = ""
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    model.producer_name = "cfl-edge"
    model.producer_version = ""


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's talk about its own code from users, who can do nothing about it.

    What fails comes as an exception; the rest is kept for whoever turns on debug messages.
    """
    talk = io.StringIO()
    torch_log = logging.getLogger("torch")
    level = torch_log.level
    torch_log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(talk), redirect_stderr(talk):
            for package in ("torch", "onnxscript", "onnx_ir", "onnx", "copyreg"):
                warnings.filterwarnings("ignore", module=rf"{package}(\.|$)")
            yield
    finally:
        torch_log.setLevel(level)
        if talk.getvalue():
            _log.debug("torch.onnx.export: %s", talk.getvalue())
