"""`--backbone onnx:FILE`: any ONNX image network as a frozen backbone.

The file is tried in a process of its own (`cfl_edge.onnx.network_trial`). Its nodes up to the
points that are read become part of our graph, between preprocessing and joint features.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cfl_edge.core.joint import JointFeatures, ReadPoint, numbers_within
from cfl_edge.defaults import IMAGE_PX_WITH_BACKBONE
from cfl_edge.errors import CflEdgeError, ModelDamagedError, ModelError, UsageError, quoted
from cfl_edge.onnx.backbone import append_joint
from cfl_edge.onnx.builder import IR_VERSION, OPSET, BackboneGraph, GraphBuilder, Value
from cfl_edge.onnx.file_checks import CUT, require_plain_file
from cfl_edge.onnx.metadata import IMAGE
from cfl_edge.onnx.network_name import EXAMPLE, PREFIX, NetworkFile
from cfl_edge.onnx.network_trial import Network, Shape, image_input, is_map, opset_of, try_network

if TYPE_CHECKING:
    import onnx

INNER = "network/"  # what names of the file begin with in our graph
LARGE_SIDE = 4  # maps of more cells a side are read in 3 x 3 cells, others in 2 x 2


@dataclass(frozen=True)
class OpenedNetwork:
    """A file whose network was tried.

    Args:
        file: With all points that are read.
        sha256: Of its bytes, in hex digits.
        network: What the trial found.
        numbers: Of the joint features, D, at most.
    """

    file: NetworkFile
    sha256: str
    network: Network
    numbers: int

    @property
    def maps(self) -> list[tuple[str, Shape]]:
        """Name and shape of what is read as maps, in the order of the network."""
        return [point for point in self._points() if len(point[1]) > 1]

    @property
    def widths(self) -> list[int]:
        """C_E and D."""
        end = self._end()
        last = _map_shape(self.maps[-1][1]) if end is None else dict(self.network.tensors)[end]
        return [last[0], self._joint().width]

    def graph(self) -> BackboneGraph:
        """Build the graph; the file is read again.

        Raises:
            ModelError: It is gone, or another one by now.
        """
        content = _content(self.file.path)
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise ModelDamagedError(
                f"{self.file.path}, the file of the backbone, has changed since it was opened",
                hint=f"sha256sum {quoted(self.file.path)} must give {self.sha256}",
            )
        return self._graph(content)

    def _points(self) -> list[tuple[str, Shape]]:
        shapes = dict(self.network.tensors)
        return [(name, shapes[name]) for name in self.file.read]

    def _end(self) -> str | None:
        """Name of what is read as a vector, the end; without one it is the last map's mean."""
        return next((name for name, shape in self._points()[::-1] if len(shape) == 1), None)

    def _joint(self) -> JointFeatures:
        shapes = [_map_shape(shape) for _, shape in self.maps]
        points = [
            ReadPoint(cells=min(side, 3 if side > LARGE_SIDE else 2), share=1)
            for _, side, _ in shapes
        ]
        return JointFeatures([channels for channels, _, _ in shapes], points, self.numbers)

    def _graph(self, content: bytes) -> BackboneGraph:
        import onnx
        from onnx import compose

        model = onnx.load_from_string(content)
        del content
        if opset_of(model) < OPSET:
            model = onnx.version_converter.convert_version(model, OPSET)
        model = compose.add_prefix(model, INNER)
        network, size_px = self.network, self.network.size_px
        nodes = _needed(model.graph, [INNER + name for name in self.file.read])
        used = {name for node in nodes for name in node.input}
        kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
        rest = onnx.ModelProto(
            ir_version=max(model.ir_version, IR_VERSION),
            producer_name="cfl-edge",
            opset_import=model.opset_import,
            graph=onnx.GraphProto(name="cfl-edge", initializer=kept),
        )
        graph = GraphBuilder(rest)
        graph.describe(
            "input",
            IMAGE,
            [size_px, size_px, 3],
            number=onnx.TensorProto.UINT8,
            one_by_one=network.one_by_one,
        )
        self._append_preprocessing(graph)
        for node in nodes:
            node.doc_string = ""
            del node.metadata_props[:]
        rest.graph.node.extend(nodes)
        maps = [_append_map(graph, INNER + name, shape) for name, shape in self.maps]
        end = self._end()
        last = graph.reduce("ReduceMean", maps[-1].name, [2, 3]) if end is None else INNER + end
        joint = append_joint(graph, maps, self._joint())
        final = Value(graph.node("Concat", [last, *joint], axis=1), (sum(self.widths),))
        # As with the default backbone, layers learn from the stage before the last one.
        return BackboneGraph(graph, maps[-2:][0], final)

    def _append_preprocessing(self, graph: GraphBuilder) -> None:
        file, first = self.file, self.network.layout == "NCHW"
        shape = (1, 3, 1, 1) if first else (1, 1, 1, 3)
        x = graph.node("Transpose", [IMAGE], perm=[0, 3, 1, 2]) if first else IMAGE
        x = graph.node("Cast", [x], to=1)  # onnx.TensorProto.FLOAT
        mean, std = (np.array(v, np.float32).reshape(shape) for v in (file.mean, file.std))
        x = graph.node("Mul", [x, graph.constant(np.float32(file.scale))])
        x = graph.node("Sub", [x, graph.constant(mean)])
        graph.node("Div", [x, graph.constant(std)], INNER + self.network.input)


def open_network(name: str, statistics_mib: float, size_px: int | None) -> OpenedNetwork:
    """Try the network that `onnx:…` names, and find what is read of it.

    Args:
        name: Of the backbone.
        statistics_mib: See `build_backbone`.
        size_px: Side of the images in pixels; None for the size of the file, or the default where
            it takes any.

    Raises:
        UsageError: The name has no meaning, or the network has no such node or size.
        ModelError: The file is missing, damaged, or does more than compute a graph of an image.
    """
    file = NetworkFile.parse(name)
    content = _content(file.path)
    try:
        network = try_network(file.path, size_px)
    except ModelError as error:
        raise type(error)(f"--backbone: {error.problem}", hint=EXAMPLE) from error
    shapes = dict(network.tensors)
    read = tuple(_tensor(file, name, network) for name in file.read) or network.points
    read = tuple(sorted(dict.fromkeys(read), key=list(shapes).index))
    opened = OpenedNetwork(
        replace(file, read=read),
        hashlib.sha256(content).hexdigest(),
        network,
        numbers_within(statistics_mib),
    )
    if not opened.maps:
        raise UsageError(
            f"--backbone reads no map of {file.path}: {', '.join(read) or 'it has none'}",
            hint=f"read={_some_maps(network)}" if _some_maps(network) else EXAMPLE,
        )
    return opened


def side_px(name: str) -> int:
    """Return the side of the images that the network reads, in pixels; 96 where it takes any.

    Args:
        name: Of the backbone.

    Raises:
        UsageError: The name has no meaning.
        ModelError: The file is missing, damaged, or no image network.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    path = NetworkFile.parse(name).path
    try:
        graph = onnx.load_from_string(_content(path)).graph
        return image_input(graph, path)[-1] or IMAGE_PX_WITH_BACKBONE
    except DecodeError as error:
        raise ModelDamagedError(f"--backbone: {path} {CUT}", hint=EXAMPLE) from error
    except ModelDamagedError as error:
        raise ModelDamagedError(f"--backbone: {error.problem}", hint=EXAMPLE) from error


def _content(path: Path) -> bytes:
    """Return the bytes of the file, which was checked by `try_network` or is now."""
    try:
        require_plain_file(path)
        return path.read_bytes()
    except CflEdgeError as error:
        raise type(error)(
            f"--backbone: {error.problem}",
            hint=f"put the file back at {path}, or say where it is now, with --backbone {PREFIX}…",
        ) from error
    except OSError as error:
        raise ModelError(
            f"--backbone: {path} cannot be read: {error.strerror}", hint=f"ls -lL {quoted(path)}"
        ) from error


def _tensor(file: NetworkFile, asked: str, network: Network) -> str:
    """Return the tensor that a name of `read=` means."""
    name = network.outputs.get(asked, asked)
    shape = dict(network.tensors).get(name)
    if shape is None:
        raise UsageError(
            f"--backbone reads {asked!r}, which {file.path} does not have as a tensor of numbers",
            hint=f"read={_some_maps(network)}",
        )
    if not is_map(shape) and len(shape) != 1:
        raise UsageError(
            f"--backbone reads {asked!r}, whose shape without N is {shape}, expected (C, H, W), "
            "(tokens, C) or (C,)",
            hint=f"read={_some_maps(network)}",
        )
    return name


def _some_maps(network: Network) -> str:
    return ",".join(network.points)


def _map_shape(shape: Shape) -> Shape:
    """Return (C, H, W) of a map, or of the grid at the end of tokens (K, C)."""
    if len(shape) == 3:
        return shape
    side = math.isqrt(shape[0])  # before the grid, a transformer has tokens for the whole image
    return (shape[1], side, side)


def _append_map(graph: GraphBuilder, name: str, shape: Shape) -> Value:
    """Append what is read of a map or of tokens, (N, C, H, W)."""
    channels, height, width = _map_shape(shape)
    if len(shape) == 3:
        return Value(name, shape)
    first, last = shape[0] - height * width, shape[0]
    axis, begin, stop = (graph.integers([number]) for number in (1, first, last))
    turned = graph.node(
        "Transpose", [graph.node("Slice", [name, begin, stop, axis])], perm=[0, 2, 1]
    )
    grid = graph.integers([0, channels, height, width])
    return Value(graph.node("Reshape", [turned, grid]), (channels, height, width))


def _needed(graph: onnx.GraphProto, names: Sequence[str]) -> list[onnx.NodeProto]:
    """Return the nodes that make some tensors, in their order."""
    wanted, nodes = set(names), []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            nodes.append(node)
    return nodes[::-1]
