"""Backbones of torchvision in an ONNX graph: the one place that imports `torch.onnx`."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
import torch.onnx

from cfl_edge.core.backbones import Backbone
from cfl_edge.errors import ExportError, install_command
from cfl_edge.onnx.builder import IR_VERSION, BackboneGraph, GraphBuilder, Value

if TYPE_CHECKING:
    import onnx

_log = logging.getLogger(__name__)

TRACED_OPSET = 18  # the oldest that torch's exporter writes


def trace_backbone(backbone: Backbone, size_px: int) -> BackboneGraph:
    """Return the graph of a backbone.

    Args:
        backbone: Of torchvision. The trace is remembered: it takes 10 to 20 s, and a frozen
            backbone does not change.
        size_px: Side of the input in pixels.

    Raises:
        ExportError: onnxscript is not installed, or torch cannot trace the backbone.
    """
    import onnx

    traced = _trace(backbone, size_px)
    model = onnx.ModelProto()
    model.CopyFrom(traced)
    h0, final = (
        Value(output.name, tuple(dim.dim_value for dim in output.type.tensor_type.shape.dim[1:]))
        for output in traced.graph.output
    )
    del model.graph.output[:]
    return BackboneGraph(GraphBuilder(model), h0, final)


@lru_cache(maxsize=1)
def _trace(backbone: Backbone, size_px: int) -> onnx.ModelProto:
    if find_spec("onnxscript") is None:
        raise ExportError(
            f"The export of --backbone {backbone.name} needs the package onnxscript",
            hint=install_command("torchvision-export"),
        )
    # With a symbolic N: right for every module. no_grad: torch.export then skips the joint graph
    # for a backward pass, half of its time.
    image = torch.zeros((2, size_px, size_px, 3), dtype=torch.uint8)
    with torch.no_grad(), _quiet():
        try:
            program = torch.onnx.export(
                backbone,
                (image,),
                dynamo=True,
                verbose=False,
                external_data=False,
                opset_version=TRACED_OPSET,
                input_names=["image"],
                output_names=["h0", "final"],
                dynamic_shapes=({0: torch.export.Dim("N")},),
            )
        except torch.onnx.errors.OnnxExporterError as error:
            reason = next(iter(str(error.__cause__ or error).splitlines()), type(error).__name__)
            raise ExportError(
                f"torch {torch.__version__} cannot trace the backbone: {reason}",
                hint="cfl-edge doctor shows the versions; another one of torch may do it",
            ) from error
    assert program is not None  # without a file name there is always one
    model: onnx.ModelProto = program.model_proto
    model.ir_version = IR_VERSION
    _strip(model)
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
    """Hide the exporter's messages about its own code, which users can do nothing about.

    Failures arrive as exceptions; the rest is logged as debug messages.
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
