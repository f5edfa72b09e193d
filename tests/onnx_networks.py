"""Small ONNX image networks, as other tools export them."""

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

FLOAT = onnx.TensorProto.FLOAT


def small_network(
    path: Path, *, side=None, batch=None, nhwc=False, opset=17, classes=7, extra=()
) -> Path:
    """Write stem, two stages and a classifier: maps of a half, a quarter and an eighth."""
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.normal(size=(8, 3, 3, 3)) / 5,
        "w2": rng.normal(size=(16, 8, 3, 3)) / 8,
        "w3": rng.normal(size=(24, 16, 3, 3)) / 12,
        "w4": rng.normal(size=(24, classes)),
    }
    half = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    nodes = [helper.make_node("Transpose", ["pixels"], ["turned"], perm=[0, 3, 1, 2])] * nhwc
    nodes += [
        helper.make_node("Conv", ["turned" if nhwc else "pixels", "w1"], ["c1"], "stem", **half),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], "stage", **half),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("Conv", ["r2", "w3"], ["c3"], **half),
        helper.make_node("Relu", ["c3"], ["r3"]),
        helper.make_node("GlobalAveragePool", ["r3"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w4"], ["logits"], "head"),
        *extra,
    ]
    shape = [side or "H", side or "W"]
    shape = [*shape, 3] if nhwc else [3, *shape]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("pixels", FLOAT, [batch or "B", *shape])],
        [helper.make_tensor_value_info("logits", FLOAT, [batch or "B", classes])],
        [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(model, path)
    return path


def transformer(path: Path, *, side=32, patch=8, width=12, blocks=8) -> Path:
    """Write a network of tokens, the first of which stands for the whole image."""
    rng = np.random.default_rng(1)
    weights = {
        "patches": rng.normal(size=(width, 3, patch, patch)) / 14,
        "token": rng.normal(size=(1, 1, width)),
    }
    nodes = [
        helper.make_node(
            "Conv", ["x", "patches"], ["p"], kernel_shape=[patch] * 2, strides=[patch] * 2
        ),
        helper.make_node("Reshape", ["p", "shape"], ["flat"]),
        helper.make_node("Transpose", ["flat"], ["rows"], perm=[0, 2, 1]),
        helper.make_node("Concat", ["token", "rows"], ["t0"], axis=1),
    ]
    for i in range(blocks):
        weights[f"m{i}"] = rng.normal(size=(width, width)) / 4
        nodes += [
            helper.make_node("MatMul", [f"t{i}", f"m{i}"], [f"y{i}"]),
            helper.make_node("Add", [f"t{i}", f"y{i}"], [f"t{i + 1}"]),
        ]
    arrays = {name: w.astype(np.float32) for name, w in weights.items()}
    arrays["shape"] = np.array([1, width, -1], np.int64)
    graph = helper.make_graph(
        nodes,
        "vit",
        [helper.make_tensor_value_info("x", FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info(f"t{blocks}", FLOAT, [1, None, width])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path
