"""`cpu_gather`: exact, every element and index type, indices from both ends and beyond."""

from __future__ import annotations

import numpy as np
import pytest
from kernels import harness as h

from bolt.kernels.cpu_gather import CpuGather
from bolt.ops.pointwise import GatherSpec
from bolt.types import F32, S32, S64, U8

FAMILY = CpuGather()
INDEX = np.array([4, -1, 0, 2, -5, 99, -99])

each_target = pytest.mark.parametrize("target", h.CPU_TARGETS, ids=lambda t: t.name)


def gather(outer, axis, inner, dtype=F32, index=S64, table_strides=None) -> GatherSpec:
    out = h.operand(dtype, (outer, len(INDEX), inner))
    table = h.operand(dtype, (outer, axis, inner), table_strides)
    return GatherSpec(operands=(out, table, h.operand(index, (len(INDEX),))))


@each_target
@pytest.mark.parametrize("dtype, index", [(F32, S64), (F32, S32), (U8, S64), (S64, S32)])
def test_gather(dtype, index, target):
    for outer, inner in ((1, 70), (3, 5), (4, 1)):
        spec = gather(outer, 5, inner, dtype, index)
        for parts in (1, 3):
            values = {2: INDEX.astype(index.np)}
            h.check(FAMILY, spec, target=target, parts=parts, values=values, page_end=(0, 1, 2))


@each_target
def test_strided_table(target):
    spec = gather(2, 5, 6, table_strides=(60, 1, 5))
    h.check(FAMILY, spec, target=target, values={2: INDEX})


@each_target
def test_run_time_dims(target):
    spec = GatherSpec(
        operands=(
            h.f32((1, None, 33), (0, 33, 1)),
            h.f32((1, 5, 33)),
            h.operand(S64, (None,), (1,)),
        )
    )
    h.check(FAMILY, spec, [7, 7], target=target, parts=3, values={2: INDEX})


def test_index_type_is_checked():
    spec = gather(1, 5, 4, index=F32)
    assert "index" in FAMILY.supports(spec, h.CPU_TARGETS[0]).reason
