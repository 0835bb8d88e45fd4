"""Matrix instructions against NumPy. The tests lay fragments out by the figures of PTX ISA 9.0, 9.7.14.5,
apart from the formulas of matrix.cc.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from cuda import emulator, ptx_kernels

pytestmark = pytest.mark.skipif(bool(said := emulator.obstacle_to_ptx()), reason=said)

BF16 = np.dtype(ml_dtypes.bfloat16)
NUMPY = {
    **{"f16": np.dtype(np.float16), "bf16": BF16, "tf32": np.dtype(np.float32), "f32": np.dtype(np.float32)},
    **{
        "s8": np.dtype(np.int8),
        "u8": np.dtype(np.uint8),
        "s32": np.dtype(np.int32),
        "f64": np.dtype(np.float64),
    },
    **{"e4m3": np.dtype(ml_dtypes.float8_e4m3fn)},
}
CASES = [
    ("f32", "f16", 16, 8),
    ("f32", "f16", 16, 16),
    ("f16", "f16", 16, 16),
    ("f32", "bf16", 16, 16),
    ("f32", "tf32", 16, 4),
    ("f32", "tf32", 16, 8),
    ("s32", "s8", 8, 16),
    ("s32", "u8", 16, 32),
    ("f32", "e4m3", 16, 32),
    ("f64", "f64", 8, 4),
]
"""(type of c and d, type of a and b, m, k); n is 8."""


def words(kind: str, elements: int) -> int:
    """32-bit registers a thread holds `elements` in."""
    return elements * NUMPY[kind].itemsize // 4


def mma_kernel(d: str, a: str, m: int, k: int) -> str:
    """d = a b + c of fragments that lie in memory one thread after the other, as words."""
    wide = a == "f64"
    register = "b64" if wide else "f32" if d == "f32" else "b32"
    counts = {
        "a": words(a, m * k // 32),
        "b": words(a, k * 8 // 32),
        "c": words(d, m * 8 // 32),
    }
    step = 2 if wide else 1
    lines = [
        f".visible .entry mma_{d}_{a}_{m}_{k}({', '.join(f'.param .u64 p{n}' for n in 'dabc')}) {{",
        ".reg .b64 %q<5>; .reg .b32 %i; mov.u32 %i, %tid.x;",
        f".reg .{register} %d<8>; .reg .{register} %c<8>;",
        f".reg .{'b64' if wide else 'b32'} %a<8>; .reg .{'b64' if wide else 'b32'} %b<8>;",
    ]
    names = {}
    for number, (name, count) in enumerate(counts.items()):
        lines.append(
            f"ld.param.u64 %q{number}, [p{name}]; mad.wide.u32 %q{number}, %i, {4 * count}, %q{number};"
        )
        kind = register if name == "c" else "b64" if wide else "b32"
        names[name] = [f"%{name}{n}" for n in range(count // step)]
        lines += [f"ld.global.{kind} {r}, [%q{number}+{4 * step * n}];" for n, r in enumerate(names[name])]
    names["d"] = [f"%d{n}" for n in range(counts["c"] // step)]
    groups = ", ".join("{" + ", ".join(names[n]) + "}" for n in "dabc")
    lines.append(f"mma.sync.aligned.m{m}n8k{k}.row.col.{d}.{a}.{a}.{d} {groups};")
    lines.append(f"ld.param.u64 %q4, [pd]; mad.wide.u32 %q4, %i, {4 * counts['c']}, %q4;")
    lines += [f"st.global.{register} [%q4+{4 * step * n}], {r};" for n, r in enumerate(names["d"])]
    return "\n".join([*lines, "ret; }"])


def fragment_of_a(matrix: np.ndarray, lane: int) -> list:
    """Figures "A matrix fragment": groupID = lane / 4 is the row, threadID_in_group the place in a row."""
    (m, k), (group, thread) = matrix.shape, divmod(lane, 4)
    per = max(1, 4 // matrix.dtype.itemsize)
    out = []
    for left in range(0, k, 4 * per):
        for top in range(0, m, 8):
            out += [matrix[top + group, left + thread * per + e] for e in range(per)]
    return out


def fragment_of_b(matrix: np.ndarray, lane: int) -> list:
    """Figures "B matrix fragment": the column is the group."""
    k, (group, thread) = matrix.shape[0], divmod(lane, 4)
    per = max(1, 4 // matrix.dtype.itemsize)
    return [matrix[top + thread * per + e, group] for top in range(0, k, 4 * per) for e in range(per)]


def fragment_of_c(matrix: np.ndarray, lane: int) -> list:
    """Figures "C matrix fragment": two neighbours of a row, then those eight rows below."""
    group, thread = divmod(lane, 4)
    return [matrix[top + group, 2 * thread + e] for top in range(0, matrix.shape[0], 8) for e in range(2)]


def spread(matrix: np.ndarray, fragment) -> np.ndarray:
    """The fragments of all lanes, as words."""
    return np.array([fragment(matrix, lane) for lane in range(32)], matrix.dtype).view(np.uint32).ravel()


FRAGMENTS = "\n".join(mma_kernel(*case) for case in CASES)

MATRICES = """
.extern .shared .align 16 .b8 space[];
.visible .entry matrices(.param .u64 p0, .param .u64 p1) {
.reg .b64 %q<9>; .reg .b32 %r<20>; .reg .b32 %tid; mov.u32 %tid, %tid.x;
ld.param.u64 %q0, [p0]; ld.param.u64 %q1, [p1];
mov.u32 %r0, space; shl.b32 %r1, %tid, 4; add.s32 %r2, %r0, %r1; cvt.u64.u32 %q2, %r1; add.s64 %q3, %q1, %q2;
ld.global.v4.b32 {%r4, %r5, %r6, %r7}, [%q3]; st.shared.v4.b32 [%r2], {%r4, %r5, %r6, %r7}; bar.sync 0;
ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r8, %r9, %r10, %r11}, [%r2];
ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%r12, %r13, %r14, %r15}, [%r2];
movmatrix.sync.aligned.m8n8.trans.b16 %r16, %r12;
stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%r2], {%r8, %r13}; bar.sync 0;
ld.shared.b32 %r17, [%r2];
mad.wide.u32 %q4, %tid, 40, %q0;
st.global.v2.b32 [%q4], {%r8, %r9}; st.global.v2.b32 [%q4+8], {%r10, %r11};
st.global.v2.b32 [%q4+16], {%r12, %r13}; st.global.v2.b32 [%q4+24], {%r14, %r15};
st.global.v2.b32 [%q4+32], {%r16, %r17}; ret; }
"""


@pytest.fixture(scope="module")
def launcher() -> ptx_kernels.Launcher:
    ptx_kernels.load(FRAGMENTS + MATRICES)
    return ptx_kernels.Launcher()


@pytest.mark.parametrize("d, a, m, k", CASES)
def test_mma(launcher, d, a, m, k):
    rng = np.random.default_rng(m * k)
    low, high = (0, 7) if a == "u8" else (-4, 5)
    left, right = (rng.integers(low, high, s).astype(NUMPY[a]) for s in ((m, k), (k, 8)))
    start = rng.integers(-9, 10, (m, 8)).astype(NUMPY[d])
    out = np.zeros(32 * words(d, m * 8 // 32), np.uint32)
    given = spread(left, fragment_of_a), spread(right, fragment_of_b), spread(start, fragment_of_c)
    launcher(f"mma_{d}_{a}_{m}_{k}", out, *given)
    want = left.astype(np.float64) @ right.astype(np.float64) + start.astype(np.float64)
    assert np.array_equal(out, spread(want.astype(NUMPY[d]), fragment_of_c))


def test_matrices_of_eight_by_eight(launcher):
    rows = np.arange(256, dtype=np.uint16).reshape(4, 8, 8)
    out = np.zeros(320, np.uint32)
    launcher("matrices", out, rows.view(np.uint32).ravel().copy(), shared=512)
    held = out.reshape(32, 10)
    plain = np.stack([rows[i].reshape(32, 2) for i in range(4)], 1).reshape(32, 8).view(np.uint32)
    turned = np.stack([rows[i].T.reshape(32, 2) for i in range(4)], 1).reshape(32, 8).view(np.uint32)
    assert np.array_equal(held[:, :4], plain)
    assert np.array_equal(held[:, 4:8], turned)
    assert np.array_equal(held[:, 8], plain[:, 0]), "transposed twice"
    stored = np.stack([rows[0].T, rows[1]])  # the second matrix was held transposed
    assert np.array_equal(held[:16, 9], stored.reshape(16, 8)[:, :2].copy().view(np.uint32)[:, 0])
