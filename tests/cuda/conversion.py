"""Conversions between types: PTX ISA 9.0, 9.7.9.22 and .23. See `emitters.py`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cuda.emitters import HALVES, TYPES, Emitter, flushed, is_float, is_half, kinds, only, rounding
from cuda.ptx import Instruction, PtxError, c_type

if TYPE_CHECKING:
    from cuda.translate import Body

_INTEGER_ROUNDS = {"rni": "nearbyint", "rzi": "trunc", "rmi": "floor", "rpi": "ceil"}
_CVT_PARTS = (
    "rn",
    "rz",
    "rm",
    "rp",
    "rna",
    "rni",
    "rzi",
    "rmi",
    "rpi",
    "ftz",
    "sat",
    "satfinite",
    "relu",
    "pack",
)


def _cvt(body: Body, i: Instruction) -> str:
    """9.7.9.22. Narrow 8-bit floats are pairs and packed results take two sources."""
    if i.parts[1] == "pack":
        return _cvt_pack(body, i)
    if any(p in _EIGHT for p in i.parts):
        return _cvt_eight(body, i)
    only(i, *_CVT_PARTS)
    out, kind = kinds(i)
    if len(i.operands) == 3:
        return _cvt_pair(body, i, out, kind)
    a = body.read(i.operands[1], kind, i.scope)
    return body.write(i.operands[0], out, _converted(i, out, kind, a), i.scope)


def _cvt_pair(body: Body, i: Instruction, out: str, kind: str) -> str:
    high, low = (body.read(o, kind, i.scope) for o in i.operands[1:3])
    one = out.removesuffix("x2")
    value = f"(uint32_t({_converted(i, one, kind, high)}) << 16 | uint32_t({_converted(i, one, kind, low)}))"
    return body.write(i.operands[0], out, value, i.scope)


def _converted(i: Instruction, out: str, kind: str, a: str) -> str:
    """Expression of `a`, of type `kind`, as `out`."""
    rounds = next((_INTEGER_ROUNDS[p] for p in i.parts if p in _INTEGER_ROUNDS), "")
    if is_half(kind):
        if out == kind and not rounds:
            return _finish_half(i, out, a)
        a, kind = f"{HALVES[kind]}::widen({a})", "f32"
    elif kind == "f32":
        a = flushed(i, kind, a)
    from_float = is_float(kind)
    if rounds:
        a = f"{rounds}{'f' if kind == 'f32' else ''}({a})"
    if out == "tf32":
        return f"bits<uint32_t>({'tf32_round' if 'rna' in i.parts else 'tf32_nearest'}({a}))"
    if is_half(out):
        return _to_half(i, out, kind, a)
    if is_float(out):
        return _to_float(i, out, kind, a)
    if from_float:
        return f"to_integer<{c_type(out)}>({a})"
    if "sat" in i.parts:
        return f"saturate<{c_type(out)}>({a})"
    return f"{c_type(out)}({a})"


def _to_float(i: Instruction, out: str, kind: str, a: str) -> str:
    how = rounding(i)
    if out == "f32" and how != "kNearest" and kind != "f32":
        a = f"narrow_rounded(double({a}), {how})"
    value = f"{c_type(out)}({a})"
    value = f"sat({value})" if "sat" in i.parts else value
    return flushed(i, out, value)


def _to_half(i: Instruction, out: str, kind: str, a: str) -> str:
    h, how = HALVES[out], rounding(i)
    if how != "kNearest":
        return _finish_half(i, out, f"round_to<{h}>(float({a}), {how})")
    source = a if is_float(kind) else f"double({a})"
    return _finish_half(i, out, f"{h}::round({source})")


def _finish_half(i: Instruction, out: str, value: str) -> str:
    h = HALVES[out]
    for part, function in (("satfinite", "clamp_finite"), ("sat", "half_sat"), ("relu", "relu")):
        if part in i.parts:
            value = f"{function}<{h}>({value})"
    return value


_EIGHT = {"e4m3x2": "E4M3", "e5m2x2": "E5M2"}


def _cvt_eight(body: Body, i: Instruction) -> str:
    types = [p for p in i.parts[1:] if p in TYPES or p in _EIGHT]
    out, kind = types
    x = body.temporary()
    if kind in _EIGHT:
        f = _EIGHT[kind]
        a = body.read(i.operands[1], "b16", i.scope)
        low, high = (f"uint32_t(F16::round({f}::widen(uint8_t({a}{shift}))))" for shift in ("", " >> 8"))
        value = f"({low} | {high} << 16)"
        return body.write(i.operands[0], "b32", value, i.scope)
    f = _EIGHT[out]
    relu = (lambda v: f"fmax_ptx({v}, 0.f)") if "relu" in i.parts else (lambda v: v)
    if kind == "f32":
        high, low = (body.read(o, "f32", i.scope) for o in i.operands[1:3])
    else:
        a = body.read(i.operands[1], "b32", i.scope)
        h = HALVES[kind]
        high, low = f"{h}::widen(uint16_t({a} >> 16))", f"{h}::widen(uint16_t({a}))"
    value = f"uint16_t({f}::round({relu(high)}) << 8 | {f}::round({relu(low)}))"
    return f"{{ uint16_t {x} = {value}; {body.write(i.operands[0], 'b16', x, i.scope)} }}"


def _cvt_pack(body: Body, i: Instruction) -> str:
    out = next(p for p in i.parts[2:] if re.fullmatch(r"[us]\d+", p))
    a, b = (body.read(o, "s32", i.scope) for o in i.operands[1:3])
    c = body.read(i.operands[3], "b32", i.scope) if len(i.operands) > 3 else "0u"
    width = int(out[1:])
    if width < 8:
        raise PtxError(f"cvt.pack to {out}")
    return body.write(i.operands[0], "b32", f"pack_saturated<{c_type(out)}>({a}, {b}, {c}, {width})", i.scope)


EMITTERS: dict[str, Emitter] = {
    "cvt": _cvt,
}
