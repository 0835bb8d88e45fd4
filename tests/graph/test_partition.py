"""Partitions are convex, maximal and complete; outlining them keeps the model's interface."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper
from onnx_models import ModelBuilder, attention_block, convnet, feeds, run

from bolt.errors import ModelError
from bolt.graph.load import load
from bolt.graph.outline import outline
from bolt.graph.partition import Partition, drop, partition
from bolt.report import Rejection


def all_but(*op_types: str):
    def supported(node: ir.Node) -> Rejection | None:
        if node.op_type in op_types:
            return Rejection(
                stage="partition", subject=node.name or "", reason=f"{node.op_type} is not supported"
            )
        return None

    return supported


def chain(*op_types: str) -> ModelBuilder:
    b = ModelBuilder()
    value = b.input("x", ["N", 4])
    for op_type in op_types:
        value = b.add(op_type, value)
    return b.output(value, ["N", 4])


def ops(part: Partition) -> list[str]:
    return [n.op_type for n in part.nodes]


def test_everything_supported_is_one_partition():
    parts, left = partition(load(convnet()), all_but())
    assert len(parts) == 1 and not left
    assert [v.name for v in parts[0].inputs] == ["x"]
    assert len(parts[0].outputs) == 1


def test_unsupported_node_splits_a_chain():
    parts, left = partition(load(chain("Relu", "Erf", "Relu", "Sigmoid").model()), all_but("Erf"))
    assert [ops(p) for p in parts] == [["Relu"], ["Relu", "Sigmoid"]]
    assert [r.reason for r in left] == ["Erf is not supported"]


def test_path_through_unsupported_node_keeps_partitions_convex():
    b = ModelBuilder()
    x = b.input("x", [4])
    a = b.add("Relu", x)
    y = b.add("Add", a, b.add("Erf", a))
    parts, _ = partition(load(b.output(y, [4]).model()), all_but("Erf"))
    assert [ops(p) for p in parts] == [["Relu"], ["Add"]]


def test_side_chain_joins_the_partition_that_uses_it():
    b = ModelBuilder()
    x, mask = b.input("x", [4]), b.input("mask", [4])
    side = b.add("Neg", mask)
    y = b.add("Add", b.add("Sigmoid", b.add("Erf", b.add("Relu", x))), side)
    parts, _ = partition(load(b.output(y, [4]).model()), all_but("Erf"))
    assert [sorted(ops(p)) for p in parts] == [["Relu"], ["Add", "Neg", "Sigmoid"]]


def test_value_captured_by_a_subgraph_is_an_output():
    b = ModelBuilder()
    x, flag = b.input("x", [4]), b.input("flag", [], np.bool_)
    hidden = b.add("Relu", x)
    inner = [
        helper.make_graph(
            [helper.make_node(op, [hidden], [f"{op}_out"])],
            op,
            [],
            [helper.make_tensor_value_info(f"{op}_out", 1, [4])],
        )
        for op in ("Neg", "Exp")
    ]
    chosen = b.add("If", flag, then_branch=inner[0], else_branch=inner[1])
    proto = b.output(b.add("Add", b.add("Sigmoid", hidden), chosen), [4]).model()
    parts, _ = partition(load(proto), all_but("If"))
    assert [sorted(ops(p)) for p in parts] in ([["Relu", "Sigmoid"], ["Add"]], [["Relu"], ["Add", "Sigmoid"]])
    assert hidden in [v.name for v in parts[0].outputs]


def test_partitioning_is_deterministic():
    proto = attention_block()
    names = [
        [[n.name for n in p.nodes] for p in partition(load(proto), all_but("Softmax", "Erf"))[0]]
        for _ in range(2)
    ]
    assert names[0] == names[1]


@pytest.mark.parametrize("seed", range(12))
def test_random_graphs_give_convex_ordered_partitions(seed):
    random = np.random.default_rng(seed)
    b = ModelBuilder()
    values = [b.input("x", [2])]
    for _ in range(40):
        first, second = (values[int(random.integers(max(0, len(values) - 6), len(values)))] for _ in range(2))
        values.append(b.add("Add", first, second) if random.random() < 0.7 else b.add("Erf", first))
    model = load(b.output(values[-1], [2]).output(values[20], [2]).model())
    parts, left = partition(model, all_but("Erf"))
    assert sum(len(p.nodes) for p in parts) + len(left) == len(model.graph)
    for part in parts:
        assert_convex(part)
    assert_maximal(parts)


def reachable(start: set[ir.Node], blocked: set[ir.Node]) -> set[ir.Node]:
    """Nodes reached from `start`'s successors outside `blocked`."""
    stack = [s for n in start for s in n.successors() if s not in blocked]
    seen = set(stack)
    while stack:
        for node in stack.pop().successors():
            if node not in seen and node not in blocked:
                seen.add(node)
                stack.append(node)
    return seen


def is_convex(inside: set[ir.Node]) -> bool:
    return not any(s in inside for n in reachable(inside, inside) for s in n.successors())


def assert_convex(part: Partition) -> None:
    assert is_convex(set(part.nodes))


def assert_maximal(parts: tuple[Partition, ...]) -> None:
    for a in parts:
        for b in parts:
            touching = any(s in b.nodes for n in a.nodes for s in n.successors())
            if a is not b and touching:
                assert not is_convex(set(a.nodes) | set(b.nodes)), (a.name, b.name)


def test_dropped_partitions_say_why():
    parts, _ = partition(load(chain("Relu", "Erf", "Sigmoid").model()), all_but("Erf"))

    def small(part: Partition) -> Rejection | None:
        is_relu = part.nodes[0].op_type == "Relu"
        return Rejection(stage="partition", subject=part.name, reason="too small") if is_relu else None

    kept, dropped = drop(parts, small)
    assert [ops(p) for p in kept] == [["Sigmoid"]]
    assert [d.reason for d in dropped] == ["too small"]


def as_function(model: ir.Model, parts: tuple[Partition, ...]) -> onnx.ModelProto:
    """The outlined model with every stand-in node defined by the partition's own nodes."""
    proto = outline(
        model, parts, lambda name, i, o: helper.make_node(name, i, o, name=name, domain="test.parts")
    )
    proto.opset_import.append(helper.make_opsetid("test.parts", 1))
    opsets = [helper.make_opsetid("", model.opset_imports[""])]
    for part in parts:
        constants = {
            v.name: v.const_value
            for n in part.nodes
            for v in n.inputs
            if v is not None and v.is_initializer()
        }
        body = []
        for name, tensor in constants.items():
            constant = helper.make_node("Constant", [], [name], value=ir.to_proto(tensor))
            body.append(constant)
        body += [ir.to_proto(n) for n in part.nodes]
        proto.functions.append(
            helper.make_function(
                "test.parts",
                part.name,
                [v.name for v in part.inputs],
                [v.name for v in part.outputs],
                body,
                opsets,
            )
        )
    return proto


@pytest.mark.parametrize("unsupported", [(), ("Relu",), ("Conv", "Flatten"), ("Gemm",), ("Shape", "Softmax")])
@pytest.mark.parametrize("build", [convnet, attention_block])
def test_outlined_model_computes_the_same(build, unsupported):
    proto = build(batch="N")
    model = load(proto)
    parts, _ = partition(model, all_but(*unsupported))
    inputs = feeds(proto, N=2)
    got, want = run(as_function(model, parts), inputs), run(proto, inputs)
    assert list(got) == list(want)
    for name in want:
        np.testing.assert_array_equal(got[name], want[name])


def test_outline_keeps_the_interface_and_drops_unused_weights():
    proto = convnet(batch="batch size", size="H")
    model = load(proto)
    parts, _ = partition(model, all_but("Softmax"))
    out = outline(
        model, parts, lambda n, i, o: helper.make_node("EPContext", i, o, name=n, domain="com.microsoft")
    )
    assert [v.SerializeToString() for v in out.graph.input] == [
        v.SerializeToString() for v in proto.graph.input
    ]
    assert [v.SerializeToString() for v in out.graph.output] == [
        v.SerializeToString() for v in proto.graph.output
    ]
    assert not out.graph.initializer
    assert [n.op_type for n in out.graph.node] == ["EPContext", "Softmax"]
    assert {o.domain for o in out.opset_import} == {"", "com.microsoft"}
    assert out.graph.value_info[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    onnx.checker.check_model(out)


def test_canonical_node_outside_partitions_is_refused():
    b = ModelBuilder(opset=13)
    y = b.add("Gelu", b.add("Relu", b.input("x", [4])), domain="ai.bolt")
    model = load(b.output(y, [4]).model())
    parts, _ = partition(model, all_but("Gelu"))
    with pytest.raises(ModelError, match="n1_Gelu"):
        outline(model, parts, lambda n, i, o: helper.make_node("EPContext", i, o, domain="com.microsoft"))
