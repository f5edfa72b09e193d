"""Nodes and constants of an ONNX graph, one after the other. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import onnx

# What our own graphs need, LayerNormalization above all; ONNX Runtime 1.14 (2023) reads them, and
# newer stamps would lock boards with old packages out.
OPSET, IR_VERSION = 17, 8
GRAPH, INITIALIZER, RAW_DATA = 7, 5, 9  # numbers of fields in onnx.proto
LENGTH_DELIMITED = 2  # protobuf's wire type of bytes and messages
REDUCES_BY_INPUT = 18  # the opset from which every Reduce operation reads its axes as an input


class Value(NamedTuple):
    """A float tensor in a graph.

    Args:
        name: Of the tensor.
        shape: Of one sample, without N.
    """

    name: str
    shape: tuple[int, ...]


class GraphBuilder:
    """An ONNX model in the making.

    Args:
        model: A graph to append to; None begins with an empty one.

    Attributes:
        model: The model so far, without the constants that were added.
        constants: Their values by name, not copied where they are contiguous.

    Example:
        >>> graph = GraphBuilder()
        >>> graph.node("Add", ["x", graph.constant(np.float32(1))], "y")
        'y'
    """

    def __init__(self, model: onnx.ModelProto | None = None) -> None:
        from onnx import helper

        self._helper = helper
        self.model = model or helper.make_model(
            helper.make_graph([], "cfl-edge", [], []),
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="cfl-edge",
        )
        (self._opset,) = (entry.version for entry in self.model.opset_import if not entry.domain)
        self.constants: dict[str, npt.NDArray[Any]] = {}
        self._count: Counter[str] = Counter()

    def node(self, kind: str, inputs: Sequence[str], name: str = "", **attributes: Any) -> str:
        """Append an operation; return the name of its output.

        Args:
            kind: Of the operation, such as `Conv`.
            inputs: Names of tensors.
            name: Of the operation and its output; default the kind and a number.
            **attributes: Of the operation.
        """
        name = name or self._new_name(kind)
        node = self._helper.make_node(kind, inputs, [name], name=name, **attributes)
        self.model.graph.node.append(node)
        return name

    def split(self, value: str, sizes: Sequence[int], axis: int) -> list[str]:
        """Append a Split; return the names of its outputs."""
        name = self._new_name("Split")
        parts = [f"{name}_{number}" for number in range(len(sizes))]
        inputs = [value, self.integers(sizes)]
        node = self._helper.make_node("Split", inputs, parts, name=name, axis=axis)
        self.model.graph.node.append(node)
        return parts

    def reduce(
        self, kind: str, value: str, axes: Sequence[int], name: str = "", *, keepdims: bool = False
    ) -> str:
        """Append a reduction; return the name of its output.

        Args:
            kind: Such as `ReduceMean`.
            value: Name of a tensor.
            axes: That go, or stay with length 1.
            name: As in `node`.
            keepdims: Whether they stay.
        """
        if self._opset >= REDUCES_BY_INPUT or kind == "ReduceSum":
            return self.node(kind, [value, self.integers(axes)], name, keepdims=int(keepdims))
        return self.node(kind, [value], name, axes=list(axes), keepdims=int(keepdims))

    def constant(self, array: npt.ArrayLike, name: str = "") -> str:
        """Add a constant; return its name.

        Args:
            array: As it is to be stored, float32 or int64.
            name: Of the tensor; default a number.
        """
        array = np.ascontiguousarray(array).reshape(np.shape(array))
        name = name or self._new_name("constant")
        self.constants[name] = array
        return name

    def integers(self, numbers: Sequence[int]) -> str:
        """Add a constant of axes or of a shape; return its name."""
        return self.constant(np.array(numbers, np.int64))

    def describe(
        self,
        kind: str,
        name: str,
        shape: Sequence[int],
        *,
        number: int = 1,
        one_by_one: bool = False,
    ) -> None:
        """Declare an input or output of the graph, whose first axis is N.

        Args:
            kind: `input` or `output`.
            name: Of the tensor.
            shape: Without N.
            number: `onnx.TensorProto.FLOAT` (1), or `onnx.TensorProto.UINT8`.
            one_by_one: Whether N is 1.
        """
        first = 1 if one_by_one else "N"
        info = self._helper.make_tensor_value_info(name, number, [first, *shape])
        getattr(self.model.graph, kind).append(info)

    def serialised(self) -> list[memoryview]:
        """Return the bytes of the model in parts; those of large constants are not copied.

        Fields of a message may come in any order: protobuf.dev/programming-guides/encoding.
        """
        import onnx

        graph = [memoryview(self.model.graph.SerializeToString())]
        for name, array in self.constants.items():
            kind = self._helper.np_dtype_to_tensor_dtype(array.dtype)
            tensor = onnx.TensorProto(name=name, dims=array.shape, data_type=kind)
            values = memoryview(array.reshape(-1).view(np.uint8).data)
            head = memoryview(tensor.SerializeToString())
            graph += _field(INITIALIZER, [head, *_field(RAW_DATA, [values])])
        rest = onnx.ModelProto()
        rest.CopyFrom(self.model)
        rest.ClearField("graph")
        return [memoryview(rest.SerializeToString()), *_field(GRAPH, graph)]

    def _new_name(self, kind: str) -> str:
        self._count[kind] += 1
        return f"{kind}_{self._count[kind]}"


def _field(number: int, parts: Sequence[memoryview]) -> list[memoryview]:
    """Return a length-delimited field of protobuf."""
    length = sum(len(part) for part in parts)
    return [memoryview(_varint(number << 3 | LENGTH_DELIMITED) + _varint(length)), *parts]


def _varint(number: int) -> bytes:
    """Return a number in groups of 7 bits, the lowest first.

    Example:
        >>> _varint(300).hex()
        'ac02'
    """
    groups = []
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])


class BackboneGraph(NamedTuple):
    """A graph from `image` (N, size_px, size_px, 3) to what a backbone returns.

    Args:
        graph: To append to; it has no output yet.
        h0: The features for the first layer, (C, H, W).
        final: Pooled features of the network's end and joint features, (C_E + D,); None without a
            network.
    """

    graph: GraphBuilder
    h0: Value
    final: Value | None
