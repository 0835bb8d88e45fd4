"""`cpu_pointwise`: an expression over strided views in one pass, vectorized along the innermost dim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bolt.codegen.render import render
from bolt.kernels import rowwise
from bolt.kernels.loops import outer_of
from bolt.kernels.plain import PlainFamily
from bolt.ops.pointwise import PointwiseSpec
from bolt.ops.spec import Spec
from bolt.report import Rejection
from bolt.target import Target

_LIGHT = 8
"""With so many nodes or fewer several vectors in flight fit the registers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How the inner loop runs.

    Attributes:
        unroll: vectors per iteration.
    """

    unroll: int


class CpuPointwise(PlainFamily):
    """The family; see the module's docstring."""

    name = "cpu_pointwise"
    op = "pointwise"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        if not isinstance(spec, PointwiseSpec):
            return self.reject(spec, "not a pointwise spec")
        if not spec.out.dims:
            return self.reject(spec, "rank 0: use rank 1")
        reason = rowwise.unsupported(spec)
        return self.reject(spec, reason) if reason else None

    def configs(self, spec: Spec, target: Target) -> Sequence[Config]:
        unrolls = (4, 1) if len(spec.epilogue.nodes) <= _LIGHT else (1, 4)
        return tuple(Config(unroll=unroll) for unroll in unrolls)

    def estimate(self, spec: Spec, config: Config, target: Target) -> float:
        nodes = len(spec.epilogue.nodes)
        spills = 0.0 if nodes <= _LIGHT else 0.5 * config.unroll
        return nodes + 2.0 / config.unroll + spills

    def render(self, spec: Spec, config: Config, target: Target, name: str) -> str:
        operands = range(len(spec.operands))
        loops = rowwise.vector_loops(spec, operands)
        moves = [step == 1 for step in loops[-1].steps]
        context = rowwise.context(spec, outer_of(loops), operands, moves=moves, acc="")
        return render(
            "cpu_pointwise.cc.jinja",
            {"name": name, "inner": loops[-1].dim, "unroll": config.unroll, **context},
        )
