"""Comparison, selection, logic and shifts: PTX ISA 9.0, 9.7.6 - 9.7.8. See `emitters.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cuda.emitters import HALVES, Emitter, flushed, is_half, kinds, only
from cuda.ptx import Instruction, PtxError, c_type

if TYPE_CHECKING:
    from cuda.translate import Body

_COMPARE = {
    **dict.fromkeys(("eq", "equ"), "=="),
    **dict.fromkeys(("ne", "neu"), "!="),
    **dict.fromkeys(("lt", "ltu", "lo"), "<"),
    **dict.fromkeys(("le", "leu", "ls"), "<="),
    **dict.fromkeys(("gt", "gtu", "hi"), ">"),
    **dict.fromkeys(("ge", "geu", "hs"), ">="),
}
_UNORDERED = ("equ", "neu", "ltu", "leu", "gtu", "geu")
_COMPLEMENT = {"==": "!=", "!=": "==", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}


def _comparison(how: str, kind: str, a: str, b: str) -> str:
    """One comparison as a C++ expression. With NaN, `x < y` is false in C++ as in PTX's ordered ones."""
    if how == "num":
        return f"ordered({a}, {b})"
    if how == "nan":
        return f"!ordered({a}, {b})"
    symbol = _COMPARE[how]
    if kind in ("f32", "f64"):
        if how in _UNORDERED:
            return (
                f"!({a} {_COMPLEMENT[symbol]} {b})"
                if how not in ("neu", "equ")
                else (f"({a} != {b})" if how == "neu" else f"({a} == {b} || !ordered({a}, {b}))")
            )
        if how == "ne":
            return f"({a} != {b} && ordered({a}, {b}))"
    return f"({a} {symbol} {b})"


def _compared(body: Body, i: Instruction, kind: str, first: int) -> list[str]:
    """The truth values (two for packed halves) of the comparison a set or setp names."""
    how = i.parts[1]
    a, b = (flushed(i, kind, body.read(o, kind, i.scope)) for o in i.operands[first : first + 2])
    if not is_half(kind):
        if kind[0] == "b" and how in ("lo", "ls", "hi", "hs"):
            raise PtxError(f"{how} of {kind}")
        return [_comparison(how, kind, a, b)]
    h = HALVES[kind]
    shifts = ("", " >> 16") if kind.endswith("x2") else ("",)
    return [
        _comparison(how, "f32", f"{h}::widen(uint16_t({a}{s}))", f"{h}::widen(uint16_t({b}{s}))")
        for s in shifts
    ]


def combined(body: Body, i: Instruction, truth: str, operand: str) -> str:
    op = next(p for p in i.parts if p in ("and", "or", "xor"))
    other = body.read(operand, "pred", i.scope)
    return f"bool({truth} {dict(zip(('and', 'or', 'xor'), '&|^', strict=True))[op]} {other})"


def _setp(body: Body, i: Instruction) -> str:
    kind = kinds(i)[-1]
    truths = _compared(body, i, kind, 1)
    others = truths[1:] or [f"!{truths[0]}"]
    values = [truths[0], others[0]]
    if len(i.operands) > 3:
        values = [combined(body, i, v, i.operands[3]) for v in values]
    names = [n.strip() for n in i.operands[0].split("|")]
    x = body.temporary()
    if len(names) == 1:
        return body.write(names[0], "pred", values[0], i.scope)
    stores = [body.write(n, "pred", f"{x}{k}", i.scope) for k, n in enumerate(names) if n != "_"]
    return f"{{ bool {x}0 = {values[0]}, {x}1 = {values[1]}; (void){x}0, (void){x}1; {' '.join(stores)} }}"


def _set(body: Body, i: Instruction) -> str:
    out, kind = kinds(i)[:2]
    truths = _compared(body, i, kind, 1)
    if len(i.operands) > 3:
        truths = [combined(body, i, v, i.operands[3]) for v in truths]
    if is_half(out):
        one = f"{HALVES[out]}::kOne"
        high = f" | uint32_t({truths[1]} ? {one} : 0) << 16" if len(truths) > 1 else ""
        return body.write(
            i.operands[0], out, f"{c_type(out)}(uint32_t({truths[0]} ? {one} : 0){high})", i.scope
        )
    if out == "f32":
        return body.write(i.operands[0], out, f"({truths[0]} ? 1.f : 0.f)", i.scope)
    if len(truths) > 1:
        value = f"(({truths[0]} ? 0xFFFFu : 0u) | ({truths[1]} ? 0xFFFF0000u : 0u))"
    else:
        value = f"({truths[0]} ? {c_type(out)}(-1) : {c_type(out)}(0))"
    return body.write(i.operands[0], out, f"{c_type(out)}({value})", i.scope)


def _selp(body: Body, i: Instruction) -> str:
    kind = kinds(i)[-1]
    a, b = (body.read(o, kind, i.scope) for o in i.operands[1:3])
    test = body.read(i.operands[3], "pred", i.scope)
    return body.write(i.operands[0], kind, f"({test} ? {a} : {b})", i.scope)


def _slct(body: Body, i: Instruction) -> str:
    kind, tested = kinds(i)
    a, b = (body.read(o, kind, i.scope) for o in i.operands[1:3])
    c = flushed(i, tested, body.read(i.operands[3], tested, i.scope))
    return body.write(i.operands[0], kind, f"({c} >= 0 ? {a} : {b})", i.scope)


def _logic(symbol: str) -> Emitter:
    def emitter(body: Body, i: Instruction) -> str:
        kind = kinds(i)[-1]
        a, b = (body.read(o, kind, i.scope) for o in i.operands[1:3])
        return body.write(i.operands[0], kind, f"{c_type(kind)}({a} {symbol} {b})", i.scope)

    return emitter


def _not(body: Body, i: Instruction) -> str:
    kind = kinds(i)[-1]
    a = body.read(i.operands[1], kind, i.scope)
    return body.write(i.operands[0], kind, f"!{a}" if kind == "pred" else f"{c_type(kind)}(~{a})", i.scope)


def _cnot(body: Body, i: Instruction) -> str:
    kind = kinds(i)[-1]
    return body.write(
        i.operands[0], kind, f"{c_type(kind)}({body.read(i.operands[1], kind, i.scope)} == 0)", i.scope
    )


def _lop3(body: Body, i: Instruction) -> str:
    a, b, c, table = (body.read(o, "b32", i.scope) for o in i.operands[1:5])
    value = f"lop3({a}, {b}, {c}, {table})"
    if "|" not in i.operands[0]:
        return body.write(i.operands[0], "b32", value, i.scope)
    out, truth = i.operands[0].split("|")
    x = body.temporary()
    both = combined(body, i, f"({x} != 0)", i.operands[5])
    stores = f"{body.write(truth, 'pred', both, i.scope)} {body.write(out, 'b32', x, i.scope)}"
    return f"{{ uint32_t {x} = {value}; {stores} }}"


def _shift(name: str) -> Emitter:
    def emitter(body: Body, i: Instruction) -> str:
        kind = kinds(i)[-1]
        a, n = body.read(i.operands[1], kind, i.scope), body.read(i.operands[2], "u32", i.scope)
        return body.write(i.operands[0], kind, f"{name}<{c_type(kind)}>({a}, {n})", i.scope)

    return emitter


def _shf(body: Body, i: Instruction) -> str:
    a, b, c = (body.read(o, "b32", i.scope) for o in i.operands[1:4])
    left, wrap = str("l" in i.parts).lower(), str("wrap" in i.parts).lower()
    return body.write(i.operands[0], "b32", f"funnel({a}, {b}, {c}, {left}, {wrap})", i.scope)


def _prmt(body: Body, i: Instruction) -> str:
    only(i)
    a, b, c = (body.read(o, "b32", i.scope) for o in i.operands[1:4])
    return body.write(i.operands[0], "b32", f"prmt({a}, {b}, {c})", i.scope)


EMITTERS: dict[str, Emitter] = {
    "setp": _setp,
    "set": _set,
    "selp": _selp,
    "slct": _slct,
    "and": _logic("&"),
    "or": _logic("|"),
    "xor": _logic("^"),
    "not": _not,
    "cnot": _cnot,
    "lop3": _lop3,
    "shl": _shift("shl"),
    "shr": _shift("shr"),
    "shf": _shf,
    "prmt": _prmt,
}
