"""ONNX files with graphs within graphs, numbers elsewhere and claims without data."""

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper
from onnx_files import KINDS, changed, constant, kind, model, node

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
