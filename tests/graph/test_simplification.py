"""Identities, merged moves, reshape targets, dead code and the pipeline that runs them."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx_models import ModelBuilder, assert_same_results, attention_block, convnet

from bolt.graph.dead_code import DeadCodeElimination
from bolt.graph.identities import IdentityElimination
from bolt.graph.load import load
from bolt.graph.merge_moves import MoveMerging
from bolt.graph.nest_concats import ConcatNesting
from bolt.graph.pipeline import CANONICAL, PASSES, optimize
from bolt.graph.reshape_targets import ReshapeTargets
from bolt.graph.shapes import infer
from bolt.graph.swap_moves import MoveSwapping
from bolt.graph.swap_products import ProductSwapping
from bolt.graph.unflatten_products import ProductUnflattening

I64, F = np.int64, np.float32


def after(proto: onnx.ModelProto, pass_: ir.passes.PassBase, **bindings: int) -> list[str]:
    model = load(proto)
    pass_(model)
    assert_same_results(proto, ir.to_proto(model), **bindings)
    assert not pass_(model).modified
    return [n.op_type for n in model.graph]


def around(build, *shape, opset=17):
    """Relu, what `build` makes of its result, Neg."""
    b = ModelBuilder(opset=opset)
    y = build(b, b.add("Relu", b.input("x", list(shape))))
    return b.output(b.add("Neg", y), None).model()


IDENTITIES = {
    "identity": lambda b, x: b.add("Identity", x),
    "dropout": lambda b, x: b.add("Dropout", x),
    "dropout_ratio": lambda b, x: b.add("Dropout", x, b.constant(0.5, F), b.constant(False, np.bool_)),
    "cast": lambda b, x: b.add("Cast", x, to=1),
    "pad": lambda b, x: b.add("Pad", x, b.constant([0] * 6, I64)),
    "reshape": lambda b, x: b.add("Reshape", x, b.constant([0, 4, -1], I64)),
    "transpose": lambda b, x: b.add("Transpose", x, perm=[0, 1, 2]),
    "slice": lambda b, x: b.add(
        "Slice", x, b.constant([0], I64), b.constant([2**31], I64), b.constant([2], I64)
    ),
    "concat": lambda b, x: b.add("Concat", x, axis=1),
    "expand": lambda b, x: b.add("Expand", x, b.constant([1, 4, 1], I64)),
    "tile": lambda b, x: b.add("Tile", x, b.constant([1, 1, 1], I64)),
    "add": lambda b, x: b.add("Add", b.constant(np.zeros((4, 1)), F), x),
    "sub": lambda b, x: b.add("Sub", x, b.constant(0.0, F)),
    "mul": lambda b, x: b.add("Mul", x, b.constant([1.0], F)),
    "div": lambda b, x: b.add("Div", x, b.constant(1.0, F)),
    "pow": lambda b, x: b.add("Pow", x, b.constant(1.0, F)),
    "sum": lambda b, x: b.add("Sum", x),
    "resize": lambda b, x: b.add("Resize", x, "", b.constant([1, 1, 1], F)),
}


@pytest.mark.parametrize("name", IDENTITIES)
def test_identity_is_removed(name):
    assert after(around(IDENTITIES[name], "N", 4, "L"), IdentityElimination(), N=2, L=5) == ["Relu", "Neg"]


def test_identities_of_old_opsets_are_removed():
    pad = around(lambda b, x: b.add("Pad", x, pads=[0] * 6), "N", 4, "L", opset=9)
    assert after(pad, IdentityElimination(), N=2, L=5) == ["Relu", "Neg"]
    drop = around(lambda b, x: b.add("Dropout", x, ratio=0.3), "N", 4, "L", opset=9)
    assert after(drop, IdentityElimination(), N=2, L=5) == ["Relu", "Neg"]


NOT_IDENTITIES = {
    "cast": lambda b, x: b.add("Cast", b.add("Cast", x, to=6), to=1),
    "pad": lambda b, x: b.add("Pad", x, b.constant([0, 0, 0, 0, 0, 1], I64)),
    "reshape": lambda b, x: b.add("Reshape", x, b.constant([0, 2, -1], I64)),
    "transpose": lambda b, x: b.add("Transpose", x, perm=[0, 2, 1]),
    "slice": lambda b, x: b.add("Slice", x, b.constant([1], I64), b.constant([9], I64), b.constant([1], I64)),
    "reverse": lambda b, x: b.add(
        "Slice", x, b.constant([-1], I64), b.constant([-99], I64), b.constant([1], I64), b.constant([-1], I64)
    ),
    "widening_add": lambda b, x: b.add("Add", x, b.constant(np.zeros((3, 1, 1, 1)), F)),
    "from_zero": lambda b, x: b.add("Sub", b.constant(0.0, F), x),
    "one_over": lambda b, x: b.add("Div", b.constant(1.0, F), b.add("Exp", x)),
    "tile": lambda b, x: b.add("Tile", x, b.constant([1, 2, 1], I64)),
    "add": lambda b, x: b.add("Add", x, b.constant([0.0, 0, 0, 0, 1e-3], F)),
}


@pytest.mark.parametrize("name", NOT_IDENTITIES)
def test_lookalike_stays(name):
    proto = around(NOT_IDENTITIES[name], "N", 4, 5)
    assert after(proto, IdentityElimination(), N=2) == [n.op_type for n in proto.graph.node]


def test_identity_between_input_and_output_stays():
    b = ModelBuilder()
    proto = b.output(b.add("Identity", b.input("x", [3])), [3]).model()
    assert after(proto, IdentityElimination()) == ["Identity"]


def test_output_keeps_its_name_when_an_identity_goes():
    b = ModelBuilder()
    y = b.add("Identity", b.add("Relu", b.input("x", [3])))
    model = load(b.output(y, [3]).model())
    IdentityElimination()(model)
    assert [o.name for o in model.graph.outputs] == [y] == [o.name for o in model.graph[0].outputs]


def test_two_outputs_of_one_value_both_stay():
    b = ModelBuilder()
    y = b.add("Relu", b.input("x", [3]))
    proto = b.output(b.add("Identity", y), [3]).output(b.add("Identity", y), [3]).output(y, [3]).model()
    assert after(proto, IdentityElimination()) == ["Relu", "Identity", "Identity"]


def test_dropout_whose_mask_is_used_stays():
    b = ModelBuilder()
    y, mask = b.add("Dropout", b.input("x", [3]), outputs=2)
    proto = b.output(b.add("Where", mask, y, b.add("Neg", y)), [3]).model()
    assert "Dropout" in after(proto, IdentityElimination())


def test_transposes_merge():
    proto = around(
        lambda b, x: b.add("Transpose", b.add("Transpose", x, perm=[1, 2, 0]), perm=[0, 2, 1]), "N", 4, 5
    )
    model = load(proto)
    MoveMerging()(model)
    assert [n.op_type for n in model.graph] == ["Relu", "Transpose", "Neg"]
    assert list(model.graph[1].attributes["perm"].value) == [1, 0, 2]
    assert_same_results(proto, ir.to_proto(model), N=2)


def test_transpose_that_something_else_reads_is_kept_for_it():
    b = ModelBuilder()
    first = b.add("Transpose", b.input("x", [3, 4]), perm=[1, 0])
    y = b.add("Relu", b.add("Transpose", first, perm=[1, 0]))
    proto = b.output(y, None).output(b.add("Neg", first), None).model()
    assert sorted(after(proto, MoveMerging())) == ["Neg", "Relu", "Transpose", "Transpose"]


def squeezes(b, x):
    rows = b.add("Squeeze", b.add("Reshape", x, b.constant([-1, 1, 20], I64)), b.constant([1], I64))
    return b.add("Unsqueeze", rows, b.constant([0], I64))


MOVES = {
    "reshapes": lambda b, x: b.add(
        "Reshape", b.add("Reshape", x, b.constant([0, -1], I64)), b.constant([-1, 2, 10], I64)
    ),
    "flatten": lambda b, x: b.add("Flatten", b.add("Unsqueeze", x, b.constant([1], I64))),
    "squeezes": squeezes,
}


@pytest.mark.parametrize("name", MOVES)
def test_reshapes_merge(name):
    assert after(around(MOVES[name], "N", 4, 5), MoveMerging(), N=3) == ["Relu", "Reshape", "Neg"]


def perms(model: ir.Model) -> list[list[int]]:
    return [list(n.attributes["perm"].value) for n in model.graph if n.op_type == "Transpose"]


def test_splits_move_in_front_of_transposes():
    """Heads joined with the batch, transposed, and split again."""
    b = ModelBuilder()
    joined = b.add("Reshape", b.input("x", [2, 3, 5, 4]), b.constant([6, 5, 4], I64))
    split = b.add("Reshape", b.add("Transpose", joined, perm=[0, 2, 1]), b.constant([2, 3, 4, 5], I64))
    proto = b.output(split, None).model()
    assert after(proto, MoveSwapping()) == ["Reshape", "Reshape", "Transpose"]
    model = load(proto)
    for pass_ in (MoveSwapping(), MoveMerging(), IdentityElimination()):
        pass_(model)
    assert [n.op_type for n in model.graph] == ["Transpose"] and perms(model) == [[0, 1, 3, 2]]


def test_joins_move_behind_transposes():
    b = ModelBuilder()
    heads = b.add("Transpose", b.input("x", ["N", 3, 5, 4]), perm=[2, 0, 1, 3])
    rows = b.add("Reshape", heads, b.constant([5, -1, 12], I64))
    proto = b.output(b.add("Transpose", rows, perm=[1, 0, 2]), None).model()
    assert after(proto, MoveSwapping(), N=2) == ["Transpose", "Transpose", "Reshape"]
    model = load(proto)
    for pass_ in (MoveSwapping(), MoveMerging()):
        pass_(model)
    assert perms(model) == [[0, 2, 1, 3]]


@pytest.mark.parametrize("target", [[3, 8, 5], [12, 10]], ids=str)
def test_reshapes_that_cut_elsewhere_stay(target):
    b = ModelBuilder()
    x = b.add("Reshape", b.input("x", [120]), b.constant([6, 5, 4], I64))
    y = b.add("Reshape", b.add("Transpose", x, perm=[0, 2, 1]), b.constant(target, I64))
    assert after(b.output(y, None).model(), MoveSwapping()) == ["Reshape", "Transpose", "Reshape"]


@pytest.mark.parametrize("bias", (False, True))
@pytest.mark.parametrize("moved", (False, True))
def test_products_and_transposes_of_rows(bias, moved):
    """The transpose goes to where another move is, to the other side of the product where none is."""
    b = ModelBuilder()
    x = (
        b.input("x", [2, 5, 12])
        if not moved
        else b.add("Reshape", b.input("x", [2, 5, 3, 4]), b.constant([2, 5, 12], I64))
    )
    y = x if moved else b.add("Transpose", b.add("Relu", x), perm=[1, 0, 2])
    y = b.add("MatMul", y, b.weights("w", (12, 6)))
    y = b.add("Add", b.weights("t", (6,)), y) if bias else y
    y = b.add("Transpose", y, perm=[1, 0, 2]) if moved else y
    ops = after(b.output(b.add("Neg", y), None).model(), ProductSwapping())
    product = ["MatMul", *(["Add"] if bias else [])]
    assert ops == (
        ["Reshape", "Transpose", *product, "Neg"] if moved else ["Relu", *product, "Transpose", "Neg"]
    )


def test_products_that_a_transpose_does_not_pass():
    b = ModelBuilder()
    x = b.add("Relu", b.input("x", [2, 5, 5]))
    y = b.add("MatMul", b.add("Transpose", x, perm=[0, 2, 1]), b.weights("w", (5, 6)))
    assert after(b.output(y, None).model(), ProductSwapping()) == ["Relu", "Transpose", "MatMul"]


def test_reshapes_with_two_dynamic_extents_stay():
    proto = around(
        lambda b, x: b.add("Squeeze", b.add("Unsqueeze", x, b.constant([1], I64)), b.constant([1], I64)),
        "N",
        "L",
        5,
    )
    assert after(proto, MoveMerging(), N=3, L=2) == ["Relu", "Unsqueeze", "Squeeze", "Neg"]


def computed_reshape(*entries, shape=("N", "L", 12)):
    """Reshape of x to entries; an entry is a number or the axis of x to copy, spelled "0" or "1"."""
    b = ModelBuilder()
    x = b.input("x", list(shape))
    extents = b.add("Shape", x)
    parts = [
        b.add("Gather", extents, b.constant([int(e)], I64)) if isinstance(e, str) else b.constant([e], I64)
        for e in entries
    ]
    return b.output(b.add("Relu", b.add("Reshape", x, b.add("Concat", *parts, axis=0))), None).model()


@pytest.mark.parametrize(
    ("entries", "target"),
    [(("0", "1", 3, 4), [0, 0, 3, 4]), (("0", -1), [0, -1]), (("0", 3, "1", 4), [0, 3, -1, 4])],
)
def test_computed_target_becomes_constant(entries, target):
    proto = computed_reshape(*entries)
    model = load(proto)
    assert ReshapeTargets()(model).modified
    assert [n.op_type for n in model.graph] == ["Reshape", "Relu"]
    assert model.graph[0].inputs[1].const_value.numpy().tolist() == target
    assert_same_results(proto, ir.to_proto(model), N=2, L=5)


def test_target_with_two_moved_extents_stays_computed():
    proto = computed_reshape(3, "0", 4, "1")
    model = load(proto)
    assert not ReshapeTargets()(model).modified


def test_dead_nodes_and_constants_go():
    b = ModelBuilder()
    x = b.input("x", [3])
    b.input("unused", [3])
    b.add("Exp", b.add("Neg", x))
    b.weights("w", (5,))
    model = load(b.output(b.add("Relu", x), [3]).model())
    assert DeadCodeElimination()(model).modified
    assert [n.op_type for n in model.graph] == ["Relu"] and not model.graph.initializers
    assert [v.name for v in model.graph.inputs] == ["x", "unused"]


@pytest.mark.parametrize("canonical", [False, True])
@pytest.mark.parametrize("build", [convnet, attention_block])
def test_pipeline_keeps_the_results(build, canonical):
    proto = build(batch="N")
    model = load(proto)
    assert optimize(model, canonical=canonical)
    assert_same_results(proto, ir.to_proto(model), N=3)
    assert optimize(model, canonical=canonical) == []


def test_pipeline_result():
    model = load(convnet(batch="N"))
    optimize(model)
    expected = ["Conv", "Relu", "Conv", "Add", "Relu", "GlobalAveragePool", "Flatten", "Gemm", "Softmax"]
    assert [n.op_type for n in model.graph] == expected
    model = load(attention_block(batch="N", length="L"))
    optimize(model)
    assert {"Gelu"} <= {n.op_type for n in model.graph}
    assert not {"Erf", "Shape", "Gather", "Concat"} & {n.op_type for n in model.graph}


def test_without_canonical_everything_stays_plain_onnx():
    model = load(attention_block())
    optimize(model, canonical=False)
    assert {n.domain for n in model.graph} == {""}


def test_passes_are_listed_once():
    names = [type(p).__name__ for p in (*PASSES, *CANONICAL)]
    assert len(names) == len(set(names))


def test_optimization_is_deterministic():
    texts = []
    for _ in range(2):
        model = load(attention_block())
        optimize(model)
        texts.append(ir.to_proto(model).SerializeToString(deterministic=True))
    assert texts[0] == texts[1]


def test_shapes_survive_optimization():
    proto = attention_block(batch="N", length="L")
    before, after_ = load(proto), load(proto)
    optimize(after_)
    dims = [infer(m).dims(m.graph.outputs[0]) for m in (before, after_)]
    assert dims[0] == dims[1]


def test_concatenations_nest():
    b = ModelBuilder()
    parts = [b.add("Relu", b.input(f"x{i}", ["N", 2, 3])) for i in range(4)]
    for count in (2, 3, 4):
        b.output(b.add("Concat", *parts[:count], axis=1))
    b.output(b.add("Concat", *parts[:3], axis=2))
    model = load(b.model())
    assert ConcatNesting()(model).modified
    assert_same_results(b.model(), ir.to_proto(model), N=2)
    counts = [len(n.inputs) for n in model.graph if n.op_type == "Concat"]
    assert counts == [2, 2, 2, 3], "the one along another axis stays"


def flattened(b: ModelBuilder, op_type: str, *, out: list[int], **attributes: float) -> onnx.ModelProto:
    """(2, 5, 4) as ten rows, through a product with a (4, 6) matrix, as `out`."""
    rows = b.add("Reshape", b.input("x", [2, 5, 4]), b.constant([-1, 4], I64))
    shape = (6, 4) if attributes.get("transB") else (4, 6)
    inputs = [rows, b.weights("w", shape), *([b.weights("b", (6,))] if op_type == "Gemm" else [])]
    y = b.add("Reshape", b.add(op_type, *inputs, **attributes), b.constant(out, I64))
    return b.output(b.add("Relu", y)).model()


@pytest.mark.parametrize(
    "op_type,attributes,ops",
    [
        ("MatMul", {}, ["MatMul", "Relu"]),
        ("Gemm", {}, ["MatMul", "Add", "Relu"]),
        ("Gemm", {"transB": 1}, ["MatMul", "Add", "Relu"]),
    ],
    ids=str,
)
def test_products_of_flattened_rows(op_type, attributes, ops):
    model = flattened(ModelBuilder(), op_type, out=[2, 5, 6], **attributes)
    assert after(model, ProductUnflattening()) == ops


def test_product_of_rows_that_were_something_else():
    """The heads of an attention become rows; a residual is added to the result."""
    b = ModelBuilder()
    heads = b.add("Transpose", b.input("x", [2, 3, 5, 4]), perm=[0, 2, 1, 3])
    rows = b.add("Reshape", heads, b.constant([-1, 12], I64))
    product = b.add("Gemm", rows, b.weights("w", (12, 6)), b.weights("b", (6,)))
    y = b.add("Reshape", product, b.constant([2, 5, 6], I64))
    model = b.output(b.add("Add", y, b.input("residual", [2, 5, 6]))).model()
    assert after(model, ProductUnflattening()) == ["Transpose", "Reshape", "MatMul", "Add", "Add"]


@pytest.mark.parametrize(
    "op_type,out,attributes",
    [("MatMul", [2, 5, 2, 3], {}), ("Gemm", [2, 5, 6], {"alpha": 2.0})],
    ids=str,
)
def test_products_whose_rows_change_stay(op_type, out, attributes):
    model = flattened(ModelBuilder(), op_type, out=out, **attributes)
    assert op_type in after(model, ProductUnflattening()) and model.graph.node[0].op_type == "Reshape"
