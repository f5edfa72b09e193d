"""ONNX files that somebody made to do harm: each kind once, as bytes.

Those of `hostile_graphs.py`, and wrong graphs, false words of itself, bombs and what is no model.
"""

import json
import random

import numpy as np
from hostile_graphs import TRUE, branch
from onnx import TensorProto as T
from onnx import helper
from onnx_files import FLAT, KINDS, SIZE_PX, changed, constant, kind, model, node

from cfl_edge.onnx.metadata import to_metadata

# ------------------------------------------------------------------------- other graphs


@kind
def custom_operator():
    made = model([node("Evil", ["first"], "scores", domain="com.evil")])
    made.opset_import.append(helper.make_opsetid("com.evil", 1))
    return made.SerializeToString()


KINDS |= {
    "unknown_operator": lambda: model([node("Evil", ["first"], "scores")]).SerializeToString(),
    "no_such_input": lambda: model([node("Identity", ["nowhere"], "scores")]).SerializeToString(),
    "cycle": lambda: model(
        [
            node("Add", ["first", "b"], "a"),
            node("Neg", ["a"], "b"),
            node("Identity", ["a"], "scores"),
        ]
    ).SerializeToString(),
    "made_twice": lambda: model(
        [node("Neg", ["first"], "scores"), node("Abs", ["first"], "scores")]
    ).SerializeToString(),
    "never_made": lambda: model([node("Neg", ["first"], "other")]).SerializeToString(),
    "integers_as_scores": lambda: model(
        [node("Cast", ["first"], "scores", to=T.INT64)]
    ).SerializeToString(),
    "seven_scores": lambda: model(
        [node("Slice", ["flat", "zero", "n", "one"], "scores")], [constant("n", [7])]
    ).SerializeToString(),
    "seven_scores_by_surprise": lambda: model(
        [
            node("Shape", ["flat"], "s"),
            node("Slice", ["s", "one", "two"], "all"),
            node("Sub", ["all", "less"], "n"),
            node("Slice", ["flat", "zero", "n", "one"], "scores"),
        ],
        [constant("less", [FLAT - 7])],
    ).SerializeToString(),
    "fails_on_an_image": lambda: model(
        [
            node("Gather", ["flat", "far"], "x", axis=1),
            node("Slice", ["x", "zero", "two", "one"], "scores"),
        ],
        [constant("far", [FLAT + 9, 0])],
    ).SerializeToString(),
    "no_input": lambda: changed(lambda made: made.graph.ClearField("input")),
    "no_output": lambda: changed(lambda made: made.graph.ClearField("output")),
    "two_inputs": lambda: changed(
        lambda made: made.graph.input.append(helper.make_tensor_value_info("x", T.FLOAT, [1]))
    ),
    "float_input": lambda: changed(
        lambda made: setattr(made.graph.input[0].type.tensor_type, "elem_type", T.FLOAT)
    ),
    "list_as_output": lambda: changed(
        lambda made: made.graph.output[0].type.CopyFrom(
            helper.make_sequence_type_proto(helper.make_tensor_type_proto(T.FLOAT, [1]))
        )
    ),
    "no_graph": lambda: changed(lambda made: made.ClearField("graph")),
    "no_opset": lambda: changed(lambda made: made.ClearField("opset_import")),
    "opset_0": lambda: changed(lambda made: setattr(made.opset_import[0], "version", 0)),
    "opset_of_tomorrow": lambda: changed(
        lambda made: setattr(made.opset_import[0], "version", 999)
    ),
    "ir_of_tomorrow": lambda: changed(lambda made: setattr(made, "ir_version", 999)),
}

# ------------------------------------------------------------------------- what it says of itself


def saying(key, value, **options):
    KINDS[f"says_{key}_{len(KINDS)}"] = lambda: model(**options, **{key: value}).SerializeToString()


for value in (
    None, "", "[]", "null", "7", '["a"]', '["a", "a"]', "[1, 2]", '[["a"], "b"]', '{"a": 1}',
    "[" * 100_000, '["\\u001b[2J", "b"]', '["a\\nb", "b"]', '["\\u202e", "b"]', '["", "b"]',
    '["\\ud800", "b"]', json.dumps(["x" * 65, "b"]), json.dumps(["x" * 5_000_000, "b"]),
    "[" + "[]," * 1_000_000 + "[]]", json.dumps([f"{i}" for i in range(1_000_000)]),
    json.dumps([f"{i}" for i in range(100_000)]),
):  # fmt: skip
    saying("classes", value)
for value in (None, "-1", "0", "1e3", "NaN", "9", "9" * 5000, "100000", "8.0"):
    saying("size_px", value)
for value in (None, "999999", "-", "9" * 5000):
    saying("format_version", value)
for value in (None, "letterbox", "x" * 1_000_000):
    saying("preprocessing", value)
    saying("fit", value)
for value in (None, "", "1,2", "0,0,nan,1", "9" * 5000, "0.1,0.1 " * 100_000, "," * 1_000_000):
    saying("region", value)
for value in (
    "[1e400, 2]",
    "[" * 100_000,
    "{}",
    "[2, 1]",
    '["a", "b"]',
    "[NaN, 1]",
    f"[{10**400}, 1]",
):
    saying("known_distances", value)


@kind
def a_million_keys():
    made = model()
    for number in range(200_000):
        made.metadata_props.add(key=f"{number}", value="")
    return made.SerializeToString()


@kind
def texts_that_are_not_utf8():
    content = model().SerializeToString()
    return content.replace(b'"red"', b'"\xff\xfe\xfd"')


@kind
def a_name_that_is_not_utf8():
    return model().SerializeToString().replace(b"image", b"im\xffge")


@kind
def ten_thousand_classes_of_two_scores():
    made = model()
    helper.set_model_props(made, to_metadata([f"{i}" for i in range(10_000)], SIZE_PX, {}))
    return made.SerializeToString()


@kind
def image_of_30000_px():
    return model(size_px=30_000).SerializeToString()


# ------------------------------------------------------------------------- time and memory
# Plain graphs that a look at the file cannot tell from good ones: only a trial with limits does.

BOMBS = {}


def bomb(name, nodes, *constants):
    """Add the scores to a sum that comes from the nodes; `flat` keeps it from being folded."""
    end = [node("ReduceSum", ["huge"], "sum", keepdims=0), node("Add", ["first", "sum"], "scores")]
    BOMBS[name] = lambda: model([*nodes, *end], constants).SerializeToString()


SHAPE = [node("Shape", ["flat"], "s"), node("Mul", ["s", "times"], "shape")]  # (1, 192 times)
TIMES = constant("times", [1, 100_000_000])
SIDE = constant("side", [20_000, 20_000])
bomb("fill_folded", [node("ConstantOfShape", ["all"], "huge")], constant("all", [1000, 1000, 9000]))
bomb("fill", [*SHAPE, node("ConstantOfShape", ["shape"], "huge")], TIMES)
bomb(
    "expand_folded",
    [node("Expand", ["two", "all"], "h2"), node("Cast", ["h2"], "huge", to=T.FLOAT)],
    constant("all", [1000, 1000, 9000]),
)
bomb("expand", [node("Expand", ["first", "all"], "huge")], constant("all", [5_000_000_000, 2]))
bomb("tile", [node("Tile", ["flat", "times"], "huge")], TIMES)
bomb("pad", [node("Pad", ["flat", "around"], "huge")], constant("around", [0, 0, 60_000, 60_000]))
bomb(
    "resize",
    [node("Reshape", ["flat", "as"], "h4"), node("Resize", ["h4", "", "", "to"], "huge")],
    constant("as", [1, 1, 1, FLAT]),
    constant("to", [1, 1, 50_000, 50_000]),
)
bomb(
    "range",
    [node("Range", ["r0", "r1", "r2"], "huge")],
    constant("r0", 0, np.float32),
    constant("r1", 9e9, np.float32),
    constant("r2", 1, np.float32),
)
bomb(
    "one_hot",
    [node("Cast", ["flat"], "i", to=T.INT64), node("OneHot", ["i", "depth", "values"], "huge")],
    constant("depth", 1_000_000_000),
    constant("values", [0, 1], np.float32),
)
bomb(
    "products",
    [
        node("Expand", ["zero", "side"], "z"),
        node("Cast", ["z"], "a0", to=T.FLOAT),
        *(node("MatMul", [f"a{i}", f"a{i}"], f"a{i + 1}") for i in range(20)),
        node("Identity", ["a20"], "huge"),
    ],
    SIDE,
)
bomb(
    "products_of_the_image",
    [
        node("ReduceSum", ["flat"], "x", keepdims=0),
        node("Expand", ["x", "side"], "a0"),
        *(node("MatMul", [f"a{i}", f"a{i}"], f"a{i + 1}") for i in range(2000)),
        node("Identity", ["a2000"], "huge"),
    ],
    constant("side", [3000, 3000]),
)
bomb("not_a_number", [node("Identity", ["nan"], "huge")], constant("nan", [np.nan], np.float32))
bomb("infinite", [node("Log", ["none"], "huge")], constant("none", [0], np.float32))

# ------------------------------------------------------------------------- no model at all

KINDS |= {
    "empty": lambda: b"",
    "zeros": lambda: bytes(100_000),
    "text": lambda: b"hello, world\n" * 100,
    "random": lambda: random.Random(0).randbytes(100_000),
    "picture": lambda: b"\x89PNG\r\n\x1a\n" + bytes(1000),
    "cut_in_the_middle": lambda: model().SerializeToString()[:200],
    "cut_at_the_end": lambda: model().SerializeToString()[:-1],
    "length_of_2_gb": lambda: b"\x08\x08\x3a\xff\xff\xff\xff\x07" + b"a" * 100,
    "length_without_end": lambda: b"\x08\x08\x3a" + b"\xff" * 100,
    "group": lambda: b"\x08\x08\x3b\x3c",
    "field_0": lambda: b"\x08\x08\x02\x00",
    "two_million_fields": lambda: b"\x08\x08" * 2_000_000,
    "two_graphs": lambda: (
        model().SerializeToString() + model([branch(1)], [TRUE]).SerializeToString()
    ),
}
