"""Gated layers become one step on a device, where a kernel takes it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from lowered import check, covered, ops
from onnx_models import ModelBuilder

from bolt.graph.conventions import CPU, conventions
from bolt.ops.dual_gemm import DualGemmSpec
from bolt.program import Step
from bolt.target import SM80

FP16 = conventions(SM80, "fp16")


def gated_model(
    *, bias: bool = True, axis: int = -1, sizes: tuple[int, int] = (16, 16), extra: bool = False
) -> Any:
    b = ModelBuilder()
    y = b.add("MatMul", b.input("x", [2, 3, 8]), b.weights("w", (8, sum(sizes))))
    if bias:
        y = b.add("Add", y, b.weights("b", (sum(sizes),)))
    gate, up = b.add("Split", y, b.constant(np.array(sizes, np.int64)), axis=axis, outputs=2)
    gate = b.add("Mul", gate, b.add("Sigmoid", gate))
    z = b.add("Mul", gate, up)
    if extra:
        z = b.add("Add", z, b.input("r", [2, 3, sizes[0]]))
    return b.output(z).model()


def steps(found: Any) -> list[DualGemmSpec]:
    every = [s.spec for p in found.programs for s in p.steps if isinstance(s, Step)]
    return [s for s in every if isinstance(s, DualGemmSpec)]


@pytest.mark.parametrize("bias", [True, False])
def test_one_step(bias: bool) -> None:
    found = check(gated_model(bias=bias), conventions=FP16, tolerance=3e-3)
    (spec,) = steps(found)
    assert spec.has_bias == bias
    assert spec.out.dims == (1, 1, 6, 16) and spec.operands[2].dims == (1, 1, 8, 16)
    assert {"gemm", "pointwise"}.isdisjoint(ops(found))


@pytest.mark.parametrize("changes", [{"extra": True}], ids=str)
def test_what_reads_more_runs_one_by_one(changes: Any) -> None:
    found = check(gated_model(**changes), conventions=FP16, tolerance=3e-3)
    assert not steps(found) and "gemm" in ops(found)


def test_where_no_kernel_takes_it_the_parts_run_one_by_one() -> None:
    found = covered(gated_model(), conventions=CPU)
    assert not steps(found) and "gemm" in ops(found)
