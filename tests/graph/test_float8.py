"""Models quantized to 8-bit floats: which products multiply them, and where values are stored in them."""

from __future__ import annotations

from typing import Any

import lowered
import numpy as np
import pytest
from lowered import covered, ops, optimized
from quantized_models import E4M3, E5M2, INT8, QuantizedBuilder, feed_forward, float8_net, residual_net

from bolt.graph.conventions import CPU, conventions
from bolt.graph.cover import Cover
from bolt.graph.float8 import kept_wide
from bolt.ops.spec import Spec
from bolt.program import Step
from bolt.report import Rejection
from bolt.search.candidates import supports
from bolt.target import CUDA_TARGETS, SM80, SM90A
from bolt.types import F8E4M3, F8E5M2, F16, F32, DType

HOPPER = conventions(SM90A, "fp32")
HALF = conventions(SM90A, "fp16")
STEP = 2.0**-4
"""Of the activations; a power of two, so that dividing by it does not round."""


class Builder(QuantizedBuilder):
    """A `QuantizedBuilder` of 8-bit floats."""

    def __init__(self, opset: int = 19) -> None:
        super().__init__(opset=opset)

    def fake8(self, x: str, scale: float = STEP, dtype: Any = E4M3) -> str:
        """x quantized and dequantized."""
        return self.fake(x, scale, 0, dtype)


def check(
    model: Any, *, rules: Any = HOPPER, tolerance: float = 1e-5, most: float = 0.0, **sizes: int
) -> Cover:
    """Lower `model` for Hopper, run it in NumPy and compare with ORT.

    Args:
        tolerance: relative to the output's range.
        most: share of the elements that may be off: what fp32 rounds differently ends as another float.
    """
    found, pairs = lowered.beside_ort(model, rules, **sizes)
    for got, want in pairs:
        error = np.abs(got.astype(np.float64) - want.astype(np.float64)) / max(1e-3, np.abs(want).max())
        assert (error > tolerance).mean() <= most, error.max()
    return found


def steps(found: Cover, op: str) -> list[Step]:
    return [s for p in found.programs for s in p.steps if isinstance(s, Step) and s.spec.op == op]


def types(step: Step) -> list[DType]:
    return [o.dtype for o in step.spec.operands]


@pytest.mark.parametrize("per_slice", [True, False])
@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("shape", [[6, 32], [2, 3, 32]])
def test_matmul(shape: list[int], stored: bool, per_slice: bool) -> None:
    b = Builder()
    w = b.float8_weights((32, 24), per_slice=per_slice, stored=stored)
    y = b.add("Add", b.add("MatMul", b.fake8(b.input("x", shape)), w), b.weights("b", (24,)))
    found = check(b.output(y).model())
    (gemm,) = steps(found, "gemm")
    assert types(gemm)[:3] == [F32, F8E4M3, F8E4M3] and gemm.constants[2].dtype == E4M3
    assert ops(found) == ["pointwise", "gemm"]
    assert [n.op for n in gemm.spec.epilogue.nodes if n.op not in ("acc", "in", "const")] == ["mul", "add"]


def test_weights_that_are_transposed_in_the_model() -> None:
    b = Builder()
    w = b.add("Transpose", b.float8_weights((24, 32), axis=0), perm=[1, 0])
    found = check(b.output(b.add("MatMul", b.fake8(b.input("x", [6, 32])), w)).model())
    assert types(steps(found, "gemm")[0])[1:3] == [F8E4M3, F8E4M3]


@pytest.mark.parametrize("attributes", [{"transB": 1}, {"alpha": 0.5, "beta": 2.0}, {"beta": 0.0}])
@pytest.mark.parametrize("bias", ["float", "cast"])
def test_gemm(attributes: dict[str, Any], bias: str) -> None:
    b = Builder()
    shape, axis = ((24, 32), 0) if attributes.get("transB") else ((32, 24), 1)
    third = b.weights("b", (24,)) if bias == "float" else b.constant(b.random.uniform(-1, 1, 24), np.float16)
    if bias == "cast":
        third = b.add("Cast", third, to=1)
    y = b.add("Gemm", b.fake8(b.input("x", [6, 32])), b.float8_weights(shape, axis=axis), third, **attributes)
    found = check(b.output(y).model())
    assert types(steps(found, "gemm")[0])[1:3] == [F8E4M3, F8E4M3]


@pytest.mark.parametrize("x, w", [(E4M3, E5M2), (E5M2, E4M3), (E5M2, E5M2)])
def test_both_kinds_of_floats(x: Any, w: Any) -> None:
    b = Builder()
    y = b.add("MatMul", b.fake8(b.input("x", [6, 32]), dtype=x), b.float8_weights((32, 24), dtype=w))
    names = {E4M3: F8E4M3, E5M2: F8E5M2}
    assert types(steps(check(b.output(y).model()), "gemm")[0])[1:3] == [names[x], names[w]]


def test_what_a_value_beyond_the_range_becomes() -> None:
    b = Builder()
    x = b.add("Mul", b.input("x", [4, 32]), b.constant(1000, np.float32))
    check(b.output(b.add("MatMul", b.fake8(x), b.float8_weights((32, 8)))).model())


@pytest.mark.parametrize("activation", ["Relu", "Sigmoid"])
def test_a_product_stores_what_the_next_one_reads(activation: str) -> None:
    b = Builder()
    y = feed_forward(b, b.fake8(b.input("x", [6, 32])), activation)
    found = check(b.output(y).model(), tolerance=1e-2)
    assert ops(found) == ["pointwise", "gemm", "gemm"]
    assert [types(s)[0] for s in steps(found, "gemm")] == [F8E4M3, F32]


def test_scales_are_one_multiplication() -> None:
    b = Builder()
    y = b.fake8(b.add("MatMul", b.fake8(b.input("x", [6, 32])), b.float8_weights((32, 64), per_slice=False)))
    y = b.add("MatMul", y, b.float8_weights((64, 8)))
    first, _ = steps(check(b.output(y).model()), "gemm")
    assert [n.op for n in first.spec.epilogue.nodes] == ["acc", "const", "mul"]


def test_one_quantization_for_several_products() -> None:
    b = Builder()
    x = b.fake8(b.input("x", [6, 32]))
    for _ in range(2):
        b.output(b.add("Sigmoid", b.add("MatMul", x, b.float8_weights((32, 16), dtype=E4M3))))
    b.output(b.add("MatMul", x, b.float8_weights((32, 16), dtype=E5M2)))
    found = check(b.model())
    assert ops(found).count("gemm") == 2 and ops(found)[0] == "pointwise"


@pytest.mark.parametrize("op", ["MatMul", "Gemm"])
def test_products_of_one_value_are_one(op: str) -> None:
    """Scales of all columns and of each, a bias of its own and one that is added."""
    b = Builder()
    x = b.fake8(b.input("x", [6, 32]))
    parts = []
    for i, columns in enumerate((16, 24)):
        w, bias = b.float8_weights((32, columns), per_slice=i == 0), b.weights(f"b{i}", (columns,))
        parts.append(b.add("Gemm", x, w, bias) if op == "Gemm" else b.add("Add", b.add("MatMul", x, w), bias))
    found = check(b.output(b.add("Concat", *reversed(parts), axis=1)).model())
    assert ops(found).count("gemm") == 1 and steps(found, "gemm")[0].constants[2].shape[2:] == (32, 40)


def transformer_block(b: Builder, x: str, rows: int, width: int, heads: int) -> str:
    """Attention and a feed-forward part, every product with weights quantized."""

    def norm(value: str, name: str) -> str:
        scale, bias = b.weights(f"{name}s", (width,)), b.weights(f"{name}t", (width,))
        return b.fake8(b.add("LayerNormalization", value, scale, bias, axis=-1))

    h = norm(x, "first")
    split = b.constant([0, rows, heads, width // heads], np.int64)
    q, k, v = (
        b.add("Add", b.add("MatMul", h, b.float8_weights((width, width))), b.weights(f"b{c}", (width,)))
        for c in "qkv"
    )
    q, k, v = (b.add("Transpose", b.add("Reshape", y, split), perm=[0, 2, 1, 3]) for y in (q, k, v))
    scores = b.add("MatMul", q, b.add("Transpose", k, perm=[0, 1, 3, 2]))
    scores = b.add("Softmax", b.add("Div", scores, b.constant(4.0, np.float32)))
    mixed = b.add("Transpose", b.add("MatMul", scores, v), perm=[0, 2, 1, 3])
    mixed = b.add("Reshape", mixed, b.constant([0, rows, width], np.int64))
    x = b.add("Add", x, b.add("MatMul", b.fake8(mixed), b.float8_weights((width, width))))
    return str(b.add("Add", feed_forward(b, norm(x, "second")), x))


def test_a_transformer_block() -> None:
    b = Builder()
    model = b.output(transformer_block(b, b.input("x", ["n", 6, 32]), 6, 32, 2)).model()
    found = check(model, rules=HALF, tolerance=2e-2, most=0.05, n=2)
    expected = [
        ("norm", F8E4M3), ("gemm", F16), ("attention", F16), ("pointwise", F8E4M3), ("gemm", F16),
        ("norm", F8E4M3), ("gemm", F8E4M3), ("gemm", F32),
    ]  # fmt: skip
    made = [(s.spec.op, types(s)[0]) for p in found.programs for s in p.steps if isinstance(s, Step)]
    assert [step for step in made if step[0] != "copy"] == expected


def test_a_norm_and_a_residual() -> None:
    found = check(float8_net(), tolerance=2e-2, most=0.02)
    assert ops(found) == ["norm", "gemm", "gemm"]
    assert [types(s)[0] for p in found.programs for s in p.steps if isinstance(s, Step)] == [
        F8E4M3,
        F8E4M3,
        F32,
    ]


def test_values_between_kernels_in_16_bits() -> None:
    b = Builder()
    h = feed_forward(b, b.fake8(b.add("Tanh", b.input("x", [6, 32]))))
    h = b.add("MatMul", b.add("Tanh", h), b.weights("w", (32, 16)))
    found = check(b.output(h).model(), rules=HALF, tolerance=2e-2, most=0.02)
    assert [types(s)[0] for s in steps(found, "gemm")] == [F8E4M3, F16, F32]


def test_quantization_in_front_of_a_reshape() -> None:
    b = Builder()
    y = b.add("Relu", b.add("MatMul", b.fake8(b.input("x", [2, 3, 32])), b.float8_weights((32, 32))))
    y = b.add("Reshape", y, b.constant([6, 32], np.int64))
    found = check(b.output(b.add("MatMul", b.fake8(y), b.float8_weights((32, 16)))).model())
    assert ops(found) == ["pointwise", "gemm", "gemm"]


def test_rows_that_do_not_lie_as_the_kernel_wants_them_are_copied() -> None:
    b = Builder(opset=21)
    x = b.add("Transpose", b.quantized(b.input("x", [32, 6]), STEP, 0, E4M3), perm=[1, 0])
    y = b.add("MatMul", b.real(x, STEP, 0, E4M3), b.float8_weights((32, 8)))
    found = check(b.output(y).model())
    (gemm,) = steps(found, "gemm")
    assert gemm.spec.operands[1].strides[2:] == (32, 1)


def test_dynamic_dims() -> None:
    b = Builder(opset=21)
    y = feed_forward(b, b.fake8(b.input("x", ["n", "s", 32])))
    found = check(b.output(y).model(), tolerance=1e-2, n=2, s=3)
    assert ops(found) == ["pointwise", "gemm", "gemm"]


def test_quantization_around_every_operator_is_part_of_the_product() -> None:
    """As ONNX Runtime's quantizer writes it."""
    b = Builder()
    y = b.fake8(b.add("MatMul", b.fake8(b.input("x", [6, 32])), b.float8_weights((32, 16))), STEP / 8)
    y = b.fake8(
        b.add("Add", y, b.real(b.constant(b.random.uniform(-8, 8, 16), E4M3), STEP, 0, E4M3)), STEP / 8
    )
    y = b.fake8(b.add("Sigmoid", y), STEP / 16)
    y = b.fake8(b.add("MatMul", y, b.float8_weights((16, 8))))
    found = check(b.output(y).model(), tolerance=1e-2, most=0.05)
    assert ops(found) == ["pointwise", "gemm", "gemm"]
    assert [types(s)[0] for s in steps(found, "gemm")] == [F8E4M3, F32]
    names = [n.op for n in steps(found, "gemm")[0].spec.epilogue.nodes]
    assert names.count("narrow") == 2, "the store does the third rounding"


@pytest.mark.parametrize("dtype", [E4M3, E5M2])
def test_rounding_in_an_expression_is_that_of_a_store(dtype: Any) -> None:
    b = Builder()
    x = b.add("Mul", b.input("x", [50, 1000]), b.constant(30, np.float32))
    y = b.fake8(b.add("Mul", b.add("Mul", x, x), x), 2.0**-3, dtype)
    found = check(b.output(b.add("Relu", y)).model(), tolerance=0.0)
    assert ops(found) == ["pointwise"] and F8E4M3 not in types(steps(found, "pointwise")[0])


def refuses(*wanted: Any) -> Any:
    def refused(spec: Spec) -> Rejection | None:
        bad = any(test(spec) for test in wanted)
        return Rejection(stage="supports", subject=spec.op, reason="a test says so") if bad else None

    return refused


def stores_float8(spec: Spec) -> bool:
    return spec.op == "gemm" and spec.out.dtype is F8E4M3


def test_where_no_kernel_stores_8_bit_floats_a_kernel_of_its_own_does() -> None:
    b = Builder()
    y = feed_forward(b, b.fake8(b.input("x", [6, 32])))
    found = covered(b.output(y).model(), conventions=HOPPER, supports=refuses(stores_float8))
    assert ops(found) == ["pointwise", "gemm", "pointwise", "gemm"] and not found.rejections


def test_parts_of_a_concatenation_whose_rows_no_kernel_writes() -> None:
    b = Builder()
    x = b.input("x", [6, 32])
    parts = [
        b.add("MatMul", b.fake8(x), b.float8_weights((32, 16))),
        b.add("Slice", x, *(b.constant([i], np.int64) for i in (0, 3, 1))),
    ]
    y = b.add("Relu", b.add("Concat", *parts, axis=1))
    model = b.output(y).model()
    found = covered(model, conventions=HALF, supports=lambda spec: supports(spec, SM90A))
    assert not found.rejections
    assert steps(found, "gemm")[0].spec.out.strides[2] == 16
    check(model, rules=HALF, tolerance=2e-3)


def test_convolutions_read_and_write_wider_types() -> None:
    b = Builder()
    x = b.fake8(b.input("x", [1, 16, 4, 4]))
    y = b.fake8(b.add("Add", b.add("Conv", x, b.weights("w", (16, 16, 1, 1))), x))
    y = b.add("GlobalAveragePool", y)
    found = check(b.output(y).model(), most=0.1, tolerance=1e-2)
    (conv,) = steps(found, "conv")
    assert {F32} == set(types(conv))


def wide(build: Any) -> tuple[Cover, list[str]]:
    """The cover of a model on Hopper, which is right, and why it computes in wider types."""
    b = Builder()
    model = b.output(build(b)).model()
    check(model)
    graph, found = optimized(model, conventions=HOPPER)
    return found, [r.reason for r in kept_wide(graph)]


def _computed(b: Builder) -> Any:
    return b.add("MatMul", *(b.fake8(b.input(n, [16, 16])) for n in "xy"))


def _conv(b: Builder) -> Any:
    return b.add("Conv", b.fake8(b.input("x", [1, 16, 5, 5])), b.weights("w", (16, 16, 3, 3)))


def _depth(b: Builder) -> Any:
    return b.add("MatMul", b.fake8(b.input("x", [4, 24])), b.float8_weights((24, 16)))


def _columns(b: Builder) -> Any:
    return b.add("MatMul", b.fake8(b.input("x", [4, 32])), b.float8_weights((32, 12)))


def _scales(b: Builder) -> Any:
    return b.add("MatMul", b.fake8(b.input("x", [4, 32])), b.float8_weights((32, 16), axis=0))


def _real(b: Builder) -> Any:
    return b.add("MatMul", b.fake8(b.input("x", [4, 32])), b.weights("w", (32, 16)))


def _addend(b: Builder) -> Any:
    return b.add("Gemm", b.fake8(b.input("x", [4, 32])), b.float8_weights((32, 16)), b.input("c", [4, 16]))


@pytest.mark.parametrize("stored", [True, False])
def test_weights_of_convolutions(stored: bool) -> None:
    """With a scale for each output channel, as stored 8-bit floats or quantized in the model."""
    b = Builder()
    floats, scale = b.random.uniform(-8, 8, (16, 16, 3, 3)), 2.0 ** b.random.integers(-6, -3, 16)
    parameters = b.constant(scale, np.float32), b.constant(np.zeros(16), E4M3)
    if stored:
        w = b.constant(floats, E4M3)
    else:
        real = b.constant(floats * scale.reshape(-1, 1, 1, 1), np.float32)
        w = b.add("QuantizeLinear", real, *parameters, axis=0)
    w = b.add("DequantizeLinear", w, *parameters, axis=0)
    found = check(b.output(b.add("Conv", b.fake8(b.input("x", [1, 16, 5, 5])), w)).model())
    assert ops(found).count("conv") == 1 and ops(found).count("pointwise") == 1


@pytest.mark.parametrize(
    "build, reason",
    [
        (_computed, "weights are not constant"),
        (_conv, "Conv has no kernel for 8-bit floats"),
        (_depth, "weights of 24 x 16 are not multiples of 16 x 8"),
        (_columns, "weights of 32 x 12"),
        (_scales, "scales along the depth"),
        (_real, "weights are not 8-bit floats"),
        (_addend, "not one constant for each column"),
    ],
)
def test_what_is_computed_in_wider_types_and_why(build: Any, reason: str) -> None:
    found, reasons = wide(build)
    assert len(reasons) == 1 and reason in reasons[0]
    for op in ("gemm", "conv"):
        assert all(types(s)[1:3] == [F32, F32] for s in steps(found, op))


def test_without_saturation() -> None:
    b = Builder()
    zero, scale = b.constant(0, E4M3), b.constant(STEP, np.float32)
    x = b.add("QuantizeLinear", b.add("Relu", b.input("x", [4, 32])), scale, zero, saturate=0)
    y = b.add("Relu", b.add("MatMul", b.add("DequantizeLinear", x, scale, zero), b.float8_weights((32, 16))))
    model = b.output(y).model()
    graph, found = optimized(model, conventions=HOPPER)
    assert any("without saturation" in r.reason for r in kept_wide(graph))
    assert any("neither enter nor leave" in r.reason for r in found.rejections)
    assert all(types(s)[1] is F32 for s in steps(found, "gemm"))


@pytest.mark.parametrize(
    "rules", [CPU, INT8, *(conventions(t, "fp32") for t in CUDA_TARGETS if t is not SM90A)]
)
def test_other_targets_leave_the_quantization_to_onnx_runtime(rules: Any) -> None:
    b = Builder()
    model = b.output(feed_forward(b, b.fake8(b.input("x", [6, 32])))).model()
    graph, found = optimized(model, conventions=rules)
    assert all(r.reason == "8-bit floats have kernels on sm90a only" for r in found.rejections)
    assert {"QuantizeLinear", "DequantizeLinear"} <= {n.op_type for n in graph.graph}
    assert found.rejections and all(F8E4M3 not in types(s) for s in steps(found, "gemm"))


def test_8_bit_integers_are_left_alone() -> None:
    """As on other GPUs, also their constants."""
    reasons = [
        sorted(r.reason for r in covered(residual_net(), conventions=rules).rejections)
        for rules in (HOPPER, conventions(SM80, "fp32"))
    ]
    assert reasons[0] == reasons[1] and any("8-bit integers" in r for r in reasons[0])


def test_folded_weights_are_right_where_nothing_multiplies_them() -> None:
    """On CPUs that multiply 8-bit integers, constants of all types are dequantized once."""
    b = Builder()
    y = b.add("Relu", b.add("MatMul", b.input("x", [6, 32]), b.float8_weights((32, 12))))
    lowered.check(b.output(y).model(), conventions=INT8)


def test_moves_of_8_bit_floats_are_left_to_onnx_runtime_elsewhere() -> None:
    b = Builder()
    x = b.quantized(b.add("Relu", b.input("x", [4, 32])), STEP, 0, E4M3)
    y = b.real(b.add("Reshape", x, b.constant([8, 16], np.int64)), STEP, 0, E4M3)
    found = covered(b.output(b.add("Relu", y)).model(), conventions=conventions(SM80, "fp32"))
    assert sum("8-bit floats" in r.reason for r in found.rejections) == 3


def test_inputs_and_outputs_of_the_model_that_are_8_bit_floats() -> None:
    b = Builder()
    y = b.add("MatMul", b.real(b.input("x", [4, 32], E4M3), STEP, 0, E4M3), b.float8_weights((32, 16)))
    found = covered(b.output(b.quantized(y, STEP, 0, E4M3), dtype=E4M3).model(), conventions=HOPPER)
    assert {r.reason for r in found.rejections} == {"8-bit floats neither enter nor leave a module"}
