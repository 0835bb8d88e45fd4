"""Pointwise expressions: what a kernel does to each element before it stores it.

An `Epilogue` is a small DAG in topological order. Leaves are the anchor's accumulator (`acc`), the
epilogue inputs (`in0`, `in1`, ...: bias, residual, any broadcast operand) and constants. The same type
is the whole body of a pointwise kernel (which has no `acc`). Values are fp32; comparisons give 1.0 / 0.0.

`OPS` has one row per operation; fusion (`from_node`), the float64 reference (`numpy`) and the CPU code
generator (`simd`) all read it. To add an operation add a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


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


OPS: dict[str, Op] = {
    "add": Op(arity=2, numpy=np.add, simd="{0} + {1}"),
    "sub": Op(arity=2, numpy=np.subtract, simd="{0} - {1}"),
    "mul": Op(arity=2, numpy=np.multiply, simd="{0} * {1}"),
    "div": Op(arity=2, numpy=np.divide, simd="{0} / {1}", cost=4),
    "max": Op(arity=2, numpy=np.maximum, simd="vmax({0}, {1})"),
    "min": Op(arity=2, numpy=np.minimum, simd="vmin({0}, {1})"),
    "neg": Op(arity=1, numpy=np.negative, simd="-{0}"),
    "abs": Op(arity=1, numpy=np.abs, simd="vabs({0})"),
    "sqrt": Op(arity=1, numpy=np.sqrt, simd="vsqrt({0})", cost=5),
    "exp": Op(arity=1, numpy=np.exp, simd="vexp({0})", cost=12),
    "sigmoid": Op(arity=1, numpy=lambda x: 1 / (1 + np.exp(-x)), simd="vsigmoid({0})", cost=16),
    "tanh": Op(arity=1, numpy=np.tanh, simd="vtanh({0})", cost=16),
    "relu": Op(arity=1, numpy=lambda x: np.maximum(x, 0), simd="vrelu({0})"),
    "clip": Op(arity=1, params=2, numpy=np.clip, simd="vclip({0}, {p0}, {p1})", cost=2),
}
