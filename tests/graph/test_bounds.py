"""Range-aware dim arithmetic against brute force over small values of the symbols."""

from __future__ import annotations

from itertools import product

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from bolt import dims
from bolt.graph import bounds

A, B = dims.symbol("a"), dims.symbol("b")
VALUES = [dict(zip("ab", v, strict=True)) for v in product((1, 2, 3, 5, 8, 13), repeat=2)]

linear = st.builds(
    lambda x, y, c: dims.dim(x * A + y * B + c), st.integers(-3, 3), st.integers(-2, 2), st.integers(-9, 9)
)
expressions = st.one_of(
    linear,
    st.builds(
        lambda e, n, c: dims.add(bounds.floordiv(e, n), c), linear, st.integers(2, 4), st.integers(-3, 3)
    ),
    st.builds(
        lambda e, f, n: dims.sub(e, dims.mul(n, bounds.floordiv(f, 2))), linear, linear, st.integers(1, 3)
    ),
    st.builds(lambda e, f: dims.maximum(e, f), linear, linear),
    st.integers(-5, 20),
)


def at(value, bindings) -> int:
    return dims.evaluate(value, bindings)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(expressions)
def test_ranges_hold(value):
    for bindings in VALUES:
        assert bounds.lower(value) <= at(value, bindings) <= bounds.upper(value)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(expressions, expressions)
def test_minimum_and_maximum_are_exact(left, right):
    low, high = bounds.minimum(left, right), bounds.maximum(left, right)
    for bindings in VALUES:
        pair = at(left, bindings), at(right, bindings)
        assert (at(low, bindings), at(high, bindings)) == (min(pair), max(pair))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(linear, st.integers(1, 7))
def test_divisions_round_the_right_way(value, divisor):
    for bindings in VALUES:
        number = at(value, bindings)
        assert at(bounds.floordiv(value, divisor), bindings) == number // divisor
        assert at(bounds.ceildiv(value, divisor), bindings) == -(-number // divisor)


@pytest.mark.parametrize(
    ("left", "right", "smaller"),
    [
        (A, A + 3, A),
        (bounds.floordiv(A, 2), A, bounds.floordiv(A, 2)),
        (bounds.floordiv(dims.sub(A, 1), 2), A, bounds.floordiv(dims.sub(A, 1), 2)),
        (1, A, 1),
        (0, dims.sub(A, 1), 0),
    ],
    ids=str,
)
def test_range_decides(left, right, smaller):
    assert bounds.minimum(left, right) == smaller
    assert not isinstance(bounds.maximum(left, right), sympy.Max)


def test_undecided_stays_open():
    assert isinstance(bounds.minimum(A, B), sympy.Min)
    assert isinstance(bounds.maximum(A, 2), sympy.Max)


def test_simpler_expressions_sort_first():
    ordered = [3, A, dims.add(A, 1), bounds.floordiv(dims.sub(A, 1), 2)]
    assert sorted(reversed(ordered), key=bounds.complexity) == ordered
