"""An exported graph cut into stages: each computes one more tensor and keeps what later ones need.

Nothing is changed within them, so all stages one after the other are the graph. No torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cfl_edge.errors import ExportError

if TYPE_CHECKING:
    import onnx

# Made anew in each stage that reads them: what lies before them is smaller, and ONNX Runtime only
# computes with integers where it sees them beside the operation.
COPIED = ("DequantizeLinear", "Constant")


def cut_graph(model: onnx.ModelProto, targets: Sequence[str]) -> list[onnx.ModelProto]:
    """Return one model for each target, which reads what the ones before it wrote.

    Args:
        model: With all types to be inferred; left as it is.
        targets: Names of tensors, in the order in which they are wanted. The inputs and outputs of
            the returned models have the names of the graph's tensors; the first output is the
            target.

    Raises:
        ExportError: The graph does not make such a tensor.
    """
    import onnx
    from onnx import helper

    graph = onnx.shape_inference.infer_shapes(model).graph
    types = {value.name: value.type for value in (*graph.value_info, *graph.input, *graph.output)}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    made_by = {output: place for place, node in enumerate(graph.node) for output in node.output}
    stages = _assign(graph, targets, made_by)

    reads = [_reads(graph, places, made_by, constants) for places in stages]
    models = []
    for number, (target, places) in enumerate(zip(targets, stages, strict=True)):
        nodes = [graph.node[place] for place in sorted(places)]
        written = {output for node in nodes for output in node.output}
        later = {name for names in reads[number + 1 :] for name in names}
        outputs = [target, *sorted(later & written - {target})]
        used = {name for node in nodes for name in node.input}
        part = helper.make_graph(
            nodes,
            f"stage-{number}",
            [helper.make_value_info(name, types[name]) for name in reads[number]],
            [helper.make_value_info(name, types[name]) for name in outputs],
            [constants[name] for name in sorted(used & constants.keys())],
        )
        models.append(
            helper.make_model(part, opset_imports=model.opset_import, ir_version=model.ir_version)
        )
    return models


def _assign(
    graph: onnx.GraphProto, targets: Sequence[str], made_by: dict[str, int]
) -> list[set[int]]:
    """Return the operations of each stage: what its target needs and no stage before has done."""
    done: set[int] = set()
    stages = []
    for target in targets:
        if target not in made_by:
            raise ExportError(
                f"The graph cannot be cut: it makes no {target!r}",
                hint="cfl-edge export DIR -o OUT writes the whole model anew",
            )
        places: set[int] = set()
        waiting = [made_by[target]]
        while waiting:
            place = waiting.pop()
            node = graph.node[place]
            if place in places or (place in done and node.op_type not in COPIED):
                continue
            places.add(place)
            waiting += [made_by[name] for name in node.input if name in made_by]
        done |= places
        stages.append(places)
    return stages


def _reads(
    graph: onnx.GraphProto,
    places: set[int],
    made_by: dict[str, int],
    constants: dict[str, onnx.TensorProto],
) -> list[str]:
    """Return what a stage reads that it does not make, in the order of the graph."""
    names: dict[str, None] = {}
    for place in sorted(places):
        for name in graph.node[place].input:
            if name and name not in constants and made_by.get(name, -1) not in places:
                names[name] = None
    return list(names)
