"""An exported network in 8-bit integers, by ONNX Runtime's static quantisation.

Weights get 7 bits and one scale a channel, activations 8 bits and one scale a tensor (QDQ format),
from the least and largest values that some images give (Jacob et al., "Quantization and Training
of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018). Label embeddings and the
distance of unknown things stay float, so the classes of the file change as those of any other.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cfl_edge.errors import ExportError
from cfl_edge.model.writing import write_error
from cfl_edge.onnx.classes import set_metadata
from cfl_edge.onnx.metadata import (
    FEATURES,
    JOINED_FEATURES,
    LABEL_EMBEDDINGS,
    PRECISION,
    SCORES,
    UNKNOWN_PREFIX,
)

if TYPE_CHECKING:
    import onnx

WEIGHED = ("Conv", "MatMul", "Gemm")  # operations with weights, where time and bytes are


def weighed_operations(model: onnx.ModelProto) -> list[str]:
    """Return the names of a network's operations that have weights, in the order of the graph.

    Args:
        model: An export.

    Raises:
        ExportError: It does not end in label embeddings.
    """
    of_classifier = set(_classifier_nodes(model.graph))
    return [
        node.name
        for node in model.graph.node
        if node.op_type in WEIGHED and node.name not in of_classifier
    ]


def quantise(source: Path, target: Path, images: npt.NDArray[np.uint8], *, in_float: int) -> None:
    """Write an exported file with 8-bit integers inside; inputs and outputs stay the same.

    Args:
        source: A float file of `cfl-edge export`.
        target: The file to write.
        images: uint8, shape (M, size_px, size_px, 3), M >= 1: what the ranges are taken from.
        in_float: Operations with weights that stay float, the first ones of the graph.

    Raises:
        ExportError: ONNX Runtime cannot quantise it.
        ModelWriteError: Disk full, no permission.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    model = onnx.load(source, load_external_data=False)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    ir_version = model.ir_version
    in_full = _classifier_nodes(model.graph) + weighed_operations(model)[:in_float]
    try:
        with _quiet():
            quantize_static(
                model,
                target,
                _Images(model.graph.input[0].name, images),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                # Signed 8-bit activations were 1.5 times slower than unsigned on x86. On x86
                # without VNNI the products of unsigned and signed bytes saturate; 7 bits cannot.
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                reduce_range=True,
                nodes_to_exclude=in_full,
            )
            quantised = onnx.load(target, load_external_data=False)
    except OSError as error:
        raise write_error(error, Path(tempfile.gettempdir())) from error
    except Exception as error:  # many kinds, of three libraries
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ExportError(
            f"ONNX Runtime cannot quantise {source}: {reason}", hint=f"use the float file, {source}"
        ) from error
    quantised.ir_version = ir_version
    quantised.producer_name, quantised.producer_version = model.producer_name, ""
    _classifier_nodes(quantised.graph)  # still float, or it could not change classes
    set_metadata(quantised, {**metadata, PRECISION: "int8"})
    try:
        onnx.save(quantised, target)
    except OSError as error:
        raise write_error(error, target.parent) from error


def _classifier_nodes(graph: onnx.GraphProto) -> list[str]:
    """Return the operations from the joined features on; without them an ExportError."""
    last = [node for node in graph.node if node.name == SCORES]
    if len(last) != 1 or list(last[0].input)[1:] != [LABEL_EMBEDDINGS]:
        raise ExportError(
            "The graph does not end in label embeddings", hint="export the model folder again"
        )
    ends = {JOINED_FEATURES, FEATURES, SCORES}
    return [
        node.name
        for node in graph.node
        if node.name in ends or node.name.startswith(UNKNOWN_PREFIX)
    ]


class _Images:
    """What `quantize_static` reads, one image at a time; it asks for no more than `get_next`."""

    def __init__(self, name: str, images: npt.NDArray[np.uint8]) -> None:
        self._batches = ({name: image[None]} for image in images)

    def get_next(self) -> dict[str, Any] | None:
        return next(self._batches, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the advice of the quantiser, which is for whoever wrote the call, from users."""
    root, silent = logging.getLogger(), logging.NullHandler()
    root.addHandler(silent)  # with a handler, logging.warning does not install one that prints
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.removeHandler(silent)
