"""Canonical activations: Gelu, Swish, Mish, HardSwish, HardSigmoid, Softplus written by parts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from bolt.graph.attributes import attr, is_op
from bolt.graph.match import Product, clip_range, linear, near, plus, product, term, unary
from bolt.graph.rewrite import insert_before, producer, replace
from bolt.graph.shapes import infer


@dataclass(frozen=True, slots=True, kw_only=True)
class Spelling:
    """One operator that stands for several nodes: op_type(x, **attributes)."""

    op_type: str
    x: ir.Value
    attributes: dict[str, Any] = field(default_factory=dict)


Matcher = Callable[[ir.Value], Spelling | None]


class ActivationSpelling(ir.passes.InPlacePass):
    """Replaces activations written by parts with one operator each (float32 only).

        gelu(x)        = x * (1 + erf(x / sqrt 2)) / 2
        gelu_tanh(x)   = x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2
        swish(x)       = x * sigmoid(alpha x) = x / (1 + exp(-alpha x))
        mish(x)        = x * tanh(softplus(x))
        hardswish(x)   = x * clip(x + 3, 0, 6) / 6
        hardsigmoid(x) = clip(alpha x + beta, 0, 1), also as clip(x + 3, 0, 6) / 6
        softplus(x)    = log(1 + exp x)

    Factors may come in any order and grouping. Inner results that something else reads are left in place.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        shapes = infer(model)
        modified = False
        for node in reversed(list(model.graph)):
            matchers = MATCHERS.get(node.op_type, ()) if is_op(node, node.op_type) else ()
            if node.graph is None or shapes.onnx_dtype(node.outputs[0]) != ir.DataType.FLOAT:
                continue
            found = next((s for m in matchers if (s := m(node.outputs[0])) is not None), None)
            if found is None or shapes.dims(found.x) != shapes.dims(node.outputs[0]):
                continue
            replace(node, insert_before(node, found.op_type, [found.x], found.attributes, name=node.name))
            modified = True
        return ir.passes.PassResult(model, modified=modified)


def _one_plus(value: ir.Value, op_type: str) -> tuple[ir.Value, float] | None:
    """(u, c) where value = c + c * op_type(u)."""
    shifted = plus(value)
    if shifted is None:
        return None
    inner = product(shifted[0])
    if len(inner.values) != 1 or not near(inner.number, shifted[1]):
        return None
    argument = unary(inner.values[0], op_type)
    return None if argument is None else (argument, shifted[1])


def _gated(value: ir.Value, op_type: str) -> tuple[Product, ir.Value, ir.Value] | None:
    """(all factors, x, u) where value = number * x * (1 + op_type(u)), the gate's own factor included."""
    factors = product(value)
    if len(factors.values) != 2:
        return None
    for gate, x in (factors.values, factors.values[::-1]):
        inner = _one_plus(gate, op_type)
        if inner is not None:
            return Product(factors.number * inner[1], factors.values), x, inner[0]
    return None


def gelu_erf(value: ir.Value) -> Spelling | None:
    found = _gated(value, "Erf")
    if found is None or not near(found[0].number, 0.5):
        return None
    inner = term(found[2])
    if inner.values != (found[1],) or not near(inner.number, math.sqrt(0.5)):
        return None
    return Spelling(op_type="Gelu", x=found[1], attributes={"approximate": "none"})


def gelu_tanh(value: ir.Value) -> Spelling | None:
    found = _gated(value, "Tanh")
    if found is None or not near(found[0].number, 0.5) or not _is_tanh_argument(found[2], found[1]):
        return None
    return Spelling(op_type="Gelu", x=found[1], attributes={"approximate": "tanh"})


def _is_tanh_argument(u: ir.Value, x: ir.Value) -> bool:
    """u = sqrt(2 / pi) * (x + 0.044715 x^3), or sqrt(2 / pi) * x * (1 + 0.044715 x^2)."""
    outer = term(u)
    if not near(outer.number, math.sqrt(2 / math.pi)):
        return False
    if len(outer.values) == 1:
        node = producer(outer.values[0], "Add")
        terms = [term(v) for v in node.inputs if v is not None] if node is not None else []
        return any(
            a.values == (x,) and near(a.number, 1.0) and _is_power(b, x, 3)
            for a, b in (terms, terms[::-1])
            if terms
        )
    rest = outer.without(x)
    shifted = plus(rest[0]) if rest is not None and len(rest) == 1 else None
    return shifted is not None and near(shifted[1], 1.0) and _is_power(product(shifted[0]), x, 2)


def _is_power(term: Product, x: ir.Value, exponent: int) -> bool:
    """term = 0.044715 * x ** exponent; a cube may hide a shared square."""
    values: list[ir.Value] = []
    for v in term.values:
        inner = product(v)
        values += inner.values if v is not x and near(inner.number, 1.0) else [v]
    return near(term.number, 0.044715) and len(values) == exponent and all(v is x for v in values)


def swish(value: ir.Value) -> Spelling | None:
    factors = product(value)
    if len(factors.values) != 2 or not near(factors.number, 1.0):
        return None
    for gate, x in (factors.values, factors.values[::-1]):
        argument = unary(gate, "Sigmoid")
        inner = term(argument) if argument is not None else Product()
        if inner.values == (x,):
            return Spelling(op_type="Swish", x=x, attributes={"alpha": inner.number})
    return None


def swish_by_exp(value: ir.Value) -> Spelling | None:
    """x / (1 + exp(-alpha x))."""
    node = producer(value, "Div")
    if node is None or node.inputs[0] is None:
        return None
    shifted = plus(node.inputs[1])
    argument = unary(shifted[0], "Exp") if shifted is not None and near(shifted[1], 1.0) else None
    inner = term(argument) if argument is not None else Product()
    if inner.values != (node.inputs[0],):
        return None
    return Spelling(op_type="Swish", x=node.inputs[0], attributes={"alpha": -inner.number})


def mish(value: ir.Value) -> Spelling | None:
    factors = product(value)
    if len(factors.values) != 2 or not near(factors.number, 1.0):
        return None
    for gate, x in (factors.values, factors.values[::-1]):
        argument = unary(gate, "Tanh")
        plain = unary(argument, "Softplus")
        by_parts = softplus(argument) if argument is not None else None
        if plain is x or (by_parts is not None and by_parts.x is x):
            return Spelling(op_type="Mish", x=x)
    return None


def hard_swish(value: ir.Value) -> Spelling | None:
    factors = product(value)
    if len(factors.values) != 2:
        return None
    for gate, x in (factors.values, factors.values[::-1]):
        found = _hard_gate(gate)
        if found is None or found[0] is not x:
            continue
        slope, offset, high = (factors.number * v for v in found[1:])
        if near(slope, 1 / 6) and near(offset, 0.5) and near(high, 1.0):
            return Spelling(op_type="HardSwish", x=x)
    return None


def _hard_gate(value: ir.Value) -> tuple[ir.Value, float, float, float] | None:
    """(x, a, b, high) where value = clip(a * x + b, 0, high)."""
    node = producer(value, "HardSigmoid")
    if node is not None and node.inputs[0] is not None:
        return node.inputs[0], float(attr(node, "alpha", 0.2)), float(attr(node, "beta", 0.5)), 1.0
    clipped = clip_range(value)
    if clipped is None or clipped[1] != 0 or not math.isfinite(clipped[2]):
        return None
    return (*linear(clipped[0]), clipped[2])


def hard_sigmoid(value: ir.Value) -> Spelling | None:
    factors = product(value)
    if len(factors.values) != 1 or is_op(factors.values[0].producer(), "HardSigmoid"):
        return None
    found = _hard_gate(factors.values[0])
    if found is None or factors.number <= 0:
        return None
    x, slope, offset, high = found[0], *(factors.number * v for v in found[1:])
    # A clip of x itself is a clip: HardSigmoid would only cost a multiplication.
    if not near(high, 1.0) or (near(slope, 1.0) and offset == 0):
        return None
    return Spelling(op_type="HardSigmoid", x=x, attributes={"alpha": slope, "beta": offset})


def softplus(value: ir.Value) -> Spelling | None:
    shifted = plus(unary(value, "Log"))
    argument = unary(shifted[0], "Exp") if shifted is not None and near(shifted[1], 1.0) else None
    return None if argument is None else Spelling(op_type="Softplus", x=argument)


_MULTIPLIED = (gelu_erf, gelu_tanh, hard_swish, mish, swish, hard_sigmoid)

MATCHERS: dict[str, tuple[Matcher, ...]] = {
    "Mul": _MULTIPLIED,
    "Div": (*_MULTIPLIED, swish_by_exp),
    "Clip": (hard_sigmoid,),
    "Min": (hard_sigmoid,),
    "Max": (hard_sigmoid,),
    "Log": (softplus,),
}
"""Type of the last node -> spellings that can end in it, most specific first."""
