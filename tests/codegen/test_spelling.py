"""`from_node` against ONNX Runtime: every spelling, its attributes, defaults and optional inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from bolt.epilogue import POINTWISE, Builder, from_node, supports_dtype
from bolt.types import BOOL, F32, S8, S32, S64, U8, from_numpy

RNG = np.random.default_rng(11)
X = np.concatenate([RNG.standard_normal(57) * 3, [0.0, -0.0, 0.5, 1.5, -2.5, 1.0, -1.0]]).astype(np.float32)
Y = np.concatenate([RNG.standard_normal(57) * 3, [0.0, 1.0, 0.5, 2.5, -2.5, -1.0, 2.0]]).astype(np.float32)
POSITIVE, UNIT = np.abs(X) + np.float32(1.25), np.float32(np.tanh(X) * 0.99)
A, B = RNG.integers(0, 2, (2, 64)).astype(bool)
ODD = np.concatenate([X[:60], np.float32([np.nan, np.inf, -np.inf, 0])])
STEP, LEFT_OUT = np.array(0.047, np.float32), np.zeros(0, np.float32)
ZERO_POINTS = [(0, np.uint8), (131, np.uint8), (0, np.int8), (-7, np.int8)]

CASES: list[tuple[str, dict[str, Any], list[np.ndarray], int]] = [
    # op type, attributes, inputs, opset
    *[(op, {}, [X], 20) for op in ("Abs", "Neg", "Sign", "Floor", "Ceil", "Round", "Reciprocal", "Exp")],
    *[(op, {}, [X], 20) for op in ("Erf", "Sin", "Cos", "Tan", "Atan", "Sinh", "Cosh", "Asinh")],
    *[(op, {}, [X], 20) for op in ("Relu", "Sigmoid", "Softplus", "Softsign", "Tanh", "Mish", "HardSwish")],
    *[(op, {}, [POSITIVE], 20) for op in ("Log", "Sqrt", "Acosh")],
    *[(op, {}, [UNIT], 20) for op in ("Asin", "Acos", "Atanh")],
    *[(op, {}, [X, Y], 20) for op in ("Add", "Sub", "Mul", "Div", "PRelu")],
    *[(op, {}, [X, Y], 20) for op in ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")],
    *[(op, {}, [A, B], 20) for op in ("And", "Or", "Xor")],
    *[(op, {}, [X, Y, UNIT], 20) for op in ("Max", "Min", "Sum", "Mean")],
    *[(op, {}, [X], 20) for op in ("Max", "Sum", "Identity", "Dropout")],
    ("Not", {}, [A], 20),
    ("Where", {}, [A, X, Y], 20),
    ("Mod", {"fmod": 1}, [X, POSITIVE], 20),
    ("Pow", {}, [POSITIVE, Y], 20),
    *[("Pow", {}, [POSITIVE, np.float32(e)], 20) for e in (1, 2, 3, 4, 0.5, -0.5, -1, -2, 1.7)],
    ("Pow", {}, [X, np.array(2, np.int64)], 20),
    ("IsNaN", {}, [ODD], 20),
    ("IsInf", {}, [ODD], 20),
    ("IsInf", {"detect_negative": 0}, [ODD], 20),
    ("IsInf", {"detect_positive": 0}, [ODD], 20),
    ("Clip", {}, [X, np.float32(-0.5), np.float32(1.5)], 20),
    ("Clip", {}, [X, np.float32(0)], 20),
    ("Clip", {}, [X, np.array([], np.float32), np.float32(1.5)], 20),
    ("Clip", {}, [X], 20),
    ("Clip", {"min": 0.0, "max": 6.0}, [X], 6),
    ("Clip", {"min": 0.0}, [X], 6),
    ("LeakyRelu", {}, [X], 20),
    ("LeakyRelu", {"alpha": 0.3}, [X], 20),
    ("Elu", {}, [X], 20),
    ("Elu", {"alpha": 0.7}, [X], 20),
    ("Celu", {}, [X], 20),
    ("Celu", {"alpha": 0.7}, [X], 20),
    ("Selu", {}, [X], 20),
    ("Selu", {"alpha": 1.5, "gamma": 1.2}, [X], 20),
    ("HardSigmoid", {}, [X], 20),
    ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}, [X], 20),
    ("ThresholdedRelu", {}, [X], 20),
    ("ThresholdedRelu", {"alpha": 0.4}, [X], 20),
    ("Shrink", {}, [X], 20),
    ("Shrink", {"bias": 0.3, "lambd": 0.8}, [X], 20),
    ("Gelu", {}, [X], 20),
    ("Gelu", {"approximate": "tanh"}, [X], 20),
    ("Gelu", {"approximate": b"none"}, [X], 20),
    *[("Cast", {"to": t}, [X], 20) for t in (TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64)],
    ("Cast", {"to": TensorProto.BOOL}, [X], 20),
    ("Cast", {"to": TensorProto.FLOAT}, [A], 20),
    *[("QuantizeLinear", {}, [4 * X, STEP, np.array(z, d)], 13) for z, d in ZERO_POINTS],
    ("QuantizeLinear", {}, [4 * X, STEP, LEFT_OUT], 13),
    *[("DequantizeLinear", {}, [(40 * X).astype(d), STEP, np.array(z, d)], 13) for z, d in ZERO_POINTS],
]


def expression(op_type: str, attributes: dict[str, Any], inputs: list[np.ndarray]) -> np.ndarray | None:
    """The node through `from_node`, in float64; scalars are constants, empty inputs are left out."""
    b = Builder()
    args = [-1 if a.size == 0 else b.input(i) for i, a in enumerate(inputs)]
    constants = [a if np.ndim(a) == 0 else None for a in inputs]
    result = from_node(b, op_type, attributes, args, constants)
    return None if result is None else b.finish(result).evaluate(None, inputs)


def runtime(op_type: str, attributes: dict[str, Any], inputs: list[np.ndarray], opset: int) -> np.ndarray:
    names = [f"x{i}" if a.size else "" for i, a in enumerate(inputs)]
    given = {n: np.asarray(a) for n, a in zip(names, inputs, strict=True) if n}
    node = helper.make_node(op_type, names, ["y"], **attributes)
    values = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in given.items()
    ]
    graph = helper.make_graph([node], "g", values, [onnx.ValueInfoProto(name="y")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, given)[0]


@pytest.mark.parametrize("op_type, attributes, inputs, opset", CASES)
def test_matches_onnx_runtime(op_type, attributes, inputs, opset):
    with np.errstate(all="ignore"):
        got = expression(op_type, attributes, inputs)
    want = runtime(op_type, attributes, inputs, opset)
    assert got is not None
    got = np.broadcast_to(got, want.shape)
    if want.dtype.kind == "f":
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-6)
    else:
        assert np.array_equal(got.astype(want.dtype), want)
    types = [from_numpy(np.asarray(a).dtype) if a.size else None for a in inputs]
    assert supports_dtype(op_type, types, from_numpy(want.dtype))


def test_every_spelling_has_a_case():
    assert {c[0] for c in CASES} | {"Swish"} == POINTWISE  # ONNX Runtime has no Swish at these opsets


def test_swish_is_x_times_sigmoid_of_alpha_x():
    for alpha in (1.0, 1.7):
        want = X / (1 + np.exp(-alpha * np.float64(X)))
        got = expression("Swish", {"alpha": alpha}, [X])
        np.testing.assert_allclose(got, want, rtol=1e-12)


def test_run_time_bounds_of_clip_become_max_and_min():
    got = expression("Clip", {}, [X, np.minimum(X, Y) + 1, np.full_like(X, 2)])
    assert np.array_equal(got, np.minimum(np.maximum(X, np.minimum(X, Y) + 1), 2))


def test_what_has_no_row_is_none():
    assert expression("Softmax", {}, [X]) is None
    assert expression("Mod", {}, [X, Y]) is None
    assert expression("Cast", {"to": TensorProto.FLOAT16}, [X]) is None
    assert expression("Gelu", {"approximate": "quick"}, [X]) is None
    assert expression("QuantizeLinear", {}, [X, np.array([0.1, 0.2], np.float32)]) is None
    assert expression("DequantizeLinear", {"block_size": 2}, [X, STEP]) is None


def test_quantization_saturates():
    b = Builder()
    wide, zero = np.array([-9.0, 0.26, 0.24, 300.0], np.float32), np.zeros((), np.uint8)
    args = [b.input(0), b.input(1), b.input(2)]
    result = from_node(b, "QuantizeLinear", {}, args, [None, np.array(0.5), zero])
    found = b.finish(result)
    assert found.evaluate(None, [wide]).tolist() == [0, 1, 0, 255]
    assert [n.op for n in found.nodes] == ["in", "const", "mul", "round", "clip"]


@pytest.mark.parametrize(
    "op_type, inputs, output, allowed",
    [
        ("Add", (F32, F32), F32, True),
        ("Add", (S64, S64), S64, False),
        ("Add", (U8, U8), U8, False),
        ("Equal", (S64, S64), BOOL, False),
        ("Equal", (U8, U8), BOOL, True),
        ("Where", (BOOL, S64, S64), S64, False),
        ("Where", (BOOL, F32, F32), F32, True),
        ("Cast", (S64,), F32, True),
        ("Cast", (S64,), BOOL, True),
        ("Cast", (S64,), S32, False),
        ("Cast", (F32,), S64, True),
        ("Cast", (S8,), S64, True),
        ("Pow", (F32, S64), F32, True),
        ("Identity", (S64,), S64, False),
        ("Clip", (F32, None, F32), F32, True),
        ("Not", (F32,), BOOL, False),
        ("Conv", (F32, F32), F32, False),
        ("Cast", (S32,), F32, True),
        ("QuantizeLinear", (F32, F32, U8), U8, True),
        ("QuantizeLinear", (F32, F32, S32), S32, False),
        ("DequantizeLinear", (S8, F32, S8), F32, True),
        ("DequantizeLinear", (S32, F32, S32), F32, False),
    ],
)
def test_types(op_type, inputs, output, allowed):
    assert supports_dtype(op_type, inputs, output) is allowed
