"""Products of warpgroups against NumPy: element types, layouts and swizzles of the operands in shared memory.

The canonical layouts are those of cute/atom/mma_traits_sm90_gmma.hpp, spelled here as positions of 16-byte
pieces.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from cuda import emulator, ptx_kernels

pytestmark = pytest.mark.skipif(bool(said := emulator.obstacle_to_ptx()), reason=said)

N = 16
NUMPY = {
    **{"f16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16), "tf32": np.dtype(np.float32)},
    **{"s8": np.dtype(np.int8), "e4m3": np.dtype(ml_dtypes.float8_e4m3fn)},
}
LAYOUT_TYPE = {1: 0, 2: 3, 4: 2, 8: 1}
"""The descriptor's number of a swizzle, by 16-byte pieces in a row."""

CASES = [
    ("f16", 1, False),
    ("f16", 2, False),
    ("f16", 4, False),
    ("f16", 8, False),
    ("f16", 8, True),
    ("bf16", 4, True),
    ("tf32", 8, False),
    ("s8", 2, False),
    ("e4m3", 8, False),
]
"""(element type, 16-byte pieces in a swizzled row, whether both operands are contiguous along m and n)."""


def name(kind: str, pieces: int, transposed: bool) -> str:
    return f"wgmma_{kind}_{pieces}_{int(transposed)}"


def depth(kind: str) -> int:
    """k of one instruction: 32 bytes."""
    return 32 // NUMPY[kind].itemsize


def kernel(kind: str, pieces: int, transposed: bool) -> str:
    """d = 2 a b: two products that are added, of operands that p1 holds as shared memory shall hold them."""
    result = "s32" if kind == "s8" else "f32"
    register = "b32" if result == "s32" else "f32"
    flags = {"s8": "", "tf32": ", 1, 1", "e4m3": ", 1, 1"}.get(
        kind, f", 1, 1, {int(transposed)}, {int(transposed)}"
    )
    outs = ", ".join(f"%d{i}" for i in range(N // 2))
    product = (
        f"wgmma.mma_async.sync.aligned.m64n{N}k{depth(kind)}.{result}.{kind}.{kind} {{{outs}}}, %q5, %q6"
    )
    stores = " ".join(f"st.global.{register} [%q7+{4 * i}], %d{i};" for i in range(N // 2))
    return f"""
.visible .entry {name(kind, pieces, transposed)}({", ".join(f".param .u64 p{n}" for n in "01ab")}) {{
.reg .b64 %q<9>; .reg .b32 %r<9>; .reg .b32 %tid; .reg .pred %p<3>; .reg .{register} %d<{N // 2}>;
ld.param.u64 %q0, [p0]; ld.param.u64 %q1, [p1]; ld.param.u64 %q5, [pa]; ld.param.u64 %q6, [pb];
mov.u32 %tid, %tid.x; mov.u32 %r0, tiles; mov.b32 %r1, 0;
COPY: shl.b32 %r2, %tid, 2; mad.lo.s32 %r2, %r1, 512, %r2; cvt.u64.u32 %q2, %r2; add.s64 %q3, %q1, %q2;
ld.global.b32 %r3, [%q3]; add.s32 %r4, %r0, %r2; st.shared.b32 [%r4], %r3;
add.s32 %r1, %r1, 1; setp.lt.u32 %p0, %r1, 64; @%p0 bra COPY; bar.sync 0;
shr.u32 %r5, %r0, 4; and.b32 %r5, %r5, 0x3FFF; cvt.u64.u32 %q4, %r5;
add.s64 %q5, %q5, %q4; add.s64 %q6, %q6, %q4;
wgmma.fence.sync.aligned; setp.eq.u32 %p1, 0, 1; {product}, %p1{flags};
setp.eq.u32 %p1, 0, 0; {product}, %p1{flags};
wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;
mad.wide.u32 %q7, %tid, {2 * N}, %q0; {stores} ret; }}
"""


SHARED = ".shared .align 1024 .b8 tiles[32768];"
A_AT, B_AT = 0, 16384


def swizzled(address: int, pieces: int) -> int:
    """16-byte pieces of a row change places with the number of the row, in blocks of eight rows."""
    return address ^ ((address >> 7) % 8 % pieces) << 4


def placed(
    memory: np.ndarray, start: int, matrix: np.ndarray, pieces: int, *, transposed: bool
) -> tuple[int, int]:
    """Writes (rows, k) elements as the layout asks; returns the descriptor's leading and stride offsets."""
    rows, size = matrix.shape[0], matrix.dtype.itemsize
    per = 16 // size
    leading, stride = _offsets(rows, pieces, transposed)
    raw = memory.view(matrix.dtype)
    for (row, k), value in np.ndenumerate(matrix):
        if transposed:
            width = per * pieces
            at = row // width * leading + row % width * size + k % 8 * 16 * pieces + k // 8 * stride
        else:
            at = (
                row % 8 * 16 * pieces
                + row // 8 * stride
                + k // per * (16 if pieces > 1 else leading)
                + k % per * size
            )
        raw[swizzled(start + at, pieces) // size] = value
    return leading, stride


def _offsets(rows: int, pieces: int, transposed: bool) -> tuple[int, int]:
    block = 128 * pieces  # eight rows
    if not transposed:
        return (rows // 8 * block if pieces == 1 else 16), block
    return 2 * block, block  # of the next columns, of the next eight k


def descriptor(start: int, leading: int, stride: int, pieces: int) -> int:
    return start >> 4 | leading >> 4 << 16 | stride >> 4 << 32 | LAYOUT_TYPE[pieces] << 62


@pytest.fixture(scope="module")
def launcher() -> ptx_kernels.Launcher:
    ptx_kernels.load(SHARED + "".join(kernel(*case) for case in CASES))
    return ptx_kernels.Launcher()


@pytest.mark.parametrize("kind, pieces, transposed", CASES)
def test_product_of_a_warpgroup(launcher, kind, pieces, transposed):
    rng = np.random.default_rng(pieces)
    a, b = (rng.integers(-4, 5, (rows, depth(kind))).astype(NUMPY[kind]) for rows in (64, N))
    memory = np.zeros(32768, np.uint8)
    given = [
        descriptor(at, *placed(memory, at, matrix, pieces, transposed=transposed), pieces)
        for at, matrix in ((A_AT, a), (B_AT, b))
    ]
    out = np.zeros((128, N // 2), np.int32 if kind == "s8" else np.float32)
    launcher(name(kind, pieces, transposed), out, memory, *given, block=(128, 1, 1))
    want = 2 * a.astype(np.float64) @ b.astype(np.float64).T
    held = np.zeros((64, N))
    for thread in range(128):  # figure "D matrix fragment": warp w has rows 16 w ..., a quad of lanes one row
        warp, lane = divmod(thread, 32)
        for i in range(N // 2):
            held[16 * warp + lane // 4 + 8 * (i // 2 % 2), 8 * (i // 4) + 2 * (lane % 4) + i % 2] = out[
                thread, i
            ]
    assert np.array_equal(held, want)
