"""Tensor copies (TMA) and mbarriers: boxes, swizzles, borders, im2col; PTX ISA 9.0, 5.5 and 9.7.9.27."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from cuda import emulator, ptx_kernels

pytestmark = pytest.mark.skipif(bool(said := emulator.obstacle_to_ptx()), reason=said)

F16, F32 = 6, 7  # CUtensorMapDataType


def copy_kernel(name: str, load: str, *, words: int, store: str = "") -> str:
    """Thread 0 loads `words` words into shared memory, all write them to p0; then it may store them."""
    return f"""
.visible .entry {name}(.param .u64 p0, .param .u64 map, .param .u64 map2) {{
.reg .b64 %q<9>; .reg .b32 %r<20>; .reg .b32 %tid; .reg .pred %p<4>; .reg .b16 %h<4>;
.shared .align 8 .b64 barrier; .shared .align 1024 .b8 box[{4 * words}];
mov.u32 %tid, %tid.x; ld.param.u64 %q0, [p0]; ld.param.u64 %q1, [map]; ld.param.u64 %q2, [map2];
mov.u32 %r0, barrier; mov.u32 %r1, box; setp.eq.u32 %p0, %tid, 0; mov.b16 %h0, 1; mov.b16 %h1, 2;
mov.b32 %r5, -2; mov.b32 %r6, 8; mov.b32 %r7, 0; mov.b32 %r8, 1; mov.b32 %r9, 3;
@%p0 mbarrier.init.shared::cta.b64 [%r0], 1; bar.sync 0;
@!%p0 bra WAIT;
mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r0], {4 * words};
{load}
WAIT: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r0], 0; @!%p1 bra WAIT;
shl.b32 %r2, %tid, 2; add.s32 %r2, %r2, %r1; ld.shared.b32 %r3, [%r2];
mad.wide.u32 %q3, %tid, 4, %q0; st.global.b32 [%q3], %r3;
bar.sync 0; @!%p0 ret; {store} ret; }}
"""


LOAD_2D = (
    "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
    " [%r1], [%q1, {%r5, %r6}], [%r0];"
)
STORE_2D = """cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%q2, {%r8, %r7}], [%r1];
cp.async.bulk.commit_group; cp.async.bulk.wait_group.read 0;"""
LOAD_IM2COL = (
    "cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes"
    " [%r1], [%q1, {%r6, %r9, %r8, %r7}], [%r0], {%h0, %h1};"
)
LINEAR = "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%q1], 64, [%r0];"
KERNELS = (
    copy_kernel("box", LOAD_2D, words=32, store=STORE_2D)
    + copy_kernel("pixels", LOAD_IM2COL, words=64)
    + copy_kernel("linear", LINEAR, words=16)
    + copy_kernel("short", LINEAR, words=32)
)


@pytest.fixture(scope="module")
def launcher() -> ptx_kernels.Launcher:
    ptx_kernels.load(KERNELS)
    return ptx_kernels.Launcher()


def encoded(
    function: str, kind: int, address: int, dims, strides, *rest, swizzle: int = 0
) -> np.ndarray | int:
    """A tensor map, or the error of encoding it."""
    space = np.zeros(256, np.uint8)
    skip = -space.ctypes.data % 64
    u64 = lambda v: (ctypes.c_uint64 * len(v))(*v)  # noqa: E731
    i32 = lambda v: (ctypes.c_int32 * len(v))(*v) if isinstance(v, tuple) else v  # noqa: E731
    steps = (ctypes.c_uint32 * len(dims))(*[1] * len(dims))
    code = getattr(emulator.driver(), function)(
        ctypes.c_void_p(space.ctypes.data + skip), kind, len(dims), ctypes.c_void_p(address),
        u64(dims), u64(strides), *map(i32, rest), steps, 0, swizzle, 0, 0,
    )  # fmt: skip
    return code or space[skip : skip + 128].copy()


def tiled(address: int, dims, strides, box, *, swizzle: int = 0, kind: int = F32) -> np.ndarray | int:
    return encoded("cuTensorMapEncodeTiled", kind, address, dims, strides, box, swizzle=swizzle)


@pytest.mark.parametrize("swizzle", [0, 1])
def test_a_box_over_the_border_and_back(launcher, swizzle):
    tensor = np.arange(1, 201, dtype=np.float32).reshape(10, 20)
    out, target = np.zeros(32, np.float32), np.zeros((6, 12), np.float32)
    with launcher.gpu.memory(tensor) as source, launcher.gpu.memory(target) as place:
        maps = [tiled(source, (20, 10), (80,), (8, 4), swizzle=swizzle)]
        maps += [tiled(place, (12, 6), (48,), (8, 4), swizzle=swizzle)]
        launcher("box", out, *maps)
        launcher.gpu.read(place, target)
    want = np.zeros((4, 8), np.float32)  # columns -2 ..., rows 8 ...
    want[:2, 2:] = tensor[8:, :6]
    pieces = want.reshape(8, 4).copy()
    if swizzle:  # rows of 32 bytes: those whose address has bit 7 change places with their neighbours
        pieces[4:] = pieces[[5, 4, 7, 6]]
        want_in_shared = pieces
    else:
        want_in_shared = pieces
    assert np.array_equal(out.reshape(8, 4), want_in_shared)
    stored = np.zeros((6, 12), np.float32)
    stored[:4, 1:9] = want
    assert np.array_equal(target, stored)


def test_pixels_of_a_filter_tap(launcher):
    """Tap (r, s) = (2, 1) of a 3 x 3 filter with pads 1: sixteen pixels from (w, h) = (3, 1) on."""
    n, h, w, c = 2, 4, 6, 16
    image = np.arange(1, n * h * w * c + 1, dtype=np.float16).reshape(n, h, w, c)
    out = np.zeros(128, np.float16)
    with launcher.gpu.memory(image) as source:
        strides = (2 * c, 2 * c * w, 2 * c * w * h)
        taps = encoded(
            "cuTensorMapEncodeIm2col", F16, source, (c, w, h, n), strides, (-1, -1), (-1, -1), 8, 16
        )
        launcher("pixels", out.view(np.float32), taps, 0, block=(64, 1, 1))
    padded = np.zeros((n, h + 2, w + 2, c), np.float16)
    padded[:, 1:-1, 1:-1] = image
    bases = [(i, y, x) for i in range(n) for y in range(-1, h - 1) for x in range(-1, w - 1)]
    first = bases.index((0, 1, 3))
    want = [padded[i, y + 2 + 1, x + 1 + 1, 8:] for i, y, x in bases[first : first + 16]]
    assert np.array_equal(out.reshape(16, 8), np.array(want))


def test_bytes_in_a_row_and_one_barrier_that_waits_for_more(launcher):
    source, out = np.arange(16, dtype=np.int32), np.zeros(16, np.int32)
    launcher("linear", out, source, 0, block=(16, 1, 1))
    assert np.array_equal(out, source)
    with pytest.raises(AssertionError, match="no thread can go on"):
        launcher("short", out, source, 0)


def test_what_the_driver_refuses():
    address = 1 << 20
    assert isinstance(tiled(address, (20, 10), (80,), (8, 4)), np.ndarray)
    assert tiled(address + 8, (20, 10), (80,), (8, 4)) == 1, "the tensor begins at 16 bytes"
    assert tiled(address, (20, 10), (88,), (8, 4)) == 1, "strides are multiples of 16 bytes"
    assert tiled(address, (20, 10), (80,), (7, 4)) == 1, "rows of the box are multiples of 16 bytes"
    assert tiled(address, (20, 10), (80,), (16, 4), swizzle=1) == 1, "rows are wider than the swizzle"
    assert tiled(address, (20, 10), (80,), (8, 257)) == 1, "a box has at most 256 rows"
