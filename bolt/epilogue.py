"""Pointwise expressions: what a kernel does to each element before it stores it.

An `Epilogue` is a small DAG in topological order. Leaves are the anchor's accumulator (`acc`), the
epilogue inputs (`in0`, `in1`, ...: bias, residual, any broadcast operand) and constants. The same type
is the whole body of a pointwise kernel (which has no `acc`). Values are fp32; comparisons give 1.0 / 0.0.

`OPS` has one row per operation; the float64 reference (`numpy`) and the CPU code generator (`simd`) read it.
`bolt.spelling` has the ONNX spellings of the rows. To add an operation add a row there and here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bolt.spelling import POINTWISE, from_node, supports_dtype

__all__ = [
    "IDENTITY",
    "OPS",
    "POINTWISE",
    "Builder",
    "Epilogue",
    "Node",
    "Op",
    "from_node",
    "supports_dtype",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One operation of an epilogue.

    Attributes:
        op: a key of `OPS`, or a leaf: "acc", "in" (params: index), "const" (params: value).
        args: indices of earlier nodes.
        params: compile-time numbers of the op.
    """

    op: str
    args: tuple[int, ...] = ()
    params: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Epilogue:
    """A DAG of `Node`s in topological order; the last node is the result.

    An empty tuple is the identity of `acc`.
    """

    nodes: tuple[Node, ...] = ()

    @property
    def is_identity(self) -> bool:
        return len(self.nodes) <= 1 and all(n.op == "acc" for n in self.nodes)

    @property
    def inputs(self) -> int:
        """How many epilogue inputs the expression reads."""
        return 1 + max((int(n.params[0]) for n in self.nodes if n.op == "in"), default=-1)

    def evaluate(self, acc: np.ndarray | None, inputs: Sequence[np.ndarray]) -> np.ndarray:
        """The result in float64 by NumPy broadcasting."""
        if not self.nodes:
            assert acc is not None
            return np.asarray(acc, np.float64)
        values: list[np.ndarray] = []
        for node in self.nodes:
            if node.op == "acc":
                assert acc is not None
                values.append(np.asarray(acc, np.float64))
            elif node.op == "in":
                values.append(np.asarray(inputs[int(node.params[0])], np.float64))
            elif node.op == "const":
                values.append(np.float64(node.params[0]))  # type: ignore[arg-type]
            else:
                with np.errstate(all="ignore"):
                    values.append(OPS[node.op].numpy(*(values[a] for a in node.args), *node.params))
        return values[-1]


IDENTITY = Epilogue()


class Builder:
    """Builds an `Epilogue`, sharing equal nodes.

    >>> b = Builder()
    >>> b.finish(b.op("max", b.op("add", b.acc(), b.input(0)), b.const(0.0)))
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []

    def _put(self, node: Node) -> int:
        if node in self.nodes:
            return self.nodes.index(node)
        self.nodes.append(node)
        return len(self.nodes) - 1

    def acc(self) -> int:
        return self._put(Node(op="acc"))

    def input(self, index: int) -> int:
        return self._put(Node(op="in", params=(float(index),)))

    def const(self, value: float) -> int:
        return self._put(Node(op="const", params=(float(value),)))

    def op(self, name: str, *args: int, params: Sequence[float] = ()) -> int:
        row = OPS[name]
        assert len(args) == row.arity and len(params) == row.params, name
        return self._put(Node(op=name, args=args, params=tuple(float(p) for p in params)))

    def finish(self, result: int) -> Epilogue:
        """The expression ending in node `result`, without nodes it does not use."""
        used = {result}
        for index in range(result, -1, -1):
            if index in used:
                used |= set(self.nodes[index].args)
        order = sorted(used)
        new = {old: i for i, old in enumerate(order)}
        nodes = tuple(
            Node(op=n.op, args=tuple(new[a] for a in n.args), params=n.params)
            for n in (self.nodes[i] for i in order)
        )
        return Epilogue(nodes=nodes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """A row of the table.

    Attributes:
        arity: number of tensor arguments.
        params: number of compile-time numbers.
        numpy: float64 reference, called with the arguments and then the params.
        simd: C++ expression over vectors `{0}`, `{1}`, ... and params `{p0}`, `{p1}`, ...; functions are
            those of `templates/include/bolt/simd.h`.
        cost: rough fp32 vector instructions per vector (for the analytic model).
    """

    arity: int
    numpy: Callable[..., Any]
    simd: str
    params: int = 0
    cost: float = 1.0


def _erf(x: Any) -> Any:
    return _ERF(x)


_ERF = np.vectorize(math.erf, otypes=[np.float64])


def _unary(function: Callable[..., Any], simd: str, cost: float = 1.0, params: int = 0) -> Op:
    return Op(arity=1, numpy=function, simd=simd, cost=cost, params=params)


def _binary(function: Callable[..., Any], simd: str, cost: float = 1.0) -> Op:
    return Op(arity=2, numpy=function, simd=simd, cost=cost)


def _gelu_tanh(x: Any) -> Any:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def _narrow(x: Any, largest: float, steps: float, least: float) -> Any:
    """The nearest float of few digits: within +-`largest`, `steps` of them between neighbouring powers of
    two, of which `least` is the smallest."""
    inside = np.clip(x, -largest, largest)
    power = np.ldexp(1.0, np.frexp(inside)[1] - 1)
    step = np.maximum(power, least) / steps
    return np.rint(inside / step) * step


_LIBM = 100.0
"""Cost of a function that is called once per lane."""

OPS: dict[str, Op] = {
    "add": _binary(np.add, "{0} + {1}"),
    "sub": _binary(np.subtract, "{0} - {1}"),
    "mul": _binary(np.multiply, "{0} * {1}"),
    "div": _binary(np.divide, "{0} / {1}", cost=4),
    "max": _binary(np.maximum, "vmax_nan({0}, {1})", cost=3),
    "min": _binary(np.minimum, "vmin_nan({0}, {1})", cost=3),
    "pow": _binary(np.power, "vpow({0}, {1})", cost=_LIBM),
    "fmod": _binary(np.fmod, "vfmod({0}, {1})", cost=_LIBM),
    "neg": _unary(np.negative, "-{0}"),
    "abs": _unary(np.abs, "vabs({0})"),
    "sign": _unary(np.sign, "vsign({0})", cost=5),
    "reciprocal": _unary(np.reciprocal, "1.0f / {0}", cost=4),
    "sqrt": _unary(np.sqrt, "vsqrt({0})", cost=5),
    "floor": _unary(np.floor, "vfloor({0})"),
    "ceil": _unary(np.ceil, "vceil({0})"),
    "round": _unary(np.round, "vround({0})"),
    "trunc": _unary(np.trunc, "vtrunc({0})"),
    "narrow": _unary(_narrow, "vnarrow({0}, {p0}, {p1}, {p2})", cost=7, params=3),
    # logic: 1.0 is true, and so is whatever is not zero
    "equal": _binary(np.equal, "vbool({0} == {1})", cost=2),
    "less": _binary(np.less, "vbool({0} < {1})", cost=2),
    "less_equal": _binary(np.less_equal, "vbool({0} <= {1})", cost=2),
    "greater": _binary(np.greater, "vbool({0} > {1})", cost=2),
    "greater_equal": _binary(np.greater_equal, "vbool({0} >= {1})", cost=2),
    "and": _binary(np.logical_and, "vbool(({0} != 0.0f) & ({1} != 0.0f))", cost=4),
    "or": _binary(np.logical_or, "vbool(({0} != 0.0f) | ({1} != 0.0f))", cost=4),
    "xor": _binary(np.logical_xor, "vbool(({0} != 0.0f) ^ ({1} != 0.0f))", cost=4),
    "not": _unary(np.logical_not, "vbool({0} == 0.0f)", cost=2),
    "bool": _unary(lambda x: np.not_equal(x, 0), "vbool({0} != 0.0f)", cost=2),
    "isnan": _unary(np.isnan, "vbool({0} != {0})", cost=2),
    "isinf": _unary(np.isinf, "vbool(vabs({0}) == __builtin_inff())", cost=3),
    "where": Op(
        arity=3,
        numpy=lambda c, a, b: np.where(np.not_equal(c, 0), a, b),
        simd="vselect({0} != 0.0f, {1}, {2})",
        cost=2,
    ),
    "exp": _unary(np.exp, "vexp({0})", cost=13),
    "log": _unary(np.log, "vlog({0})", cost=26),
    "erf": _unary(_erf, "verf({0})", cost=20),
    "tanh": _unary(np.tanh, "vtanh({0})", cost=18),
    "sin": _unary(np.sin, "vsin({0})", cost=24),
    "cos": _unary(np.cos, "vcos({0})", cost=24),
    "tan": _unary(np.tan, "vtan({0})", cost=_LIBM),
    "asin": _unary(np.arcsin, "vasin({0})", cost=_LIBM),
    "acos": _unary(np.arccos, "vacos({0})", cost=_LIBM),
    "atan": _unary(np.arctan, "vatan({0})", cost=_LIBM),
    "sinh": _unary(np.sinh, "vsinh({0})", cost=_LIBM),
    "cosh": _unary(np.cosh, "vcosh({0})", cost=_LIBM),
    "asinh": _unary(np.arcsinh, "vasinh({0})", cost=_LIBM),
    "acosh": _unary(np.arccosh, "vacosh({0})", cost=_LIBM),
    "atanh": _unary(np.arctanh, "vatanh({0})", cost=_LIBM),
    "relu": _unary(lambda x: np.maximum(x, 0), "vrelu({0})"),
    "clip": _unary(np.clip, "vclip({0}, {p0}, {p1})", cost=2, params=2),
    "sigmoid": _unary(lambda x: 1 / (1 + np.exp(-x)), "vsigmoid({0})", cost=18),
    "silu": _unary(lambda x: x / (1 + np.exp(-x)), "vsilu({0})", cost=18),
    "gelu": _unary(lambda x: 0.5 * x * (1 + _erf(x * np.sqrt(0.5))), "vgelu({0})", cost=24),
    "gelu_tanh": _unary(_gelu_tanh, "vgelu_tanh({0})", cost=22),
    "mish": _unary(lambda x: x * np.tanh(np.logaddexp(0, x)), "vmish({0})", cost=21),
    "softplus": _unary(lambda x: np.logaddexp(0, x), "vsoftplus({0})", cost=26),
    "softsign": _unary(lambda x: x / (1 + np.abs(x)), "{0} / (vabs({0}) + 1.0f)", cost=6),
    "hard_sigmoid": _unary(
        lambda x, a, b: np.clip(a * x + b, 0, 1),
        "vclip({0} * {p0} + {p1}, vf{{}}, vset(1.0f))",
        cost=3,
        params=2,
    ),
    "hard_swish": _unary(
        lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
        "{0} * vclip({0} * vset(0x1.555556p-3f) + 0.5f, vf{{}}, vset(1.0f))",
        cost=4,
    ),
    "leaky_relu": _unary(
        lambda x, a: np.where(x < 0, a * x, x), "vselect({0} < 0.0f, {0} * {p0}, {0})", cost=3, params=1
    ),
    "prelu": _binary(lambda x, a: np.where(x < 0, a * x, x), "vselect({0} < 0.0f, {0} * {1}, {0})", cost=3),
    "elu": _unary(
        lambda x, a: np.where(x > 0, x, a * np.expm1(x)), "velu({0}, {p0}, vset(1.0f))", cost=16, params=1
    ),
    "celu": _unary(
        lambda x, a: np.where(x > 0, x, a * np.expm1(x / a)),
        "velu({0}, {p0}, 1.0f / {p0})",
        cost=17,
        params=1,
    ),
    "selu": _unary(
        lambda x, a, g: g * np.where(x > 0, x, a * np.expm1(x)),
        "{p1} * velu({0}, {p0}, vset(1.0f))",
        cost=17,
        params=2,
    ),
    "thresholded_relu": _unary(
        lambda x, a: np.where(x > a, x, 0.0), "vselect({0} > {p0}, {0}, vf{{}})", cost=2, params=1
    ),
    "shrink": _unary(
        lambda x, bias, lambd: np.where(x < -lambd, x + bias, np.where(x > lambd, x - bias, 0.0)),
        "vselect({0} < -{p1}, {0} + {p0}, vselect({0} > {p1}, {0} - {p0}, vf{{}}))",
        cost=6,
        params=2,
    ),
}
