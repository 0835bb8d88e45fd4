"""`cuda_fill`: one value everywhere in a strided view."""

from __future__ import annotations

from collections.abc import Sequence

from bolt.codegen.cxx import f32
from bolt.codegen.render import render
from bolt.kernels import cuda_map
from bolt.kernels.cuda_map import CudaFamily, Packs, View
from bolt.kernels.loops import Loop, collapse, nest
from bolt.ops.pointwise import FillSpec
from bolt.ops.spec import Spec
from bolt.report import Rejection
from bolt.target import Target
from bolt.types import BOOL, DType


def _literal(value: float, dtype: DType) -> str:
    if dtype.is_float:
        return f"Element<{dtype.cxx}>::from_float({f32(value)})"
    if dtype is BOOL:
        return "true" if value else "false"
    return f"({dtype.cxx})INT64_C({int(value)})"


def _rows(spec: Spec) -> tuple[tuple[Loop, ...], tuple[View, ...], int]:
    loops = collapse(nest(spec))
    views = cuda_map.loop_views(loops, (0,))
    return loops, views, cuda_map.widest_pack(spec, views, loops[-1].length)


class CudaFill(CudaFamily):
    """The family; see the module's docstring."""

    name = "cuda_fill"
    op = "fill"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        assert isinstance(spec, FillSpec)
        if len(spec.operands) != 1 or not spec.out.dims or not spec.epilogue.is_identity:
            return self.reject(spec, "a fill has one output of rank 1 or more and no epilogue")
        if not spec.out.dtype.is_float and spec.value != int(spec.value):
            return self.reject(spec, f"{spec.value} is not a value of type {spec.out.dtype.name}")
        return None

    def configs(self, spec: Spec, target: Target) -> Sequence[Packs]:
        return (Packs(width=_rows(spec)[2]),)

    def render(self, spec: Spec, config: Packs, target: Target, name: str) -> str:
        assert isinstance(spec, FillSpec)
        loops, views, _ = _rows(spec)
        value = _literal(spec.value, spec.out.dtype)
        call = f"spread_pack<V>({cuda_map.pointer(spec, views[0], 'i')}, {value}, n)"
        context = cuda_map.map_context(spec, name, loops, config=config, views=views)
        return render("cuda_fill.cu.jinja", {**context, "call": call})
