"""`cuda_norm`: layer and RMS normalization of rows: mean, centered variance, one scaling pass."""

from __future__ import annotations

from bolt.codegen.cxx import f32
from bolt.codegen.render import render
from bolt.kernels import cuda_map
from bolt.kernels.cuda_rows import CudaRows, Teams
from bolt.ops.rows import NormSpec
from bolt.ops.spec import Spec
from bolt.report import Rejection
from bolt.target import Target

_MEAN = "x.template reduce<SumOp>(shared, [](vf v) { return v; }) / (float)k"


class CudaNorm(CudaRows):
    """The family; see the module's docstring."""

    name = "cuda_norm"
    op = "norm"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        assert isinstance(spec, NormSpec)
        reason = cuda_map.unsupported(spec)
        return self.reject(spec, reason) if reason else None

    def render(self, spec: Spec, config: Teams, target: Target, name: str) -> str:
        assert isinstance(spec, NormSpec)
        numbers = {"mean": "0.0f" if spec.rms else _MEAN, "epsilon": f32(spec.epsilon)}
        return render("cuda_norm.cu.jinja", {**self.context(spec, config, name), **numbers})
