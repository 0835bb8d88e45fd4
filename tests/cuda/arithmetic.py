"""Arithmetic: PTX ISA 9.0, 9.7.1 - 9.7.5. See `emitters.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cuda.emitters import HALVES, Emitter, half, is_float, is_half, kinds, only, result, rounding, sources
from cuda.ptx import Instruction, PtxError, c_type, type_bytes

if TYPE_CHECKING:
    from cuda.translate import Body


def _binary(symbol: str) -> Emitter:
    def emitter(body: Body, i: Instruction) -> str:
        only(i, "rn", "rz", "rm", "rp", "ftz", "sat", "cc", "lo", "wrapped", "noftz")
        kind = kinds(i)[-1]
        if "cc" in i.parts:
            return _carry(body, i, kind, symbol, takes=False)
        values = sources(body, i, kind)
        if is_half(kind):
            h = HALVES[kind]
            return result(
                body,
                i,
                kind,
                half(
                    i,
                    kind,
                    values,
                    lambda a, b: f"half2<{h}>({a}, {b}, [](float p, float q) {{ return p {symbol} q; }})",
                ),
            )
        a, b = values
        if is_float(kind):
            return result(body, i, kind, _float_binary(i, kind, symbol, a, b))
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
    how = rounding(i)
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
    cut = "int64_t(int32_t({0} << 8) >> 8)" if kind == "s32" else "uint64_t({0} & 0xFFFFFF)"
    shift = " >> 16" if "hi" in i.parts else ""
    more = f" + {c[0]}" if c else ""
    product = f"{c_type(kind)}({cut.format(a)} * {cut.format(b)}{shift})"
    return body.write(i.operands[0], kind, f"{c_type(kind)}({product}{more})", i.scope)


def _fma(body: Body, i: Instruction) -> str:
    only(i, "rn", "rz", "rm", "rp", "ftz", "sat", "relu", "noftz")
    kind = kinds(i)[-1]
    values = sources(body, i, kind)
    if is_half(kind):
        h = HALVES[kind]
        return result(body, i, kind, half(i, kind, values, lambda a, b, c: f"half_fma<{h}>({a}, {b}, {c})"))
    how = rounding(i)
    a, b, c = values
    if how == "kNearest":
        return result(body, i, kind, f"{'fmaf' if kind == 'f32' else 'fma'}({a}, {b}, {c})")
    if kind != "f32":
        raise PtxError("directed rounding of f64")
    return result(body, i, kind, f"fma_rounded({a}, {b}, {c}, {how})")


def _divide(body: Body, i: Instruction) -> str:
    only(i, "rn", "rz", "rm", "rp", "approx", "full", "ftz")
    kind = kinds(i)[-1]
    a, b = sources(body, i, kind)
    if not is_float(kind):
        return body.write(i.operands[0], kind, f"divide<{c_type(kind)}>({a}, {b})", i.scope)
    how = rounding(i)
    if how != "kNearest" and kind == "f32":
        return result(body, i, kind, f"div_rounded({a}, {b}, {how})")
    return result(body, i, kind, f"({a} / {b})")


def _remainder(body: Body, i: Instruction) -> str:
    kind = kinds(i)[-1]
    a, b = sources(body, i, kind)
    return body.write(i.operands[0], kind, f"remainder_<{c_type(kind)}>({a}, {b})", i.scope)


def _extreme(name: str) -> Emitter:
    less = "<" if name == "min" else ">"

    def emitter(body: Body, i: Instruction) -> str:
        only(i, "ftz", "NaN", "relu")
        kind = kinds(i)[-1]
        values = sources(body, i, kind)
        function = f"f{name}_nan" if "NaN" in i.parts else f"f{name}_ptx"
        if is_half(kind):
            h = HALVES[kind]
            pick = lambda a, b: f"half2<{h}>({a}, {b}, [](float p, float q) {{ return {function}(p, q); }})"  # noqa: E731
            return result(body, i, kind, half(i, kind, values, pick))
        if is_float(kind):
            value = values[0]
            for other in values[1:]:
                value = f"{function}({value}, {other})"
            return result(body, i, kind, value)
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
    (a,) = sources(body, i, kind)
    if is_half(kind):
        return result(body, i, kind, half(i, kind, [a], lambda v: f"({v} & 0x7FFF)"))
    if is_float(kind):
        return result(body, i, kind, f"{'fabsf' if kind == 'f32' else 'fabs'}({a})")
    return body.write(
        i.operands[0],
        kind,
        f"{c_type(kind)}({a} < 0 ? 0 - u{c_type(kind)}({a}) : u{c_type(kind)}({a}))",
        i.scope,
    )


def _negate(body: Body, i: Instruction) -> str:
    kind = kinds(i)[-1]
    (a,) = sources(body, i, kind)
    if is_half(kind):
        return result(body, i, kind, half(i, kind, [a], lambda v: f"({v} ^ 0x8000)"))
    if is_float(kind):
        return result(body, i, kind, f"-({a})")
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
    (a,) = sources(body, i, kind)
    if is_half(kind):
        h = HALVES[kind]
        inner = f"[](float p) {{ return float({formula.format(one='1.f', a='p')}); }}"
        return result(body, i, kind, half(i, kind, [a], lambda v: f"half1<{h}>({v}, {inner})"))
    how = rounding(i)
    if how != "kNearest" and kind == "f32":
        directed = {"rcp": f"div_rounded(1.f, {a}, {how})", "sqrt": f"sqrt_rounded({a}, {how})"}
        return result(body, i, kind, directed[i.parts[0]])
    return result(body, i, kind, formula.format(one="1.f" if kind == "f32" else "1.", a=a))


def _copysign(body: Body, i: Instruction) -> str:
    kind = kinds(i)[-1]
    sign, size = sources(body, i, kind)
    return result(body, i, kind, f"{'copysignf' if kind == 'f32' else 'copysign'}({size}, {sign})")


def _testp(body: Body, i: Instruction) -> str:
    kind = kinds(i)[-1]
    (a,) = sources(body, i, kind)
    test = {
        "finite": f"isfinite({a})",
        "infinite": f"isinf({a})",
        "number": f"{a} == {a}",
        "notanumber": f"{a} != {a}",
        "normal": f"isnormal({a})",
        "subnormal": f"fpclassify({a}) == FP_SUBNORMAL",
    }[i.parts[1]]
    return body.write(i.operands[0], "pred", f"bool({test})", i.scope)


def by_template(template: str, *, out: str = "", others: str = "u32") -> Emitter:
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
    "copysign": _copysign,
    "testp": _testp,
    "sad": by_template("({0} > {1} ? {0} - {1} : {1} - {0}) + {2}", others=""),
    "popc": by_template("uint32_t(__builtin_popcountll(uint{W}_t({0})))", out="u32"),
    "clz": by_template("clz{W}({0})", out="u32"),
    "brev": by_template("reverse_bits<{T}>({0})"),
    "bfe": by_template("bfe<{T}>({0}, {1}, {2})"),
    "bfi": _bfi,
    "bfind": _bfind,
    "dp4a": _dot,
    "dp2a": _dot,
    **dict.fromkeys(_UNARY, _unary),
}
