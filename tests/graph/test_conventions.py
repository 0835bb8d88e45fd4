"""Lowering in other precisions, and for CUDA, against ORT through the NumPy interpreter."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_models
import pytest
from lowered import CONVS, check, conv_model, covered, ops
from onnx_models import ModelBuilder

from bolt.graph.conventions import CPU, conventions, shared
from bolt.graph.cover import Cover
from bolt.ops.conv import ConvSpec
from bolt.options import OptionError
from bolt.program import Step
from bolt.target import SM75, SM80, X86_AVX2, X86_AVX512_BF16
from bolt.types import BF16, F16, F32, DType

FP16, BFLOAT16, TF32, FP32 = (conventions(SM80, p) for p in ("fp16", "bf16", "tf32", "fp32"))
CPU_BF16 = conventions(X86_AVX512_BF16, "bf16")
TOLERANCE = {F16: 2e-3, BF16: 2e-2, F32: 2e-5}


def checked(model: Any, rules: Any = FP16, **sizes: int) -> Cover:
    """The cover, its results compared with ORT's."""
    return check(model, conventions=rules, tolerance=TOLERANCE[rules.stored], **sizes)


def steps(found: Cover, op: str) -> list[Step]:
    return [s for p in found.programs for s in p.steps if isinstance(s, Step) and s.spec.op == op]


def dtypes(step: Step) -> list[DType]:
    return [o.dtype for o in step.spec.operands]


def test_cpu_targets_have_the_cpu_conventions() -> None:
    assert conventions(X86_AVX2, "fp32") == CPU
    assert CPU_BF16.stored is BF16 and not CPU_BF16.is_device


@pytest.mark.parametrize("precision", ("bf16", "fp16", "tf32"))
def test_a_precision_the_cpu_does_not_have_is_refused(precision: str) -> None:
    with pytest.raises(OptionError, match=f"x86-avx2 has no {precision} arithmetic"):
        conventions(X86_AVX2, precision)


def test_one_program_for_several_cpus_uses_what_all_have() -> None:
    assert shared((X86_AVX512_BF16, X86_AVX2), "fp32") == CPU
    with pytest.raises(OptionError, match="x86-avx2 has no bf16"):
        shared((X86_AVX512_BF16, X86_AVX2), "bf16")


@pytest.mark.parametrize("name", CONVS)
def test_conv_of_a_cpu(name: str) -> None:
    """The halo is in memory, the products are of bf16 numbers, bias and result fp32."""
    x, w, attributes = CONVS[name]
    found = checked(conv_model(x, w, **attributes), CPU_BF16)
    (step,) = steps(found, "conv")
    assert isinstance(step.spec, ConvSpec)
    assert step.spec.has_halo
    assert dtypes(step)[1:] == [BF16, BF16, F32]


def test_a_transposed_matrix_of_a_cpu_is_copied_for_products_of_pairs() -> None:
    b = ModelBuilder()
    x = b.add("Transpose", b.input("x", [1, 6, 5]), perm=[0, 2, 1])
    found = checked(b.output(b.add("MatMul", x, b.weights("w", (6, 7)))).model(), CPU_BF16)
    (gemm,) = steps(found, "gemm")
    assert dtypes(gemm) == [F32, BF16, BF16]
    assert gemm.spec.operands[1].strides[-1] == 1


@pytest.mark.parametrize("rules", (FP16, BFLOAT16, TF32, FP32), ids=("fp16", "bf16", "tf32", "fp32"))
@pytest.mark.parametrize("name", CONVS)
def test_conv(name: str, rules: Any) -> None:
    x, w, attributes = CONVS[name]
    found = checked(conv_model(x, w, **attributes), rules)
    (step,) = steps(found, "conv")
    assert isinstance(step.spec, ConvSpec)
    assert not step.spec.has_halo and step.spec.halo() == {}
    assert step.spec.math == ("tf32" if rules is TF32 else "f32")
    assert dtypes(step)[1:] == [rules.stored, rules.stored, F32], "x and w as stored, the bias fp32"
    assert all(o.alignment for o in step.spec.operands)


def test_a_dynamic_image() -> None:
    model = conv_model(["n", 3, "h", "w"], (4, 3, 3, 3), pads=[1, 1, 1, 1], strides=[2, 2])
    checked(model, n=1, h=12, w=9)
    checked(model, n=3, h=7, w=16)


@pytest.mark.parametrize("channels,padded", [(1, 4), (3, 4), (4, 4), (5, 8), (8, 8), (12, 16)])
def test_the_copy_of_the_input_adds_channels(channels: int, padded: int) -> None:
    found = checked(conv_model([2, channels, 6, 5], (8, channels, 3, 3), pads=[1] * 4))
    (conv,) = steps(found, "conv")
    assert conv.spec.operands[1].dims == (2, 6, 5, padded)
    assert conv.spec.operands[1].strides == (30 * padded, 5 * padded, padded, 1)
    assert conv.spec.operands[2].dims == (8, padded, 3, 3)
    assert ops(found) == ["copy", "conv", "copy"]


@pytest.mark.parametrize("channels,read", [(12, 12), (5, 8), (2, 2)])
def test_an_image_that_lies_right_is_copied_only_for_odd_channels(channels: int, read: int) -> None:
    """Channels of a concatenation have others behind them."""
    b = ModelBuilder()
    x = b.input("x", [1, 8, 6, 6])
    parts = [b.add("Conv", x, b.weights(f"w{i}", (c, 8, 1, 1))) for i, c in enumerate((channels, 8))]
    y = b.add("Conv", parts[0], b.weights("w", (8, channels, 3, 3)), pads=[1] * 4)
    found = checked(b.output(b.add("Concat", b.add("Concat", *parts, axis=1), y, axis=1)).model())
    third = next(s for s in steps(found, "conv") if s.spec.operands[2].dims[2] == 3)
    assert third.spec.operands[1].dims[3] == read
    assert len(steps(found, "fill")) == (read != channels)


ACTIVATIONS = {"Relu": 0.0, "HardSigmoid": 0.5, "Exp": 1.0}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("rules", (FP16, TF32), ids=("fp16", "tf32"))
def test_spare_channels_are_computed_and_read(activation: str, rules: Any) -> None:
    """Convolutions, a pooling, a residual and a gate with 13 channels: all computed as 16, nothing copied."""
    b = ModelBuilder()
    x = b.input("x", [1, 3, 12, 12])
    y = b.add(
        activation, b.add("Conv", x, b.weights("w0", (13, 3, 3, 3)), b.weights("b0", (13,)), pads=[1] * 4)
    )
    y = b.add("MaxPool", y, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    z = b.add("Conv", y, b.weights("w1", (13, 1, 3, 3)), group=13, pads=[1] * 4)
    gate = b.add("Sigmoid", b.add("Conv", b.add("GlobalAveragePool", z), b.weights("w2", (13, 13, 1, 1))))
    z = b.add("Conv", b.add("Mul", z, gate), b.weights("w3", (13, 13, 1, 1)), b.weights("b3", (13,)))
    y = b.add("Tanh", b.add("Resize", b.add("Add", z, y), "", b.constant([1, 1, 2, 2], np.float32)))
    model = b.output(b.add("Conv", y, b.weights("w4", (8, 13, 3, 3)))).model()
    found = check(model, conventions=rules, tolerance=3 * TOLERANCE[rules.stored])
    assert ops(found).count("copy") == 3, (
        "the layouts of the input and the output change, the gate's mean is odd"
    )
    assert [s.spec.out.dims[3] for s in steps(found, "conv")] == [16, 16, 16, 16, 8]
    assert [s.spec.operands[1].dims[3] for s in steps(found, "conv")] == [4, 16, 16, 16, 16]
    assert [s.spec.out.dims[3] for op in ("pool", "resize") for s in steps(found, op)] == [16, 16]


def test_spare_channels_that_would_not_be_finite_are_left_alone() -> None:
    b = ModelBuilder()
    y = b.add("Conv", b.input("x", [1, 8, 6, 6]), b.weights("w0", (5, 8, 1, 1)))
    y = b.add("Conv", b.add("Log", b.add("Abs", y)), b.weights("w1", (8, 5, 1, 1)))
    found = checked(b.output(y).model())
    assert [s.spec.out.dims[3] for s in steps(found, "conv")] == [5, 8]


def test_groups_have_no_spare_channels() -> None:
    b = ModelBuilder()
    y = b.add("Conv", b.input("x", [1, 6, 6, 6]), b.weights("w0", (9, 2, 3, 3)), group=3)
    found = checked(b.output(b.add("Conv", y, b.weights("w1", (8, 9, 1, 1)))).model())
    assert [s.spec.out.dims[3] for s in steps(found, "conv")] == [9, 8]


def test_pixels_start_at_multiples_of_16_bytes() -> None:
    b = ModelBuilder()
    y = b.add("Conv", b.input("x", [1, 8, 6, 6]), b.weights("w0", (20, 8, 1, 1)))
    found = checked(b.output(b.add("Conv", y, b.weights("w1", (8, 20, 1, 1)))).model())
    assert steps(found, "conv")[0].spec.out.strides == (36 * 24, 6 * 24, 24, 1)
    assert steps(found, "conv")[0].spec.out.dims == (1, 6, 6, 24)


def test_parts_of_a_concatenation_state_what_their_offset_allows() -> None:
    b = ModelBuilder()
    x = b.input("x", [1, 8, 6, 6])
    parts = [b.add("Conv", x, b.weights(f"w{i}", (c, 8, 1, 1))) for i, c in enumerate((12, 2, 10, 8))]
    y = b.add("Concat", *parts, axis=1)
    found = checked(b.output(b.add("Conv", y, b.weights("w", (8, 32, 3, 3)), pads=[1] * 4)).model())
    assert [s.spec.out.alignment for s in steps(found, "conv")] == [16, 8, 4, 16, 16]


def test_symbolic_offsets_are_aligned_as_far_as_can_be_proven() -> None:
    b = ModelBuilder()
    x = b.input("x", ["n", 3, "s", 8])
    y = b.add("Concat", b.add("Relu", x), b.add("Neg", x), axis=2)
    found = checked(b.output(b.add("Softmax", y)).model(), n=2, s=5)
    assert {o.alignment for s in steps(found, "pointwise") for o in s.spec.operands} == {16}


GEMMS = [([5, 16], [16, 24], True), ([5, 16], [16, 24], False), ([2, 3, 5, 6], [3, 6, 4], False)]


@pytest.mark.parametrize("a,w,constant", GEMMS)
def test_matmul(a: list[int], w: list[int], constant: bool) -> None:
    b = ModelBuilder()
    x = b.input("x", a)
    y = b.add("MatMul", x, b.weights("w", w) if constant else b.input("w", w))
    found = checked(b.output(b.add("Relu", y)).model())
    (step,) = steps(found, "gemm")
    assert dtypes(step) == [F32, F16, F16]


def test_matrices_are_row_or_column_major() -> None:
    """x[:, ::2] has neither contiguous rows nor contiguous columns."""
    b = ModelBuilder()
    x = b.input("x", [3, 6, 10])
    y = b.add("Relu", b.add("MatMul", x, b.weights("w0", (10, 12))))
    cut = b.add("Slice", y, *(b.constant([v], np.int64) for v in (0, 12, 2, 2)))
    z = b.add("MatMul", b.add("Transpose", y, perm=[0, 2, 1]), cut)
    found = checked(b.output(z).model())
    step = steps(found, "gemm")[1]
    assert step.spec.operands[1].strides == (0, 72, 1, 12), "a transposed matrix is read where it is"
    assert step.spec.operands[2].strides[-1] == 1, "columns that are not neighbours are copied"


def test_constants_that_no_family_packs_are_converted() -> None:
    b = ModelBuilder()
    y = b.add("MatMul", b.input("x", [3, 5, 8]), b.weights("w", (3, 8, 4)))
    found = checked(b.output(y).model())
    (step,) = steps(found, "gemm")
    assert step.views[2].buffer.kind == "const" and dtypes(step)[2] is F16


def test_a_table_is_kept_in_the_storage_type() -> None:
    b = ModelBuilder()
    ids = b.input("ids", ["n", "s"], np.int64)
    y = b.add("Gather", b.weights("table", (9, 16)), ids)
    found = checked(b.output(b.add("MatMul", y, b.weights("w", (16, 8)))).model(), n=2, s=4)
    (step,) = steps(found, "gather")
    assert dtypes(step)[:2] == [F16, F16]


def test_a_gathered_input_is_converted_after_the_gathering() -> None:
    b = ModelBuilder()
    picks = b.constant([2, 0, 1, 2], np.int64)
    y = b.add("Gather", b.input("x", [3, 8]), picks)
    found = checked(b.output(b.add("MatMul", y, b.weights("w", (8, 8)))).model())
    (step,) = steps(found, "gather")
    assert dtypes(step)[:2] == [F32, F32]


def test_masks_and_positions_keep_fp32() -> None:
    b = ModelBuilder()
    mask = b.input("mask", ["n", "s"], np.int64)
    x = b.input("x", ["n", "s", 8])
    hidden = b.add("Sub", b.constant(1.0, np.float32), b.add("Cast", mask, to=1))
    far = b.add("Mul", hidden, b.constant(-3.4e38, np.float32))
    wide = b.add("Unsqueeze", far, b.constant([1], np.int64))
    scores = b.add("MatMul", x, b.add("Transpose", x, perm=[0, 2, 1]))
    y = b.add("Relu", b.add("Softmax", b.add("Add", scores, wide)))  # else it were one attention
    found = checked(b.output(b.add("MatMul", y, x)).model(), n=2, s=5)
    (step,) = steps(found, "pointwise")
    assert dtypes(step)[0] is F32
    assert dtypes(steps(found, "gemm")[0]) == [F16, F16, F16, F32]


def test_angles_keep_fp32() -> None:
    """Rotary embeddings: the cosine of position times frequency, beyond what F16 tells apart."""
    b = ModelBuilder()
    positions = b.add("Cast", b.input("positions", ["n", "s", 1], np.int64), to=1)
    angles = b.add("MatMul", positions, b.weights("frequencies", (1, 8)))
    y = b.add("Mul", b.add("Cos", angles), b.input("x", ["n", "s", 8]))
    found = checked(b.output(b.add("MatMul", y, b.weights("w", (8, 8)))).model(), n=2, s=5)
    assert dtypes(steps(found, "gemm")[0])[1:3] == [F32, F32]
    assert dtypes(steps(found, "gemm")[1]) == [F32, F16, F16]


def test_sums_keep_fp32() -> None:
    b = ModelBuilder()
    x = b.add("Relu", b.input("x", [4, 8, 6]))
    total = b.add("ReduceSum", x, b.constant([2], np.int64))
    found = checked(b.output(b.add("Softmax", b.add("Mul", x, total))).model())
    assert steps(found, "reduce")[0].spec.out.dtype is F32


def test_rows_read_the_caller_s_memory_as_it_is() -> None:
    b = ModelBuilder()
    x = b.input("x", [4, 8])
    y = b.add("LayerNormalization", x, b.weights("s", (8,)), b.weights("t", (8,)))
    found = checked(b.output(b.add("Softmax", y)).model())
    assert ops(found) == ["norm", "softmax"]
    assert dtypes(steps(found, "norm")[0]) == [F16, F32, F32, F32]
    assert dtypes(steps(found, "softmax")[0]) == [F32, F16]


@pytest.mark.parametrize("rules", (FP16, TF32, CPU_BF16), ids=("fp16", "tf32", "cpu"))
def test_models(rules: Any) -> None:
    checked(onnx_models.convnet(batch="n", size="h"), rules, n=2, h=18, h2=14)
    checked(onnx_models.attention_block(batch="n", length="s"), rules, n=2, s=7)


def test_nothing_of_the_cpu_s_memory_order_is_left() -> None:
    found = covered(onnx_models.convnet(), conventions=FP32)
    assert all(h == (0, 0) for p in found.programs for s in p.steps for v in s.views for h in v.halo)


def test_what_targets_can_t_do_is_an_error_of_the_options() -> None:
    with pytest.raises(OptionError, match="sm75 has no bf16 arithmetic; choose one of fp32, fp16"):
        conventions(SM75, "bf16")
    with pytest.raises(OptionError, match="x86-avx2, sm80 are both; make two packages"):
        shared([X86_AVX2, SM80], "fp32")
    assert shared([SM80, SM75], "fp16") == FP16
