"""ONNX files that somebody made to do harm: each kind once, as bytes."""

import json
import random

import numpy as np
import onnx
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


# ------------------------------------------------------------------------- loops and subgraphs

COUNT, GO, LAST = (
    helper.make_tensor_value_info(*of)
    for of in (("i", T.INT64, []), ("c", T.BOOL, []), ("v", T.FLOAT, None))
)
OUT = [
    helper.make_tensor_value_info(name, number, None)
    for name, number in (("co", T.BOOL), ("vo", T.FLOAT))
]
TRUE = constant("true", True)


def endless_body():
    nodes = [node("Identity", ["c"], "co"), node("Identity", ["v"], "vo")]
    return helper.make_graph(nodes, "body", [COUNT, GO, LAST], OUT)


@kind
def endless_loop():
    loop = node("Loop", ["", "true", "first"], "scores", body=endless_body())
    return model([loop], [TRUE]).SerializeToString()


@kind
def endless_loop_folded():
    loop = node("Loop", ["", "true", "start"], "scores", body=endless_body())
    return model([loop], [TRUE, constant("start", [[0, 0]], np.float32)]).SerializeToString()


@kind
def long_loop():
    loop = node("Loop", ["many", "", "first"], "scores", body=endless_body())
    return model([loop], [constant("many", 2**62)]).SerializeToString()


@kind
def loop_in_attribute_list():
    identity = node("Identity", ["first"], "scores")
    identity.attribute.add(name="x", type=onnx.AttributeProto.GRAPHS).graphs.add().CopyFrom(
        endless_body()
    )
    return model([identity]).SerializeToString()


def branch_of(out, depth):
    """Return a graph that chooses between two, which choose in turn."""
    value = helper.make_tensor_value_info(out, T.FLOAT, None)
    if not depth:
        return helper.make_graph([node("Identity", ["first"], out)], "b", [], [value])
    one, other = branch_of(f"{out}a", depth - 1), branch_of(f"{out}b", 0)
    choose = node("If", ["true"], out, then_branch=one, else_branch=other)
    return helper.make_graph([choose], "b", [], [value])


def branch(depth):
    return branch_of("scores", depth).node[0]


@kind
def branches():
    return model([branch(1)], [TRUE]).SerializeToString()


@kind
def branches_nested_twenty_deep():
    return model([branch(20)], [TRUE]).SerializeToString()


@kind
def graphs_nested_ten_thousand_deep():
    content = b""
    for _ in range(10_000):  # attribute.g of a node of a graph
        for tag in (b"\x32", b"\x2a", b"\x0a"):
            content = tag + length(content) + content
    return b"\x08\x08" + b"\x3a" + length(content) + content


def length(content):
    size, groups = len(content), []
    while size > 0x7F:
        groups.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*groups, size])


@kind
def scan():
    body = helper.make_graph(
        [node("Identity", ["v"], "vo"), node("Identity", ["x"], "xo")],
        "body",
        [LAST, helper.make_tensor_value_info("x", T.FLOAT, None)],
        [OUT[1], helper.make_tensor_value_info("xo", T.FLOAT, None)],
    )
    made = node("Scan", ["first", "flat"], "scores", "rest", body=body, num_scan_inputs=1)
    return model([made]).SerializeToString()


@kind
def functions():
    def change(made):
        call = helper.make_function(
            "f", "F", ["x"], ["y"], [node("Identity", ["x"], "y")], [helper.make_opsetid("", 17)]
        )
        made.functions.append(call)
        made.opset_import.append(helper.make_opsetid("f", 1))

    return changed(change, nodes=[node("F", ["first"], "scores", domain="f")])


@kind
def function_of_itself():
    def change(made):
        call = helper.make_function(
            "f",
            "F",
            ["x"],
            ["y"],
            [node("F", ["x"], "y", domain="f")],
            [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)],
        )
        made.functions.append(call)
        made.opset_import.append(helper.make_opsetid("f", 1))

    return changed(change, nodes=[node("F", ["first"], "scores", domain="f")])


@kind
def training():
    return changed(lambda made: made.training_info.add().algorithm.CopyFrom(endless_body()))


# ------------------------------------------------------------------------- numbers elsewhere


def external(location):
    tensor = T(name="w", data_type=T.FLOAT, dims=[1, 2], data_location=T.EXTERNAL)
    for key, value in (("location", location), ("length", "8")):
        tensor.external_data.add(key=key, value=value)
    return tensor


for name, location in {
    "passwd": "/etc/passwd",
    "dots": "../../../../../etc/passwd",
    "zero": "/dev/zero",
    "beside": "beside",
}.items():

    def plain(location=location):
        return model(
            [node("Add", ["first", "w"], "scores")], [external(location)]
        ).SerializeToString()

    def swapped(location=location, plain=plain):
        """The same message with the value before the key: as valid, and no search finds it."""
        key, value = b"\x0a\x08location", b"\x12" + length(location.encode()) + location.encode()
        content = plain()
        assert key + value in content
        return content.replace(key + value, value + key)

    KINDS |= {f"external_{name}": plain, f"external_{name}_swapped": swapped}


@kind
def external_without_a_mark():
    tensor = external("beside")
    tensor.ClearField("data_location")
    return model([node("Add", ["first", "w"], "scores")], [tensor]).SerializeToString()


@kind
def external_with_a_mark_alone():
    tensor = external("beside")
    tensor.ClearField("external_data")
    return model([node("Add", ["first", "w"], "scores")], [tensor]).SerializeToString()


@kind
def external_in_a_constant():
    made = node("Constant", [], "w", value=external("beside"))
    return model([made, node("Add", ["first", "w"], "scores")]).SerializeToString()


@kind
def external_in_a_list():
    identity = node("Identity", ["first"], "scores")
    identity.attribute.add(name="x", type=onnx.AttributeProto.TENSORS).tensors.append(
        external("beside")
    )
    return model([identity]).SerializeToString()


@kind
def external_in_a_sparse_tensor():
    def change(made):
        made.graph.sparse_initializer.add(values=external("beside"), dims=[1, 2])

    return changed(change)


@kind
def external_in_a_branch():
    choose = branch(1)
    choose.attribute[0].g.initializer.append(external("beside"))
    return model([choose], [TRUE]).SerializeToString()


@kind
def external_in_a_function():
    def change(made):
        body = [node("Constant", [], "w", value=external("beside")), node("Add", ["x", "w"], "y")]
        made.functions.append(
            helper.make_function("f", "F", ["x"], ["y"], body, [helper.make_opsetid("", 17)])
        )
        made.opset_import.append(helper.make_opsetid("f", 1))

    return changed(change, nodes=[node("F", ["first"], "scores", domain="f")])


# ------------------------------------------------------------------------- claims


def claiming(dims, data=b"\0" * 8):
    tensor = T(name="w", data_type=T.FLOAT, dims=dims, raw_data=data)
    return model([node("Add", ["first", "w"], "scores")], [tensor]).SerializeToString()


KINDS |= {
    "claims_1_gb": lambda: claiming([1, 1 << 28]),
    "claims_negative": lambda: claiming([-1, 2]),
    "claims_overflow": lambda: claiming([1 << 62, 1 << 62]),
    "claims_a_thousand_axes": lambda: claiming([1] * 1000),
    "claims_less_than_it_has": lambda: claiming([1, 2], b"\0" * 800),
}


@kind
def sparse_that_fills_memory():
    def change(made):
        sparse = made.graph.sparse_initializer.add(dims=[1 << 40])
        sparse.values.CopyFrom(constant("w", [1], np.float32))
        sparse.indices.CopyFrom(constant("", [0]))

    return changed(change)


@kind
def a_million_nodes():
    nodes = [node("Identity", ["first"], "x0")]
    nodes += [node("Neg", [f"x{i}"], f"x{i + 1}") for i in range(100_000)]
    return model([*nodes, node("Identity", ["x100000"], "scores")]).SerializeToString()


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
