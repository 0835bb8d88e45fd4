"""What each PTX instruction does, as C++ on the types of machine.h and arith.h.

`EMITTERS` maps an opcode's first part to the function that prints it. Source: PTX ISA 9.0, section 9; the
number before each group of emitters is its subsection.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from cuda import hopper
from cuda.hopper import line
from cuda.ptx import Instruction, PtxError, c_type, split, type_bytes

if TYPE_CHECKING:
    from cuda.translate import Body

Emitter = Callable[["Body", Instruction], str]

TYPES = frozenset(
    [f"{k}{n}" for k in "bus" for n in (8, 16, 32, 64)]
    + ["pred", "f16", "f16x2", "bf16", "bf16x2", "tf32", "f32", "f64", "b128"]
)
_HALVES = {"f16": "F16", "bf16": "BF16", "f16x2": "F16", "bf16x2": "BF16"}
_ROUNDS = {"rn": "kNearest", "rz": "kZero", "rm": "kDown_", "rp": "kUp_"}


def emit(body: Body, i: Instruction) -> str:
    """The C++ statement of an instruction, without its guard."""
    emitter = EMITTERS.get(i.parts[0])
    if emitter is None:
        raise PtxError(f"no emitter for {i.opcode!r}")
    return emitter(body, i)


def kinds(i: Instruction) -> list[str]:
    """The types an opcode names, in order."""
    return [p for p in i.parts[1:] if p in TYPES]


def only(i: Instruction, *allowed: str) -> None:
    """Refuses opcodes with parts this module does not know."""
    for part in i.parts[1:]:
        if part not in TYPES and part not in allowed:
            raise PtxError(f"unknown modifier .{part}")


def _is_half(kind: str) -> bool:
    return kind in _HALVES


def _is_float(kind: str) -> bool:
    return kind in ("f32", "f64")


def _ftz(i: Instruction, kind: str, value: str) -> str:
    return f"ftz({value})" if "ftz" in i.parts and kind == "f32" else value


def _sources(body: Body, i: Instruction, kind: str, first: int = 1) -> list[str]:
    return [_ftz(i, kind, body.read(o, kind, i.scope)) for o in i.operands[first:]]


def _result(body: Body, i: Instruction, kind: str, value: str) -> str:
    """Stores a result, flushed and saturated as the opcode says."""
    if _is_float(kind):
        value = _ftz(i, kind, f"sat({value})" if "sat" in i.parts else value)
    return body.write(i.operands[0], kind, value, i.scope)


def _rounding(i: Instruction) -> str:
    return next((_ROUNDS[p] for p in i.parts if p in _ROUNDS), "kNearest")


def _half(i: Instruction, kind: str, values: Sequence[str], scalar: Callable[..., str]) -> str:
    """A half-precision result: `scalar` prints it for one uint16_t per operand; x2 types do it twice."""
    wrap = scalar
    if "sat" in i.parts:
        wrap = lambda *v: f"half_sat<{_HALVES[kind]}>({scalar(*v)})"  # noqa: E731
    if "relu" in i.parts:
        wrap = lambda *v: f"relu<{_HALVES[kind]}>({scalar(*v)})"  # noqa: E731
    if not kind.endswith("x2"):
        return f"uint16_t({wrap(*values)})"
    padded = [*values, "0u", "0u"][:3]
    names = ("a", "b", "c")
    return (
        f"pair({', '.join(padded)}, [&](uint16_t a, uint16_t b, uint16_t c) "
        f"{{ (void)b, (void)c; return uint16_t({wrap(*names[: len(values)])}); }})"
    )


# 9.7.1 - 9.7.5: arithmetic


def _binary(symbol: str) -> Emitter:
    def emitter(body: Body, i: Instruction) -> str:
        only(i, "rn", "rz", "rm", "rp", "ftz", "sat", "cc", "lo", "wrapped", "noftz")
        kind = kinds(i)[-1]
        if "cc" in i.parts:
            return _carry(body, i, kind, symbol, takes=False)
        values = _sources(body, i, kind)
        if _is_half(kind):
            h = _HALVES[kind]
            return _result(
                body,
                i,
                kind,
                _half(
                    i,
                    kind,
                    values,
                    lambda a, b: f"half2<{h}>({a}, {b}, [](float p, float q) {{ return p {symbol} q; }})",
                ),
            )
        a, b = values
        if _is_float(kind):
            return _result(body, i, kind, _float_binary(i, kind, symbol, a, b))
        if "sat" in i.parts:
            return body.write(
                i.operands[0], kind, f"saturate<int32_t>(int64_t({a}) {symbol} int64_t({b}))", i.scope
            )
        width = 64 if type_bytes(kind) == 8 else 32
        return body.write(
            i.operands[0], kind, f"{c_type(kind)}(uint{width}_t({a}) {symbol} uint{width}_t({b}))", i.scope
        )

    return emitter


def _float_binary(i: Instruction, kind: str, symbol: str, a: str, b: str) -> str:
    how = _rounding(i)
    if how == "kNearest":
        return f"({a} {symbol} {b})"
    if kind != "f32":
        raise PtxError("directed rounding of f64")
    return {
        "+": f"add_rounded({a}, {b}, {how})",
        "-": f"add_rounded({a}, -({b}), {how})",
        "*": f"mul_rounded({a}, {b}, {how})",
    }[symbol]


def _carry(body: Body, i: Instruction, kind: str, symbol: str, *, takes: bool) -> str:
    """9.7.2: add.cc, addc, sub.cc, subc: the carry lives in a variable of the function."""
    body.uses_carry = True
    a, b = (body.read(o, f"u{kind[1:]}", i.scope) for o in i.operands[1:3])
    wide = body.temporary()
    sum_ = f"u128 {wide} = u128({a}) {symbol} u128({b}){f' {symbol} u128(carry)' if takes else ''};"
    keep = f" carry = {wide} >> {8 * type_bytes(kind)} & 1;" if "cc" in i.parts else ""
    store = body.write(i.operands[0], f"u{kind[1:]}", f"uint{kind[1:]}_t({wide})", i.scope)
    return f"{{ {sum_}{keep} {store} }}"


def _with_carry(symbol: str) -> Emitter:
    return lambda body, i: _carry(body, i, kinds(i)[-1], symbol, takes=True)


def _product(body: Body, i: Instruction, kind: str) -> tuple[str, str]:
    """(type, expression) of `a * b` of an integer mul or mad: .lo, .hi or .wide."""
    a, b = (body.read(o, kind, i.scope) for o in i.operands[1:3])
    bits = 8 * type_bytes(kind)
    sign = "" if kind[0] == "s" else "u"
    if "wide" in i.parts:
        wide = f"{kind[0]}{2 * bits}"
        return wide, f"{c_type(wide)}({c_type(wide)}({a}) * {c_type(wide)}({b}))"
    if "hi" in i.parts:
        big = f"{'s' if kind[0] == 's' else 'u'}128" if bits == 64 else f"{sign}int64_t"
        return kind, f"{c_type(kind)}({big}({a}) * {big}({b}) >> {bits})"
    wide_c = f"uint{max(bits, 32)}_t"
    return kind, f"{c_type(kind)}({wide_c}({a}) * {wide_c}({b}))"


def _mul(body: Body, i: Instruction) -> str:
    kind = kinds(i)[-1]
    if kind[0] in "us":
        only(i, "lo", "hi", "wide")
        out, value = _product(body, i, kind)
        return body.write(i.operands[0], out, value, i.scope)
    return _binary("*")(body, i)


def _mad(body: Body, i: Instruction) -> str:
    kind = kinds(i)[-1]
    if kind[0] not in "us":
        return _fma(body, i)
    only(i, "lo", "hi", "wide", "cc")
    out, value = _product(body, i, kind)
    c = body.read(i.operands[3], out, i.scope)
    takes = i.parts[0] == "madc"
    if takes or "cc" in i.parts:
        body.uses_carry = True
        x = body.temporary()
        bits = 8 * type_bytes(out)
        more = " + u128(carry)" if takes else ""
        keep = f" carry = {x} >> {bits} & 1;" if "cc" in i.parts else ""
        store = body.write(i.operands[0], f"u{bits}", f"uint{bits}_t({x})", i.scope)
        return f"{{ u128 {x} = u128(uint{bits}_t({value})) + u128(uint{bits}_t({c})){more};{keep} {store} }}"
    wide = f"uint{max(32, 8 * type_bytes(out))}_t"
    return body.write(i.operands[0], out, f"{c_type(out)}({wide}({value}) + {wide}({c}))", i.scope)


def _mad24(body: Body, i: Instruction) -> str:
    kind = kinds(i)[-1]
    a, b, *c = (body.read(o, kind, i.scope) for o in i.operands[1:])
    cut = (
        (lambda v: f"(int64_t(int32_t({v} << 8) >> 8))")
        if kind == "s32"
        else (lambda v: f"uint64_t({v} & 0xFFFFFF)")
    )
    shift = " >> 16" if "hi" in i.parts else ""
    more = f" + {c[0]}" if c else ""
    return body.write(
        i.operands[0], kind, f"{c_type(kind)}({c_type(kind)}({cut(a)} * {cut(b)}{shift}){more})", i.scope
    )


def _fma(body: Body, i: Instruction) -> str:
    only(i, "rn", "rz", "rm", "rp", "ftz", "sat", "relu", "noftz")
    kind = kinds(i)[-1]
    values = _sources(body, i, kind)
    if _is_half(kind):
        h = _HALVES[kind]
        return _result(body, i, kind, _half(i, kind, values, lambda a, b, c: f"half_fma<{h}>({a}, {b}, {c})"))
    how = _rounding(i)
    a, b, c = values
    if how == "kNearest":
        return _result(body, i, kind, f"{'fmaf' if kind == 'f32' else 'fma'}({a}, {b}, {c})")
    if kind != "f32":
        raise PtxError("directed rounding of f64")
    return _result(body, i, kind, f"fma_rounded({a}, {b}, {c}, {how})")


def _divide(body: Body, i: Instruction) -> str:
    only(i, "rn", "rz", "rm", "rp", "approx", "full", "ftz")
    kind = kinds(i)[-1]
    a, b = _sources(body, i, kind)
    if not _is_float(kind):
        return body.write(i.operands[0], kind, f"divide<{c_type(kind)}>({a}, {b})", i.scope)
    how = _rounding(i)
    if how != "kNearest" and kind == "f32":
        return _result(body, i, kind, f"div_rounded({a}, {b}, {how})")
    return _result(body, i, kind, f"({a} / {b})")


def _remainder(body: Body, i: Instruction) -> str:
    kind = kinds(i)[-1]
    a, b = _sources(body, i, kind)
    return body.write(i.operands[0], kind, f"remainder_<{c_type(kind)}>({a}, {b})", i.scope)


def _extreme(name: str) -> Emitter:
    less = "<" if name == "min" else ">"

    def emitter(body: Body, i: Instruction) -> str:
        only(i, "ftz", "NaN", "relu")
        kind = kinds(i)[-1]
        values = _sources(body, i, kind)
        function = f"f{name}_nan" if "NaN" in i.parts else f"f{name}_ptx"
        if _is_half(kind):
            h = _HALVES[kind]
            pick = lambda a, b: f"half2<{h}>({a}, {b}, [](float p, float q) {{ return {function}(p, q); }})"  # noqa: E731
            return _result(body, i, kind, _half(i, kind, values, pick))
        if _is_float(kind):
            value = values[0]
            for other in values[1:]:
                value = f"{function}({value}, {other})"
            return _result(body, i, kind, value)
        if kind.endswith("x2"):
            raise PtxError(f"{name} of {kind}")
        a, b = values
        value = f"({a} {less} {b} ? {a} : {b})"
        if "relu" in i.parts:
            value = f"({value} < 0 ? {c_type(kind)}(0) : {value})"
        return body.write(i.operands[0], kind, value, i.scope)

    return emitter


def _absolute(body: Body, i: Instruction) -> str:
    kind = kinds(i)[-1]
    (a,) = _sources(body, i, kind)
    if _is_half(kind):
        return _result(body, i, kind, _half(i, kind, [a], lambda v: f"({v} & 0x7FFF)"))
    if _is_float(kind):
        return _result(body, i, kind, f"{'fabsf' if kind == 'f32' else 'fabs'}({a})")
    return body.write(
        i.operands[0],
        kind,
        f"{c_type(kind)}({a} < 0 ? 0 - u{c_type(kind)}({a}) : u{c_type(kind)}({a}))",
        i.scope,
    )


def _negate(body: Body, i: Instruction) -> str:
    kind = kinds(i)[-1]
    (a,) = _sources(body, i, kind)
    if _is_half(kind):
        return _result(body, i, kind, _half(i, kind, [a], lambda v: f"({v} ^ 0x8000)"))
    if _is_float(kind):
        return _result(body, i, kind, f"-({a})")
    return body.write(i.operands[0], kind, f"{c_type(kind)}(0 - u{c_type(kind)}({a}))", i.scope)


_UNARY = {
    "rcp": "{one} / ({a})",
    "sqrt": "sqrt({a})",
    "rsqrt": "rsqrt_({a})",
    "ex2": "exp2f({a})",
    "lg2": "log2f({a})",
    "sin": "sinf({a})",
    "cos": "cosf({a})",
    "tanh": "tanh_approx({a})",
}


def _unary(body: Body, i: Instruction) -> str:
    only(i, "rn", "rz", "rm", "rp", "approx", "ftz")
    kind, formula = kinds(i)[-1], _UNARY[i.parts[0]]
    (a,) = _sources(body, i, kind)
    if _is_half(kind):
        h = _HALVES[kind]
        inner = formula.format(one="1.f", a="p")
        return _result(
            body,
            i,
            kind,
            _half(i, kind, [a], lambda v: f"half1<{h}>({v}, [](float p) {{ return float({inner}); }})"),
        )
    how = _rounding(i)
    if how != "kNearest" and kind == "f32":
        directed = {"rcp": f"div_rounded(1.f, {a}, {how})", "sqrt": f"sqrt_rounded({a}, {how})"}
        return _result(body, i, kind, directed[i.parts[0]])
    return _result(
        body,
        i,
        kind,
        formula.format(one="1.f" if kind == "f32" else "1.", a=a).replace(
            "sqrt(", "sqrt(" if kind == "f64" else "sqrtf("
        )
        if i.parts[0] == "sqrt"
        else formula.format(one="1.f" if kind == "f32" else "1.", a=a),
    )


def _copysign(body: Body, i: Instruction) -> str:
    kind = kinds(i)[-1]
    sign, size = _sources(body, i, kind)
    return _result(body, i, kind, f"{'copysignf' if kind == 'f32' else 'copysign'}({size}, {sign})")


def _testp(body: Body, i: Instruction) -> str:
    kind = kinds(i)[-1]
    (a,) = _sources(body, i, kind)
    test = {
        "finite": f"isfinite({a})",
        "infinite": f"isinf({a})",
        "number": f"{a} == {a}",
        "notanumber": f"{a} != {a}",
        "normal": f"isnormal({a})",
        "subnormal": f"fpclassify({a}) == FP_SUBNORMAL",
    }[i.parts[1]]
    return body.write(i.operands[0], "pred", f"bool({test})", i.scope)


def _call(template: str, *, out: str = "", others: str = "u32") -> Emitter:
    """An emitter of `template` with {0} {1} ... for the sources and {T} for the C++ type.

    Args:
        out: PTX type of the result; "" is the opcode's last type.
        others: type of all sources after the first, "" for the same as the first.
    """

    def emitter(body: Body, i: Instruction) -> str:
        only(i, "shiftamt", "wrap", "clamp", "l", "r", "lo", "hi")
        kind = kinds(i)[-1] if kinds(i) else "u32"
        values = [
            body.read(o, kind if n == 0 or not others else others, i.scope)
            for n, o in enumerate(i.operands[1:])
        ]
        text = template.format(*values, T=c_type(kind), W=8 * type_bytes(kind))
        return body.write(i.operands[0], out or kind, text, i.scope)

    return emitter


def _bfi(body: Body, i: Instruction) -> str:
    kind = kinds(i)[-1]
    a, b = (body.read(o, kind, i.scope) for o in i.operands[1:3])
    c, d = (body.read(o, "u32", i.scope) for o in i.operands[3:5])
    return body.write(i.operands[0], kind, f"bfi<{c_type(kind)}>({a}, {b}, {c}, {d})", i.scope)


def _bfind(body: Body, i: Instruction) -> str:
    kind = kinds(i)[-1]
    a = body.read(i.operands[1], kind, i.scope)
    amount = "true" if "shiftamt" in i.parts else "false"
    return body.write(i.operands[0], "u32", f"bfind<{c_type(kind)}>({a}, {amount})", i.scope)


def _dot(body: Body, i: Instruction) -> str:
    """dp4a, dp2a (9.7.1.23, 9.7.1.24)."""
    first, second = (p for p in i.parts[1:] if p in ("u32", "s32"))
    a, b = (body.read(o, "b32", i.scope) for o in i.operands[1:3])
    c = body.read(i.operands[3], "s32", i.scope)
    bytes_, count = (1, 4) if i.parts[0] == "dp4a" else (2, 2)
    left = f"{'u' if first == 'u32' else ''}int{8 * bytes_}_t"
    right = f"{'u' if second == 'u32' else ''}int8_t"
    shift = 2 if "hi" in i.parts else 0
    return body.write(
        i.operands[0], "s32", f"dot<{left}, {right}>({a}, {b}, {c}, {count}, {bytes_}, {shift})", i.scope
    )


# 9.7.6, 9.7.8: comparison, selection, logic


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
    a, b = (_ftz(i, kind, body.read(o, kind, i.scope)) for o in i.operands[first : first + 2])
    if not _is_half(kind):
        if kind[0] == "b" and how in ("lo", "ls", "hi", "hs"):
            raise PtxError(f"{how} of {kind}")
        return [_comparison(how, kind, a, b)]
    h = _HALVES[kind]
    shifts = ("", " >> 16") if kind.endswith("x2") else ("",)
    return [
        _comparison(how, "f32", f"{h}::widen(uint16_t({a}{s}))", f"{h}::widen(uint16_t({b}{s}))")
        for s in shifts
    ]


def _combined(body: Body, i: Instruction, truth: str, operand: str) -> str:
    op = next(p for p in i.parts if p in ("and", "or", "xor"))
    other = body.read(operand, "pred", i.scope)
    return f"bool({truth} {dict(zip(('and', 'or', 'xor'), '&|^', strict=True))[op]} {other})"


def _setp(body: Body, i: Instruction) -> str:
    kind = kinds(i)[-1]
    truths = _compared(body, i, kind, 1)
    others = truths[1:] or [f"!{truths[0]}"]
    values = [truths[0], others[0]]
    if len(i.operands) > 3:
        values = [_combined(body, i, v, i.operands[3]) for v in values]
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
        truths = [_combined(body, i, v, i.operands[3]) for v in truths]
    if _is_half(out):
        one = f"{_HALVES[out]}::kOne"
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
    c = _ftz(i, tested, body.read(i.operands[3], tested, i.scope))
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
    combined = _combined(body, i, f"({x} != 0)", i.operands[5])
    stores = f"{body.write(truth, 'pred', combined, i.scope)} {body.write(out, 'b32', x, i.scope)}"
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


# 9.7.9: data movement and conversion


def _mov(body: Body, i: Instruction) -> str:
    kind = kinds(i)[-1]
    out, source = i.operands
    if source.startswith("{"):
        return _packed(body, i, kind, split(source[1:-1]))
    if out.startswith("{"):
        return _unpacked(body, i, kind, split(out[1:-1]))
    return body.write(out, kind, body.read(source, kind, i.scope), i.scope)


def _packed(body: Body, i: Instruction, kind: str, parts: Sequence[str]) -> str:
    bits = 8 * type_bytes(kind) // len(parts)
    unsigned = "u128" if kind == "b128" else f"uint{8 * type_bytes(kind)}_t"
    terms = [f"{unsigned}({body.read(p, f'b{bits}', i.scope)}) << {n * bits}" for n, p in enumerate(parts)]
    return body.write(i.operands[0], kind, f"{unsigned}({' | '.join(terms)})", i.scope)


def _unpacked(body: Body, i: Instruction, kind: str, parts: Sequence[str]) -> str:
    bits = 8 * type_bytes(kind) // len(parts)
    x = body.temporary()
    stores = [
        body.write(p, f"b{bits}", f"uint{bits}_t({x} >> {n * bits})", i.scope)
        for n, p in enumerate(parts)
        if p != "_"
    ]
    return f"{{ auto {x} = {body.read(i.operands[1], kind, i.scope)}; {' '.join(stores)} }}"


_SPACES = (
    "global",
    "shared",
    "local",
    "param",
    "const",
    "shared::cta",
    "shared::cluster",
    "param::entry",
    "param::func",
)
_ORDERED = ("volatile", "acquire", "relaxed", "mmio")


def _space(i: Instruction) -> str:
    found = next((p for p in i.parts if p in _SPACES), "")
    return found.split("::")[0]


def place(body: Body, i: Instruction, operand: str, size: str) -> str:
    """Host address of a memory operand, checked."""
    address, known = body.address(operand, i.scope)
    space = _space(i) or ("" if known == "code" else known if operand_is_symbol(body, i, operand) else "")
    if space == "shared":
        return f"shared_at(t, uint32_t({address}), {size})"
    if space in ("local", "param", "const"):
        return f"(void*)uint64_t({address})"
    return f"global_at(t, {address}, {size})"


def operand_is_symbol(body: Body, i: Instruction, operand: str) -> bool:
    """Whether an address names a variable (its own space is then known)."""
    return body.address(operand, i.scope)[1] != ""


def _elements(i: Instruction, operand: str) -> list[str]:
    vector = operand.startswith("{")
    parts = split(operand[1:-1]) if vector else [operand]
    count = next((int(p[1:]) for p in i.parts if p in ("v2", "v4", "v8")), 1)
    if count != len(parts):
        raise PtxError(f"{len(parts)} elements of a v{count}")
    return parts


def _memory(kind: str) -> str:
    return {"f32": "uint32_t", "f64": "uint64_t"}.get(kind, c_type(kind))


def _ld(body: Body, i: Instruction) -> str:
    kind = kinds(i)[-1]
    outs = _elements(i, i.operands[0])
    size, memory = type_bytes(kind), _memory(kind)
    x = body.temporary()
    at = place(body, i, i.operands[1], str(size * len(outs)))
    waits = "pause(t); " if any(p in _ORDERED for p in i.parts) else ""
    seen = "b" + str(8 * size) if kind in ("f32", "f64") else kind
    reads = [
        body.write(o, seen, f"load<{memory}>({x} + {n * size})", i.scope)
        for n, o in enumerate(outs)
        if o != "_"
    ]
    return f"{{ {line(i)}{waits}const char* {x} = (const char*){at}; {' '.join(reads)} }}"


def _st(body: Body, i: Instruction) -> str:
    kind = kinds(i)[-1]
    values = _elements(i, i.operands[1])
    size, memory = type_bytes(kind), _memory(kind)
    x = body.temporary()
    at = place(body, i, i.operands[0], str(size * len(values)))
    seen = "b" + str(8 * size) if kind in ("f32", "f64") else kind
    stores = [
        f"store<{memory}>({x} + {n * size}, {body.read(v, seen, i.scope)});" for n, v in enumerate(values)
    ]
    ends = " progress();" if any(p in ("volatile", "release", "relaxed") for p in i.parts) else ""
    return f"{{ {line(i)}char* {x} = (char*){at}; {' '.join(stores)}{ends} }}"


_ATOMS = {
    "exch": "b",
    "min": "(o < b ? o : b)",
    "max": "(o > b ? o : b)",
    "and": "(o & b)",
    "or": "(o | b)",
    "xor": "(o ^ b)",
    "inc": "(o >= b ? 0 : o + 1)",
    "dec": "(o == 0 || o > b ? b : o - 1)",
    "cas": "(o == b ? c : o)",
}


def _atomic(body: Body, i: Instruction) -> str:
    """9.7.13.5 atom, 9.7.13.6 red."""
    op = next(p for p in i.parts[1:] if p == "add" or p in _ATOMS)
    kind = kinds(i)[-1]
    returns = i.parts[0] == "atom"
    at = place(body, i, i.operands[1 if returns else 0], str(type_bytes(kind)))
    sources = i.operands[2:] if returns else i.operands[1:]
    if sources and sources[0].startswith("{"):
        return _vector_atomic(body, i, kind, op, at, sources[0])
    names = dict(zip("bc", sources, strict=False))
    values = " ".join(f"auto {n} = {body.read(v, kind, i.scope)};" for n, v in names.items())
    done = f"atomic<{c_type(kind)}>({at}, [&]({c_type(kind)} o) {{ return {_atom_value(op, kind)}; }})"
    waits = "pause(t); " if op in ("cas", "exch") else ""
    kept = body.write(i.operands[0], kind, done, i.scope) if returns else f"{done};"
    return f"{{ {line(i)}{waits}{values} {kept} }}"


def _atom_value(op: str, kind: str, value: str = "b") -> str:
    if _is_half(kind):
        h = _HALVES[kind]
        formula = {"add": "p + q", "min": "fmin_ptx(p, q)", "max": "fmax_ptx(p, q)"}[op]
        one = f"half2<{h}>(p_, q_, [](float p, float q) {{ return {formula}; }})"
        if kind.endswith("x2"):
            return f"pair(o, {value}, 0, [](uint16_t p_, uint16_t q_, uint16_t) {{ return {one}; }})"
        return f"[](uint16_t p_, uint16_t q_) {{ return {one}; }}(o, {value})"
    if op == "add":
        return f"(o + {value})" if _is_float(kind) else f"{c_type(kind)}(uint64_t(o) + uint64_t({value}))"
    return _ATOMS[op].replace("b", value) if value != "b" else _ATOMS[op]


def _vector_atomic(body: Body, i: Instruction, kind: str, op: str, at: str, sources: str) -> str:
    parts = split(sources[1:-1])
    at = at.replace(f", {type_bytes(kind)})", f", {type_bytes(kind) * len(parts)})")
    x = body.temporary()
    outs = split(i.operands[0][1:-1]) if i.parts[0] == "atom" else []
    steps = []
    for n, part in enumerate(parts):
        value = body.read(part, kind, i.scope)
        step = (
            f"atomic<{c_type(kind)}>({x} + {n * type_bytes(kind)}, "
            f"[&]({c_type(kind)} o) {{ auto b = {value}; return {_atom_value(op, kind)}; }})"
        )
        steps.append(body.write(outs[n], kind, step, i.scope) if outs else f"{step};")
    return f"{{ {line(i)}char* {x} = (char*){at}; {' '.join(steps)} }}"


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
    if _is_half(kind):
        if out == kind and not rounds:
            return _finish_half(i, out, a)
        a, kind = f"{_HALVES[kind]}::widen({a})", "f32"
    elif kind == "f32":
        a = _ftz(i, kind, a)
    is_float = _is_float(kind)
    if rounds:
        a = f"{rounds}{'f' if kind == 'f32' else ''}({a})"
    if out == "tf32":
        return f"bits<uint32_t>({'tf32_round' if 'rna' in i.parts else 'tf32_nearest'}({a}))"
    if _is_half(out):
        return _to_half(i, out, kind, a)
    if _is_float(out):
        return _to_float(i, out, kind, a)
    if is_float:
        return f"to_integer<{c_type(out)}>({a})"
    if "sat" in i.parts:
        return f"saturate<{c_type(out)}>({a})"
    return f"{c_type(out)}({a})"


def _to_float(i: Instruction, out: str, kind: str, a: str) -> str:
    how = _rounding(i)
    if out == "f32" and how != "kNearest" and kind != "f32":
        a = f"narrow_rounded(double({a}), {how})"
    value = f"{c_type(out)}({a})"
    value = f"sat({value})" if "sat" in i.parts else value
    return _ftz(i, out, value)


def _to_half(i: Instruction, out: str, kind: str, a: str) -> str:
    h, how = _HALVES[out], _rounding(i)
    if how != "kNearest":
        return _finish_half(i, out, f"round_to<{h}>(float({a}), {how})")
    source = a if _is_float(kind) else f"double({a})"
    return _finish_half(i, out, f"{h}::round({source})")


def _finish_half(i: Instruction, out: str, value: str) -> str:
    h = _HALVES[out]
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
        h = _HALVES[kind]
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


def _cvta(body: Body, i: Instruction) -> str:
    """9.7.9.20: only shared memory has generic addresses of its own."""
    kind = kinds(i)[-1]
    a = body.read(i.operands[1], kind, i.scope)
    shared = any(p.startswith("shared") for p in i.parts)
    value = a if not shared else f"({a} - kSharedWindow)" if "to" in i.parts else f"({a} + kSharedWindow)"
    return body.write(i.operands[0], kind, value, i.scope)


def _isspacep(body: Body, i: Instruction) -> str:
    a = body.read(i.operands[1], "u64", i.scope)
    shared = f"({a} - kSharedWindow < (uint64_t(1) << 32))"
    space = _space(i)
    test = shared if space == "shared" else f"({a} - kDeviceArena < kDeviceArenaBytes)"
    if space not in ("shared", "global"):
        raise PtxError(f"isspacep.{space}")
    return body.write(i.operands[0], "pred", test, i.scope)


def _mapa(body: Body, i: Instruction) -> str:
    """9.7.9.23: the same variable of another block of the cluster."""
    kind = kinds(i)[-1]
    a, rank = body.read(i.operands[1], "u64", i.scope), body.read(i.operands[2], "u32", i.scope)
    return body.write(i.operands[0], kind, f"{c_type(kind)}(map_rank(t, {a}, {rank}))", i.scope)


def _getctarank(body: Body, i: Instruction) -> str:
    a = body.read(i.operands[1], "u64", i.scope)
    return body.write(i.operands[0], "u32", f"rank_of(t, {a})", i.scope)


def _cp(body: Body, i: Instruction) -> str:
    """9.7.9.25: cp.async; the bulk and tensor forms are in hopper.py."""
    if i.parts[1:3] == ("reduce", "async"):
        return hopper.bulk(body, i)
    if i.parts[1] != "async":
        raise PtxError(f"no emitter for {i.opcode!r}")
    if "bulk" in i.parts:
        return hopper.bulk(body, i)
    if i.parts[2] == "commit_group":
        return "async_commit(t);"
    if i.parts[2] == "wait_all":
        return f"{line(i)}async_wait_all(t);"
    if i.parts[2] == "wait_group":
        return f"{line(i)}async_wait(t, {body.read(i.operands[0], 'u32', i.scope)});"
    if i.parts[2] == "mbarrier":
        return hopper.copies_arrive(body, i)
    to, _ = body.address(i.operands[0], i.scope)
    source, _ = body.address(i.operands[1], i.scope)
    size = body.read(i.operands[2], "u32", i.scope)
    have = size
    if len(i.operands) > 3:
        ignored = body.register(i.operands[3].lstrip("!"), i.scope)
        have = (
            body.read(i.operands[3], "u32", i.scope)
            if not ignored or ignored[1] != "pred"
            else (f"({body.read(i.operands[3], 'pred', i.scope)} ? 0u : {size})")
        )
    return f"{line(i)}async_copy(t, uint32_t({to}), {source}, {size}, {have});"


def _prefetch(body: Body, i: Instruction) -> str:
    return ";"


# 9.7.12: control flow


def _bra(body: Body, i: Instruction) -> str:
    return f"goto {body.label(i.operands[0], i.scope)};"


def _brx(body: Body, i: Instruction) -> str:
    index = body.read(i.operands[0], "u32", i.scope)
    cases = " ".join(
        f"case {n}: goto {label};" for n, label in enumerate(body.targets(i.operands[1], i.scope))
    )
    return f'switch ({index}) {{ {cases} default: fail(t, kIllegalInstruction, "brx.idx out of range"); }}'


def _call_function(body: Body, i: Instruction) -> str:
    operands = list(i.operands)
    results = split(operands.pop(0)[1:-1]) if operands[0].startswith("(") else []
    name = operands.pop(0)
    given = split(operands[0][1:-1]) if operands and operands[0].startswith("(") else []
    passed = [f"(uint8_t*){_param(body, i, n)}" for n in (*results, *given)]
    if name in ("vprintf",):
        return f"{{ memset({passed[0]}, 0, 4); }}"
    if name == "__assertfail":
        message = f"*(const char**){passed[0]}, *(const char**){passed[1]}, *(uint32_t*){passed[2]}"
        return f'fail(t, kAssert, "assertion \\"%s\\" of %s:%u", {message});'
    function = body.module.functions.get(name)
    if function and function.body is not None:
        return f"{line(i)}f_{re.sub(r'[^a-zA-Z0-9_$]', '_', name)}({', '.join(['t', *passed])});"
    if pointer := body.register(name, i.scope):
        kind = f"void (*)({', '.join(['Thread*', *['uint8_t*'] * len(passed)])})"
        return f"{line(i)}(({kind}){pointer[0]})({', '.join(['t', *passed])});"
    raise PtxError(f"call of {name}")


def _param(body: Body, i: Instruction, name: str) -> str:
    found = body.symbol(name, i.scope)
    if not found:
        raise PtxError(f"parameter {name} is no variable")
    return found[0]


def _return(body: Body, i: Instruction) -> str:
    return "return;"


def _exit(body: Body, i: Instruction) -> str:
    if not body.function.is_kernel:
        return "exit_now(t);"
    return "return;"


def _trap(body: Body, i: Instruction) -> str:
    return f'{line(i)}fail(t, kLaunchFailure, "{i.parts[0]}");'


def _nothing(body: Body, i: Instruction) -> str:
    return ";"


def _pause(body: Body, i: Instruction) -> str:
    return f"{line(i)}pause(t);"


# 9.7.13: synchronization


def _bar(body: Body, i: Instruction) -> str:
    parts = [p for p in i.parts[1:] if p not in ("cta", "aligned")]
    if parts[0] == "warp":
        return f"{line(i)}warp_sync(t, {body.read(i.operands[0], 'u32', i.scope)});"
    if parts[0] == "cluster":
        return f"{line(i)}cluster_{parts[1]}(t);"
    if parts[0] == "red":
        return _bar_red(body, i, parts[1])
    number, count = [body.read(o, "u32", i.scope) for o in (*i.operands, "0", "0")[:2]]
    return f"{line(i)}barrier_{parts[0]}(t, {number}, {count});"


def _bar_red(body: Body, i: Instruction, op: str) -> str:
    number, *count, value = i.operands[1:]
    how = {"and": "kAnd", "or": "kOr", "popc": "kCount"}[op]
    threads = body.read(count[0], "u32", i.scope) if count else "0u"
    done = (
        f"barrier_reduce(t, {body.read(number, 'u32', i.scope)}, {threads}, {how}, "
        f"{body.read(value, 'pred', i.scope)})"
    )
    if op == "popc":
        return f"{line(i)}{body.write(i.operands[0], 'u32', done, i.scope)}"
    return f"{line(i)}{body.write(i.operands[0], 'pred', f'bool({done})', i.scope)}"


_SHUFFLES = {"up": "kUp", "down": "kDown", "bfly": "kButterfly", "idx": "kIndex"}


def _shfl(body: Body, i: Instruction) -> str:
    out, _, valid = i.operands[0].partition("|")
    value, b, c, mask = (body.read(o, "u32", i.scope) for o in i.operands[1:5])
    x = body.temporary()
    call = f"shuffle(t, {_SHUFFLES[i.parts[2]]}, {value}, {b}, {c}, {mask}, &{x})"
    keep = body.write(valid.strip(), "pred", x, i.scope) if valid else ""
    return f"{{ {line(i)}bool {x}; {body.write(out.strip(), 'u32', call, i.scope)} {keep} }}"


def _vote(body: Body, i: Instruction) -> str:
    mode = {"all": "kAll", "any": "kAny", "uni": "kUniform", "ballot": "kBallot"}[i.parts[2]]
    value, mask = body.read(i.operands[1], "pred", i.scope), body.read(i.operands[2], "u32", i.scope)
    call = f"vote(t, {mode}, {value}, {mask})"
    kind = "u32" if mode == "kBallot" else "pred"
    return line(i) + body.write(i.operands[0], kind, call if kind == "u32" else f"bool({call})", i.scope)


def _match(body: Body, i: Instruction) -> str:
    kind = kinds(i)[-1]
    out, _, same = i.operands[0].partition("|")
    value, mask = body.read(i.operands[1], kind, i.scope), body.read(i.operands[2], "u32", i.scope)
    if i.parts[1] == "any":
        return line(i) + body.write(out, "u32", f"match_any(t, {value}, {mask})", i.scope)
    x = body.temporary()
    store = body.write(out.strip(), "u32", f"match_all(t, {value}, {mask}, &{x})", i.scope)
    keep = body.write(same.strip(), "pred", x, i.scope) if same else ""
    return f"{{ {line(i)}bool {x}; {store} {keep} }}"


def _redux(body: Body, i: Instruction) -> str:
    kind = kinds(i)[-1]
    op = i.parts[2]
    value, mask = body.read(i.operands[1], "u32", i.scope), body.read(i.operands[2], "u32", i.scope)
    signed = str(kind == "s32").lower()
    return line(i) + body.write(
        i.operands[0], "u32", f"reduce(t, kReduce{op.capitalize()}, {signed}, {value}, {mask})", i.scope
    )


def _elect(body: Body, i: Instruction) -> str:
    out, _, chosen = i.operands[0].partition("|")
    x = body.temporary()
    call = f"elect(t, {body.read(i.operands[1], 'u32', i.scope)}, &{x})"
    return (
        f"{{ {line(i)}bool {x}; {body.write(out.strip(), 'u32', call, i.scope)} "
        f"{body.write(chosen.strip(), 'pred', x, i.scope)} }}"
    )


def _activemask(body: Body, i: Instruction) -> str:
    return line(i) + body.write(i.operands[0], "u32", "active_mask(t)", i.scope)


# 9.7.14: matrix instructions


def _fragment(body: Body, i: Instruction, operand: str) -> list[str]:
    parts = split(operand[1:-1]) if operand.startswith("{") else [operand]
    out = []
    for part in parts:
        found = body.register(part, i.scope)
        kind = found[1] if found else "b32"
        size = type_bytes(kind)
        value = body.read(part, f"b{8 * size}", i.scope)
        out += [value] if size == 4 else [f"uint32_t({value})", f"uint32_t({value} >> 32)"]
    return out


def _store_fragment(body: Body, i: Instruction, operand: str, array: str) -> str:
    parts = split(operand[1:-1]) if operand.startswith("{") else [operand]
    out, at = [], 0
    for part in parts:
        found = body.register(part, i.scope)
        assert found, part
        if type_bytes(found[1]) == 8:
            value = f"(uint64_t({array}[{at}]) | uint64_t({array}[{at + 1}]) << 32)"
            out.append(body.write(part, "b64", value, i.scope))
            at += 2
        else:
            out.append(body.write(part, "b32", f"{array}[{at}]", i.scope))
            at += 1
    return " ".join(out)


def _mma(body: Body, i: Instruction) -> str:
    """mma.sync (9.7.14.5)."""
    shape = next(re.fullmatch(r"m(\d+)n(\d+)k(\d+)", p) for p in i.parts if re.fullmatch(r"m\d+n\d+k\d+", p))
    if "row" not in i.parts or "col" not in i.parts:
        raise PtxError("layouts other than row.col")
    d_type, a_type, b_type, c_type = (hopper.ELEMENTS[p] for p in i.parts if p in hopper.ELEMENTS)
    only(i, "sync", "aligned", "row", "col", "satfinite", shape[0] if shape else "", *hopper.ELEMENTS)
    assert shape
    a, b, c = (_fragment(body, i, o) for o in i.operands[1:4])
    x = body.temporary()
    arrays = ", ".join(f"{x}{n}[] = {{{', '.join(v)}}}" for n, v in zip("abc", (a, b, c), strict=True))
    saturates = str("satfinite" in i.parts).lower()
    return (
        f"{{ {line(i)}uint32_t {arrays}, {x}d[8]; mma(t, {', '.join(shape.groups())}, {a_type}, {b_type}, "
        f"{c_type}, {d_type}, {saturates}, {x}a, {x}b, {x}c, {x}d); "
        f"{_store_fragment(body, i, i.operands[0], x + 'd')} }}"
    )


def _ldmatrix(body: Body, i: Instruction) -> str:
    count = next(int(p[1:]) for p in i.parts if p in ("x1", "x2", "x4"))
    if "m8n8" not in i.parts or "b16" not in i.parts:
        raise PtxError(f"no emitter for {i.opcode!r}")
    address, _ = body.address(i.operands[1], i.scope)
    x = body.temporary()
    flag = str("trans" in i.parts).lower()
    return (
        f"{{ {line(i)}uint32_t {x}[4]; ldmatrix(t, uint32_t({address}), {count}, {flag}, {x}); "
        f"{_store_fragment(body, i, i.operands[0], x)} }}"
    )


def _stmatrix(body: Body, i: Instruction) -> str:
    count = next(int(p[1:]) for p in i.parts if p in ("x1", "x2", "x4"))
    if "m8n8" not in i.parts or "b16" not in i.parts:
        raise PtxError(f"no emitter for {i.opcode!r}")
    address, _ = body.address(i.operands[0], i.scope)
    x = body.temporary()
    flag = str("trans" in i.parts).lower()
    values = ", ".join(_fragment(body, i, i.operands[1]))
    store = f"stmatrix(t, uint32_t({address}), {count}, {flag}, {x});"
    return f"{{ {line(i)}uint32_t {x}[] = {{{values}}}; {store} }}"


def _movmatrix(body: Body, i: Instruction) -> str:
    value = body.read(i.operands[1], "b32", i.scope)
    return line(i) + body.write(i.operands[0], "b32", f"movmatrix(t, {value})", i.scope)


EMITTERS: dict[str, Emitter] = {
    "add": _binary("+"),
    "sub": _binary("-"),
    "addc": _with_carry("+"),
    "subc": _with_carry("-"),
    "mul": _mul,
    "mad": _mad,
    "madc": _mad,
    "mul24": _mad24,
    "mad24": _mad24,
    "fma": _fma,
    "div": _divide,
    "rem": _remainder,
    "min": _extreme("min"),
    "max": _extreme("max"),
    "abs": _absolute,
    "neg": _negate,
    **dict.fromkeys(_UNARY, _unary),
    "copysign": _copysign,
    "testp": _testp,
    "sad": _call("({0} > {1} ? {0} - {1} : {1} - {0}) + {2}", others=""),
    "popc": _call("uint32_t(__builtin_popcountll(uint{W}_t({0})))", out="u32"),
    "clz": _call("clz{W}({0})", out="u32"),
    "brev": _call("reverse_bits<{T}>({0})"),
    "bfe": _call("bfe<{T}>({0}, {1}, {2})"),
    "bfi": _bfi,
    "bfind": _bfind,
    "dp4a": _dot,
    "dp2a": _dot,
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
    "mov": _mov,
    "ld": _ld,
    "ldu": _ld,
    "st": _st,
    "atom": _atomic,
    "red": _atomic,
    "cvt": _cvt,
    "cvta": _cvta,
    "isspacep": _isspacep,
    "mapa": _mapa,
    "getctarank": _getctarank,
    "cp": _cp,
    **dict.fromkeys(
        ("prefetch", "prefetchu", "applypriority", "discard", "createpolicy", "brkpt"), _prefetch
    ),
    "bra": _bra,
    "brx": _brx,
    "call": _call_function,
    "ret": _return,
    "exit": _exit,
    "trap": _trap,
    "nanosleep": _pause,
    **dict.fromkeys(("membar", "fence", "pmevent", "setmaxnreg", "griddepcontrol"), _nothing),
    "bar": _bar,
    "barrier": _bar,
    "shfl": _shfl,
    "vote": _vote,
    "match": _match,
    "redux": _redux,
    "elect": _elect,
    "activemask": _activemask,
    "mma": _mma,
    "ldmatrix": _ldmatrix,
    "stmatrix": _stmatrix,
    "movmatrix": _movmatrix,
    **hopper.EMITTERS,
}
