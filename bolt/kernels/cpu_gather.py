"""`cpu_gather`: rows of a table by index."""

from __future__ import annotations

from bolt.codegen.render import render
from bolt.kernels.cpu_copy import UNSIGNED
from bolt.kernels.family import argument_names
from bolt.kernels.loops import nest_of, walk
from bolt.kernels.plain import OneWay, PlainFamily
from bolt.ops.pointwise import GatherSpec
from bolt.ops.spec import Spec
from bolt.report import Rejection
from bolt.target import Target
from bolt.types import S32, S64


class CpuGather(PlainFamily):
    """The family; see the module's docstring."""

    name = "cpu_gather"
    op = "gather"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        if not isinstance(spec, GatherSpec):
            return self.reject(spec, "not a gather spec")
        if len(spec.operands) != 3 or spec.constants or not spec.epilogue.is_identity:
            return self.reject(spec, "a gather has a table, an index, nothing packed and no epilogue")
        if spec.operands[2].dtype not in (S32, S64):
            return self.reject(spec, "the index is neither s32 nor s64")
        if spec.out.dtype != spec.operands[1].dtype or spec.out.dtype.size_bytes not in UNSIGNED:
            return self.reject(spec, "the two types differ, or elements are not of 1, 2, 4 or 8 bytes")
        return None

    def render(self, spec: Spec, config: OneWay, target: Target, name: str) -> str:
        out, table, index = argument_names(spec)
        loops = nest_of(spec, (0,))
        steps = (out["strides"][2], table["strides"][2])
        contiguous = "copy_contiguous(y, x, first, last)"
        strided = f"copy_strided(y, {steps[0]}, x, {steps[1]}, first, last)"
        return render(
            "cpu_gather.cc.jinja",
            {
                "name": name,
                "type": UNSIGNED[spec.out.dtype.size_bytes],
                "index_type": spec.operands[2].dtype.cxx,
                "index_step": index["strides"][0],
                "axis": table["dims"][1],
                "table": table["strides"],
                "inner": loops[2].dim,
                "walk_type": "Walk<2, 1>",
                "walk": walk(loops[:2]),
                "call": contiguous if steps == ("1", "1") else strided,
            },
        )
