"""The outlined model as a file ORT has to accept."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper
from onnx_models import ModelBuilder

from bolt.graph.attributes import ints
from bolt.graph.load import load
from bolt.graph.outline import outline
from bolt.graph.partition import partition
from bolt.graph.shapes import infer
from bolt.report import Rejection


def stand_in(name, inputs, outputs):
    return helper.make_node("EPContext", inputs, outputs, name=name, domain="com.microsoft")


def outlined(proto: onnx.ModelProto, *unsupported: str) -> onnx.ModelProto:
    model = load(proto)

    def supported(node: ir.Node) -> Rejection | None:
        no = Rejection(stage="partition", subject=node.name or "", reason="no")
        return no if node.op_type in unsupported else None

    before = ir.to_proto(model).SerializeToString()
    result = outline(model, partition(model, supported)[0], stand_in)
    assert ir.to_proto(model).SerializeToString() == before, "the model itself must not change"
    onnx.checker.check_model(result)
    return result


def test_versions_and_metadata():
    b = ModelBuilder()
    proto = b.output(b.add("Relu", b.input("x", [3])), [3]).model()
    proto.ir_version = 4
    proto.metadata_props.add(key="author", value="someone")
    proto.producer_name = "exporter"
    result = outlined(proto)
    assert result.ir_version >= 8 and result.producer_name == "exporter"
    assert {o.domain: o.version for o in result.opset_import} == {"": 17, "com.microsoft": 1}
    assert [(p.key, p.value) for p in result.metadata_props] == [("author", "someone")]


def test_values_across_the_border_have_types():
    b = ModelBuilder()
    x = b.input("x", ["N", 4])
    index = b.add("ArgMax", b.add("Relu", x), axis=1)
    y = b.add("Gather", b.add("Erf", x), b.add("Abs", index), axis=1)
    result = outlined(b.output(y, ["N", "N", 1]).model(), "Erf", "Gather", "ArgMax")
    types = {v.name: v.type.tensor_type for v in result.graph.value_info}
    produced = [o for n in result.graph.node if n.op_type == "EPContext" for o in n.output]
    assert {types[o].elem_type for o in produced} == {TensorProto.FLOAT, TensorProto.INT64}
    relu = next(t for t in types.values() if t.elem_type == TensorProto.FLOAT)
    assert not relu.shape.dim[0].HasField("dim_value") and relu.shape.dim[1].dim_value == 4


def test_constants_stay_for_whoever_still_reads_them():
    b = ModelBuilder()
    x = b.input("x", [2, 4])
    shared, inner, outer = (b.weights(n, (4,)) for n in ("shared", "inner", "outer"))
    y = b.add("Add", b.add("Add", b.add("Mul", x, shared), inner), x)
    y = b.add("Pow", b.add("Pow", y, shared), outer)
    result = outlined(b.output(y, [2, 4]).model(), "Pow")
    assert {t.name for t in result.graph.initializer} == {"shared", "outer"}


def test_constants_of_subgraphs_and_constant_outputs_stay():
    b = ModelBuilder()
    x, flag = b.input("x", [4]), b.input("flag", [], np.bool_)
    captured, constant = b.weights("captured", (4,)), b.weights("constant", (4,))
    hidden = b.add("Relu", x)
    branches = [
        helper.make_graph(
            [helper.make_node(op, [hidden, captured], [f"{op}_out"])],
            op,
            [],
            [helper.make_tensor_value_info(f"{op}_out", TensorProto.FLOAT, [4])],
        )
        for op in ("Add", "Mul")
    ]
    y = b.add("Neg", b.add("If", flag, then_branch=branches[0], else_branch=branches[1]))
    result = outlined(b.output(y, [4]).output(constant, [4]).model(), "If")
    assert {t.name for t in result.graph.initializer} == {"captured", "constant"}
    assert [n.op_type for n in result.graph.node] == ["EPContext", "If", "EPContext"]
    assert hidden in result.graph.node[0].output


def test_symbolic_dims_of_the_interface_survive():
    b = ModelBuilder()
    proto = b.output(b.add("Relu", b.input("x", ["batch size", None, 4])), ["batch size", "?", 4]).model()
    result = outlined(proto)
    assert result.graph.input[0] == proto.graph.input[0]
    assert result.graph.output[0] == proto.graph.output[0]


def squeeze(opset, axes):
    b = ModelBuilder(opset=opset)
    x = b.input("x", ["N", 1, 1])
    if axes is None:
        y = b.add("Squeeze", x)
    elif opset < 13:
        y = b.add("Squeeze", x, axes=axes)
    else:
        y = b.add("Squeeze", x, b.constant(axes, np.int64))
    model = load(b.output(y, None).model())
    return model.graph[0], infer(model)


def test_ints_read_either_spelling():
    for opset in (11, 13):
        node, shapes = squeeze(opset, [1, 2])
        assert ints(node, shapes, 1, "axes") == (1, 2)
        assert ints(node, None, 1, "axes") == (1, 2)


def test_ints_left_out_give_the_default():
    node, shapes = squeeze(13, None)
    assert ints(node, shapes, 1, "axes") is None
    assert ints(node, shapes, 1, "axes", default=(7,)) == (7,)


def test_computed_ints_are_read_where_known():
    b = ModelBuilder()
    x = b.input("x", ["N", 3])
    width = b.add("Gather", b.add("Shape", x), b.constant([1], np.int64))
    batch = b.add("Gather", b.add("Shape", x), b.constant([0], np.int64))
    b.output(b.add("Expand", x, b.add("Concat", width, width, axis=0)), None)
    model = load(b.output(b.add("Expand", x, b.add("Concat", batch, width, axis=0)), None).model())
    shapes = infer(model)
    known, dynamic = (n for n in model.graph if n.op_type == "Expand")
    assert ints(known, shapes, 1, None, default=()) == (3, 3)
    assert ints(dynamic, shapes, 1, None, default=()) is None
