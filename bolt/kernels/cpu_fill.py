"""`cpu_fill`: one value everywhere in a strided view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bolt.codegen.cxx import f32
from bolt.codegen.render import render
from bolt.kernels.loops import collapse, nest, outer_of, walk
from bolt.ops.pointwise import FillSpec
from bolt.ops.spec import Spec
from bolt.report import Rejection
from bolt.target import Target
from bolt.types import BOOL, F32, DType


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Nothing to search."""


def _literal(value: float, dtype: DType) -> str:
    if dtype is F32:
        return f32(value)
    if dtype is BOOL:
        return "true" if value else "false"
    return f"({dtype.cxx})INT64_C({int(value)})"


def _reject(spec: Spec, reason: str) -> Rejection:
    return Rejection(stage="supports", subject=f"cpu_fill {spec.op}", reason=reason)


class CpuFill:
    """The family; see the module's docstring."""

    name = "cpu_fill"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        if not isinstance(spec, FillSpec):
            return _reject(spec, "not a fill spec")
        if len(spec.operands) != 1 or not spec.out.dims or not spec.epilogue.is_identity:
            return _reject(spec, "a fill has one output of rank 1 or more and no epilogue")
        if spec.out.dtype is not F32 and spec.value != int(spec.value):
            return _reject(spec, f"{spec.value} is not a value of type {spec.out.dtype.name}")
        return None

    def configs(self, spec: Spec, target: Target) -> Sequence[Config]:
        return (Config(),)

    def estimate(self, spec: Spec, config: Config, target: Target) -> float:
        return 1.0

    def render(self, spec: Spec, config: Config, target: Target, name: str) -> str:
        assert isinstance(spec, FillSpec)
        loops = collapse(nest(spec))
        outer = outer_of(loops)
        return render(
            "cpu_fill.cc.jinja",
            {
                "name": name,
                "type": spec.out.dtype.cxx,
                "value": _literal(spec.value, spec.out.dtype),
                "walk_type": f"Walk<{len(outer)}, 1>",
                "walk": walk(outer),
                "row": loops[-1].dim,
                "step": loops[-1].strides[0],
            },
        )

    def pack(
        self, spec: Spec, config: Config, target: Target, constants: Mapping[int, np.ndarray]
    ) -> dict[int, np.ndarray]:
        return {}

    def scratch_bytes(self, spec: Spec, config: Config, target: Target) -> int:
        return 0
