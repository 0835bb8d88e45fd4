"""Folding passes: the numbers stay the same, shared weights stay what they were, outputs keep their names."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper
from onnx_models import ModelBuilder, assert_same_results

from bolt.graph.fold_batch_norm import BatchNormFolding
from bolt.graph.fold_constants import ConstantFolding
from bolt.graph.fold_pad import PadFolding
from bolt.graph.fold_scale import ScaleFolding
from bolt.graph.hoist_scale import ScaleHoisting
from bolt.graph.load import load
from bolt.graph.merge_products import ProductMerging
from bolt.graph.rewrite import nodes_of
from bolt.graph.softmax_guard import SoftmaxGuardElimination

I64, F = np.int64, np.float32


def after(
    proto: onnx.ModelProto, pass_: ir.passes.PassBase, *, tolerance: float = 1e-5, **bindings: int
) -> list[str]:
    """Operator types after the pass, which has to leave the results as they are and be done in one go."""
    model = load(proto)
    modified = pass_(model).modified
    ops = [n.op_type for n in model.graph]
    assert modified == (ops != [n.op_type for n in load(proto).graph])
    assert not pass_(model).modified
    assert_same_results(proto, ir.to_proto(model), tolerance=tolerance, **bindings)
    return ops


def norm(b: ModelBuilder, x: str, channels: int, tag: str = "", **attributes) -> str:
    low = {"scale": 0.5, "bias": -1, "mean": -1, "var": 0.5}
    parameters = [b.weights(f"{k}{tag}", (channels,), low=v, high=2) for k, v in low.items()]
    return b.add("BatchNormalization", x, *parameters, **attributes)


ANCHORS = {
    "conv": lambda b: b.add("Conv", b.input("x", ["N", 4, 9, 9]), b.weights("w", (6, 4, 3, 3))),
    "conv_bias": lambda b: b.add(
        "Conv", b.input("x", ["N", 4, 9, 9]), b.weights("w", (6, 4, 3, 3)), b.weights("b", (6,)), pads=[1] * 4
    ),
    "conv_group": lambda b: b.add("Conv", b.input("x", ["N", 4, 9]), b.weights("w", (6, 2, 3)), group=2),
    "transposed": lambda b: b.add(
        "ConvTranspose", b.input("x", ["N", 4, 5, 5]), b.weights("w", (4, 6, 2, 2))
    ),
    "transposed_group": lambda b: b.add(
        "ConvTranspose",
        b.input("x", ["N", 4, 5, 5]),
        b.weights("w", (4, 3, 2, 2)),
        b.weights("b", (6,)),
        group=2,
    ),
    "gemm": lambda b: b.add("Gemm", b.input("x", ["N", 4]), b.weights("w", (4, 6))),
    "gemm_full": lambda b: b.add(
        "Gemm",
        b.input("x", ["N", 4]),
        b.weights("w", (6, 4)),
        b.weights("b", (6,)),
        transB=1,
        alpha=0.5,
        beta=2.0,
    ),
    "gemm_scalar": lambda b: b.add(
        "Gemm", b.input("x", ["N", 4]), b.weights("w", (4, 6)), b.weights("b", (1,))
    ),
    "matmul": lambda b: b.add("MatMul", b.input("x", ["N", 4]), b.weights("w", (4, 6))),
}
OPS = {
    **dict.fromkeys(("conv", "conv_bias", "conv_group"), "Conv"),
    **dict.fromkeys(("transposed", "transposed_group"), "ConvTranspose"),
    **dict.fromkeys(("gemm", "gemm_full", "gemm_scalar", "matmul"), "Gemm"),
}


@pytest.mark.parametrize("opset", [7, 9, 14, 15])
@pytest.mark.parametrize("anchor", ANCHORS)
def test_batch_norm_folds_into_the_anchor(anchor, opset):
    if anchor == "gemm" and opset < 11:
        pytest.skip("C is not optional before opset 11")
    b = ModelBuilder(opset=opset)
    proto = b.output(norm(b, ANCHORS[anchor](b), 6, epsilon=1e-3), None).model()
    assert after(proto, BatchNormFolding(), N=2) == [OPS[anchor]]


def test_batch_norm_alone_becomes_mul_and_add():
    b = ModelBuilder()
    proto = b.output(norm(b, b.add("Relu", b.input("x", ["N", 3, 4, 4])), 3), None).model()
    assert after(proto, BatchNormFolding(), N=2) == ["Relu", "Mul", "Add"]


def test_batch_norm_after_a_branching_conv_keeps_the_conv():
    b = ModelBuilder()
    y = ANCHORS["conv"](b)
    proto = b.output(b.add("Add", norm(b, y, 6), y), None).model()
    assert after(proto, BatchNormFolding(), N=2) == ["Conv", "Mul", "Add", "Add"]


def test_batch_norm_of_a_conv_that_is_an_output_keeps_it():
    b = ModelBuilder()
    y = ANCHORS["conv"](b)
    proto = b.output(norm(b, y, 6), None).output(y, None).model()
    assert after(proto, BatchNormFolding(), N=2) == ["Conv", "Mul", "Add"]


def test_batch_norm_over_another_axis_than_the_product_stays_outside():
    """A batched MatMul's last axis is not BatchNormalization's channel axis."""
    b = ModelBuilder()
    y = b.add("MatMul", b.input("x", ["N", 6, 4]), b.weights("w", (4, 6)))
    assert after(b.output(norm(b, y, 6), None).model(), BatchNormFolding(), N=2) == ["MatMul", "Mul", "Add"]


def test_batch_norm_in_training_mode_stays():
    b = ModelBuilder(opset=15)
    y = b.add(
        "BatchNormalization",
        b.input("x", [2, 3, 4]),
        *(b.weights(f"p{i}", (3,), low=0.5) for i in range(4)),
        outputs=3,
        training_mode=1,
    )
    model = load(b.output(y[0], None).model())
    assert not BatchNormFolding()(model).modified


def test_computed_batch_norm_parameters_stay():
    b = ModelBuilder()
    p = [b.input(f"p{i}", [3]) for i in range(4)]
    model = load(b.output(b.add("BatchNormalization", b.input("x", [2, 3, 4]), *p), None).model())
    assert not BatchNormFolding()(model).modified


@pytest.mark.parametrize("pass_", [BatchNormFolding(), ScaleFolding()], ids=["norm", "scale"])
def test_shared_weights_are_not_changed(pass_):
    b = ModelBuilder()
    x, w = b.input("x", ["N", 4, 9, 9]), b.weights("w", (6, 4, 3, 3))
    first, second = b.add("Conv", x, w), b.add("Conv", x, w)
    if isinstance(pass_, BatchNormFolding):
        y = norm(b, first, 6)
    else:
        y = b.add("Mul", first, b.weights("s", (6, 1, 1)))
    proto = b.output(b.add("Add", y, second), None).model()
    model = load(proto)
    before = model.graph.initializers["w"].const_value.numpy().copy()
    assert pass_(model).modified
    np.testing.assert_array_equal(model.graph.initializers["w"].const_value.numpy(), before)
    assert_same_results(proto, ir.to_proto(model), N=2)


def channel(rank: int, count: int = 6) -> tuple[int, ...]:
    return (count, *(1,) * (rank - 2))


@pytest.mark.parametrize("op_type", ["Mul", "Div", "Add", "Sub"])
@pytest.mark.parametrize("shape", [(), (1,), (6, 1, 1), (1, 6, 1, 1)], ids=str)
@pytest.mark.parametrize("anchor", ["conv", "conv_bias", "transposed", "transposed_group"])
def test_scale_folds_into_the_anchor(anchor, shape, op_type):
    b = ModelBuilder()
    y = b.add(op_type, ANCHORS[anchor](b), b.weights("s", shape, low=0.5, high=2))
    assert after(b.output(y, None).model(), ScaleFolding(), N=2) == [OPS[anchor]]


def test_scale_in_front_folds_only_where_it_commutes():
    for op_type, expected in (("Mul", 1), ("Add", 1), ("Sub", 2), ("Div", 2)):
        b = ModelBuilder()
        s = b.weights("s", (6, 1, 1), low=0.5, high=2)
        proto = b.output(b.add(op_type, s, ANCHORS["conv"](b)), None).model()
        assert len(after(proto, ScaleFolding(), N=2, tolerance=1e-3)) == expected


@pytest.mark.parametrize("op_type", ["Mul", "Div"])
@pytest.mark.parametrize("shape", [(), (6,), (1, 6)], ids=str)
@pytest.mark.parametrize("anchor", ["gemm", "gemm_full", "gemm_scalar", "matmul"])
def test_column_scale_folds_into_products(anchor, shape, op_type):
    b = ModelBuilder()
    y = b.add(op_type, ANCHORS[anchor](b), b.weights("s", shape, low=0.5, high=2))
    expected = "MatMul" if anchor == "matmul" else "Gemm"
    assert after(b.output(y, None).model(), ScaleFolding(), N=2) == [expected]


def test_scale_folds_into_a_batched_product():
    b = ModelBuilder()
    y = b.add("MatMul", b.input("x", ["N", 3, 5, 4]), b.weights("w", (4, 6)))
    assert after(
        b.output(b.add("Div", y, b.weights("s", (6,), low=1)), None).model(), ScaleFolding(), N=2
    ) == ["MatMul"]


@pytest.mark.parametrize("shape", [(7, 7), (1, 6, 7, 1), (2, 6, 1, 1), (1, 1, 6, 1, 1)], ids=str)
def test_constant_that_is_not_per_channel_stays(shape):
    b = ModelBuilder()
    y = b.add("Mul", ANCHORS["conv"](b), b.weights("s", shape))
    assert after(b.output(y, None).model(), ScaleFolding(), N=1) == ["Conv", "Mul"]


def test_division_by_zero_stays():
    b = ModelBuilder()
    y = b.add("Div", ANCHORS["conv"](b), b.constant([[[0.0]]] * 6, F))
    model = load(b.output(y, None).model())
    assert not ScaleFolding()(model).modified


def test_chain_folds_completely_and_keeps_the_output_name():
    b = ModelBuilder()
    y = b.add("Add", b.add("Mul", ANCHORS["conv"](b), b.weights("s", (6, 1, 1))), b.weights("t", (6, 1, 1)))
    proto = b.output(y, None).model()
    assert after(proto, ScaleFolding(), N=2) == ["Conv"]
    model = load(proto)
    ScaleFolding()(model)
    assert [o.name for o in model.graph.outputs] == [y]


def test_computed_constants_are_folded():
    b = ModelBuilder()
    w = b.add("Transpose", b.weights("w", (6, 4)), perm=[1, 0])
    w = b.add("Mul", w, b.add("Sqrt", b.constant(4.0, F)))
    proto = b.output(b.add("MatMul", b.input("x", ["N", 4]), w), None).model()
    assert after(proto, ConstantFolding(), N=2) == ["MatMul"]


@pytest.mark.parametrize("axis", [0, 1])
def test_fewer_indices_than_elements_are_folded(axis):
    b = ModelBuilder()
    table, index = b.weights("t", (4, 6)), b.constant([[0, -1, 2], [3, 1, 0]], I64)
    y = b.add("Add", b.input("x", ["N", 2, 3]), b.add("GatherElements", table, index, axis=axis))
    assert after(b.output(y).model(), ConstantFolding(), N=2) == ["Add"]


def test_static_shape_arithmetic_is_folded():
    b = ModelBuilder()
    x = b.input("x", [2, 6, 4])
    extents = b.add("Shape", x)
    first = b.add("Gather", extents, b.constant([0], I64))
    target = b.add("Concat", first, b.constant([-1], I64), axis=0)
    assert after(b.output(b.add("Reshape", x, target), None).model(), ConstantFolding()) == ["Reshape"]


def test_dynamic_shape_arithmetic_stays():
    b = ModelBuilder()
    x = b.input("x", ["N", 6, 4])
    target = b.add(
        "Concat", b.add("Gather", b.add("Shape", x), b.constant([0], I64)), b.constant([-1], I64), axis=0
    )
    ops = after(b.output(b.add("Reshape", x, target), None).model(), ConstantFolding(), N=3)
    assert ops == ["Shape", "Gather", "Concat", "Reshape"]


def test_constants_are_not_blown_up():
    b = ModelBuilder()
    wide = b.add("Expand", b.weights("w", (1, 64)), b.constant([4096, 64], I64))
    proto = b.output(b.add("Add", b.input("x", [4096, 64]), wide), None).model()
    assert after(proto, ConstantFolding()) == ["Expand", "Add"]


def test_quantized_weights_stay_small():
    b = ModelBuilder()
    w = b.constant(np.arange(-8, 8).reshape(4, 4), np.int8)
    w = b.add("DequantizeLinear", w, b.constant(0.1, F), b.constant(0, np.int8))
    proto = b.output(b.add("MatMul", b.input("x", ["N", 4]), w), None).model()
    assert after(proto, ConstantFolding(), N=2) == ["DequantizeLinear", "MatMul"]


def test_constant_output_keeps_its_node():
    b = ModelBuilder()
    b.input("x", [2])
    y = b.add("Add", b.weights("a", (2,)), b.weights("b", (2,)))
    assert after(b.output(y, [2]).model(), ConstantFolding()) == ["Add"]


def test_random_numbers_are_not_constants():
    b = ModelBuilder()
    y = b.add("Add", b.input("x", [2]), b.add("RandomNormal", shape=[2], seed=1.0))
    model = load(b.output(y, [2]).model())
    assert not ConstantFolding()(model).modified


def test_value_captured_by_a_subgraph_is_folded_for_it_too():
    b = ModelBuilder()
    flag = b.input("flag", [], np.bool_)
    hidden = b.add("Sqrt", b.constant([4.0, 9.0], F))
    branches = [
        helper.make_graph(
            [helper.make_node(op, [hidden], [op])],
            op,
            [],
            [helper.make_tensor_value_info(op, TensorProto.FLOAT, [2])],
        )
        for op in ("Neg", "Exp")
    ]
    proto = b.output(b.add("If", flag, then_branch=branches[0], else_branch=branches[1]), [2]).model()
    assert after(proto, ConstantFolding()) == ["If"]


def test_folded_weights_are_rounded_once():
    """Float64 folding: the result is the correctly rounded product, not one of rounded factors."""
    b = ModelBuilder()
    proto = b.output(norm(b, ANCHORS["conv_bias"](b), 6), None).model()
    model = load(proto)
    BatchNormFolding()(model)
    (conv,) = nodes_of(model, "Conv")
    constants = {t.name: onnx.numpy_helper.to_array(t).astype(np.float64) for t in proto.graph.initializer}
    factor = constants["scale"] / np.sqrt(constants["var"] + 1e-5)
    np.testing.assert_array_equal(
        conv.inputs[1].const_value.numpy(), (constants["w"] * factor.reshape(-1, 1, 1, 1)).astype(np.float32)
    )


def padded(around, *then, opset=17, value=None, before="Relu", **attributes):
    """Pad of a 9 x 8 image, and one node that reads it."""
    b = ModelBuilder(opset=opset)
    x = b.add(before, b.input("x", ["N", 4, 9, 8]))
    if opset < 11:
        y = b.add("Pad", x, pads=around, value=value or 0.0)
    else:
        y = b.add("Pad", x, b.constant(around, I64), *([] if value is None else [b.constant(value, F)]))
    y = b.add(then[0], y, *(b.weights(f"w{i}", s) for i, s in enumerate(then[1:])), **attributes)
    return b.output(y, None).model()


SPATIAL = [0, 0, 1, 2, 0, 0, 3, 0]
KERNEL = (5, 4, 3, 3)


@pytest.mark.parametrize("opset", [9, 13])
@pytest.mark.parametrize(
    "attributes", [{}, {"pads": [1, 0, 2, 1]}, {"auto_pad": "VALID", "strides": [2, 2]}], ids=str
)
def test_padding_folds_into_the_conv(attributes, opset):
    proto = padded(SPATIAL, "Conv", KERNEL, opset=opset, **attributes)
    assert after(proto, PadFolding(), N=2) == ["Relu", "Conv"]


def test_padding_folds_into_pools():
    window = {"kernel_shape": [4, 3], "strides": [2, 2]}
    for op_type in ("MaxPool", "AveragePool"):
        assert after(padded(SPATIAL, op_type, **window), PadFolding(), N=2) == ["Relu", op_type]


@pytest.mark.parametrize(
    "proto",
    [
        padded([0, 1, 0, 0, 0, 0, 1, 1], "Conv", (5, 5, 3, 3)),
        padded([0, 0, -1, 0, 0, 0, 1, 1], "Conv", KERNEL),
        padded(SPATIAL, "MaxPool", kernel_shape=[3, 3]),
        padded(SPATIAL, "Conv", KERNEL, value=0.5),
        padded(SPATIAL, "Conv", KERNEL, auto_pad="SAME_UPPER"),
        padded(SPATIAL, "MaxPool", kernel_shape=[4, 3], before="Neg"),
        padded(SPATIAL, "MaxPool", kernel_shape=[4, 3], strides=[2, 2], ceil_mode=1),
        padded(SPATIAL, "AveragePool", kernel_shape=[4, 3], pads=[1, 1, 1, 1]),
    ],
    ids=["channels", "crop", "small_window", "value", "same", "negative", "ceil", "uncounted"],
)
def test_padding_of_another_meaning_stays(proto):
    assert "Pad" in after(proto, PadFolding(), N=2)


def test_padding_that_something_else_reads_is_kept_for_it():
    b = ModelBuilder()
    y = b.add("Pad", b.input("x", ["N", 4, 9, 8]), b.constant(SPATIAL, I64))
    proto = b.output(b.add("Conv", y, b.weights("w", KERNEL)), None).output(b.add("Neg", y), None).model()
    model = load(proto)
    assert PadFolding()(model).modified
    assert [n.op_type for n in model.graph] == ["Pad", "Conv", "Neg"]
    assert_same_results(proto, ir.to_proto(model), N=2)


@pytest.mark.parametrize(
    "scales,ops",
    [
        (("Mul", "Mul"), ["MatMul", "Mul"]),
        (("Mul", "Div"), ["MatMul", "Mul"]),
        ((None, "Div"), ["MatMul", "Mul"]),
    ],
    ids=str,
)
def test_scales_move_behind_the_product(scales: tuple[str | None, str], ops: list[str]) -> None:
    b = ModelBuilder()
    operands = [b.input("q", ["N", 3, 5, 4]), b.input("k", ["N", 3, 4, 7])]
    scaled = [b.add(op, x, b.constant([0.4], F)) if op else x for op, x in zip(scales, operands, strict=True)]
    assert after(b.output(b.add("MatMul", *scaled)).model(), ScaleHoisting(), N=2) == ops


def test_scales_that_are_no_numbers_or_read_twice_stay() -> None:
    b = ModelBuilder()
    q, k = b.input("q", [3, 5, 4]), b.input("k", [3, 4, 7])
    shared = b.add("Mul", q, b.constant(0.5, F))
    wide = b.add("Mul", k, b.constant([[0.5]] * 4, F))
    zero = b.add("Mul", k, b.constant(0.0, F))
    b.output(b.add("MatMul", shared, wide))
    b.output(b.add("MatMul", shared, zero))
    assert "Mul" in after(b.model(), ScaleHoisting())
    assert after(b.model(), ScaleHoisting()).count("Mul") == 3


def guarded(b: ModelBuilder, scores: str, *, instead: float = 0.0) -> ModelBuilder:
    weights = b.add("Softmax", scores)
    return b.output(b.add("Where", b.add("IsNaN", weights), b.constant(instead, F), weights))


def masked(b: ModelBuilder, hidden: float) -> str:
    mask = b.add("Where", b.input("seen", [4, 6], bool), b.constant(0.0, F), b.constant(hidden, F))
    return b.add("Add", b.input("x", [2, 4, 6]), mask)


def test_a_guard_against_rows_that_cannot_be() -> None:
    b = ModelBuilder()
    model = guarded(b, masked(b, -3.4e38)).model()
    assert after(model, SoftmaxGuardElimination()) == ["Where", "Add", "Softmax"]


@pytest.mark.parametrize("hidden,instead", [(-np.inf, 0.0), (-1e9, 1.0)])
def test_other_guards_stay(hidden: float, instead: float) -> None:
    b = ModelBuilder()
    model = guarded(b, masked(b, hidden), instead=instead).model()
    assert "IsNaN" in after(model, SoftmaxGuardElimination())


def projections(b: ModelBuilder, *, biases: tuple[bool, ...]) -> onnx.ModelProto:
    x = b.input("x", ["N", 5, 4])
    for i, has_bias in enumerate(biases):
        y = b.add("MatMul", x, b.weights(f"w{i}", (4, 3 + i)))
        b.output(b.add("Relu", b.add("Add", b.weights(f"b{i}", (3 + i,)), y) if has_bias else y))
    return b.model()


@pytest.mark.parametrize("opset", [11, 17])
def test_products_with_one_value_become_one(opset: int) -> None:
    model = projections(ModelBuilder(opset=opset), biases=(True, True, True))
    assert after(model, ProductMerging(), N=2) == ["MatMul", "Add", "Split", "Relu", "Relu", "Relu"]


def test_products_with_and_without_bias_do_not_mix() -> None:
    model = projections(ModelBuilder(), biases=(True, False, True, False))
    assert sorted(after(model, ProductMerging(), N=2)) == sorted(
        ["MatMul", "Add", "Split", "MatMul", "Split", *["Relu"] * 4]
    )


def test_a_product_that_the_caller_reads_is_merged_under_its_name() -> None:
    b = ModelBuilder()
    x = b.input("x", [5, 4])
    b.output(b.add("MatMul", x, b.weights("w0", (4, 3))))
    b.output(b.add("MatMul", x, b.weights("w1", (4, 2))))
    assert after(b.model(), ProductMerging()) == ["MatMul", "Split"]
