"""Instructions against NumPy, one kernel per row; the expected values follow PTX ISA 9.0, 9.7.1 - 9.7.9."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from cuda import emulator, ptx, ptx_kernels, translate

pytestmark = pytest.mark.skipif(bool(said := emulator.obstacle_to_ptx()), reason=said)

COUNT = 64
NUMPY = {
    **{f"{k}{n}": np.dtype(f"{'int' if k == 's' else 'uint'}{n}") for k in "bus" for n in (16, 32, 64)},
    **{"f32": np.dtype(np.float32), "f64": np.dtype(np.float64), "f16": np.dtype(np.float16)},
    **{"bf16": np.dtype(ml_dtypes.bfloat16), "f16x2": np.dtype(np.uint32), "bf16x2": np.dtype(np.uint32)},
}
F32_EDGES = [0.0, -0.0, 1.0, -1.5, 2.5, 3.5, -2.5, np.inf, -np.inf, np.nan, 1e-40, 3e38, 65520.0, 1e10, -1e10]
INT_EDGES = [0, 1, -1, 31, 32, 33, 255, 256, 0x7FFF]


def operands(kind: str, seed: int) -> np.ndarray:
    """Edge values, then random ones; in an order that differs between operands."""
    rng, dtype = np.random.default_rng(seed), NUMPY[kind]
    if kind.endswith("x2") or dtype.kind in "iu":
        bits = rng.integers(0, 1 << 63, COUNT, dtype=np.uint64)
        edges = np.array([e % (1 << 64) for e in INT_EDGES], np.uint64)
        whole = np.concatenate([edges, bits])[:COUNT]
        whole = rng.permutation(whole)
        if kind.endswith("x2"):  # finite halves
            halves = rng.standard_normal(2 * COUNT).astype(NUMPY[kind[:-2]])
            return halves.view(np.uint32)
        return whole.astype(dtype)
    scale = rng.choice([1.0, 100.0, 1e-3], COUNT)
    values = np.concatenate([F32_EDGES, rng.standard_normal(COUNT) * scale])[:COUNT]
    with np.errstate(over="ignore"):
        return rng.permutation(values).astype(np.float32).astype(dtype)


def wrap(function: Callable[..., Any], kind: str) -> Callable[..., np.ndarray]:
    """`function` on Python integers, wrapped to a type."""
    bits = 8 * NUMPY[kind].itemsize

    def run(*arrays: np.ndarray) -> np.ndarray:
        out = [function(*map(int, row)) % (1 << bits) for row in zip(*arrays, strict=True)]
        return np.array(out, np.uint64).astype(f"uint{bits}").view(NUMPY[kind])

    return run


def _quotient(a: int, b: int) -> int:
    return (abs(a) // abs(b)) * (1 if (a < 0) == (b < 0) else -1) if b else -1


def _bfe(a: int, b: int, c: int) -> int:
    position, length, value = b & 255, c & 255, a % (1 << 32)
    signed = value | (-(value >> 31) << 32)
    last = min(position + length - 1, 31)
    sign = (value >> last & 1) if length else 0
    width = max(0, min(length, 32 - position))
    field = signed >> min(position, 32) & ((1 << width) - 1)
    return field | (-sign << width)


def _prmt(a: int, b: int, c: int) -> int:
    both, out = a | b << 32, 0
    for i in range(4):
        s = c >> 4 * i
        byte = both >> 8 * (s & 7) & 255
        out |= (255 * (byte >> 7) if s & 8 else byte) << 8 * i
    return out


def _half(function: Callable[..., Any]) -> Callable[..., np.ndarray]:
    """A function of halves in packed registers: computed in fp64, rounded once."""

    def run(*arrays: np.ndarray) -> np.ndarray:
        wide = [a.view(np.float16).astype(np.float64) for a in arrays]
        with np.errstate(all="ignore"):
            return function(*wide).astype(np.float16).view(np.uint32)

    return run


def _bf16_bits(a: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return a.astype(ml_dtypes.bfloat16)


def _round_toward(a: np.ndarray, direction: str) -> np.ndarray:
    """fp64 -> fp32 with directed rounding."""
    near = a.astype(np.float32)
    if direction == "rz":
        wrong = np.abs(near.astype(np.float64)) > np.abs(a)
        target = np.float32(0)
    else:
        wrong = near.astype(np.float64) < a if direction == "rp" else near.astype(np.float64) > a
        target = np.float32(np.inf if direction == "rp" else -np.inf)
    return np.where(wrong, np.nextafter(near, target), near)


def _clamped(kind: str) -> Callable[[np.ndarray], np.ndarray]:
    info = np.iinfo(NUMPY[kind])

    def run(a: np.ndarray) -> np.ndarray:
        whole = [0 if np.isnan(v) else int(np.clip(np.trunc(float(v)), info.min, info.max)) for v in a]
        return np.array(whole, NUMPY[kind])

    return run


def _dot4(a: int, b: int, c: int) -> int:
    signed = [(a >> 8 * i & 255) - (256 if a >> 8 * i & 128 else 0) for i in range(4)]
    return sum(s * (b >> 8 * i & 255) for i, s in enumerate(signed)) + c


def _min(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.fmin(a, b)


def _max_nan(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.maximum(a, b)


ROWS: list[tuple[str, str, list[str], str, Callable[..., Any]]] = [
    ("add", "s32", ["s32", "s32"], "add.s32 %d, %a, %b;", wrap(lambda a, b: a + b, "s32")),
    ("sub64", "u64", ["u64", "u64"], "sub.s64 %d, %a, %b;", wrap(lambda a, b: a - b, "u64")),
    ("mullo", "u32", ["u32", "u32"], "mul.lo.s32 %d, %a, %b;", wrap(lambda a, b: a * b, "u32")),
    ("mulhi", "s32", ["s32", "s32"], "mul.hi.s32 %d, %a, %b;", wrap(lambda a, b: a * b >> 32, "s32")),
    ("mulhi64", "u64", ["u64", "u64"], "mul.hi.u64 %d, %a, %b;", wrap(lambda a, b: a * b >> 64, "u64")),
    ("mulwide", "s64", ["s32", "s32"], "mul.wide.s32 %d, %a, %b;", wrap(lambda a, b: a * b, "s64")),
    (
        "mad",
        "s32",
        ["s32", "s32", "s32"],
        "mad.lo.s32 %d, %a, %b, %c;",
        wrap(lambda a, b, c: a * b + c, "s32"),
    ),
    (
        "madw",
        "u64",
        ["u32", "u32", "u64"],
        "mad.wide.u32 %d, %a, %b, %c;",
        wrap(lambda a, b, c: a * b + c, "u64"),
    ),
    ("divs", "s32", ["s32", "s32"], "div.s32 %d, %a, %b;", wrap(_quotient, "s32")),
    ("remu", "u32", ["u32", "u32"], "rem.u32 %d, %a, %b;", wrap(lambda a, b: a % b if b else a, "u32")),
    (
        "addcc",
        "u32",
        ["u32", "u32"],
        "add.cc.u32 %d, %a, %b; addc.u32 %d, 0, 0;",
        wrap(lambda a, b: a + b >> 32, "u32"),
    ),
    ("mins", "s32", ["s32", "s32"], "min.s32 %d, %a, %b;", np.minimum),
    ("abss", "s32", ["s32"], "abs.s32 %d, %a;", wrap(abs, "s32")),
    ("popc", "u32", ["u32"], "popc.b32 %d, %a;", wrap(lambda a: a.bit_count(), "u32")),
    ("clz", "u32", ["u64"], "clz.b64 %d, %a;", wrap(lambda a: 64 - a.bit_length(), "u32")),
    ("brev", "u32", ["u32"], "brev.b32 %d, %a;", wrap(lambda a: int(f"{a:032b}"[::-1], 2), "u32")),
    ("bfe", "s32", ["s32", "u32", "u32"], "bfe.s32 %d, %a, %b, %c;", wrap(_bfe, "s32")),
    ("bfind", "u32", ["u32"], "bfind.u32 %d, %a;", wrap(lambda a: a.bit_length() - 1, "u32")),
    (
        "bfi",
        "u32",
        ["u32", "u32"],
        "bfi.b32 %d, %a, %b, 5, 9;",
        wrap(lambda a, b: b & ~(511 << 5) | (a & 511) << 5, "u32"),
    ),
    ("shl", "u32", ["u32", "u32"], "shl.b32 %d, %a, %b;", wrap(lambda a, b: a << min(b, 32), "u32")),
    ("shrs", "s32", ["s32", "u32"], "shr.s32 %d, %a, %b;", wrap(lambda a, b: a >> min(b, 32), "s32")),
    ("shru", "u64", ["u64", "u32"], "shr.u64 %d, %a, %b;", wrap(lambda a, b: a >> min(b, 64), "u64")),
    (
        "shfl_l",
        "u32",
        ["u32", "u32", "u32"],
        "shf.l.wrap.b32 %d, %a, %b, %c;",
        wrap(lambda a, b, c: ((b << 32 | a) << (c & 31)) >> 32, "u32"),
    ),
    (
        "shf_r",
        "u32",
        ["u32", "u32", "u32"],
        "shf.r.clamp.b32 %d, %a, %b, %c;",
        wrap(lambda a, b, c: (b << 32 | a) >> min(c, 32), "u32"),
    ),
    (
        "lop3",
        "u32",
        ["u32", "u32", "u32"],
        "lop3.b32 %d, %a, %b, %c, 0xCA;",
        wrap(lambda a, b, c: a & b | ~a & c, "u32"),
    ),
    ("prmt", "u32", ["u32", "u32", "u32"], "prmt.b32 %d, %a, %b, %c;", wrap(_prmt, "u32")),
    ("dp4a", "s32", ["u32", "u32", "s32"], "dp4a.s32.u32 %d, %a, %b, %c;", wrap(_dot4, "s32")),
    ("selp", "s32", ["s32", "s32"], "setp.lt.s32 %p0, %a, %b; selp.b32 %d, %a, %b, %p0;", np.minimum),
    (
        "setp_u",
        "u32",
        ["f32", "f32"],
        "setp.ltu.f32 %p0|%p1, %a, %b; selp.b32 %d, 1, 0, %p0; @%p1 add.s32 %d, %d, 2;",
        lambda a, b: np.where(~(a >= b), 1, 2).astype(np.uint32),
    ),
    (
        "setp_o",
        "u32",
        ["f32", "f32"],
        "setp.ne.f32 %p0, %a, %b; selp.b32 %d, 1, 0, %p0;",
        lambda a, b: ((a < b) | (a > b)).astype(np.uint32),
    ),
    (
        "sets",
        "u32",
        ["f32", "f32"],
        "set.ge.u32.f32 %d, %a, %b;",
        lambda a, b: np.where(a >= b, 0xFFFFFFFF, 0).astype(np.uint32),
    ),
    (
        "slct",
        "u32",
        ["u32", "u32", "f32"],
        "slct.b32.f32 %d, %a, %b, %c;",
        lambda a, b, c: np.where(c >= 0, a, b),
    ),
    ("fadd", "f32", ["f32", "f32"], "add.f32 %d, %a, %b;", np.add),
    (
        "ffma",
        "f32",
        ["f32", "f32", "f32"],
        "fma.rn.f32 %d, %a, %b, %c;",
        lambda a, b, c: (a.astype(np.longdouble) * b + c).astype(np.float32),
    ),
    ("fdiv", "f32", ["f32", "f32"], "div.rn.f32 %d, %a, %b;", np.divide),
    (
        "fmulrz",
        "f32",
        ["f32", "f32"],
        "mul.rz.f32 %d, %a, %b;",
        lambda a, b: _round_toward(a.astype(np.float64) * b, "rz"),
    ),
    (
        "fmulrp",
        "f32",
        ["f32", "f32"],
        "mul.rp.f32 %d, %a, %b;",
        lambda a, b: _round_toward(a.astype(np.float64) * b, "rp"),
    ),
    (
        "fftz",
        "f32",
        ["f32"],
        "mul.ftz.f32 %d, %a, 0f3F800000;",
        lambda a: np.where(np.abs(a) < 2.0**-126, a * 0, a),
    ),
    (
        "fsat",
        "f32",
        ["f32"],
        "add.sat.f32 %d, %a, 0f00000000;",
        lambda a: np.where(np.isnan(a), 0, np.clip(a + 0, 0, 1)).astype(np.float32),
    ),
    ("fmin", "f32", ["f32", "f32"], "min.f32 %d, %a, %b;", _min),
    ("fmaxnan", "f32", ["f32", "f32"], "max.NaN.f32 %d, %a, %b;", _max_nan),
    ("fsqrt", "f32", ["f32"], "sqrt.rn.f32 %d, %a;", np.sqrt),
    ("fcopysign", "f32", ["f32", "f32"], "copysign.f32 %d, %a, %b;", lambda a, b: np.copysign(b, a)),
    ("fneg", "f32", ["f32"], "neg.f32 %d, %a;", np.negative),
    ("dmul", "f64", ["f64", "f64"], "mul.rn.f64 %d, %a, %b;", np.multiply),
    ("hadd", "f16", ["f16", "f16"], "add.f16 %d, %a, %b;", np.add),
    ("hmin", "f16", ["f16", "f16"], "min.f16 %d, %a, %b;", _min),
    (
        "h2fma",
        "f16x2",
        ["f16x2", "f16x2", "f16x2"],
        "fma.rn.f16x2 %d, %a, %b, %c;",
        _half(lambda a, b, c: a * b + c),
    ),
    (
        "h2relu",
        "f16x2",
        ["f16x2", "f16x2"],
        "fma.rn.relu.f16x2 %d, %a, %b, %a;",
        _half(lambda a, b: np.maximum(a * b + a, 0)),
    ),
    (
        "bmul",
        "bf16",
        ["bf16", "bf16"],
        "mul.rn.bf16 %d, %a, %b;",
        lambda a, b: _bf16_bits(a.astype(np.float64) * b.astype(np.float64)),
    ),
    ("f2h", "f16", ["f32"], "cvt.rn.f16.f32 %d, %a;", lambda a: a.astype(np.float16)),
    ("f2b", "bf16", ["f32"], "cvt.rn.bf16.f32 %d, %a;", _bf16_bits),
    ("h2f", "f32", ["f16"], "cvt.f32.f16 %d, %a;", lambda a: a.astype(np.float32)),
    (
        "f2h2",
        "f16x2",
        ["f32", "f32"],
        "cvt.rn.f16x2.f32 %d, %a, %b;",
        lambda a, b: np.stack([b, a], 1).astype(np.float16).view(np.uint32)[:, 0],
    ),
    ("f2s", "s32", ["f32"], "cvt.rzi.s32.f32 %d, %a;", _clamped("s32")),
    ("f2u", "u32", ["f32"], "cvt.rzi.u32.f32 %d, %a;", _clamped("u32")),
    ("f2rni", "f32", ["f32"], "cvt.rni.f32.f32 %d, %a;", np.rint),
    ("s2f", "f32", ["s64"], "cvt.rn.f32.s64 %d, %a;", lambda a: a.astype(np.float32)),
    ("s2s8", "s32", ["s32"], "cvt.s32.s8 %d, %a;", lambda a: a.astype(np.int8).astype(np.int32)),
    ("sat8", "u32", ["s32"], "cvt.sat.u8.s32 %d, %a;", lambda a: np.clip(a, 0, 255).astype(np.uint32)),
    ("ex2", "f32", ["f32"], "ex2.approx.f32 %d, %a;", np.exp2),
]


@pytest.fixture(scope="module")
def launcher() -> ptx_kernels.Launcher:
    kernels = [ptx_kernels.elementwise(name, out, inputs, body) for name, out, inputs, body, _ in ROWS]
    ptx_kernels.load("\n".join(kernels))
    return ptx_kernels.Launcher()


@pytest.mark.parametrize("name, out, inputs, body, expected", ROWS, ids=[r[0] for r in ROWS])
def test_instruction(launcher, name, out, inputs, body, expected):
    arrays = [operands(kind, seed) for seed, kind in enumerate(inputs)]
    got = np.zeros(COUNT, NUMPY[out])
    launcher(name, got, *arrays, block=(COUNT, 1, 1))
    with np.errstate(all="ignore"):
        want = np.asarray(expected(*arrays)).astype(NUMPY[out])
    if NUMPY[out].kind in "fV" and not out.endswith("x2"):
        got, want = got.astype(np.float64), want.astype(np.float64)
        tolerance = 1e-6 * np.abs(want) if name == "ex2" else 0
        with np.errstate(invalid="ignore"):
            same = (got == want) | (np.abs(got - want) <= tolerance) | (np.isnan(got) & np.isnan(want))
        signs = np.signbit(got) == np.signbit(want)
        same &= (
            signs | np.isnan(got) | (name in ("fmin", "hmin", "fmaxnan"))
        )  # NumPy's order of zeros is open
    else:
        same = got == want
    first = int(np.argmin(same))
    shown = [a[first] for a in arrays]
    assert same.all(), f"{body} of {shown}: got {got[first]!r}, want {want[first]!r}"


def test_unknown_instructions_and_modifiers_are_refused():
    for body in (
        "tex.2d.v4.f32.s32 %d, %a;",
        "add.rn.satfinite.f32 %d, %a, %a;",
        "add.f32 %d, %a, %unknown;",
    ):
        kernel = ptx_kernels.HEADER + ptx_kernels.elementwise("k", "f32", ["f32"], body)
        with pytest.raises(ptx.PtxError, match="line"):
            translate.translate(ptx.parse(kernel))
