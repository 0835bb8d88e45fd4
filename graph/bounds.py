"""Arithmetic of symbolic dims that knows their range, so that clamping at a border disappears.

Symbols are dims, and dims are taken to be at least 1: no kernel runs on an empty tensor. Everything
here is cached because a model asks for the same few expressions hundreds of times.
"""

from __future__ import annotations

from functools import lru_cache
from math import inf
from typing import Any

from bolt import dims
from bolt.dims import Dim

Bound = float
"""An integer, a fraction or an infinity; exact for the magnitudes dims have."""


def lower(value: Any) -> Bound:
    """A number `value` is never less than."""
    return float(value) if isinstance(value, int) else _range(value)[0]


def upper(value: Any) -> Bound:
    """A number `value` never exceeds."""
    return float(value) if isinstance(value, int) else _range(value)[1]


@lru_cache(maxsize=65536)
def _range(e: Any) -> tuple[Bound, Bound]:
    import sympy

    if e.is_number:
        return float(e), float(e)
    if e.is_Symbol:
        return 1.0, inf
    if isinstance(e, (sympy.Max, sympy.Min)):
        pick = max if isinstance(e, sympy.Max) else min
        return pick(_range(a)[0] for a in e.args), pick(_range(a)[1] for a in e.args)
    if isinstance(e, (sympy.floor, sympy.ceiling)):
        low, high = _range(sympy.expand(e.args[0]))
        return _round(e, low), _round(e, high)
    if e.is_Mul:
        return _product(e.args)
    if e.is_Add:
        return _sum(e)
    return -inf, inf


def _round(e: Any, bound: Bound) -> Bound:
    import sympy

    if bound in (inf, -inf):
        return bound
    return float(bound // 1 if isinstance(e, sympy.floor) else -(-bound // 1))


def _product(factors: Any) -> tuple[Bound, Bound]:
    low, high = 1.0, 1.0
    for factor in factors:
        a, b = _range(factor)
        corners = [0.0 if 0 in (x, y) else x * y for x in (low, high) for y in (a, b)]
        low, high = min(corners), max(corners)
    return low, high


def _sum(e: Any) -> tuple[Bound, Bound]:
    """Term by term, and again with every floor(x) loosened to (x - 1, x]: the tighter of both wins."""
    low = sum(_range(a)[0] for a in e.args)
    high = sum(_range(a)[1] for a in e.args)
    loose_low, loose_high = _without_floors(e, round_up=False), _without_floors(e, round_up=True)
    if loose_low is not None:
        low = max(low, sum(_range(a)[0] for a in loose_low.as_ordered_terms()))
    if loose_high is not None:
        high = min(high, sum(_range(a)[1] for a in loose_high.as_ordered_terms()))
    return low, high


def _without_floors(e: Any, *, round_up: bool) -> Any:
    """`e` bounded from above (or below) by an expression without floors; None if it has none."""
    import sympy

    loose, found = sympy.Integer(0), False
    for term in e.args:
        coefficient, rest = term.as_coeff_Mul()
        if isinstance(rest, sympy.floor):
            found = True
            exact_side = (coefficient > 0) == round_up
            rest = rest.args[0] if exact_side else rest.args[0] - 1
        loose += coefficient * rest
    return sympy.expand(loose) if found else None


@lru_cache(maxsize=65536)
def floordiv(a: Dim, b: Dim) -> Dim:
    """floor(a / b)."""
    return a if b == 1 else dims.floordiv(a, b)


def ceildiv(a: Dim, b: Dim) -> Dim:
    """ceil(a / b)."""
    return a if b == 1 else floordiv(dims.add(a, dims.sub(b, 1)), b)


@lru_cache(maxsize=65536)
def minimum(a: Dim, b: Dim) -> Dim:
    """The smaller one; a plain operand wherever the range of both decides."""
    if isinstance(a, int) and isinstance(b, int):
        return min(a, b)
    difference = dims.sub(a, b)
    if upper(difference) <= 0:
        return a
    return b if lower(difference) >= 0 else dims.minimum(a, b)


@lru_cache(maxsize=65536)
def maximum(a: Dim, b: Dim) -> Dim:
    """The larger one; a plain operand wherever the range of both decides."""
    if isinstance(a, int) and isinstance(b, int):
        return max(a, b)
    difference = dims.sub(a, b)
    if lower(difference) >= 0:
        return a
    return b if upper(difference) <= 0 else dims.maximum(a, b)


@lru_cache(maxsize=65536)
def equal(a: Dim, b: Dim) -> bool:
    """True only when both are equal for every value of the symbols."""
    return a == b or dims.equal(a, b)


def complexity(value: Dim) -> tuple[int, str]:
    """Sort key: integers, then symbols, then the shorter expression."""
    if isinstance(value, int):
        return 0, ""
    return 1 + int(value.count_ops()), str(value)
