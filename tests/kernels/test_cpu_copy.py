"""`cpu_copy` and `cpu_fill`: exact on every type, every way of moving, shares, pages."""

from __future__ import annotations

import numpy as np
import pytest
from kernels import harness as h

from bolt.kernels.cpu_copy import CpuCopy
from bolt.kernels.cpu_fill import CpuFill
from bolt.ops.pointwise import CopySpec, FillSpec
from bolt.ops.spec import Operand
from bolt.types import BOOL, F32, S64, U8, DType

COPY, FILL = CpuCopy(), CpuFill()
TYPES = (F32, U8, S64)

each_target = pytest.mark.parametrize("target", h.CPU_TARGETS, ids=lambda t: t.name)


def transpose(dtype: DType, dims: tuple[int, ...], order: tuple[int, ...]) -> CopySpec:
    source = Operand.dense(dtype, dims)
    permuted = tuple(dims[i] for i in order)
    view = Operand(dtype=dtype, dims=permuted, strides=tuple(source.strides[i] for i in order))
    return CopySpec(operands=(Operand.dense(dtype, permuted), view))


@each_target
@pytest.mark.parametrize("dtype", TYPES, ids=lambda d: d.name)
@pytest.mark.parametrize(
    "dims, order",
    [
        pytest.param((2, 37, 5, 9), (0, 2, 3, 1), id="to-channels-last"),
        pytest.param((2, 5, 9, 37), (0, 3, 1, 2), id="to-channels-first"),
        pytest.param((1, 3, 19, 21), (0, 2, 3, 1), id="interleave-3"),
        pytest.param((1, 19, 21, 3), (0, 3, 1, 2), id="deinterleave-3"),
        pytest.param((2, 7, 5, 40), (0, 2, 1, 3), id="heads"),
        pytest.param((2, 3, 5, 4), (0, 2, 1, 3), id="short-rows"),
        pytest.param((3, 4, 5, 6), (3, 2, 1, 0), id="reverse"),
        pytest.param((32, 64), (1, 0), id="whole-tiles"),
        pytest.param((1, 1), (0, 1), id="one-element"),
    ],
)
def test_transpose(dims, order, dtype, target):
    spec = transpose(dtype, dims, order)
    for parts in (1, 3):
        h.check(COPY, spec, target=target, parts=parts)
    h.check(COPY, spec, target=target, page_end=(0, 1))


@each_target
@pytest.mark.parametrize(
    "dims, out_strides, in_strides",
    [
        pytest.param((3, 50), (64, 1), (50, 1), id="into-a-wider-buffer"),
        pytest.param((3, 50), (50, 1), (0, 1), id="broadcast-rows"),
        pytest.param((3, 50), (50, 1), (1, 0), id="broadcast-columns"),
        pytest.param((4, 6, 5), (30, 5, 1), (60, 10, 2), id="strided-input"),
        pytest.param((4, 6, 5), (60, 10, 2), (30, 5, 1), id="strided-output"),
        pytest.param((6, 70), (1, 6), (70, 1), id="transposed-output"),
        pytest.param((2, 6, 7, 20), (6 * 9 * 20, 9 * 20, 20, 1), (840, 7, 1, 42), id="into-padded-rows"),
    ],
)
def test_views(dims, out_strides, in_strides, target):
    spec = CopySpec(operands=(h.f32(dims, out_strides), h.f32(dims, in_strides)))
    for parts in (1, 3):
        h.check(COPY, spec, target=target, parts=parts)
        h.check(COPY, spec, target=target, parts=parts, page_end=(0, 1))


@each_target
@pytest.mark.parametrize("dims", [(2, 5, 7, 24), (1, 1, 1, 24), (1, 40, 3, 24)])
@pytest.mark.parametrize("to_last", (True, False))
def test_layout_change_with_run_time_dims(dims, to_last, target):
    _, rows, columns, c = dims
    last = (rows * columns * c, columns * c, c, 1)
    first = (rows * columns * c, columns, 1, rows * columns)
    out, source = (last, first) if to_last else (first, last)

    def symbolic(strides):
        return tuple(s if s in (1, c) else None for s in strides)

    spec = CopySpec(
        operands=(
            h.f32((None, None, None, c), symbolic(out)),
            h.f32((None, None, None, c), symbolic(source)),
        )
    )
    ints = h.ints_of(spec, (h.f32(dims, out), h.f32(dims, source)))
    for parts in (1, 3):
        h.check(COPY, spec, ints, target=target, parts=parts)


@each_target
@pytest.mark.parametrize("dtype, value", [(F32, 1.5), (F32, -np.inf), (S64, -7.0), (U8, 200.0), (BOOL, 1.0)])
def test_fill(dtype, value, target):
    for strides in (None, (32, 16, 1), (60, 10, 2)):
        spec = FillSpec(operands=(h.operand(dtype, (3, 2, 5), strides),), value=value)
        for parts in (1, 3):
            h.check(FILL, spec, target=target, parts=parts)


def test_fill_rejects_a_value_the_type_does_not_have():
    spec = FillSpec(operands=(h.operand(S64, (3,)),), value=0.5)
    assert "0.5" in FILL.supports(spec, h.CPU_TARGETS[0]).reason


def test_copy_rejects_a_change_of_type():
    spec = CopySpec(operands=(h.operand(S64, (3,)), h.f32((3,))))
    assert "no conversion from f32 to s64" in COPY.supports(spec, h.CPU_TARGETS[0]).reason
