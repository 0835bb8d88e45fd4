"""Attention written as two products and a softmax becomes one step where a kernel takes it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from lowered import check, covered, ops
from onnx_models import ModelBuilder

from bolt.graph.conventions import CPU, Conventions, conventions
from bolt.ops.attention import AttentionSpec
from bolt.ops.spec import Spec
from bolt.program import Step
from bolt.report import Rejection
from bolt.target import SM80, X86_AVX512_BF16
from bolt.types import BF16, F16, F32, DType

FP16 = conventions(SM80, "fp16")
B, H, M, N, D = 2, 3, 8, 16, 8


def attention_model(
    *,
    scale: str = "Mul",
    mask: tuple[int, ...] | np.ndarray | None = (B, 1, 1, N),
    axis: int = -1,
    guard: bool = False,
    merged: bool = False,
) -> Any:
    """A cross-attention between projected (batch, sequence, heads * D) inputs."""
    b = ModelBuilder()
    q, k, v = (b.input(name, [B, rows, H * D]) for name, rows in (("q", M), ("k", N), ("v", N)))
    shape = b.constant(np.array([0, 0, H, D] if not merged else [0, -1, D], np.int64))

    def heads(x: Any, perm: list[int]) -> Any:
        return b.add("Transpose", b.add("Reshape", x, shape), perm=perm) if not merged else x

    if merged:
        scores = b.add("MatMul", q, b.add("Transpose", k, perm=[0, 2, 1]))
    else:
        scores = b.add("MatMul", heads(q, [0, 2, 1, 3]), heads(k, [0, 2, 3, 1]))
    if scale != "none":
        scores = b.add(scale, scores, b.constant(np.float32(0.25 if scale == "Mul" else 4.0)))
    if isinstance(mask, np.ndarray):
        scores = b.add("Add", scores, b.constant(mask))
    elif mask:
        scores = b.add("Add", scores, b.input("mask", list(mask)))
    weights = b.add("Softmax", scores, axis=axis)
    if guard:
        weights = b.add("Relu", weights)
    out = b.add("MatMul", weights, heads(v, [0, 2, 1, 3]))
    if not merged:
        out = b.add(
            "Reshape", b.add("Transpose", out, perm=[0, 2, 1, 3]), b.constant(np.array([0, 0, H * D]))
        )
    return b.output(out).model()


def steps(found: Any) -> list[AttentionSpec]:
    steps = [s.spec for p in found.programs for s in p.steps if isinstance(s, Step)]
    return [s for s in steps if isinstance(s, AttentionSpec)]


@pytest.mark.parametrize("scale,factor", [("Mul", 0.25), ("Div", 0.25), ("none", 1.0)])
@pytest.mark.parametrize("mask", [None, (B, 1, 1, N), (1, H, M, N), (M, N)], ids=str)
@pytest.mark.parametrize("where,dtype,tolerance", [(FP16, F16, 2e-3), (CPU, F32, 2e-5)], ids=["gpu", "cpu"])
def test_one_step(
    scale: str,
    factor: float,
    mask: tuple[int, ...] | None,
    where: Conventions,
    dtype: DType,
    tolerance: float,
) -> None:
    found = check(attention_model(scale=scale, mask=mask), conventions=where, tolerance=tolerance)
    (spec,) = steps(found)
    assert (spec.scale, spec.has_bias) == (factor, mask is not None)
    assert spec.out.dims == (B, H, M, D) and {o.dtype for o in spec.operands} == {dtype}
    assert spec.out.strides == (M * H * D, D, H * D, 1), "the heads of a row lie side by side"
    assert {"gemm", "softmax"}.isdisjoint(ops(found))
    assert where is FP16 or ops(found).count("copy") == 1, "heads are views, only the result is moved"


@pytest.mark.parametrize("hidden,causal", [(-3.4e38, True), (-1e4, True), (-5.0, False)])
@pytest.mark.parametrize("where,tolerance", [(FP16, 2e-3), (CPU, 2e-5)], ids=["gpu", "cpu"])
def test_constant_masks(hidden: float, causal: bool, where: Conventions, tolerance: float) -> None:
    mask = np.where(np.tri(M, N) > 0, 0, hidden).astype(np.float32)
    (spec,) = steps(check(attention_model(mask=mask), conventions=where, tolerance=tolerance))
    assert (spec.causal, spec.has_bias) == (causal, not causal)


def test_masks_keep_their_type_on_a_cpu() -> None:
    where = conventions(X86_AVX512_BF16, "bf16")
    found = check(attention_model(), conventions=where, tolerance=2e-2)
    (spec,) = steps(found)
    assert [o.dtype for o in spec.operands] == [BF16, BF16, BF16, BF16, F32]


def test_without_heads() -> None:
    (spec,) = steps(check(attention_model(merged=True, mask=None), conventions=FP16, tolerance=2e-3))
    assert spec.out.dims == (1, B, M, H * D)


@pytest.mark.parametrize("changes", [{"axis": -2}, {"guard": True}], ids=str)
def test_other_chains_run_one_by_one(changes: Any) -> None:
    found = check(attention_model(**changes), conventions=FP16, tolerance=2e-3)
    assert not steps(found)
    assert ops(found).count("gemm") == 2


def refuse(spec: Spec) -> Rejection | None:
    if isinstance(spec, AttentionSpec):
        return Rejection(stage="supports", subject=spec.op, reason="not here")
    return None


def test_where_no_kernel_takes_it_the_parts_run_one_by_one() -> None:
    found = covered(attention_model(), supports=refuse)
    assert not steps(found)
    assert ops(found).count("gemm") == 2 and ops(found).count("softmax") == 1


def test_nothing_is_left_of_an_attention_without_a_kernel() -> None:
    """Keys that come transposed would have been copied for it."""
    b = ModelBuilder()
    q, keys, v = (b.input(n, d) for n, d in (("q", [2, 8, 16]), ("k", [2, 16, 8]), ("v", [2, 8, 16])))
    out = b.add("MatMul", b.add("Softmax", b.add("MatMul", q, keys)), v)
    model = b.output(out).model()
    assert ops(covered(model, conventions=FP16)) == ["copy", "copy", "copy", "copy", "attention"]

    found = covered(model, conventions=FP16, supports=refuse)
    assert ops(found) == ["copy", "copy", "gemm", "softmax", "copy", "gemm"]
