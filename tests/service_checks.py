"""Small models for tests of the service: the score of a class is the mean of a channel."""

import os
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from cfl_edge.onnx.metadata import to_metadata

SIZE_PX = 8
RED = np.zeros((12, 16, 3), np.uint8)
RED[..., 0] = 200
HOSTILE = [
    "$(touch cfl_edge_pwned); `id` | sh && '\"",
    "<script>alert(1)</script>",
    'a"} 1\ncfl_edge_frames_total 666\nx{label="',
    "back\\slash\r\nSet-Cookie: a=b",
    "\x1b]0;title\x07\x1b[2J",
    "\u202egnp.exe",
    "é鍵 %s {0}",
]


def colours(classes=("red", "green", "blue"), *, scale=1.0):
    """A model of up to 3 classes; with another scale, its scores are multiplied by it."""
    embeddings = np.eye(3, len(classes), dtype=np.float32) * np.float32(scale)
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["h"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["h", "axes"], ["features"], keepdims=0),
            helper.make_node("MatMul", ["features", "label_embeddings"], ["scores"], name="head"),
        ],
        "colours",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIZE_PX, SIZE_PX, 3])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", len(classes)])],
        [
            numpy_helper.from_array(np.array([1, 2]), "axes"),
            numpy_helper.from_array(embeddings, "label_embeddings"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(model, to_metadata(classes, SIZE_PX, {}))
    return model


def model_bytes(classes, *, scale=1.0):
    return colours(classes, scale=scale).SerializeToString()


def replace(path: Path, content: bytes):
    """As `replace_files` does: the name gets another file."""
    temporary = path.with_name("new")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def with_work(kind):
    """A model whose scores are added to nothing, which takes minutes, 10 GB, or hides a NaN."""
    model = colours(["pen", "green"])
    graph, nodes = model.graph, []
    if kind == "minutes":  # 500 products of 1500 x 1500, which depend on the image
        sizes = numpy_helper.from_array(np.array([1500, 1500]), "sizes")
        nodes = [
            helper.make_node("ReduceMean", ["h"], ["mean"], keepdims=0),
            helper.make_node("Expand", ["mean", "sizes"], ["p0"]),
            *(helper.make_node("MatMul", [f"p{i}", "p0"], [f"p{i + 1}"]) for i in range(500)),
            helper.make_node("ReduceMin", ["p500"], ["work"], keepdims=0),
        ]
    elif kind == "memory":
        sizes = numpy_helper.from_array(np.array([2500, 1000, 1000]), "sizes")
        nodes = [
            helper.make_node("ConstantOfShape", ["sizes"], ["p"]),
            helper.make_node("ReduceMin", ["p"], ["work"], keepdims=0),
        ]
    else:  # the NaN is never chosen
        sizes = numpy_helper.from_array(np.array([1, np.nan], np.float32), "sizes")
        nodes = [
            helper.make_node("IsNaN", ["sizes"], ["bad"]),
            helper.make_node("Sub", ["sizes", "sizes"], ["zero"]),
            helper.make_node("ReduceMax", ["h"], ["top"], keepdims=0),
            helper.make_node("Where", ["bad", "top", "zero"], ["chosen"]),
            helper.make_node("ReduceMin", ["chosen"], ["work"], keepdims=0),
        ]
    graph.initializer.append(sizes)
    last = graph.node[-1]
    last.output[0] = "before"
    graph.node.extend([*nodes, helper.make_node("Min", ["work", "zeros"], ["nothing"])])
    graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "zeros"))
    graph.node.append(helper.make_node("Add", ["before", "nothing"], ["scores"]))
    return model.SerializeToString()


def with_custom_operator():
    model = colours(["red"])
    model.graph.node[0].domain = "evil"
    model.opset_import.append(helper.make_opsetid("evil", 1))
    return model.SerializeToString()


def with_external_file(name):
    """Its embeddings are to be read from another file."""
    model = colours(["red"])
    tensor = model.graph.initializer[1]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", name), ("offset", "0"), ("length", "12")):
        tensor.external_data.add(key=key, value=value)
    return model.SerializeToString()
