"""A good ONNX model, to make hostile ones from."""

import numpy as np
from onnx import TensorProto as T
from onnx import helper, numpy_helper

from cfl_edge.onnx.metadata import to_metadata

SIZE_PX, NAMES = 8, ["red", "green"]
FLAT = SIZE_PX * SIZE_PX * 3
KINDS = {}  # name to a function that returns the bytes


def kind(function):
    KINDS[function.__name__] = function
    return function


def constant(name, values, dtype=None):
    return numpy_helper.from_array(np.array(values, dtype), name)


def node(op, inputs, *outputs, **attributes):
    return helper.make_node(op, inputs, list(outputs), **attributes)


# The first values of the image as scores: whatever follows depends on the image, so that it is not
# folded into a constant when the file is loaded.
HEAD = [
    node("Cast", ["image"], "h", to=T.FLOAT),
    node("Flatten", ["h"], "flat"),
    node("Slice", ["flat", "zero", "two", "one"], "first"),
]
NUMBERS = [constant("zero", [0]), constant("one", [1]), constant("two", [2])]


def graph_of(nodes, constants=(), size_px=SIZE_PX, names=NAMES):
    return helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", T.UINT8, ["N", size_px, size_px, 3])],
        [helper.make_tensor_value_info("scores", T.FLOAT, ["N", len(names)])],
        [*NUMBERS, *constants],
    )


def model(nodes=None, constants=(), size_px=SIZE_PX, names=NAMES, **metadata):
    """Return a model that is good but for what is given; the last node makes the scores."""
    nodes = [*HEAD, *(nodes or [node("Identity", ["first"], "scores")])]
    made = helper.make_model(
        graph_of(nodes, constants, size_px, names),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    said = to_metadata(names, size_px, {})
    said |= {f"cfl_edge.{key}": value for key, value in metadata.items()}
    helper.set_model_props(made, {key: text for key, text in said.items() if text is not None})
    return made


def changed(change, **options):
    made = model(**options)
    change(made)
    return made.SerializeToString()
