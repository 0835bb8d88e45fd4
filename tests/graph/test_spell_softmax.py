"""Softmax by parts becomes one operator."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx_models import ModelBuilder, assert_same_results

from bolt.graph.load import load
from bolt.graph.spell_softmax import SoftmaxSpelling


def reduced(b, op_type, x, axis=-1, **attributes):
    """A reduction over one axis, as the opset spells it."""
    since = 13 if op_type == "ReduceSum" else 18
    if b.opset < since:
        return b.add(op_type, x, axes=[axis], **attributes)
    return b.add(op_type, x, b.constant([axis], np.int64), **attributes)


def stable(b, x):
    e = b.add("Exp", b.add("Sub", x, reduced(b, "ReduceMax", x)))
    return b.add("Div", e, reduced(b, "ReduceSum", e))


def plain(b, x):
    e = b.add("Exp", x)
    return b.add("Div", e, reduced(b, "ReduceSum", e, axis=2))


def reciprocal(b, x):
    e = b.add("Exp", b.add("Sub", x, reduced(b, "ReduceMax", x)))
    return b.add("Mul", b.add("Reciprocal", reduced(b, "ReduceSum", e)), e)


def logarithm(b, x):
    z = b.add("Sub", x, reduced(b, "ReduceMax", x))
    return b.add("Sub", z, b.add("Log", reduced(b, "ReduceSum", b.add("Exp", z))))


def build(spell, opset=13):
    b = ModelBuilder(opset=opset)
    x = b.add("Neg", b.input("x", ["N", 3, 5]))
    return b.output(b.add("Abs", spell(b, x)), ["N", 3, 5]).model()


@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize("spell", [stable, plain, reciprocal, logarithm])
def test_spelling_becomes_one_operator(spell, opset):
    proto = build(spell, opset)
    model = load(proto)
    assert SoftmaxSpelling()(model).modified
    expected = "LogSoftmax" if spell is logarithm else "Softmax"
    assert [n.op_type for n in model.graph] == ["Neg", expected, "Abs"]
    assert_same_results(proto, ir.to_proto(model), N=2)


def other_axis(b, x):
    e = b.add("Exp", x)
    return b.add("Div", e, reduced(b, "ReduceSum", e, axis=1))


def other_sum(b, x):
    return b.add("Div", b.add("Exp", x), reduced(b, "ReduceSum", b.add("Exp", b.add("Neg", x))))


def other_maximum(b, x):
    """exp(x - max(y)) / sum is still a softmax, of x - max(y)."""
    e = b.add("Exp", b.add("Sub", x, reduced(b, "ReduceMax", b.add("Neg", x))))
    return b.add("Div", e, reduced(b, "ReduceSum", e))


@pytest.mark.parametrize("spell", [other_axis, other_sum])
def test_lookalikes_stay(spell):
    assert not SoftmaxSpelling()(load(build(spell))).modified


def test_foreign_shift_stays_outside():
    proto = build(other_maximum)
    model = load(proto)
    SoftmaxSpelling()(model)
    assert [n.op_type for n in model.graph] == ["Neg", "Neg", "ReduceMax", "Sub", "Softmax", "Abs"]
    assert_same_results(proto, ir.to_proto(model), N=2)
