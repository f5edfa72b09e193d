"""The distance of unknown things in an exported file, when its classes change. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cfl_edge.defaults import NEVER, NEVER_NEAREST
from cfl_edge.onnx.metadata import (
    UNKNOWN_DISTANCE,
    UNKNOWN_NEAREST,
    UNKNOWN_PREFIX,
    UNKNOWN_SHAPE,
    UNKNOWN_TOTAL,
)

if TYPE_CHECKING:
    import onnx

Matrix = npt.NDArray[np.float32]


def change_distance(model: onnx.ModelProto, before: Matrix, embeddings: Matrix) -> bool:
    """Adapt the distance of unknown things to new label embeddings, or remove it, in place.

    Three cases are exact: only names have changed; the added classes have no samples, so nothing is
    nearest to them; the distance is minus the largest score.

    Args:
        model: With or without the output `unknown_distance`.
        before: The old label embeddings, (F, Z_old).
        embeddings: The new ones, (F, Z).

    Returns:
        False where it had to be removed.
    """
    from onnx.numpy_helper import to_array

    if all(output.name != UNKNOWN_DISTANCE for output in model.graph.output):
        return True
    if np.array_equal(before, embeddings):
        return True
    initializers = model.graph.initializer
    tensors = {tensor.name: to_array(tensor) for tensor in initializers if _is_ours(tensor)}
    nearest, (_, terms, classes) = tensors[UNKNOWN_NEAREST], tensors[UNKNOWN_SHAPE]
    if UNKNOWN_TOTAL not in tensors and np.array_equal(nearest, -before):
        _replace(model, -embeddings[:, None])
        return True
    new = embeddings[:, classes:]
    if np.array_equal(before, embeddings[:, :classes]) and (new[-1] <= NEVER).all():
        never = np.zeros((len(new), terms, new.shape[1]), np.float32)
        never[-1] = NEVER_NEAREST
        _replace(model, np.concatenate([nearest.reshape(-1, terms, classes), never], axis=2))
        return True
    for items in (model.graph.output, model.graph.node, initializers):
        for item in filter(_is_ours, list(items)):
            items.remove(item)
    return False


def _is_ours(item: Any) -> bool:
    return bool(item.name.startswith(UNKNOWN_PREFIX))


def _replace(model: onnx.ModelProto, nearest: Matrix) -> None:
    """Store other terms, (F, S, Z)."""
    from onnx import numpy_helper

    features, terms, classes = nearest.shape
    values: dict[str, npt.NDArray[Any]] = {
        UNKNOWN_NEAREST: np.ascontiguousarray(nearest.reshape(features, -1), np.float32),
        UNKNOWN_SHAPE: np.array([0, terms, classes], np.int64),
    }
    for tensor in model.graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(numpy_helper.from_array(values[tensor.name], tensor.name))
