"""What CUTLASS 3.x kernels compute on Hopper: small integers through the emulated GPU, compared exactly."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from kernels import test_cutlass_conv_sm90 as convs
from kernels import test_cutlass_gemm_sm90 as gemms
from kernels.cuda_harness import NEEDS_EMULATOR, check
from kernels.test_cutlass_conv_sm90 import conv
from kernels.test_cutlass_gemm_sm90 import COLUMN, ROW, SCALAR, gemm, view

from bolt.kernels.family import Config
from bolt.ops.spec import Operand, Spec
from bolt.target import SM90A
from bolt.types import BF16, BOOL, F8E4M3, F8E5M2, F16, F32, S8, DType

pytest.importorskip("cutlass_library")
pytestmark = [pytest.mark.slow, NEEDS_EMULATOR]  # a minute of compilation each

M, N, K = 200, 136, 200
"""Of several tiles, the last ones partial in each direction."""
FULL = (0, M * N, N, 1)


def extra(dtype: DType, strides: tuple[int, ...], b1: int = 1) -> Operand:
    return view(dtype, (1, b1, M, N), strides)


def matrix(spec: Spec, **wanted: object) -> Config:
    """The first config of the GEMM family with these attributes."""
    return _first(gemms.FAMILY.configs(spec, SM90A), wanted)


def _first(configs: object, wanted: dict[str, object]) -> Config:
    return next(c for c in configs if all(getattr(c, k) == v for k, v in wanted.items()))  # type: ignore[attr-defined]


RESIDUAL = (extra(F32, ROW), extra(F16, FULL))
EVERY_LOADER = (
    extra(F16, FULL),
    extra(F16, FULL),
    extra(BOOL, FULL),
    extra(F32, COLUMN),
    extra(F16, SCALAR),
    extra(F32, ROW),
    extra(F32, (0, 0, 5, 0)),
)
TRANSPOSED = view(F16, (1, 3, M, K), (0, M * K, 1, M))
SHARED = view(F16, (1, 3, K, N), (0, 0, N, 1))
BATCHED = (extra(F16, (0, 0, N, 1), 3), extra(F32, (0, N, 0, 1), 3))

GEMMS: dict[str, tuple[Callable[[], Spec], dict[str, object]]] = {
    "pingpong": (lambda: gemm(m=M, n=N, k=K, extras=RESIDUAL), {"tile": (64, 64, 64), "cluster": (1, 1)}),
    "stream-k": (
        lambda: gemm(m=M, n=N, k=8 * K, extras=RESIDUAL),
        {"tile": (128, 64, 64), "stream_k": True, "split_k": 1},
    ),
    "split-k": (
        lambda: gemm(m=M, n=N, k=8 * K, extras=RESIDUAL),
        {"tile": (128, 64, 64), "stream_k": True, "split_k": 4},
    ),
    "mn-major, shared": (
        lambda: gemm(b1=3, m=M, n=N, k=K, a=TRANSPOSED, b=SHARED, extras=BATCHED),
        {"tile": (128, 64, 64), "cluster": (2, 1), "schedule": "cooperative"},
    ),
    "every loader": (
        lambda: gemm(F16, F32, m=M, n=N, k=K, extras=EVERY_LOADER),
        {"tile": (128, 96, 64), "cluster": (1, 2), "schedule": "pingpong"},
    ),
    "tf32": (
        lambda: gemm(F32, F32, m=M, n=N, k=K, math="tf32", extras=(extra(F32, FULL),)),
        {"tile": (64, 64, 32), "cluster": (1, 1)},
    ),
    "s8": (
        lambda: gemm(S8, F16, m=M, n=N, k=208, extras=(extra(F32, ROW),)),
        {"tile": (64, 128, 128), "cluster": (1, 1)},
    ),
    "f8": (
        lambda: gemm(F8E4M3, F16, m=M, n=N, k=208, extras=(extra(F32, ROW), extra(F16, FULL))),
        {"tile": (128, 128, 128), "cluster": (2, 1), "schedule": "cooperative"},
    ),
    "f8 of both kinds, stored in f8": (
        lambda: gemm(
            F8E5M2,
            F8E4M3,
            m=M,
            n=144,
            k=208,
            b=view(F8E4M3, (1, 1, 208, 144), (0, 0, 1, 208)),
            extras=(view(F32, (1, 1, M, 144), ROW), view(F8E5M2, (1, 1, M, 144))),
        ),
        {"tile": (64, 192, 128), "cluster": (1, 1)},
    ),
    "f16 stored in f8": (
        lambda: gemm(F16, F8E4M3, m=M, n=144, k=K, extras=(view(F32, (1, 1, M, 144), ROW),)),
        {"tile": (64, 64, 64), "cluster": (1, 1)},
    ),
    "f8, stream-k": (
        lambda: gemm(F8E4M3, F32, m=M, n=N, k=2048, extras=(extra(F32, ROW),)),
        {"tile": (128, 64, 128), "stream_k": True, "split_k": 4},
    ),
    "bf16": (
        lambda: gemm(BF16, BF16, m=M, n=N, k=K, extras=(extra(BF16, FULL),)),
        {"tile": (64, 256, 64), "cluster": (1, 2)},
    ),
    "narrow": (lambda: gemm(m=5, n=N, k=K), {"tile": (64, 16, 64), "cluster": (1, 1)}),
    "wide": (
        lambda: gemm(m=M, n=264, k=K, extras=(view(F32, (1, 1, M, 264), ROW),)),
        {"tile": (128, 256, 64), "cluster": (2, 1)},
    ),
}


@pytest.mark.parametrize("case", GEMMS)
def test_matrix_products(case: str) -> None:
    make, wanted = GEMMS[case]
    spec = make()
    check(gemms.FAMILY, spec, SM90A, config=matrix(spec, **wanted), exact=True)


CONVS: dict[str, tuple[Callable[[], Spec], dict[str, object]]] = {
    "strided": (
        lambda: conv(32, 64, n=3, size=9, stride=2),
        {"tile": (64, 64, 32), "cluster": (1, 1)},
    ),
    "dilated, bf16": (
        lambda: conv(
            24, 40, dtype=BF16, out=F32, extras=("row", "scalar"), size=10, dilation=2, pad=2, pad_end=1
        ),
        {"tile": (128, 64, 32), "cluster": (2, 1)},
    ),
    "tf32": (
        lambda: conv(12, 16, dtype=F32, out=F32, math="tf32", taps=5, size=7),
        {"tile": (64, 32, 16), "cluster": (1, 1)},
    ),
    "pixels": (
        lambda: conv(64, 64, taps=1, size=9, extras=("image", "full")),
        {"tile": (64, 64, 64), "cluster": (1, 1)},
    ),
}


@pytest.mark.parametrize("case", CONVS)
def test_convolutions(case: str) -> None:
    make, wanted = CONVS[case]
    spec = make()
    config = _first(convs.FAMILY.configs(spec, SM90A), wanted)
    check(convs.FAMILY, spec, SM90A, config=config, exact=True)
