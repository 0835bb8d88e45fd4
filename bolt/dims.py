"""Dimensions: integers, or sympy expressions over the model's symbolic input dims.

A `Dim` is a plain `int` wherever the value is known, and a `sympy.Expr` of non-negative integer
symbols otherwise. Integer division is `floordiv` (ONNX and C agree on it for the non-negative
values dims have). The same expression is evaluated in Python (tests, tuning) and printed as C++
(the generated `run`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Union

if TYPE_CHECKING:
    import sympy

Dim = Union[int, "sympy.Expr"]


def symbol(name: str) -> Dim:
    """The free symbol of a dynamic model dimension; equal names are the same symbol."""
    import sympy

    return sympy.Symbol(name, integer=True, nonnegative=True)


def dim(value: object) -> Dim:
    """`value` as a Dim: sympy integers and NumPy integers become `int`."""
    if isinstance(value, int):
        return value
    import sympy

    if isinstance(value, sympy.Basic):
        if value.is_Integer:
            return int(value)
        return sympy.expand(value)
    return int(value)  # type: ignore[call-overload, no-any-return]


def is_static(*dims: Dim) -> bool:
    """True when every dim is a known integer."""
    return all(isinstance(d, int) for d in dims)


def static(value: Dim) -> int | None:
    """The integer, or None when the dim is only known at run time."""
    return value if isinstance(value, int) else None


def add(a: Dim, b: Dim) -> Dim:
    return dim(a + b)


def sub(a: Dim, b: Dim) -> Dim:
    return dim(a - b)


def mul(a: Dim, b: Dim) -> Dim:
    return dim(a * b)


def floordiv(a: Dim, b: Dim) -> Dim:
    """floor(a / b)."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    import sympy

    quotient = sympy.expand(sympy.sympify(a) / b)
    if all(c.is_Integer for c in quotient.as_coefficients_dict().values()) and not quotient.atoms(sympy.Pow):
        return dim(quotient)
    cancelled = sympy.cancel(sympy.sympify(a) / b)
    if cancelled.is_Rational:
        return dim(sympy.floor(cancelled))
    if cancelled.is_polynomial() and all(c.is_Integer for c in sympy.Poly(cancelled).coeffs()):
        return dim(cancelled)
    return dim(sympy.floor(quotient))


def ceildiv(a: Dim, b: Dim) -> Dim:
    """ceil(a / b)."""
    return floordiv(add(a, sub(b, 1)), b)


def maximum(a: Dim, b: Dim) -> Dim:
    if isinstance(a, int) and isinstance(b, int):
        return max(a, b)
    import sympy

    return dim(sympy.Max(a, b))


def minimum(a: Dim, b: Dim) -> Dim:
    if isinstance(a, int) and isinstance(b, int):
        return min(a, b)
    import sympy

    return dim(sympy.Min(a, b))


def prod(dims: Iterable[Dim]) -> Dim:
    """Product; 1 for no dims."""
    out: Dim = 1
    for d in dims:
        out = out * d
    return dim(out)


def equal(a: Dim, b: Dim) -> bool:
    """True only when the two are equal for every value of the symbols."""
    if isinstance(a, int) and isinstance(b, int):
        return a == b
    return bool(dim(a - b) == 0)


def symbols(dims: Iterable[Dim]) -> list[str]:
    """Names of the free symbols in `dims`, sorted."""
    names: set[str] = set()
    for d in dims:
        if not isinstance(d, int):
            names |= {s.name for s in d.free_symbols}
    return sorted(names)


def evaluate(value: Dim, bindings: Mapping[str, int]) -> int:
    """The integer value of `value` with its symbols bound."""
    if isinstance(value, int):
        return value
    return int(value.subs({s: bindings[s.name] for s in value.free_symbols}))


Share = Callable[[str], str]
"""Gives a name to the text of a costly sub-expression, so that it is computed once."""


def cxx(value: Dim, spell: Mapping[str, str] | None = None, share: Share = lambda text: text) -> str:
    """`value` as a C++ expression of type int64_t.

    Args:
        spell: symbol name -> identifier.
        share: called with every division, minimum and maximum; returns what to write in its place.
    """
    return str(value) if isinstance(value, int) else _cxx(value, spell or {}, share)


def _cxx(e: sympy.Expr, spell: Mapping[str, str], share: Share) -> str:
    import sympy

    def text(arg: sympy.Expr) -> str:
        return _cxx(arg, spell, share)

    if e.is_Integer:
        return str(int(e))
    if e.is_Symbol:
        return spell.get(e.name, e.name)
    if e.is_Add:
        return "(" + " + ".join(text(a) for a in e.args) + ")"
    if e.is_Mul:
        return "(" + " * ".join(text(a) for a in e.args) + ")"
    if isinstance(e, (sympy.floor, sympy.ceiling)):
        sign = "" if isinstance(e, sympy.floor) else "-"
        numerator, denominator = sympy.fraction(sympy.together(e.args[0]))
        numerator = sympy.expand(numerator if not sign else -numerator)
        return share(f"{sign}bolt_floordiv({text(numerator)}, {text(denominator)})")
    if e.is_Pow and e.exp.is_Integer and int(e.exp) > 0:
        return "(" + " * ".join([text(e.base)] * int(e.exp)) + ")"
    if isinstance(e, (sympy.Max, sympy.Min)):
        name = "bolt_max" if isinstance(e, sympy.Max) else "bolt_min"
        out = text(e.args[0])
        for arg in e.args[1:]:
            out = f"{name}({out}, {text(arg)})"
        return share(out)
    raise AssertionError(f"no C++ spelling for dimension expression {e!r}")
