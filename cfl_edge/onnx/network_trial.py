"""Try an ONNX image network in a process of its own, and see what it computes on the way.

Shapes are those of a run on a black image, with every tensor of the graph as an output: what shape
inference says depends on how a file was exported.

    python -m cfl_edge.onnx.network_trial FILE < side
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cfl_edge.defaults import IMAGE_PX_WITH_BACKBONE, LEAST_IMAGE_PX, MOST_IMAGE_PX
from cfl_edge.errors import ModelDamagedError, UsageError
from cfl_edge.onnx.builder import OPSET
from cfl_edge.onnx.errors import session_options
from cfl_edge.onnx.model_trial import answer_trial, require_numbers, run_trial

if TYPE_CHECKING:
    import onnx

Shape = tuple[int, ...]  # of one image, without N
MOST_POINTS = 4  # maps that the rule chooses
COLOURS = 3
TENSORS_BYTES = 512 << 20  # all tensors of ResNet-50 at 224 px at once have 150 MiB
PRODUCTS = ("Gemm", "MatMul")
FLOAT = 1  # onnx.TensorProto.FLOAT


@dataclass(frozen=True)
class Network:
    """What a file computes of an image.

    Args:
        input: Name of its input.
        layout: `NCHW` or `NHWC`.
        size_px: Side of the image in pixels.
        one_by_one: Whether it takes one image at a time only.
        tensors: Name and shape of every float tensor, in the order of the nodes.
        outputs: The first tensor of each node by the node's name.
        points: What is read by the rule of `default_points`.
    """

    input: str
    layout: str
    size_px: int
    one_by_one: bool
    tensors: list[tuple[str, Shape]]
    outputs: dict[str, str]
    points: list[str]

    @property
    def largest_bytes(self) -> int:
        """Bytes of its largest tensor."""
        return 4 * max(math.prod(shape) for _, shape in self.tensors)


def try_network(path: Path, size_px: int | None) -> Network:
    """Run a network once, in a child process with limits on time and memory.

    Args:
        path: The `.onnx` file.
        size_px: Side of the image in pixels; None for what it asks for, or 96.

    Raises:
        ModelError: Missing, damaged, no image network, or it takes more time or memory than a model
            of its size may.
        UsageError: It takes images of another size.
    """
    found = json.loads(run_trial("cfl_edge.onnx.network_trial", path, str(size_px or 0).encode()))
    tensors = [(name, tuple(shape)) for name, shape in found.pop("tensors")]
    return Network(tensors=tensors, **found)


def is_map(shape: Sequence[int]) -> bool:
    """Whether a tensor is a map (C, H, W) of one image, or tokens (K, C) of which a grid is one."""
    return len(shape) == 2 or (len(shape) == 3 and shape[1] == shape[2])


def default_points(
    tensors: Sequence[tuple[str, Shape]], end: str | None, sums: Collection[str] = ()
) -> list[str]:
    """Choose what is read: the last map of every size, and the input of the last matrix product.

    Of maps the last four are taken, and none of three channels or fewer, which is the image itself.
    Where there are no maps of two sizes, as in a transformer, four sums of two tensors (the
    residual stream), equally spaced.

    Args:
        tensors: Name and shape of every tensor, in the order of the network.
        end: Input of the last product with a constant matrix, if it is a vector.
        sums: Names of tensors that are sums.

    Example:
        >>> default_points([("a", (8, 24, 24)), ("b", (8, 12, 12)), ("c", (9, 12, 12))], None)
        ['a', 'c']
    """
    maps = [(name, shape) for name, shape in tensors if len(shape) == 3 and is_map(shape)]
    last = {shape[1]: name for name, shape in maps if shape[1] > 1 and shape[0] > COLOURS}
    points = list(last.values())[-MOST_POINTS:]
    if len(points) < 2:
        tokens = [(name, shape) for name, shape in tensors if len(shape) == 2 and shape[0] > 1]
        alike = _most_alike(tokens or maps, sums) or _most_alike(tokens or maps)
        places = [len(alike) * part // MOST_POINTS - 1 for part in range(1, MOST_POINTS + 1)]
        points = list(dict.fromkeys(alike[max(place, 0)] for place in places)) if alike else []
    return [*points, *([end] if end is not None else [])]


def _most_alike(
    tensors: Sequence[tuple[str, Shape]], among: Collection[str] | None = None
) -> list[str]:
    """Return the names of the tensors of the shape that most of them have."""
    chosen = [(name, shape) for name, shape in tensors if among is None or name in among]
    shapes = [shape for _, shape in chosen]
    usual = max(shapes, key=shapes.count, default=None)
    return [name for name, shape in chosen if shape == usual]


def _look(path: Path, request: bytes) -> dict[str, Any]:
    import onnx

    model = onnx.load(path, load_external_data=False)
    asked_px = int(request)
    entry, layout, one_by_one, fixed_px = image_input(model.graph, path)
    if asked_px and fixed_px and asked_px != fixed_px:
        raise UsageError(
            f"--image is {asked_px}, but {path} reads images of {fixed_px} x {fixed_px}",
            hint=f"--image {fixed_px}",
        )
    size_px = fixed_px or asked_px or IMAGE_PX_WITH_BACKBONE
    require_numbers(path)
    if opset_of(model) < OPSET:
        model = onnx.version_converter.convert_version(model, OPSET)
    shape = (3, size_px, size_px) if layout == "NCHW" else (size_px, size_px, 3)
    tensors = _run(model, entry, np.zeros((1, *shape), np.float32))
    outputs = {node.name: node.output[0] for node in model.graph.node if node.name}
    made = (node.output[0] for node in model.graph.node if node.op_type == "Constant")
    constants = {tensor.name for tensor in model.graph.initializer}.union(made)
    sums = {
        node.output[0]
        for node in model.graph.node
        if node.op_type == "Add" and not constants.intersection(node.input)
    }
    points = default_points(tensors, _last_vector(model.graph, constants, dict(tensors)), sums)
    return asdict(Network(entry, layout, size_px, one_by_one, tensors, outputs, points))


def image_input(graph: onnx.GraphProto, path: Path) -> tuple[str, str, bool, int]:
    """Return name, layout, whether it takes one image only, and the side, 0 for any.

    Raises:
        ModelDamagedError: It has another input than one square image.
    """
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    said = [
        f"{value.name} {[dim.dim_value or '?' for dim in value.type.tensor_type.shape.dim]}"
        for value in inputs
    ]
    kind = inputs[0].type.tensor_type if len(inputs) == 1 else None
    dims = [dim.dim_value for dim in kind.shape.dim] if kind is not None else []
    layout = {(4, 1): "NCHW", (4, 3): "NHWC"}.get((len(dims), dims.index(3) if 3 in dims else 0))
    if kind is None or layout is None or kind.elem_type != FLOAT or dims[0] > 1:
        raise ModelDamagedError(
            f"{path} has the inputs {', '.join(said)[:200] or 'none'}, expected one of float32, "
            "(N, 3, H, W) or (N, H, W, 3), with N free or 1",
            hint="",
        )
    sides = dims[2:] if layout == "NCHW" else dims[1:3]
    fixed = {side for side in sides if side}
    if len(fixed) > 1 or any(not LEAST_IMAGE_PX <= side <= MOST_IMAGE_PX for side in fixed):
        raise ModelDamagedError(
            f"{path} reads images of {sides[1]} x {sides[0]} pixels, expected a square of "
            f"{LEAST_IMAGE_PX} to {MOST_IMAGE_PX}",
            hint="",
        )
    return inputs[0].name, layout, dims[0] == 1, max(fixed, default=0)


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of ONNX's own operations that a model uses."""
    return max((entry.version for entry in model.opset_import if not entry.domain), default=0)


def _run(model: onnx.ModelProto, entry: str, image: np.ndarray) -> list[tuple[str, Shape]]:
    """Return name and shape of every float tensor that a network makes of an image."""
    import onnx
    import onnxruntime

    names = [name for node in model.graph.node for name in node.output if name]
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = session_options(threads=1)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), sess_options=options, providers=["CPUExecutionProvider"]
    )
    found = zip(names, session.run(names, {entry: image}), strict=True)
    return [
        (name, array.shape[1:])
        for name, array in found
        if getattr(array, "dtype", None) == np.float32 and array.ndim > 1 and len(array) == 1
    ]


def _last_vector(
    graph: onnx.GraphProto, constants: Collection[str], shapes: Mapping[str, Shape]
) -> str | None:
    """Return what the last product with a constant matrix reads, if it is a vector (N, F)."""
    for node in reversed(graph.node):
        if node.op_type in PRODUCTS and node.input[1] in constants:
            return node.input[0] if len(shapes.get(node.input[0], ())) == 1 else None
    return None


if __name__ == "__main__":
    sys.exit(answer_trial(_look, TENSORS_BYTES))
