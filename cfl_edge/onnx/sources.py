"""The end of an exported graph: from the joined features to the scores. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfl_edge.errors import ExportError
from cfl_edge.onnx.metadata import (
    FEATURES,
    JOINED_FEATURES,
    LABEL_EMBEDDINGS,
    SCORES,
    UNKNOWN_PREFIX,
)

if TYPE_CHECKING:
    import onnx


def classifier_nodes(graph: onnx.GraphProto) -> list[str]:
    """Return the names of all operations from the joined features on.

    Raises:
        ExportError: The graph does not end in label embeddings.
    """
    last = [node for node in graph.node if node.name == SCORES]
    if len(last) != 1 or list(last[0].input)[1:] != [LABEL_EMBEDDINGS]:
        raise ExportError(
            "The graph does not end in label embeddings",
            hint="cfl-edge export DIR -o OUT writes the whole model again",
        )
    ends = {JOINED_FEATURES, FEATURES, SCORES}
    return [
        node.name
        for node in graph.node
        if node.name in ends or node.name.startswith(UNKNOWN_PREFIX)
    ]
