"""`cuda_pointwise`: an expression over strided views in one pass; a thread takes a pack of neighbours."""

from __future__ import annotations

from collections.abc import Sequence

from bolt.codegen.render import render
from bolt.kernels import cuda_map
from bolt.kernels.cuda_map import CudaFamily, Packs, View
from bolt.kernels.loops import Loop, collapse, nest
from bolt.ops.pointwise import PointwiseSpec
from bolt.ops.spec import Spec
from bolt.report import Rejection
from bolt.target import Target


def _plan(spec: Spec) -> tuple[tuple[Loop, ...], tuple[View, ...], int]:
    """The loops, the rows along the innermost of them, and the widest packs."""
    loops = collapse(nest(spec))
    views = cuda_map.loop_views(loops, range(len(spec.operands)))
    return loops, views, cuda_map.widest_pack(spec, views, loops[-1].length)


class CudaPointwise(CudaFamily):
    """The family; see the module's docstring."""

    name = "cuda_pointwise"
    op = "pointwise"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        assert isinstance(spec, PointwiseSpec)
        reason = cuda_map.unsupported(spec)
        return self.reject(spec, reason) if reason else None

    def configs(self, spec: Spec, target: Target) -> Sequence[Packs]:
        return cuda_map.pack_configs(_plan(spec)[2])

    def estimate(self, spec: Spec, config: Packs, target: Target) -> float:
        return cuda_map.traffic_us(spec, target) * cuda_map.narrowing(config, _plan(spec)[2])

    def render(self, spec: Spec, config: Packs, target: Target, name: str) -> str:
        loops, views, _ = _plan(spec)
        context = cuda_map.map_context(spec, name, loops, config=config, views=views)
        finish = cuda_map.finish_context(spec, views)
        return render("cuda_pointwise.cu.jinja", {**context, **finish})
