"""`cpu_fill`: one value everywhere in a strided view."""

from __future__ import annotations

import numpy as np

from bolt.codegen.cxx import f32
from bolt.codegen.render import render
from bolt.kernels.loops import collapse, nest, outer_of, walk
from bolt.kernels.plain import OneWay, PlainFamily
from bolt.ops.pointwise import FillSpec
from bolt.ops.spec import Spec
from bolt.report import Rejection
from bolt.target import Target
from bolt.types import BF16, BOOL, F32, DType, convert


def _literal(value: float, dtype: DType) -> str:
    if dtype is F32:
        return f32(value)
    if dtype is BF16:
        return f"bf16_t{{{convert(np.array(value), dtype).view(np.uint16):#06x}}}"
    if dtype is BOOL:
        return "true" if value else "false"
    return f"({dtype.cpu})INT64_C({int(value)})"


class CpuFill(PlainFamily):
    """The family; see the module's docstring."""

    name = "cpu_fill"
    op = "fill"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        if not isinstance(spec, FillSpec):
            return self.reject(spec, "not a fill spec")
        if len(spec.operands) != 1 or not spec.out.dims or not spec.epilogue.is_identity:
            return self.reject(spec, "a fill has one output of rank 1 or more and no epilogue")
        if not spec.out.dtype.cpu:
            return self.reject(spec, f"kernels of a CPU have no {spec.out.dtype}")
        if not spec.out.dtype.is_float and spec.value != int(spec.value):
            return self.reject(spec, f"{spec.value} is not a value of type {spec.out.dtype.name}")
        return None

    def render(self, spec: Spec, config: OneWay, target: Target, name: str) -> str:
        assert isinstance(spec, FillSpec)
        loops = collapse(nest(spec))
        outer = outer_of(loops)
        return render(
            "cpu_fill.cc.jinja",
            {
                "name": name,
                "type": spec.out.dtype.cpu,
                "value": _literal(spec.value, spec.out.dtype),
                "walk_type": f"Walk<{len(outer)}, 1>",
                "walk": walk(outer),
                "row": loops[-1].dim,
                "step": loops[-1].strides[0],
            },
        )
