"""Normalizations by parts, in the spellings exporters write, become one operator."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx_models import ModelBuilder, assert_same_results

from bolt.graph.load import load
from bolt.graph.spell_norms import NormSpelling
from bolt.graph.unfold_norms import NormUnfolding

WIDTH = 6


def mean(b, x, axes=(-1,)):
    if b.opset < 18:
        return b.add("ReduceMean", x, axes=list(axes), keepdims=1)
    return b.add("ReduceMean", x, b.constant(axes, np.int64), keepdims=1)


def c(b, value):
    return b.constant(value, np.float32)


def parameters(b, y, *, scale=True, bias=True, shape=(WIDTH,)):
    y = b.add("Mul", y, b.weights("scale", shape)) if scale else y
    return b.add("Add", y, b.weights("bias", shape)) if bias else y


def torch_pow(b, x):
    d = b.add("Sub", x, mean(b, x))
    root = b.add("Sqrt", b.add("Add", mean(b, b.add("Pow", d, c(b, 2))), c(b, 1e-5)))
    return parameters(b, b.add("Div", d, root))


def torch_mul(b, x):
    d = b.add("Sub", x, mean(b, x, (2,)))
    root = b.add("Sqrt", b.add("Add", c(b, 1e-5), mean(b, b.add("Mul", d, d), (2,))))
    return parameters(b, b.add("Mul", b.add("Reciprocal", root), d))


def paddle_two_subs(b, x):
    m = mean(b, x)
    square = b.add("Pow", b.add("Sub", x, m), c(b, 2))
    root = b.add("Sqrt", b.add("Add", mean(b, square), c(b, 1e-5)))
    return parameters(b, b.add("Div", b.add("Sub", x, m), root))


def no_parameters(b, x):
    d = b.add("Sub", x, mean(b, x))
    return b.add("Div", d, b.add("Sqrt", b.add("Add", mean(b, b.add("Mul", d, d)), c(b, 1e-3))))


def leading_ones(b, x):
    d = b.add("Sub", x, mean(b, x))
    root = b.add("Sqrt", b.add("Add", mean(b, b.add("Pow", d, c(b, 2))), c(b, 1e-5)))
    return parameters(b, b.add("Div", d, root), shape=(1, 1, WIDTH))


def two_axes(b, x):
    d = b.add("Sub", x, mean(b, x, (1, 2)))
    root = b.add("Sqrt", b.add("Add", mean(b, b.add("Pow", d, c(b, 2)), (-2, -1)), c(b, 1e-5)))
    return parameters(b, b.add("Div", d, root), shape=(4, WIDTH))


def tensorflow(b, x):
    m = mean(b, x)
    variance = mean(b, b.add("Pow", b.add("Sub", x, m), c(b, 2)))
    inverse = b.add("Reciprocal", b.add("Sqrt", b.add("Add", variance, c(b, 1e-5))))
    factor = b.add("Mul", inverse, b.weights("gamma", (WIDTH,)))
    shift = b.add("Sub", b.weights("beta", (WIDTH,)), b.add("Mul", m, factor))
    return b.add("Add", b.add("Mul", x, factor), shift)


def rms_div(b, x):
    root = b.add("Sqrt", b.add("Add", mean(b, b.add("Pow", x, c(b, 2))), c(b, 1e-6)))
    return parameters(b, b.add("Div", x, root), bias=False)


def rms_llama(b, x):
    root = b.add("Sqrt", b.add("Add", mean(b, b.add("Pow", x, c(b, 2))), c(b, 1e-6)))
    normal = b.add("Mul", x, b.add("Div", c(b, 1), root))
    return b.add("Mul", b.weights("scale", (WIDTH,)), normal)


def rms_power(b, x):
    inverse = b.add("Pow", b.add("Add", mean(b, b.add("Mul", x, x)), c(b, 1e-6)), c(b, -0.5))
    return parameters(b, b.add("Mul", x, inverse), bias=False)


LAYER = [torch_pow, torch_mul, paddle_two_subs, no_parameters, leading_ones, two_axes, tensorflow]
RMS = [rms_div, rms_llama, rms_power]


def build(spell, opset):
    b = ModelBuilder(opset=opset)
    x = b.add("Neg", b.input("x", ["N", 4, WIDTH]))
    return b.output(b.add("Abs", spell(b, x)), ["N", 4, WIDTH]).model()


@pytest.mark.parametrize("opset", [11, 17, 18])
@pytest.mark.parametrize("spell", LAYER + RMS)
def test_spelling_becomes_one_operator(spell, opset):
    proto = build(spell, opset)
    model = load(proto)
    assert NormSpelling()(model).modified
    expected = "RMSNormalization" if spell in RMS else "LayerNormalization"
    assert [n.op_type for n in model.graph] == ["Neg", expected, "Abs"]
    assert_same_results(proto, ir.to_proto(model), N=3)
    assert not NormSpelling()(model).modified


def other_axis(b, x):
    d = b.add("Sub", x, mean(b, x, (1,)))
    return b.add("Div", d, b.add("Sqrt", b.add("Add", mean(b, b.add("Mul", d, d), (1,)), c(b, 1e-5))))


def mixed_axes(b, x):
    d = b.add("Sub", x, mean(b, x, (1, 2)))
    return b.add("Div", d, b.add("Sqrt", b.add("Add", mean(b, b.add("Mul", d, d)), c(b, 1e-5))))


def other_variance(b, x):
    d, e = b.add("Sub", x, mean(b, x)), b.add("Exp", x)
    return b.add("Div", d, b.add("Sqrt", b.add("Add", mean(b, b.add("Mul", e, e)), c(b, 1e-5))))


@pytest.mark.parametrize("spell", [other_axis, other_variance])
def test_lookalikes_stay(spell):
    model = load(build(spell, 13))
    assert not NormSpelling()(model).modified


def test_mean_over_other_axes_is_no_part_of_the_norm():
    proto = build(mixed_axes, 13)
    model = load(proto)
    NormSpelling()(model)
    assert [n.op_type for n in model.graph] == ["Neg", "ReduceMean", "Sub", "RMSNormalization", "Abs"]
    assert_same_results(proto, ir.to_proto(model), N=3)


def test_scale_of_another_extent_stays_a_multiplication():
    b = ModelBuilder(opset=17)
    x = b.input("x", [2, 4, WIDTH])
    y = parameters(b, no_parameters(b, x), bias=False, shape=(4, 1))
    proto = b.output(y, [2, 4, WIDTH]).model()
    model = load(proto)
    NormSpelling()(model)
    assert [n.op_type for n in model.graph] == ["LayerNormalization", "Mul"]
    assert_same_results(proto, ir.to_proto(model))


def test_normalized_value_read_twice_keeps_its_own_node():
    b = ModelBuilder(opset=17)
    normal = no_parameters(b, b.input("x", [2, 4, WIDTH]))
    scaled = b.add("Mul", normal, b.weights("scale", (WIDTH,)))
    proto = b.output(b.add("Add", scaled, normal), [2, 4, WIDTH]).model()
    model = load(proto)
    NormSpelling()(model)
    assert [n.op_type for n in model.graph] == ["LayerNormalization", "Mul", "Add"]
    assert_same_results(proto, ir.to_proto(model))


def instance_norm(opset, *shape, scale=None, bias=None):
    b = ModelBuilder(opset=opset)
    x = b.add("Neg", b.input("x", ["N", 3, *shape]))
    parameters = [
        b.weights(name, (3,)) if value is None else b.constant([value] * 3, np.float32)
        for name, value in (("scale", scale), ("bias", bias))
    ]
    y = b.add("InstanceNormalization", x, *parameters, epsilon=1e-3)
    return b.output(b.add("Abs", y), None).model()


@pytest.mark.parametrize("opset", [9, 17, 18])
@pytest.mark.parametrize("shape", [("L",), ("H", 5), (2, 3, 4)], ids=str)
def test_instance_norm_is_unfolded(shape, opset):
    proto = instance_norm(opset, *shape)
    model = load(proto)
    assert NormUnfolding()(model).modified
    assert "InstanceNormalization" not in [n.op_type for n in model.graph]
    assert_same_results(proto, ir.to_proto(model), N=2, L=7, H=6)


def test_neutral_parameters_leave_no_trace():
    model = load(instance_norm(17, "L", scale=1.0, bias=0.0))
    NormUnfolding()(model)
    ops = [n.op_type for n in model.graph]
    assert ops == ["Neg", "ReduceMean", "Sub", "Mul", "ReduceMean", "Add", "Sqrt", "Div", "Abs"]


def test_unfolded_norm_over_the_last_axis_is_spelled_as_one_when_static():
    """The two passes agree on a fixed point: one row per channel is a LayerNormalization."""
    model = load(instance_norm(17, 8))
    NormUnfolding()(model)
    assert NormSpelling()(model).modified
    assert not NormUnfolding()(model).modified
    assert_same_results(instance_norm(17, 8), ir.to_proto(model), N=2)
