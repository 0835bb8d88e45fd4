"""Activations by parts, in the spellings exporters write, become one operator."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir
import pytest
from onnx_models import ModelBuilder, assert_same_results

from bolt.graph.load import load
from bolt.graph.spell_activations import ActivationSpelling


def c(b: ModelBuilder, value: float) -> str:
    return b.constant(value, np.float32)


def gelu_torch(b, x):
    gate = b.add("Add", b.add("Erf", b.add("Div", x, c(b, math.sqrt(2)))), c(b, 1))
    return b.add("Mul", b.add("Mul", x, gate), c(b, 0.5))


def gelu_mul(b, x):
    gate = b.add("Add", c(b, 1), b.add("Erf", b.add("Mul", c(b, 0.70710678), x)))
    return b.add("Mul", b.add("Mul", x, c(b, 0.5)), gate)


def gelu_halved_gate(b, x):
    gate = b.add("Mul", b.add("Add", b.add("Erf", b.add("Div", x, c(b, math.sqrt(2)))), c(b, 1)), c(b, 0.5))
    return b.add("Mul", gate, x)


def gelu_distributed(b, x):
    erf = b.add("Mul", b.add("Erf", b.add("Mul", x, c(b, math.sqrt(0.5)))), c(b, 0.5))
    return b.add("Mul", x, b.add("Add", erf, c(b, 0.5)))


def gelu_tanh_pow(b, x):
    cubic = b.add("Add", x, b.add("Mul", b.add("Pow", x, c(b, 3)), c(b, 0.044715)))
    gate = b.add("Add", b.add("Tanh", b.add("Mul", cubic, c(b, math.sqrt(2 / math.pi)))), c(b, 1))
    return b.add("Mul", b.add("Mul", x, c(b, 0.5)), gate)


def gelu_tanh_mul(b, x):
    cube = b.add("Mul", b.add("Mul", x, x), x)
    cubic = b.add("Add", b.add("Mul", c(b, 0.044715), cube), x)
    gate = b.add("Add", b.add("Tanh", b.add("Mul", c(b, 0.7978846), cubic)), c(b, 1))
    return b.add("Mul", c(b, 0.5), b.add("Mul", x, gate))


def gelu_tanh_factored(b, x):
    inner = b.add("Add", c(b, 1), b.add("Mul", b.add("Mul", x, c(b, 0.044715)), x))
    scaled = b.add("Mul", b.add("Mul", x, c(b, 0.7978845608)), inner)
    return b.add("Mul", b.add("Mul", x, c(b, 0.5)), b.add("Add", b.add("Tanh", scaled), c(b, 1)))


def silu(b, x):
    return b.add("Mul", x, b.add("Sigmoid", x))


def quick_gelu(b, x):
    return b.add("Mul", b.add("Sigmoid", b.add("Mul", x, c(b, 1.702))), x)


def silu_exp(b, x):
    return b.add("Div", x, b.add("Add", b.add("Exp", b.add("Neg", x)), c(b, 1)))


def mish(b, x):
    return b.add("Mul", x, b.add("Tanh", b.add("Softplus", x)))


def mish_log(b, x):
    return b.add("Mul", x, b.add("Tanh", b.add("Log", b.add("Add", c(b, 1), b.add("Exp", x)))))


def softplus(b, x):
    return b.add("Log", b.add("Add", b.add("Exp", x), c(b, 1)))


def clip(b, x, low, high):
    if b.opset < 11:
        return b.add("Clip", x, min=float(low), max=float(high))
    return b.add("Clip", x, c(b, low), c(b, high))


def hard_swish_paddle(b, x):
    return b.add("Div", b.add("Mul", x, clip(b, b.add("Add", x, c(b, 3)), 0, 6)), c(b, 6))


def hard_swish_torch(b, x):
    return b.add("Mul", x, b.add("Div", clip(b, b.add("Add", x, c(b, 3)), 0, 6), c(b, 6)))


def hard_swish_op(b, x):
    return b.add("Mul", x, b.add("HardSigmoid", x, alpha=1 / 6, beta=0.5))


def hard_swish_relu6(b, x):
    relu6 = b.add("Min", b.add("Relu", b.add("Add", x, c(b, 3))), c(b, 6))
    return b.add("Mul", b.add("Mul", x, relu6), c(b, 1 / 6))


def hard_sigmoid_relu6(b, x):
    return b.add("Div", clip(b, b.add("Add", x, c(b, 3)), 0, 6), c(b, 6))


def hard_sigmoid_paddle(b, x):
    return clip(b, b.add("Add", b.add("Mul", x, c(b, 0.2)), c(b, 0.5)), 0, 1)


def hard_sigmoid_nested(b, x):
    scaled = b.add("Mul", b.add("Add", x, c(b, 3)), c(b, 1 / 6))
    return b.add("Max", b.add("Min", scaled, c(b, 1)), c(b, 0))


CASES = [
    (gelu_torch, "Gelu", {"approximate": "none"}),
    (gelu_mul, "Gelu", {"approximate": "none"}),
    (gelu_halved_gate, "Gelu", {"approximate": "none"}),
    (gelu_distributed, "Gelu", {"approximate": "none"}),
    (gelu_tanh_pow, "Gelu", {"approximate": "tanh"}),
    (gelu_tanh_mul, "Gelu", {"approximate": "tanh"}),
    (gelu_tanh_factored, "Gelu", {"approximate": "tanh"}),
    (silu, "Swish", {"alpha": 1.0}),
    (quick_gelu, "Swish", {"alpha": 1.702}),
    (silu_exp, "Swish", {"alpha": 1.0}),
    (mish, "Mish", {}),
    (mish_log, "Mish", {}),
    (softplus, "Softplus", {}),
    (hard_swish_paddle, "HardSwish", {}),
    (hard_swish_torch, "HardSwish", {}),
    (hard_swish_op, "HardSwish", {}),
    (hard_swish_relu6, "HardSwish", {}),
    (hard_sigmoid_relu6, "HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    (hard_sigmoid_paddle, "HardSigmoid", {"alpha": 0.2, "beta": 0.5}),
    (hard_sigmoid_nested, "HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
]


@pytest.mark.parametrize("opset", [9, 13, 18])
@pytest.mark.parametrize(
    ("spell", "op_type", "attributes"), CASES, ids=lambda v: getattr(v, "__name__", None)
)
def test_spelling_becomes_one_operator(spell, op_type, attributes, opset):
    b = ModelBuilder(opset=opset)
    x = b.add("Neg", b.input("x", ["N", 5, 7]))
    proto = b.output(b.add("Abs", spell(b, x)), ["N", 5, 7]).model()
    model = load(proto)
    assert ActivationSpelling()(model).modified
    assert [n.op_type for n in model.graph] == ["Neg", op_type, "Abs"]
    node = model.graph[1]
    for name, value in attributes.items():
        found = node.attributes[name].value
        assert found == value or math.isclose(found, value, rel_tol=1e-6)
    assert_same_results(proto, ir.to_proto(model), N=3)
    assert not ActivationSpelling()(model).modified


def test_domain_follows_the_opset():
    for opset, domain in ((13, "ai.bolt"), (14, "")):
        b = ModelBuilder(opset=opset)
        model = load(b.output(hard_swish_torch(b, b.input("x", [4])), [4]).model())
        ActivationSpelling()(model)
        assert [(n.op_type, n.domain) for n in model.graph] == [("HardSwish", domain)]
        assert (domain in model.opset_imports) or not domain


def wrong_half(b, x):
    gate = b.add("Add", b.add("Erf", b.add("Div", x, c(b, math.sqrt(2)))), c(b, 1))
    return b.add("Mul", b.add("Mul", x, gate), c(b, 0.51))


def wrong_root(b, x):
    gate = b.add("Add", b.add("Erf", b.add("Div", x, c(b, 1.4))), c(b, 1))
    return b.add("Mul", b.add("Mul", x, gate), c(b, 0.5))


def other_gate(b, x):
    return b.add("Mul", b.add("Abs", x), b.add("Sigmoid", x))


def clip_to_five(b, x):
    return b.add("Div", b.add("Mul", x, clip(b, b.add("Add", x, c(b, 3)), 0, 5)), c(b, 6))


def plain_clip(b, x):
    return clip(b, x, 0, 1)


def vector_constant(b, x):
    shifted = b.add("Add", x, b.constant([3.0] * 6 + [2.0], np.float32))
    return b.add("Div", b.add("Mul", x, clip(b, shifted, 0, 6)), c(b, 6))


@pytest.mark.parametrize(
    "spell", [wrong_half, wrong_root, other_gate, clip_to_five, plain_clip, vector_constant]
)
def test_lookalikes_stay(spell):
    b = ModelBuilder(opset=13)
    x = b.add("Neg", b.input("x", [5, 7]))
    model = load(b.output(spell(b, x), [5, 7]).model())
    ActivationSpelling()(model)
    assert not {n.op_type for n in model.graph} & {"Gelu", "Swish", "HardSwish", "HardSigmoid"}


def test_intermediate_that_is_an_output_survives():
    b = ModelBuilder(opset=13)
    x = b.input("x", [4])
    gate = b.add("Sigmoid", x)
    proto = b.output(b.add("Mul", x, gate), [4]).output(gate, [4]).model()
    model = load(proto)
    ActivationSpelling()(model)
    assert sorted(n.op_type for n in model.graph) == ["Sigmoid", "Swish"]
    assert_same_results(proto, ir.to_proto(model))


def test_half_precision_is_left_alone():
    b = ModelBuilder(opset=13)
    x = b.input("x", [4], np.float16)
    model = load(b.output(b.add("Mul", x, b.add("Sigmoid", x)), [4], np.float16).model())
    assert not ActivationSpelling()(model).modified
