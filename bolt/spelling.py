"""How ONNX spells the operations of `bolt.epilogue.OPS`: one row per pointwise ONNX op type."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bolt.types import (
    BOOL,
    DTYPES,
    EIGHT_BIT_FLOATS,
    F8E4M3,
    F8E5M2,
    F32,
    LARGEST,
    S8,
    S32,
    S64,
    U8,
    DType,
    from_numpy,
    from_onnx,
)

if TYPE_CHECKING:
    from bolt.epilogue import Builder

_FLOAT_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One ONNX node on its way to becoming expression nodes.

    Attributes:
        builder: takes the nodes.
        attributes: of the ONNX node.
        args: node index of each input; negative where an optional input is left out.
        constants: value of each input that is a compile-time scalar, else None.
    """

    builder: Builder
    attributes: Mapping[str, Any]
    args: Sequence[int]
    constants: Sequence[np.ndarray | None]

    def attribute(self, name: str, default: float) -> float:
        return float(self.attributes.get(name, default))

    def has(self, index: int) -> bool:
        return index < len(self.args) and self.args[index] >= 0

    def constant(self, index: int) -> float | None:
        """The value of input `index` when it is a compile-time scalar."""
        value = self.constants[index] if index < len(self.constants) else None
        return None if value is None or np.size(value) != 1 else float(np.reshape(value, -1)[0])

    def zero_point(self) -> np.ndarray | None:
        """Input 2, a scalar of the quantized type; 0 when it is left out, None when it is not constant."""
        if not self.has(2):
            stated = from_onnx(int(self.attribute("output_dtype", 0)) or U8.onnx)
            return None if stated is None else np.zeros((), stated.np)
        value = self.constants[2]
        return None if value is None or np.size(value) != 1 else np.reshape(value, ())


Build = Callable[[Call], int | None]
Allows = Callable[[Sequence[DType | None], DType], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spelling:
    """A row of the table.

    Attributes:
        build: turns a call into expression nodes; None when these attributes have no row in `OPS`.
        allows: which input and output types fp32 arithmetic gets exactly right.
    """

    build: Build
    allows: Allows


def _op(name: str, **defaults: float) -> Build:
    """The row `name`; keyword arguments are the ONNX attributes that become its params, with defaults."""

    def build(call: Call) -> int:
        params = [call.attribute(attribute, default) for attribute, default in defaults.items()]
        return call.builder.op(name, *call.args, params=params)

    return build


def _chain(name: str) -> Build:
    """A variadic op as a left-associated chain of the binary row `name`."""

    def build(call: Call) -> int:
        result = call.args[0]
        for arg in call.args[1:]:
            result = call.builder.op(name, result, arg)
        return result

    return build


def _mean(call: Call) -> int | None:
    total = _chain("add")(call)
    assert total is not None
    return call.builder.op("mul", total, call.builder.const(1 / len(call.args)))


def _first(call: Call) -> int:
    return call.args[0]


def _cast(call: Call) -> int | None:
    to = from_onnx(int(call.attributes["to"]))
    if to is None:
        return None
    if to is F32:
        return call.args[0]
    return call.builder.op("bool" if to is BOOL else "trunc", call.args[0])


def _square(b: Builder, x: int) -> int:
    return b.op("mul", x, x)


_POWERS: dict[float, Callable[[Builder, int], int]] = {
    1.0: lambda b, x: x,
    2.0: _square,
    3.0: lambda b, x: b.op("mul", _square(b, x), x),
    4.0: lambda b, x: _square(b, _square(b, x)),
    0.5: lambda b, x: b.op("sqrt", x),
    -0.5: lambda b, x: b.op("reciprocal", b.op("sqrt", x)),
    -1.0: lambda b, x: b.op("reciprocal", x),
    -2.0: lambda b, x: b.op("reciprocal", _square(b, x)),
}


def _pow(call: Call) -> int:
    exponent = call.constant(1)
    if exponent in _POWERS:
        return _POWERS[exponent](call.builder, call.args[0])
    return call.builder.op("pow", *call.args)


def _mod(call: Call) -> int | None:
    return call.builder.op("fmod", *call.args) if call.attributes.get("fmod", 0) else None


def _clip(call: Call) -> int:
    """Bounds are attributes (opset 6) or inputs (11), which may be left out or not constant."""
    bounds = [call.attribute("min", -_FLOAT_MAX), call.attribute("max", _FLOAT_MAX)]
    result = call.args[0]
    for index, name in ((0, "max"), (1, "min")):
        if not call.has(index + 1):
            continue
        value = call.constant(index + 1)
        if value is None:
            result = call.builder.op(name, result, call.args[index + 1])
        else:
            bounds[index] = value
    low, high = (-np.inf if bounds[0] <= -_FLOAT_MAX else bounds[0]), bounds[1]
    high = np.inf if high >= _FLOAT_MAX else high
    if (low, high) == (-np.inf, np.inf):
        return result
    if (low, high) == (0.0, np.inf):
        return call.builder.op("relu", result)
    return call.builder.op("clip", result, params=(low, high))


def _gelu(call: Call) -> int | None:
    approximate = call.attributes.get("approximate", "none")
    approximate = approximate.decode() if isinstance(approximate, bytes) else approximate
    row = {"none": "gelu", "tanh": "gelu_tanh"}.get(approximate)
    return None if row is None else call.builder.op(row, call.args[0])


def _swish(call: Call) -> int:
    alpha, b, x = call.attribute("alpha", 1.0), call.builder, call.args[0]
    if alpha == 1.0:
        return b.op("silu", x)
    return b.op("mul", x, b.op("sigmoid", b.op("mul", x, b.const(alpha))))


def _isinf(call: Call) -> int:
    b, x = call.builder, call.args[0]
    negative, positive = (call.attribute(f"detect_{sign}", 1) for sign in ("negative", "positive"))
    if negative and positive:
        return b.op("isinf", x)
    if not (negative or positive):
        return b.const(0.0)
    return b.op("equal", x, b.const(np.inf if positive else -np.inf))


_EIGHT_BITS = {np.dtype(np.uint8): (0.0, 255.0), np.dtype(np.int8): (-128.0, 127.0)}
"""Range of the types that values are quantized to."""


NARROWED = {F8E4M3: (LARGEST[F8E4M3], 8.0, 2.0**-6), F8E5M2: (LARGEST[F8E5M2], 4.0, 2.0**-14)}
"""Parameters of the row "narrow" for the types whose numbers it gives."""


def _quantize(call: Call) -> int | None:
    """clip(round(x / scale + zero)), for a scale and a zero point that are constant scalars.

    ONNX rounds before it adds the zero point: where x / scale is halfway between two integers and the zero
    point is odd, the other one is taken. 8-bit floats have no zero point.
    """
    scale, zero = call.constant(1), call.zero_point()
    if not scale or zero is None or call.attribute("block_size", 0):
        return None
    b, x = call.builder, call.args[0]
    if scale != 1.0:
        x = b.op("mul", x, b.const(1 / scale))
    narrow = from_numpy(zero.dtype)
    if narrow in NARROWED:
        whole = call.attribute("saturate", 1) and not float(zero)
        return b.op("narrow", x, params=NARROWED[narrow]) if whole else None
    if zero.dtype not in _EIGHT_BITS:
        return None
    low, high = _EIGHT_BITS[zero.dtype]
    if zero:
        x = b.op("add", x, b.const(float(zero)))
    return b.op("clip", b.op("round", x), params=(low, high))


def _dequantize(call: Call) -> int | None:
    """(x - zero) * scale, for a scale and a zero point that are constant scalars."""
    scale, zero = call.constant(1), call.zero_point()
    if scale is None or zero is None or call.attribute("block_size", 0):
        return None
    b, x = call.builder, call.args[0]
    if float(zero):
        x = b.op("sub", x, b.const(float(zero)))
    return x if scale == 1.0 else b.op("mul", x, b.const(scale))


_SMALL = (F32, U8, S8, BOOL)
"""Every value of these types is an fp32 value."""


def _float(inputs: Sequence[DType | None], output: DType) -> bool:
    return all(d in (F32, None) for d in inputs) and output is F32


def _test(inputs: Sequence[DType | None], output: DType) -> bool:
    return all(d is F32 for d in inputs) and output is BOOL


def _compare(inputs: Sequence[DType | None], output: DType) -> bool:
    return all(d in _SMALL for d in inputs) and output is BOOL


def _logic(inputs: Sequence[DType | None], output: DType) -> bool:
    return all(d is BOOL for d in inputs) and output is BOOL


def _same(inputs: Sequence[DType | None], output: DType) -> bool:
    return output in _SMALL and all(d in (output, None) for d in inputs)


def _first_same(inputs: Sequence[DType | None], output: DType) -> bool:
    return _same(inputs[:1], output)


def _select(inputs: Sequence[DType | None], output: DType) -> bool:
    return inputs[0] is BOOL and _same(inputs[1:], output)


def _power(inputs: Sequence[DType | None], output: DType) -> bool:
    return _float(inputs[:1], output)


def _quantizes(inputs: Sequence[DType | None], output: DType) -> bool:
    return _float(inputs[:2], F32) and output in (U8, S8, *EIGHT_BIT_FLOATS)


def _dequantizes(inputs: Sequence[DType | None], output: DType) -> bool:
    return inputs[0] in (U8, S8, *EIGHT_BIT_FLOATS) and _float(inputs[1:2], output)


_EXACT_CASTS: dict[DType, tuple[DType, ...]] = {
    F32: DTYPES,
    **dict.fromkeys((U8, S8, BOOL), DTYPES),
    **dict.fromkeys((S32, S64), (F32, BOOL)),
    **dict.fromkeys(EIGHT_BIT_FLOATS, (F32,)),
}
"""Casts by way of fp32 that lose nothing the direct cast keeps."""


def _casts(inputs: Sequence[DType | None], output: DType) -> bool:
    return inputs[0] is not None and output in _EXACT_CASTS[inputs[0]]


_UNARY = (
    *("Abs", "Neg", "Sign", "Floor", "Ceil", "Round", "Sqrt", "Reciprocal", "Exp", "Log", "Erf"),
    *("Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh"),
    *("Relu", "Sigmoid", "Softplus", "Softsign", "Tanh", "Mish"),
)
"""ONNX ops whose row in `OPS` has the same name in lower case."""

SPELLINGS: dict[str, Spelling] = {
    **{name: Spelling(build=_op(name.lower()), allows=_float) for name in _UNARY},
    "Add": Spelling(build=_op("add"), allows=_float),
    "Sub": Spelling(build=_op("sub"), allows=_float),
    "Mul": Spelling(build=_op("mul"), allows=_float),
    "Div": Spelling(build=_op("div"), allows=_float),
    "Pow": Spelling(build=_pow, allows=_power),
    "Mod": Spelling(build=_mod, allows=_float),
    "Sum": Spelling(build=_chain("add"), allows=_float),
    "Mean": Spelling(build=_mean, allows=_float),
    "Max": Spelling(build=_chain("max"), allows=_same),
    "Min": Spelling(build=_chain("min"), allows=_same),
    "Clip": Spelling(build=_clip, allows=_same),
    "Where": Spelling(build=_op("where"), allows=_select),
    "Equal": Spelling(build=_op("equal"), allows=_compare),
    "Less": Spelling(build=_op("less"), allows=_compare),
    "LessOrEqual": Spelling(build=_op("less_equal"), allows=_compare),
    "Greater": Spelling(build=_op("greater"), allows=_compare),
    "GreaterOrEqual": Spelling(build=_op("greater_equal"), allows=_compare),
    "And": Spelling(build=_op("and"), allows=_logic),
    "Or": Spelling(build=_op("or"), allows=_logic),
    "Xor": Spelling(build=_op("xor"), allows=_logic),
    "Not": Spelling(build=_op("not"), allows=_logic),
    "IsNaN": Spelling(build=_op("isnan"), allows=_test),
    "IsInf": Spelling(build=_isinf, allows=_test),
    "Cast": Spelling(build=_cast, allows=_casts),
    "Identity": Spelling(build=_first, allows=_same),
    "Dropout": Spelling(build=_first, allows=_first_same),
    "LeakyRelu": Spelling(build=_op("leaky_relu", alpha=0.01), allows=_float),
    "PRelu": Spelling(build=_op("prelu"), allows=_float),
    "Elu": Spelling(build=_op("elu", alpha=1.0), allows=_float),
    "Celu": Spelling(build=_op("celu", alpha=1.0), allows=_float),
    "Selu": Spelling(
        build=_op("selu", alpha=1.67326319217681884765625, gamma=1.05070102214813232421875), allows=_float
    ),
    "HardSigmoid": Spelling(build=_op("hard_sigmoid", alpha=0.2, beta=0.5), allows=_float),
    "HardSwish": Spelling(build=_op("hard_swish"), allows=_float),
    "ThresholdedRelu": Spelling(build=_op("thresholded_relu", alpha=1.0), allows=_float),
    "Shrink": Spelling(build=_op("shrink", bias=0.0, lambd=0.5), allows=_float),
    "Gelu": Spelling(build=_gelu, allows=_float),
    "Swish": Spelling(build=_swish, allows=_float),
    "QuantizeLinear": Spelling(build=_quantize, allows=_quantizes),
    "DequantizeLinear": Spelling(build=_dequantize, allows=_dequantizes),
}
"""Every pointwise op type of domain "" or "ai.bolt"."""

POINTWISE: frozenset[str] = frozenset(SPELLINGS)


def from_node(
    builder: Builder,
    op_type: str,
    attributes: Mapping[str, Any],
    args: Sequence[int],
    constants: Sequence[np.ndarray | None],
) -> int | None:
    """Adds what one ONNX node computes to `builder`.

    Args:
        builder: takes the nodes.
        op_type: ONNX op type in domain "" or "ai.bolt".
        attributes: of the ONNX node (numbers, strings).
        args: node index of each input; negative (or missing at the end) where an optional input is left out.
        constants: value of each input that is a compile-time scalar, else None (may be shorter than `args`).

    Returns:
        The node that holds the result; None when the op is not pointwise or `OPS` can't express it.
    """
    row = SPELLINGS.get(op_type)
    if row is None:
        return None
    return row.build(Call(builder=builder, attributes=attributes, args=args, constants=constants))


def supports_dtype(op_type: str, inputs: Sequence[DType | None], output: DType) -> bool:
    """Whether fp32 arithmetic gives this op's exact result (float ops: its fp32 result) for these types.

    Integers beyond 2^24 are not fp32 values and 8-bit arithmetic wraps, so integers are only cast,
    compared (8 bits) and selected.

    Args:
        op_type: ONNX op type.
        inputs: types of the node's inputs; None where one is left out.
        output: type of its (first) output.
    """
    row = SPELLINGS.get(op_type)
    return row is not None and row.allows(inputs, output)
