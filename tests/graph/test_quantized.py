"""Quantized models: products of integers, values kept in 8 bits, zero points around images."""

from __future__ import annotations

from typing import Any

import lowered
import numpy as np
import pytest
from lowered import covered, ops, optimized
from onnx_models import ModelBuilder
from quantized_models import INT8, QuantizedBuilder, dynamic_net, residual_net, two_branches

from bolt.epilogue import Builder, Epilogue
from bolt.graph.cover import Cover
from bolt.graph.linear_epilogue import merge_scales
from bolt.program import Step
from bolt.types import F32, S8, U8

STEP = 0.02
MS = "com.microsoft"


def check(model: Any, *, step: float = STEP, most: float = 0.02, **sizes: int) -> Cover:
    """Lower `model` for 8-bit products and compare with ORT: nowhere more than `step`, mostly exact.

    Args:
        step: of the output's quantization; what fp32 rounds differently may end on the other side.
        most: share of the elements that may be off.
    """
    found, pairs = lowered.beside_ort(model, INT8, **sizes)
    for got, want in pairs:
        error = np.abs(got.astype(np.float64) - want.astype(np.float64))
        assert error.max(initial=0) <= 1.001 * step
        assert (error > 1e-5).mean() <= most
    return found


def steps(found: Cover, op: str) -> list[Step]:
    return [s for p in found.programs for s in p.steps if isinstance(s, Step) and s.spec.op == op]


def types(step: Step) -> list[Any]:
    return [o.dtype for o in step.spec.operands]


CONVS: dict[str, tuple[list[Any], tuple[int, ...], dict[str, Any]]] = {
    "3x3": ([1, 8, 9, 11], (7, 8, 3, 3), {"pads": [1, 1, 1, 1]}),
    "asymmetric pads": ([2, 4, 8, 9], (4, 4, 3, 3), {"pads": [0, 2, 1, 0]}),
    "words cut short": ([1, 6, 8, 9], (5, 6, 3, 3), {"pads": [1, 1, 1, 1]}),
    "one input channel": ([1, 1, 8, 9], (5, 1, 3, 3), {"pads": [1, 1, 1, 1]}),
    "stride and dilation": ([1, 4, 17, 15], (6, 4, 3, 3), {"strides": [2, 3], "dilations": [2, 1]}),
    "small groups": ([1, 6, 8, 8], (6, 2, 3, 3), {"group": 3, "pads": [1, 1, 1, 1]}),
    "groups": ([1, 8, 8, 8], (6, 4, 3, 3), {"group": 2, "pads": [1, 1, 1, 1]}),
    "depthwise": ([1, 6, 8, 8], (6, 1, 5, 5), {"group": 6, "pads": [2, 2, 2, 2], "strides": [2, 2]}),
    "pointwise": ([2, 8, 5, 7], (3, 8, 1, 1), {}),
    "a column": ([2, 4, 20, 1], (5, 4, 3, 1), {"pads": [2, 0, 1, 0], "strides": [2, 1]}),
    "1-D": ([2, 4, 20], (5, 4, 3), {"pads": [2, 1], "strides": [2]}),
    "same upper": ([1, 4, 10, 11], (4, 4, 4, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
}


@pytest.mark.parametrize("dtype, zero", [(np.uint8, 0), (np.uint8, 113), (np.int8, -5)])
@pytest.mark.parametrize("name", CONVS)
def test_conv(name: str, dtype: Any, zero: int) -> None:
    x, w, attributes = CONVS[name]
    b = QuantizedBuilder()
    image = b.fake(b.input("x", x), 4 / 255, zero, dtype)
    y = b.add("Conv", image, b.quantized_weights(w), b.quantized_bias(w[0], 4 / 255), **attributes)
    found = check(b.output(b.fake(y, STEP, 3)).model())
    (conv,) = steps(found, "conv")
    assert types(conv)[1:3] == [U8 if dtype is np.uint8 else S8, S8]
    assert conv.constants[2].dtype == np.int8


@pytest.mark.parametrize("per_slice", [True, False])
@pytest.mark.parametrize("unsigned", [True, False])
def test_weights(per_slice: bool, unsigned: bool) -> None:
    b = QuantizedBuilder()
    w = b.quantized_weights((8, 4, 3, 3), per_slice=per_slice, unsigned=unsigned)
    y = b.add("Conv", b.fake(b.input("x", [1, 4, 6, 6]), 0.02, 90), w)
    (conv,) = steps(check(b.output(b.fake(y, STEP, 128)).model()), "conv")
    assert types(conv)[1:3] == [U8, S8]


def test_weights_with_another_zero_point_become_fp32() -> None:
    b = QuantizedBuilder()
    integers = b.constant(b.random.integers(0, 256, (8, 4, 1, 1)), np.uint8)
    w = b.real(integers, 0.004, 77)
    y = b.add("Conv", b.fake(b.input("x", [1, 4, 6, 6]), 0.02, 90), w)
    (conv,) = steps(check(b.output(b.fake(y, STEP, 128)).model()), "conv")
    assert types(conv)[1:3] == [F32, F32]


@pytest.mark.parametrize("shape", [[5, 8], [2, 3, 8], [5, 6]])
def test_matmul(shape: list[int]) -> None:
    b = QuantizedBuilder()
    x = b.fake(b.input("x", shape), 4 / 255, 120)
    y = b.add("Add", b.add("MatMul", x, b.quantized_weights((shape[-1], 7), axis=1)), b.weights("b", (7,)))
    found = check(b.output(b.fake(y, STEP, 10)).model())
    (gemm,) = steps(found, "gemm")
    assert types(gemm)[1:3] == [U8, S8]


GEMMS: list[dict[str, Any]] = [{"transB": 1}, {"transB": 0, "alpha": 0.5, "beta": 2.0}, {"beta": 0.0}]


@pytest.mark.parametrize("attributes", GEMMS)
def test_gemm(attributes: dict[str, Any]) -> None:
    b = QuantizedBuilder()
    x = b.fake(b.input("x", [5, 8]), 4 / 255, 120)
    transposed = attributes.get("transB", 0)
    w = b.quantized_weights((7, 8) if transposed else (8, 7), axis=0 if transposed else 1)
    found = check(
        b.output(b.fake(b.add("Gemm", x, w, b.quantized_bias(7, 4 / 255), **attributes), STEP, 128)).model()
    )
    assert types(steps(found, "gemm")[0])[1:3] == [U8, S8]


def test_a_product_of_two_computed_matrices_stays_fp32() -> None:
    b = QuantizedBuilder()
    x, y = (b.fake(b.input(n, [2, 4, 4]), 4 / 255, 120) for n in "xy")
    (gemm,) = steps(check(b.output(b.fake(b.add("MatMul", x, y), 0.1, 128)).model(), step=0.1), "gemm")
    assert types(gemm)[1:3] == [F32, F32]


def test_a_residual_net_keeps_its_values_in_8_bits() -> None:
    found = check(residual_net(), step=0.07)
    assert [o for o in ops(found) if o != "copy"] == ["pointwise", "conv", "pool", "conv", "reduce", "gemm"]
    stem, block = steps(found, "conv")
    assert types(stem)[:3] == [U8, U8, S8]
    assert U8 in types(block)[3:], "the other summand"
    assert [n.op for n in stem.spec.epilogue.nodes if n.op not in ("acc", "in")] == ["mul", "add"]


def test_the_average_of_a_residual_net_reads_fp32() -> None:
    (average,) = steps(check(residual_net(), step=0.07), "reduce")
    assert types(average) == [U8, F32]


def test_parts_of_a_concatenation_are_written_in_place() -> None:
    b = QuantizedBuilder()
    x = b.fake(b.input("x", [1, 4, 6, 6]), 0.02, 100)
    parts = [b.fake(b.add("Conv", x, b.quantized_weights((c, 4, 1, 1))), 0.02, 90) for c in (4, 8)]
    y = b.fake(b.add("Concat", *parts, axis=1), 0.02, 90)
    y = b.fake(b.add("Conv", y, b.quantized_weights((4, 12, 3, 3)), pads=[1] * 4), STEP, 128)
    found = check(b.output(y).model())
    assert ops(found).count("copy") <= 2, "the input's and the output's layout change"
    assert all(types(s)[:3] == [U8, U8, S8] for s in steps(found, "conv")[:2])


def test_parts_of_different_scales_are_quantized_again() -> None:
    b = QuantizedBuilder()
    x = b.fake(b.input("x", [1, 4, 6, 6]), 0.02, 100)
    parts = [b.fake(b.add("Conv", x, b.quantized_weights((4, 4, 1, 1))), s, 90) for s in (0.02, 0.03)]
    y = b.fake(b.add("Concat", *parts, axis=1), 0.03, 80)
    y = b.fake(b.add("Conv", y, b.quantized_weights((4, 8, 1, 1))), STEP, 128)
    check(b.output(y).model())


@pytest.mark.parametrize("move", ["Transpose", "Reshape", "Slice", "Split", "MaxPool", "Resize"])
def test_moves_are_of_integers(move: str) -> None:
    b = QuantizedBuilder()
    x = b.fake(b.input("x", [1, 4, 6, 8]), 0.02, 100)
    arguments: dict[str, tuple[list[str], dict[str, Any]]] = {
        "Transpose": ([], {"perm": [0, 1, 3, 2]}),
        "Reshape": ([b.constant([1, 4, 8, 6], np.int64)], {}),
        "Slice": ([b.constant([1], np.int64), b.constant([5], np.int64), b.constant([2], np.int64)], {}),
        "Split": ([b.constant([4, 2], np.int64)], {"axis": 2, "outputs": 2}),
        "MaxPool": ([], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
        "Resize": (["", b.constant([1, 1, 2, 2], np.float32)], {"mode": "nearest"}),
    }
    inputs, attributes = arguments[move]
    y = b.add(move, x, *inputs, **attributes)
    y = y[0] if isinstance(y, list) else y
    y = b.add("Conv", b.fake(y, 0.02, 100), b.quantized_weights((4, 4, 3, 3)), pads=[1] * 4)
    graph, found = optimized(b.output(b.fake(y, STEP, 128)).model(), conventions=INT8)
    names = [n.op_type for n in graph.graph]
    assert names.count("QuantizeLinear") == 2 and names.count("DequantizeLinear") == 1
    check(b.model())
    assert types(steps(found, "conv")[0])[1] is U8


@pytest.mark.parametrize("limit, kept", [(255 * STEP, 0), (200 * STEP, 1)])
def test_a_clip_that_quantization_is_itself(limit: float, kept: int) -> None:
    b = QuantizedBuilder()
    x = b.fake(b.input("x", [1, 4, 6, 6]), 0.02, 100)
    y = b.add("Conv", x, b.quantized_weights((4, 4, 1, 1)))
    y = b.add("Clip", y, b.constant(0, np.float32), b.constant(limit, np.float32))
    (conv,) = steps(check(b.output(b.fake(y, STEP, 0)).model()), "conv")
    assert [n.op for n in conv.spec.epilogue.nodes].count("clip") == 1 + kept


def test_quantization_moves_to_where_values_are_computed() -> None:
    b = QuantizedBuilder()
    x = b.fake(b.input("x", [2, 4, 8]), 0.02, 100)
    y = b.add(
        "Reshape", b.add("MatMul", x, b.quantized_weights((8, 8), axis=1)), b.constant([8, 8], np.int64)
    )
    y = b.add("MatMul", b.fake(y, 0.02, 90), b.quantized_weights((8, 4), axis=1))
    found = check(b.output(b.fake(y, STEP, 128)).model())
    assert ops(found).count("gemm") == 2 and ops(found).count("pointwise") == 1
    assert types(steps(found, "gemm")[0])[0] is U8


def test_different_zero_points_around_one_image() -> None:
    """The same integers read with two zero points: one convolution needs a copy with another border."""
    b = QuantizedBuilder()
    integers = b.quantized(b.input("x", [1, 4, 6, 6]), 0.02, 100)
    parts = [b.real(integers, 0.02, zero) for zero in (100, 60)]
    a, c = (b.add("Conv", p, b.quantized_weights((4, 4, 3, 3)), pads=[1] * 4) for p in parts)
    check(b.output(b.fake(b.add("Add", a, c), 0.05, 128)).model(), step=0.05)


def test_rows_of_a_quantized_table() -> None:
    b = QuantizedBuilder()
    table = b.real(b.constant(b.random.integers(0, 256, (20, 8)), np.uint8), 0.02, 119)
    rows = b.add("Gather", table, b.input("i", [5], np.int64))
    y = b.add("MatMul", b.fake(b.add("Tanh", rows), 0.01, 128), b.quantized_weights((8, 4), axis=1))
    found = check(b.output(b.fake(y, STEP, 128)).model())
    (gather,) = steps(found, "gather")
    assert types(gather)[:2] == [U8, U8]


def test_zero_points_left_out() -> None:
    b = QuantizedBuilder(opset=21)
    scale = b.constant(0.02, np.float32)
    x = b.input("x", [1, 4, 6, 6])
    parts = []
    for attributes in ({}, {"output_dtype": 3}):
        integers = b.add("QuantizeLinear", x, scale, **attributes)
        real = b.add("DequantizeLinear", integers, scale)
        parts.append(b.fake(b.add("Conv", real, b.quantized_weights((4, 4, 3, 3)), pads=[1] * 4), 0.0213, 99))
    found = check(b.output(b.fake(b.add("Add", *parts), 0.0371, 128)).model(), step=0.0371)
    assert {types(s)[1] for s in steps(found, "conv")} == {U8, S8}


def test_half_precision_scales_are_left_to_onnx_runtime() -> None:
    b = QuantizedBuilder(opset=21)
    half = b.constant(0.02, np.float16)
    x = b.add("Cast", b.add("Relu", b.input("x", [1, 4, 6, 6])), to=10)
    real = b.add("DequantizeLinear", b.add("QuantizeLinear", x, half), half)
    y = b.add("Relu", b.add("Cast", real, to=1))
    graph, _ = optimized(b.output(y).model(), conventions=INT8)
    assert {"QuantizeLinear", "DequantizeLinear"} <= {n.op_type for n in graph.graph}


def test_dynamic_dims() -> None:
    b = QuantizedBuilder()
    x = b.fake(b.input("x", ["n", 6, "h", "w"]), 0.02, 100)
    y = b.fake(b.add("Conv", x, b.quantized_weights((6, 6, 3, 3)), pads=[1] * 4), 0.02, 120)
    y = b.add("Conv", y, b.quantized_weights((4, 6, 3, 3)), pads=[1] * 4)
    check(b.output(b.fake(y, STEP, 128)).model(), n=2, h=7, w=5)


def test_other_targets_leave_quantized_models_alone() -> None:
    found = covered(residual_net())
    assert not steps(found, "conv")
    assert any("8-bit" in r.reason for r in found.rejections)


def test_integers_that_enter_and_leave() -> None:
    b = QuantizedBuilder()
    x = b.real(b.input("x", [1, 4, 6, 6], np.uint8), 0.02, 1)
    y = b.quantized(b.add("Conv", x, b.quantized_weights((4, 4, 3, 3)), pads=[1] * 4), 0.001, 128)
    check(b.output(y, dtype=np.uint8).model(), step=1)


def test_a_scale_computed_at_run_time_is_left_to_onnx_runtime() -> None:
    b = ModelBuilder()
    x, scale = b.input("x", [4, 4]), b.input("s", [])
    zero = b.constant(3, np.uint8)
    y = b.add("DequantizeLinear", b.add("QuantizeLinear", b.add("Relu", x), scale, zero), scale, zero)
    found = covered(b.output(b.add("Relu", y)).model(), conventions=INT8)
    assert any("constant" in r.reason or "attributes" in r.reason for r in found.rejections)


@pytest.mark.parametrize("opset", [13, 17, 18])
def test_dynamic_quantization(opset: int) -> None:
    found = check(dynamic_net(opset=opset), step=0.02)
    assert [types(s)[1:3] for s in steps(found, "gemm")] == [[U8, S8], [U8, S8]]


def test_dynamic_quantization_of_dynamic_dims() -> None:
    found = check(dynamic_net(shape=("n", "t", 8)), step=0.02, n=2, t=3)
    assert len(steps(found, "gemm")) == 2


def test_dynamic_quantization_of_zeros() -> None:
    b = QuantizedBuilder()
    x = b.add("Mul", b.input("x", [3, 8]), b.constant(0, np.float32))
    integers, scale, zero = b.add("DynamicQuantizeLinear", x, outputs=3)
    weights = b.constant(b.random.integers(-127, 128, (8, 4)), np.int8)
    product = b.add("Cast", b.add("MatMulInteger", integers, weights, zero), to=1)
    check(b.output(b.add("Mul", product, scale)).model(), step=0)


def test_an_integer_product_that_is_read_as_such_stays_with_onnx_runtime() -> None:
    b = QuantizedBuilder()
    weights = b.constant(b.random.integers(-127, 128, (8, 4)), np.int8)
    product = b.add("MatMulInteger", b.input("x", [3, 8], np.uint8), weights)
    found = covered(
        b.output(b.add("Relu", b.add("Cast", product, to=1))).output(product, dtype=np.int32).model()
    )
    assert not steps(found, "gemm")


@pytest.mark.parametrize("fixed, pad, products", [(False, 0, 1), (True, 1, 1), (False, 1, 0)])
def test_dynamically_quantized_convolutions(fixed: bool, pad: int, products: int) -> None:
    b = QuantizedBuilder()
    x = b.add("Tanh", b.input("x", [1, 4, 7, 6]))
    integers, scale, zero = b.add("DynamicQuantizeLinear", x, outputs=3)
    if fixed:
        zero, scale = b.constant(100, np.uint8), b.constant(0.02, np.float32)
        integers = b.add("QuantizeLinear", x, scale, zero)
    weights = b.constant(b.random.integers(-127, 128, (6, 4, 3, 3)), np.int8)
    product = b.add("Cast", b.add("ConvInteger", integers, weights, zero, pads=[pad] * 4), to=1)
    model = b.output(b.add("Mul", product, b.add("Mul", scale, b.constant(0.01, np.float32)))).model()
    found = check(model, step=0.05) if products else covered(model, conventions=INT8)
    assert len(steps(found, "conv")) == products


def test_integer_operators() -> None:
    """QLinearConv and its kin between quantized values."""
    b = QuantizedBuilder()

    def parameters(scale: Any, zero: Any, dtype: Any = np.uint8) -> list[str]:
        return [b.constant(scale, np.float32), b.constant(zero, dtype)]

    x = b.quantized(b.input("x", [1, 4, 6, 6]), 0.02, 100)
    w = b.constant(b.random.integers(-127, 128, (8, 4, 3, 3)), np.int8)
    scales = parameters(b.random.uniform(0.002, 0.004, 8), np.zeros(8), np.int8)
    bias = b.constant(b.random.integers(-900, 900, 8), np.int32)
    y = b.add("QLinearConv", x, *parameters(0.02, 100), w, *scales, *parameters(0.03, 9), bias, pads=[1] * 4)
    z = b.add("QLinearAdd", y, *parameters(0.03, 9), y, *parameters(0.03, 9), *parameters(0.05, 3), domain=MS)
    z = b.add("QLinearGlobalAveragePool", z, *parameters(0.05, 3), *parameters(0.05, 0), domain=MS)
    z = b.add("Flatten", z)
    columns = b.constant(b.random.integers(-127, 128, (8, 5)), np.int8)
    step = parameters(0.004, 0, np.int8)
    z = b.add("QLinearMatMul", z, *parameters(0.05, 0), columns, *step, *parameters(0.04, 100))
    found = check(b.output(b.real(z, 0.04, 100)).model(), step=0.04)
    assert types(steps(found, "conv")[0])[1:3] == [U8, S8]
    assert types(steps(found, "gemm")[0])[1:3] == [U8, S8]


def evaluated(epilogue: Epilogue, *inputs: np.ndarray) -> np.ndarray:
    return epilogue.evaluate(np.linspace(-3, 3, 13), inputs)


def test_neighbouring_scales_are_merged() -> None:
    b = Builder()
    q = b.op("round", b.op("add", b.op("mul", b.acc(), b.input(0)), b.input(1)))
    first = b.op("mul", b.op("sub", q, b.const(3)), b.const(0.5))
    second = b.op("mul", b.op("sub", b.input(2), b.const(7)), b.const(0.25))
    total = b.op("mul", b.op("relu", b.op("add", first, second)), b.const(8))
    epilogue = b.finish(b.op("add", total, b.const(5)))
    merged = merge_scales(epilogue)
    arrays = [np.linspace(1, 9, 13), np.linspace(5, -8, 13), np.linspace(0, 20, 13)]
    np.testing.assert_allclose(evaluated(merged, *arrays), evaluated(epilogue, *arrays), rtol=1e-12)
    operations = [n.op for n in merged.nodes if n.op not in ("acc", "in", "const")]
    assert operations == ["mul", "add", "round", "mul", "add", "mul", "add", "relu", "add"]


@pytest.mark.parametrize("factor", [-2.0, 0.0, 3.0])
def test_scales_behind_what_is_not_linear(factor: float) -> None:
    b = Builder()
    inner = b.op("neg", b.op("relu", b.op("sub", b.const(1), b.op("mul", b.acc(), b.const(2)))))
    total = b.op("add", b.op("mul", inner, b.const(factor)), b.op("mul", b.acc(), b.acc()))
    epilogue = b.finish(b.op("sub", total, b.op("tanh", b.op("add", b.acc(), b.const(1)))))
    np.testing.assert_allclose(evaluated(merge_scales(epilogue)), evaluated(epilogue), rtol=1e-12)


def test_a_constant_expression() -> None:
    b = Builder()
    assert evaluated(merge_scales(b.finish(b.op("mul", b.const(3), b.const(4))))) == 12


def test_the_last_relu_of_a_sum_is_left_to_the_store() -> None:
    found = check(two_branches(), step=0.05)
    first, block, _ = steps(found, "conv")
    assert types(first)[0] is U8, "the branch that is computed before is kept in 8 bits"
    assert types(block)[0] is U8 and U8 in types(block)[3:]
    assert [n.op for n in block.spec.epilogue.nodes].count("relu") == 0


@pytest.mark.parametrize("scale", [0.0, -0.5, np.inf, np.nan])
def test_scales_that_make_no_sense(scale: float) -> None:
    b = QuantizedBuilder()
    x = b.fake(b.add("Relu", b.input("x", [1, 4, 6, 6])), scale, 3)
    y = b.add("Relu", b.add("Conv", x, b.quantized_weights((4, 4, 1, 1))))
    found = covered(b.output(y).model(), conventions=INT8)
    assert all(types(s)[1] is F32 for s in steps(found, "conv"))


def test_zero_points_of_rows_are_left_to_onnx_runtime() -> None:
    b = QuantizedBuilder()
    zero = b.constant([1, 2, 3], np.uint8)
    weights = b.constant(b.random.integers(-127, 128, (8, 4)), np.int8)
    product = b.add("MatMulInteger", b.input("x", [3, 8], np.uint8), weights, zero)
    found = covered(b.output(b.add("Relu", b.add("Cast", product, to=1))).model(), conventions=INT8)
    assert not steps(found, "gemm")


@pytest.mark.parametrize("count", [1, 3])
def test_a_bias_of_another_size(count: int) -> None:
    b = QuantizedBuilder()
    x = b.fake(b.input("x", [5, 8]), 4 / 255, 120)
    y = b.add("Gemm", x, b.quantized_weights((8, 3), axis=1), b.weights("c", (5, count)))
    check(b.output(b.fake(y, STEP, 128)).model())
