"""`cpu_norm`: layer and RMS normalization of rows: mean, centered variance, one scaling pass."""

from __future__ import annotations

from bolt.codegen.cxx import f32
from bolt.codegen.render import render
from bolt.kernels import rowwise
from bolt.kernels.family import argument_names
from bolt.kernels.plain import OneWay, PlainFamily
from bolt.ops.rows import NormSpec
from bolt.ops.spec import Spec
from bolt.report import Rejection
from bolt.target import Target

_MEAN = "vreduce<SumOp>(k, [&](int64_t i, int64_t n) { return vload_upto(x + i, n); }) / (float)k"


class CpuNorm(PlainFamily):
    """The family; see the module's docstring."""

    name = "cpu_norm"
    op = "norm"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        if not isinstance(spec, NormSpec):
            return self.reject(spec, "not a normalization spec")
        reason = rowwise.unsupported(spec) or rowwise.unsupported_input(spec)
        return self.reject(spec, reason) if reason else None

    def render(self, spec: Spec, config: OneWay, target: Target, name: str) -> str:
        assert isinstance(spec, NormSpec)
        operands = range(len(spec.operands))
        context = {
            "name": name,
            "k": argument_names(spec)[0]["dims"][-1],
            "mean": "0.0f" if spec.rms else _MEAN,
            "epsilon": f32(spec.epsilon),
            **rowwise.context(spec, rowwise.row_loops(spec, operands), operands, walk_name="at"),
        }
        return render("cpu_norm.cc.jinja", context)
