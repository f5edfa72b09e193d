"""New weights for an exported graph: a trace takes half a minute, this takes milliseconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cfl_edge.errors import ExportError
from cfl_edge.onnx.metadata import LABEL_EMBEDDINGS, UNKNOWN_PREFIX
from cfl_edge.onnx.sources import HEAD_NODE, find_head

if TYPE_CHECKING:
    import onnx

Weights = Mapping[str, npt.NDArray[Any]]


class Place(NamedTuple):
    """Where a weight of the network lies in a graph.

    Args:
        initializer: Its name there.
        shape: Its shape there.
        transposed: Whether its axes lie there in reverse order.
    """

    initializer: str
    shape: tuple[int, ...]
    transposed: bool


Places = Mapping[str, Sequence[Place]]
"""Of each weight of the network, by its name, every copy in a graph."""


def without_head(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return an exported model as it was before `append_head`: its output are the features.

    Args:
        model: Left as it is.

    Raises:
        ExportError: It has no such head.
    """
    import onnx
    from onnx import TensorProto, helper

    head = find_head(model.graph)
    features = onnx.ModelProto()
    features.CopyFrom(model)
    graph = features.graph
    width = [tensor.dims[0] for tensor in graph.initializer if tensor.name == LABEL_EMBEDDINGS]
    for items in (graph.node, graph.initializer):
        kept = [
            item
            for item in items
            if item.name not in (HEAD_NODE, LABEL_EMBEDDINGS)
            and not item.name.startswith(UNKNOWN_PREFIX)
        ]
        del items[:]
        items.extend(kept)
    del graph.output[:]
    output = helper.make_tensor_value_info(head.input[0], TensorProto.FLOAT, ["N", *width])
    graph.output.append(output)
    return features


def find_places(model: onnx.ModelProto, weights: Weights) -> dict[str, list[Place]]:
    """Return where each weight lies, found by its values: the exporter transposes and reshapes.

    Args:
        model: Traced with these weights.
        weights: Of the network, by name; of different values, or they would be taken for another.

    Raises:
        ExportError: One is not to be found.

    Example:
        >>> from onnx import helper, numpy_helper
        >>> w = np.arange(6, dtype=np.float32).reshape(2, 3)
        >>> graph = helper.make_graph([], "g", [], [], [numpy_helper.from_array(w.T.copy(), "t")])
        >>> find_places(helper.make_model(graph), {"w": w})
        {'w': [Place(initializer='t', shape=(3, 2), transposed=True)]}
    """
    from onnx import numpy_helper

    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    places: dict[str, list[Place]] = {}
    for name, weight in weights.items():
        found = places[name] = []
        for initializer, array in arrays.items():
            if array.dtype != weight.dtype or array.size != weight.size:
                continue
            for transposed in (False, True):
                laid = weight.T if transposed else weight
                if np.array_equal(array.ravel(), laid.ravel()):
                    found.append(Place(initializer, array.shape, transposed))
                    break
        if not found:
            raise _unfit(f"it does not hold {name} of shape {weight.shape}")
    return places


def named_places(model: onnx.ModelProto, weights: Weights) -> dict[str, list[Place]]:
    """Return where each weight lies, found by its name alone.

    Args:
        model: Traced with any weights of the network.
        weights: Of the network, by name.

    Raises:
        ExportError: One is not to be found.
    """
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    for name, weight in weights.items():
        if shapes.get(name) != weight.shape:
            raise _unfit(f"it does not hold {name} of shape {weight.shape}")
    return {name: [Place(name, weight.shape, False)] for name, weight in weights.items()}


def with_weights(model: onnx.ModelProto, places: Places, weights: Weights) -> onnx.ModelProto:
    """Return a copy of a model with other weights.

    Args:
        model: Left as it is.
        places: Of `find_places` or `named_places`.
        weights: The new ones, of the same shapes.
    """
    import onnx
    from onnx import numpy_helper

    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    tensors = {tensor.name: tensor for tensor in changed.graph.initializer}
    for name, copies in places.items():
        for place in copies:
            weight = weights[name].T if place.transposed else weights[name]
            array = np.ascontiguousarray(weight).reshape(place.shape)
            tensors[place.initializer].CopyFrom(numpy_helper.from_array(array, place.initializer))
    return changed


def _unfit(what: str) -> ExportError:
    return ExportError(
        f"The graph cannot take other weights: {what}",
        hint="cfl-edge export DIR -o OUT writes the whole model instead",
    )
