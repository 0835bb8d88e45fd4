"""Shape rules of elementwise operators, and exact arithmetic on the integers they compute for shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from bolt import dims
from bolt.graph import bounds
from bolt.graph.site import CONTENT_LIMIT, Fact, Site, Unknown, content_of, objects

Rule = Callable[[Site], list[Fact]]
INTEGERS = frozenset(
    getattr(ir.DataType, name)
    for name in ("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "BOOL")
)


def _dyadic(value: Any) -> Any:
    """`value` where fp32 computes it without rounding, as far as that can be told; raises Unknown."""
    if isinstance(value, int):
        return value
    coefficients = value.as_coefficients_dict().values()
    if not all(c.is_Rational and int(c.q).bit_count() == 1 and c.q <= 1 << 10 for c in coefficients):
        raise Unknown
    return dims.dim(value)


def _divide_ints(a: Any, b: Any) -> Any:
    """ONNX integer division truncates; dims are never negative, so floor is the same for them."""
    if b == 0:
        raise Unknown
    if isinstance(a, int) and isinstance(b, int):
        return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    if bounds.lower(a) < 0 or bounds.lower(b) < 1:
        raise Unknown
    return bounds.floordiv(a, b)


def _divide_floats(a: Any, b: Any) -> Any:
    import sympy

    if b == 0:
        raise Unknown
    return _dyadic(dims.dim(sympy.cancel(sympy.sympify(a) / b)))


def _modulo(a: Any, b: Any) -> Any:
    if isinstance(a, int) and isinstance(b, int) and b != 0:
        return a % b
    if b == 0 or bounds.lower(a) < 0 or bounds.lower(b) < 1:
        raise Unknown
    return dims.sub(a, dims.mul(b, bounds.floordiv(a, b)))


def _round_down(a: Any) -> Any:
    import sympy

    if isinstance(a, int):
        return a
    numerator, denominator = sympy.fraction(sympy.together(a))
    if not denominator.is_Integer:
        raise Unknown
    return bounds.floordiv(dims.dim(sympy.expand(numerator)), int(denominator))


def _round_up(a: Any) -> Any:
    return a if isinstance(a, int) else dims.dim(-_round_down(dims.dim(-a)))


def _to_int(a: Any) -> Any:
    """Casts truncate toward zero."""
    if isinstance(a, int) or a.is_integer:
        return a
    if bounds.lower(a) < 0:
        raise Unknown
    return _round_down(a)


def _compare(below: int, equal: int, above: int) -> Callable[[Any, Any], int]:
    """A comparison by the sign of a - b; raises Unknown where the sign isn't certain."""

    def compare(a: Any, b: Any) -> int:
        difference = dims.dim(a - b) if isinstance(a, int) and isinstance(b, int) else _difference(a, b)
        if difference == 0:
            return equal
        low, high = bounds.lower(difference), bounds.upper(difference)
        outcomes = {below if low < 0 else equal if low == 0 else above}
        outcomes.add(above if high > 0 else equal if high == 0 else below)
        if low <= 0 <= high:
            outcomes.add(equal)
        if len(outcomes) > 1:
            raise Unknown
        return outcomes.pop()

    return compare


def _difference(a: Any, b: Any) -> Any:
    import sympy

    difference = sympy.expand(sympy.sympify(a) - b)
    return int(difference) if difference.is_Integer else difference


def _by_type(on_ints: Callable[..., Any], on_floats: Callable[..., Any]) -> Callable[..., Any]:
    def pick(is_integer: bool) -> Callable[..., Any]:
        return on_ints if is_integer else on_floats

    return pick


def _both(function: Callable[..., Any]) -> Callable[..., Any]:
    return _by_type(function, lambda *a: _dyadic(function(*a)))


ARITHMETIC: dict[str, Callable[..., Any]] = {
    "Add": _both(lambda a, b: dims.dim(a + b)),
    "Sub": _both(lambda a, b: dims.dim(a - b)),
    "Mul": _both(lambda a, b: dims.dim(a * b)),
    "Div": _by_type(_divide_ints, _divide_floats),
    "Mod": _both(_modulo),
    "Max": _both(bounds.maximum),
    "Min": _both(bounds.minimum),
    "Neg": _both(lambda a: dims.dim(-a)),
    "Abs": _both(lambda a: bounds.maximum(a, dims.dim(-a))),
    "Floor": _both(_round_down),
    "Ceil": _both(_round_up),
    "Identity": _both(lambda a: a),
    "Equal": _both(_compare(0, 1, 0)),
    "Less": _both(_compare(1, 0, 0)),
    "LessOrEqual": _both(_compare(1, 1, 0)),
    "Greater": _both(_compare(0, 0, 1)),
    "GreaterOrEqual": _both(_compare(0, 1, 1)),
    "And": _both(lambda a, b: int(bool(a) and bool(b))),
    "Or": _both(lambda a, b: int(bool(a) or bool(b))),
    "Not": _both(lambda a: int(not a)),
}
"""op type -> (is the type an integer? -> function of exact numbers)."""

_EXACT_FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE)
"""Float types in which the sizes of tensors are exact."""


def elementwise(function: Callable[..., Any], *contents: np.ndarray) -> np.ndarray | None:
    """`function` over broadcast object arrays; None when some element can't be told."""
    arrays = np.broadcast_arrays(*contents)
    if arrays[0].size > CONTENT_LIMIT:
        return None
    try:
        values = [function(*row) for row in zip(*(a.reshape(-1) for a in arrays), strict=True)]
    except Unknown:
        return None
    return objects(values, arrays[0].shape)


def _arithmetic(site: Site) -> np.ndarray | None:
    row = ARITHMETIC.get(site.node.op_type)
    contents = [c for i in range(len(site.node.inputs)) if (c := site.try_content(i)) is not None]
    if row is None or not contents or len(contents) < len(site.node.inputs):
        return None
    function = row(site.dtype() in INTEGERS)
    if len(contents) == 1:
        return elementwise(function, contents[0])
    result: np.ndarray | None = contents[0]
    for other in contents[1:]:
        result = elementwise(function, result, other) if result is not None else None
    return result


def _map(site: Site, dtype: ir.DataType | None) -> list[Fact]:
    """All inputs broadcast to the output."""
    shapes = [site.dims(i) for i in range(len(site.node.inputs)) if site.has(i)]
    return [Fact(site.broadcast(*shapes), dtype, _arithmetic(site))]


def same_type(site: Site) -> list[Fact]:
    return _map(site, site.dtype())


def boolean(site: Site) -> list[Fact]:
    return _map(site, ir.DataType.BOOL)


def like_first(site: Site) -> list[Fact]:
    """Shape and type of input 0; further inputs are parameters."""
    return [Fact(site.dims(), site.dtype(), _arithmetic(site) if len(site.node.inputs) == 1 else None)]


def batch_norm(site: Site) -> list[Fact]:
    """In training mode also the running (and, in old opsets, saved) statistics."""
    channels = site.dims()[1:2]
    return [Fact(site.dims(), site.dtype()), *[Fact(channels, site.dtype(3))] * (len(site.node.outputs) - 1)]


def layer_norm(site: Site) -> list[Fact]:
    """Mean and inverse deviation have 1 for each normalized axis."""
    extents = site.dims()
    axis = site.axis(default=-1)
    statistics = Fact(
        (*extents[:axis], *(1 for _ in extents[axis:])), ir.DataType(site.attr("stash_type", 1))
    )
    return [Fact(extents, site.dtype()), statistics, statistics]


def dropout(site: Site) -> list[Fact]:
    return [Fact(site.dims(), site.dtype()), Fact(site.dims(), ir.DataType.BOOL)]


def cast(site: Site) -> list[Fact]:
    to = ir.DataType(site.attr("to"))
    content = site.try_content(0)
    if content is not None and to in INTEGERS and to != ir.DataType.BOOL:
        content = elementwise(_to_int, content)
    elif content is not None and to not in _EXACT_FLOATS and to != ir.DataType.BOOL:
        content = None
    elif content is not None and to == ir.DataType.BOOL:
        content = elementwise(_compare(1, 0, 1), content, objects([0], ()))
    return [Fact(site.dims(), to, content)]


def cast_like(site: Site) -> list[Fact]:
    return [Fact(site.dims(), site.dtype(1))]


def where(site: Site) -> list[Fact]:
    contents = [site.try_content(i) for i in range(3)]
    known = [c for c in contents if c is not None]
    content = elementwise(lambda c, a, b: a if c else b, *known) if len(known) == 3 else None
    return [Fact(site.broadcast(*(site.dims(i) for i in range(3))), site.dtype(1), content)]


def prelu(site: Site) -> list[Fact]:
    return [Fact(site.dims(), site.dtype())]


def quantize(site: Site) -> list[Fact]:
    to = site.attr("output_dtype", 0)
    dtype = site.dtype(2) if site.has(2) else ir.DataType(to) if to else ir.DataType.UINT8
    return [Fact(site.dims(), dtype)]


def dequantize(site: Site) -> list[Fact]:
    return [Fact(site.dims(), site.dtype(1))]


def dynamic_quantize(site: Site) -> list[Fact]:
    return [Fact(site.dims(), ir.DataType.UINT8), Fact((), ir.DataType.FLOAT), Fact((), ir.DataType.UINT8)]


def constant(site: Site) -> list[Fact]:
    """A Constant node that had to stay a node (it is a graph output)."""
    tensor = site.attr("value")
    if tensor is None:
        raise Unknown
    return [Fact(tuple(int(d) for d in tensor.shape), tensor.dtype, content_of(tensor.numpy()))]


_SAME_TYPE = "Add Sub Mul Div Pow Mod Max Min Mean Sum BitShift BitwiseAnd BitwiseOr BitwiseXor"
_BOOLEAN = "Equal Less LessOrEqual Greater GreaterOrEqual And Or Xor"
_LIKE_FIRST = """Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Ceil Celu Clip Cos Cosh CumSum Elu Erf Exp
    Floor Gelu HardSigmoid HardSwish Hardmax Identity LeakyRelu Log LogSoftmax LRN Mish Neg Not Reciprocal
    Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softmax Softplus Softsign Sqrt Swish Tan Tanh
    InstanceNormalization GroupNormalization LpNormalization MeanVarianceNormalization RMSNormalization
    ThresholdedRelu ScatterElements ScatterND Scatter ReverseSequence Trilu RotaryEmbedding TensorScatter"""

RULES: dict[str, Rule] = {
    **dict.fromkeys(_SAME_TYPE.split(), same_type),
    **dict.fromkeys(_BOOLEAN.split(), boolean),
    **dict.fromkeys(_LIKE_FIRST.split(), like_first),
    "BatchNormalization": batch_norm,
    "LayerNormalization": layer_norm,
    "IsNaN": lambda site: [Fact(site.dims(), ir.DataType.BOOL)],
    "IsInf": lambda site: [Fact(site.dims(), ir.DataType.BOOL)],
    "PRelu": prelu,
    "Dropout": dropout,
    "Cast": cast,
    "CastLike": cast_like,
    "Where": where,
    "QuantizeLinear": quantize,
    "DequantizeLinear": dequantize,
    "DynamicQuantizeLinear": dynamic_quantize,
    "Constant": constant,
}
