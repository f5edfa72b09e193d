"""Where an exported graph turns from layers into scores: its head and the features it reads.

Every export ends the same way: the pooled features of all sources are concatenated, a constant 1
is appended, and the products with the label embeddings are the scores. No torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfl_edge.errors import ExportError
from cfl_edge.onnx.metadata import LABEL_EMBEDDINGS, UNKNOWN_PREFIX

if TYPE_CHECKING:
    import onnx

HEAD_NODE = "head"  # of `onnx_graph.append_head`
JOINING = ("Concat", "Pad")  # operations between the sources and the head


def find_head(graph: onnx.GraphProto) -> onnx.NodeProto:
    """Return the product of features and label embeddings.

    Raises:
        ExportError: There is none.
    """
    heads = [node for node in graph.node if node.name == HEAD_NODE]
    if len(heads) != 1 or len(heads[0].input) != 2 or heads[0].input[1] != LABEL_EMBEDDINGS:
        raise ExportError(
            "The graph cannot be used so: it does not end in label embeddings",
            hint="cfl-edge export DIR -o OUT writes the whole model anew",
        )
    head: onnx.NodeProto = heads[0]
    return head


def joining_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return the operations that join the sources to what the head reads, the last first."""
    made_by = {output: node for node in graph.node for output in node.output}
    nodes, node = [], made_by.get(find_head(graph).input[0])
    while node is not None and node.op_type in JOINING:
        nodes.append(node)
        if node.op_type == "Concat":
            break
        node = made_by.get(node.input[0])
    return nodes


def source_tensors(graph: onnx.GraphProto) -> list[str]:
    """Return the names of the pooled features of every source, each (N, C_r), in their order.

    Raises:
        ExportError: The graph does not end in label embeddings.
    """
    nodes = joining_nodes(graph)
    if not nodes:
        return [find_head(graph).input[0]]
    last = nodes[-1]
    return list(last.input) if last.op_type == "Concat" else [last.input[0]]


def head_nodes(graph: onnx.GraphProto) -> list[str]:
    """Return the names of all operations from the joining of the sources on.

    Raises:
        ExportError: The graph does not end in label embeddings.
    """
    names = [find_head(graph).name, *(node.name for node in joining_nodes(graph))]
    return names + [node.name for node in graph.node if node.name.startswith(UNKNOWN_PREFIX)]
