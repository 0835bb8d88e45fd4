"""`cpu_reduce`: sums, means, extrema, products and norms over two axes.

Vectors run along the innermost output dim where the input is contiguous there; a single output element per
row is reduced across the lanes of a vector instead.
"""

from __future__ import annotations

from dataclasses import dataclass

from bolt.codegen.render import render
from bolt.kernels import rowwise
from bolt.kernels.family import argument_names
from bolt.kernels.finish import STORAGE
from bolt.kernels.loops import nest_of
from bolt.kernels.plain import OneWay, PlainFamily
from bolt.ops.rows import ReduceSpec
from bolt.ops.spec import Spec
from bolt.report import Rejection
from bolt.target import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A row of `KINDS`.

    Attributes:
        op: how two values are joined (a struct of bolt/horizontal.h).
        map: what is done to each element first (a struct of bolt/reduce.h).
        last: C++ expression of the result from `acc`; `count` is the number of elements.
    """

    op: str
    map: str = "AsIs"
    last: str = "acc"


KINDS = {
    "sum": Kind(op="SumOp"),
    "mean": Kind(op="SumOp", last="acc * (1.0f / (float)count)"),
    "max": Kind(op="MaxOp"),
    "min": Kind(op="MinOp"),
    "prod": Kind(op="ProdOp"),
    "sumsq": Kind(op="SumOp", map="Square"),
    "l1": Kind(op="SumOp", map="Magnitude"),
    "l2": Kind(op="SumOp", map="Square", last="vsqrt(acc)"),
}
"""How the reductions of `bolt.ops.rows.REDUCTIONS` are computed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How the input is read.

    Attributes:
        function: `columns` (vectors along the output), or a function of bolt/reduce.h for one element.
        window: the reduced axes' positions in the input's dims, outer first.
    """

    function: str
    window: tuple[int, int]


def _way(spec: ReduceSpec) -> Way:
    _, step0, _, step1, inner = spec.operands[1].strides
    if spec.out.dims[2] != 1 and inner == 1:
        return Way(function="columns", window=(1, 3))
    if step1 == 1:
        return Way(function="reduce_row", window=(1, 3))
    if step0 == 1:
        return Way(function="reduce_row", window=(3, 1))
    return Way(function="reduce_strided", window=(1, 3))


class CpuReduce(PlainFamily):
    """The family; see the module's docstring."""

    name = "cpu_reduce"
    op = "reduce"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        if not isinstance(spec, ReduceSpec):
            return self.reject(spec, "not a reduction spec")
        if spec.kind not in KINDS:
            return self.reject(spec, f"no reduction is called {spec.kind!r}")
        reason = rowwise.unsupported(spec)
        if reason is None and spec.operands[1].dtype not in STORAGE:
            reason = f"the input is {spec.operands[1].dtype}"
        return self.reject(spec, reason) if reason else None

    def render(self, spec: Spec, config: OneWay, target: Target, name: str) -> str:
        assert isinstance(spec, ReduceSpec)
        way, kind, source = _way(spec), KINDS[spec.kind], argument_names(spec)[1]
        operands = (0, *rowwise.extras_of(spec))
        loops = nest_of(spec, operands)[:-1]
        window = ", ".join(f"{source['dims'][axis]}, {source['strides'][axis]}" for axis in way.window)
        return render(
            "cpu_reduce.cc.jinja",
            {
                "name": name,
                "op": kind.op,
                "map": kind.map,
                "last": kind.last,
                "function": way.function,
                "window": window,
                "source": source["strides"],
                "inner": argument_names(spec)[0]["dims"][2],
                **rowwise.context(spec, loops, operands),
            },
        )
