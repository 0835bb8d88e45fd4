"""Matching: reading an expression the way a person would, whatever order its factors were written in."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import onnx_ir as ir

from bolt.graph.attributes import attr, operand, scalar
from bolt.graph.rewrite import is_private, producer

TOLERANCE = 1e-5
"""Relative; exporters write constants with 6 to 8 digits."""

_DEPTH = 12


def near(a: float | None, b: float) -> bool:
    """Whether a constant is the one meant."""
    return a is not None and math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=1e-12)


@dataclass(frozen=True, slots=True)
class Product:
    """number * values[0] * values[1] * ...; a value may occur several times."""

    number: float = 1.0
    values: tuple[ir.Value, ...] = ()

    def times(self, other: Product) -> Product:
        return Product(self.number * other.number, self.values + other.values)

    def without(self, *values: ir.Value) -> tuple[ir.Value, ...] | None:
        """The other factors after taking each of `values` out once; None when one is missing."""
        rest = list(self.values)
        for value in values:
            if value not in rest:
                return None
            rest.remove(value)
        return tuple(rest)


def product(value: ir.Value, *, depth: int = _DEPTH) -> Product:
    """`value` as a flat product.

    Looks through Mul, Div by a scalar, Neg, and Pow by 2 or 3, as long as intermediate results have no other
    reader (those are values of their own).
    """
    number = scalar(value)
    if number is not None:
        return Product(number)
    node = producer(value, "Mul", "Div", "Neg", "Pow") if depth else None
    expanded = None if node is None else _expand(node, depth)
    return Product(1.0, (value,)) if expanded is None else expanded


def _expand(node: ir.Node, depth: int) -> Product | None:
    first, second = operand(node, 0), operand(node, 1)
    assert first is not None
    if node.op_type == "Neg":
        inner = term(first, depth=depth - 1)
        return replace(inner, number=-inner.number)
    assert second is not None
    if node.op_type == "Mul":
        return term(first, depth=depth - 1).times(term(second, depth=depth - 1))
    number = scalar(second)
    if node.op_type == "Div" and number:
        return term(first, depth=depth - 1).times(Product(1 / number))
    if node.op_type == "Pow" and number in (2.0, 3.0):
        return Product(1.0, (first,) * int(number))
    return None


def term(value: ir.Value, *, depth: int = _DEPTH) -> Product:
    """`value` as a flat product, or as itself when something else reads it too."""
    if scalar(value) is None and not is_private(value):
        return Product(1.0, (value,))
    return product(value, depth=depth)


def plus(value: ir.Value | None) -> tuple[ir.Value, float] | None:
    """(x, c) where value = x + c or x - c for a scalar constant c."""
    node = producer(value, "Add", "Sub")
    if node is None:
        return None
    left, right = operand(node, 0), operand(node, 1)
    number = scalar(right)
    if number is not None and left is not None:
        return left, number if node.op_type == "Add" else -number
    number = scalar(left)
    return (right, number) if number is not None and right is not None and node.op_type == "Add" else None


def linear(value: ir.Value, *, depth: int = 4) -> tuple[ir.Value, float, float]:
    """(x, a, b) where value = a * x + b with a > 0; x is `value` itself where nothing can be taken off."""
    shifted = plus(value)
    if shifted is not None and depth:
        x, a, b = linear(shifted[0], depth=depth - 1) if is_private(shifted[0]) else (shifted[0], 1.0, 0.0)
        return x, a, b + shifted[1]
    scaled = _times(value)
    if scaled is not None and depth:
        x, a, b = linear(scaled[0], depth=depth - 1) if is_private(scaled[0]) else (scaled[0], 1.0, 0.0)
        return x, a * scaled[1], b * scaled[1]
    return value, 1.0, 0.0


def _times(value: ir.Value) -> tuple[ir.Value, float] | None:
    """(x, c) where value = x * c or x / (1 / c) for a positive scalar constant c."""
    node = producer(value, "Mul", "Div")
    if node is None:
        return None
    for index in (1, 0) if node.op_type == "Mul" else (1,):
        number, other = scalar(operand(node, index)), operand(node, 1 - index)
        if number is not None and number > 0 and other is not None:
            return other, number if node.op_type == "Mul" else 1 / number
    return None


def unary(value: ir.Value | None, op_type: str) -> ir.Value | None:
    """x where value = op_type(x)."""
    node = producer(value, op_type)
    return None if node is None else operand(node, 0)


def clip_range(value: ir.Value | None) -> tuple[ir.Value, float, float] | None:
    """(x, low, high) where value clips x: Clip of any opset, Min(Relu(x), c), Min(Max(x, a), b)."""
    node = producer(value, "Clip", "Min", "Max", "Relu")
    if node is None or node.inputs[0] is None:
        return None
    if node.op_type == "Relu":
        return node.inputs[0], 0.0, math.inf
    if node.op_type == "Clip":
        low, high = _limit(node, 1, "min", -math.inf), _limit(node, 2, "max", math.inf)
        return None if low is None or high is None else _nested(node.inputs[0], low, high)
    if len(node.inputs) != 2:
        return None
    for index in (0, 1):
        number, other = scalar(operand(node, 1 - index)), operand(node, index)
        if number is not None and other is not None:
            low, high = (-math.inf, number) if node.op_type == "Min" else (number, math.inf)
            return _nested(other, low, high)
    return None


def _limit(node: ir.Node, index: int, name: str, default: float) -> float | None:
    if operand(node, index) is None:
        return float(attr(node, name, default))
    return scalar(operand(node, index))


def _nested(value: ir.Value, low: float, high: float) -> tuple[ir.Value, float, float]:
    """Clips directly inside a clip narrow the range."""
    inner = clip_range(value) if is_private(value) else None
    if inner is None:
        return value, low, high
    return inner[0], min(max(inner[1], low), high), max(min(inner[2], high), low)


def constant_power(value: ir.Value | None, exponent: float) -> ir.Value | None:
    """x where value = x ** exponent; squares may be x * x."""
    node = producer(value, "Pow", "Mul")
    if node is None:
        return None
    first, second = operand(node, 0), operand(node, 1)
    if node.op_type == "Pow":
        return first if near(scalar(second), exponent) else None
    return first if exponent == 2 and first is second else None
