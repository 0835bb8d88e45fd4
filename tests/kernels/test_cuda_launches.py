"""What no spec of a small test leads to: 64-bit indices; and results that replace their inputs."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from kernels import cuda_harness as h
from kernels.cuda_compile import candidate, view
from kernels.harness import ints_of

from bolt.epilogue import Builder, Epilogue
from bolt.kernels.cuda_copy import CudaCopy
from bolt.kernels.cuda_norm import CudaNorm
from bolt.kernels.cuda_pointwise import CudaPointwise
from bolt.kernels.cuda_pool import CudaPool
from bolt.kernels.cuda_reduce import CudaReduce
from bolt.kernels.cuda_resize import CudaResize
from bolt.kernels.cuda_softmax import CudaSoftmax
from bolt.kernels.family import DeviceFamily, Source
from bolt.ops.pointwise import CopySpec, PointwiseSpec
from bolt.ops.rows import NormSpec, ReduceSpec, SoftmaxSpec
from bolt.ops.spatial import PoolSpec, ResizeSpec
from bolt.ops.spec import Spec
from bolt.target import SM80, Target
from bolt.types import F16, F32

pytestmark = h.NEEDS_EMULATOR
slow = pytest.mark.slow


@dataclass(frozen=True)
class Wide:
    """A family whose launchers find every view too large for 32-bit indices."""

    family: DeviceFamily

    @property
    def name(self) -> str:
        return f"wide_{self.family.name}"

    @property
    def language(self) -> str:
        return self.family.language

    def render(self, spec: Spec, config: Any, target: Target, name: str) -> str:
        text = self.family.render(spec, config, target, name)
        assert "< BOLT_INDEX_LIMIT" in text and "int64_t" in text
        return text.replace("< BOLT_INDEX_LIMIT", "< 0")

    def units(self, spec: Spec, config: Any, target: Target) -> tuple[Source, ...]:
        return self.family.units(spec, config, target)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.family, name)


def sum_of_two() -> Epilogue:
    b = Builder()
    return b.finish(b.op("add", b.input(0), b.input(1)))


def bound_like(spec: Spec, shapes: Sequence[tuple[int, ...]]) -> list[int]:
    """The `d` array for dense operands of these dims."""
    dense = [view(o.dtype, shape) for o, shape in zip(spec.operands, shapes, strict=True)]
    return list(ints_of(spec, dense))


IMAGE = view(F16, (None, None, None, 8), (None, None, 8, 1))
ROWS = view(F16, (1, 1, None, None), (None, None, None, 1))
PLANE = view(F16, (None, None), (None, 1))

LARGE = [
    pytest.param(
        CudaPointwise(),
        PointwiseSpec(operands=(PLANE,) * 3, epilogue=sum_of_two()),
        [(5, 37)] * 3,
        id="pointwise",
    ),
    pytest.param(
        CudaCopy(),
        CopySpec(operands=(view(F16, (None, None), (None, 1)), view(F16, (None, None), (1, None)))),
        [(35, 37)] * 2,
        id="copy",
    ),
    pytest.param(CudaSoftmax(), SoftmaxSpec(operands=(ROWS, ROWS)), [(1, 1, 3, 77)] * 2, id="softmax"),
    pytest.param(CudaNorm(), NormSpec(operands=(ROWS, ROWS)), [(1, 1, 3, 77)] * 2, id="norm", marks=slow),
    pytest.param(
        CudaReduce(),
        ReduceSpec(
            operands=(
                view(F32, (None, None, 24), (None, 24, 1)),
                view(F16, (None,) * 4 + (24,), (None,) * 4 + (1,)),
            )
        ),
        [(2, 3, 24), (2, 5, 3, 7, 24)],
        id="reduce-columns",
    ),
    pytest.param(
        CudaReduce(),
        ReduceSpec(
            operands=(
                view(F32, (None, None, 1), (None, 1, 1)),
                view(F16, (None,) * 4 + (1,), (None,) * 4 + (1,)),
            )
        ),
        [(2, 3, 1), (2, 5, 3, 7, 1)],
        id="reduce-row",
        marks=slow,
    ),
    pytest.param(
        CudaPool(), PoolSpec(operands=(IMAGE, IMAGE), kernel=(2, 2)), [(2, 4, 5, 8), (2, 5, 6, 8)], id="pool"
    ),
    pytest.param(
        CudaResize(),
        ResizeSpec(operands=(IMAGE, IMAGE), mode="linear"),
        [(2, 4, 5, 8), (2, 3, 2, 8)],
        id="resize",
        marks=slow,
    ),
]


@pytest.mark.parametrize("family, spec, shapes", LARGE)
def test_64_bit_indices(family, spec, shapes):
    ints = bound_like(spec, shapes)
    if isinstance(spec, CopySpec):
        rows, columns = shapes[0]
        transposed = view(F16, shapes[1], (1, rows))
        ints = list(ints_of(spec, [view(F16, (rows, columns)), transposed]))
    h.check(Wide(family), spec, SM80, ints=ints)


DIMS = (1, 2, 9, 83)
SAME = view(F32, DIMS)


def added(make: type[SoftmaxSpec] | type[NormSpec]) -> Spec:
    b = Builder()
    return make(operands=(SAME, SAME, SAME), epilogue=b.finish(b.op("add", b.acc(), b.input(0))))


@pytest.mark.parametrize(
    "family, spec, shared",
    [
        pytest.param(
            CudaPointwise(), PointwiseSpec(operands=(SAME,) * 3, epilogue=sum_of_two()), 2, id="pointwise"
        ),
        pytest.param(CudaSoftmax(), SoftmaxSpec(operands=(SAME, SAME)), 1, id="softmax"),
        pytest.param(CudaSoftmax(), added(SoftmaxSpec), 2, id="softmax-into-its-residual", marks=slow),
        pytest.param(CudaNorm(), NormSpec(operands=(SAME, SAME)), 1, id="norm", marks=slow),
        pytest.param(CudaNorm(), added(NormSpec), 2, id="norm-into-its-residual"),
    ],
)
def test_output_replaces_an_input(family, spec, shared):
    rng = np.random.default_rng(12)
    arrays = [rng.standard_normal(DIMS).astype(np.float32) for _ in spec.operands[1:]]
    want = spec.reference(arrays)[0]
    launcher, gpu = h.symbol((candidate(family, spec, SM80).source(),), SM80), h.device(SM80)
    gpu.select()
    got = np.empty(DIMS, np.float32)
    with gpu.memory(arrays[0]) as first, gpu.memory(arrays[-1]) as last:
        inputs = [first, last][: len(arrays)]
        assert launcher(*_arguments([inputs[shared - 1], *inputs]), None, gpu.stream) == 0
        gpu.wait()
        gpu.read(inputs[shared - 1], got)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def _arguments(addresses: Sequence[int]) -> tuple[Any, Any]:
    return (ctypes.c_void_p * len(addresses))(*addresses), (ctypes.c_int64 * 1)()
