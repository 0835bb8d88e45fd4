"""`cuda_gather`: rows of a table by index."""

from __future__ import annotations

from collections.abc import Sequence

from bolt.codegen.render import render
from bolt.kernels import cuda_map
from bolt.kernels.cuda_copy import moved
from bolt.kernels.cuda_map import CudaFamily, Packs, View
from bolt.kernels.family import argument_names
from bolt.kernels.loops import Loop, nest_of
from bolt.kernels.rows import product
from bolt.ops.pointwise import GatherSpec
from bolt.ops.spec import Spec
from bolt.report import Rejection
from bolt.target import Target
from bolt.types import S32, S64


def _rows(spec: Spec) -> tuple[tuple[Loop, ...], tuple[View, ...], int]:
    """The output's rows, and the table's, whose second index is `picked`."""
    loops = nest_of(spec, (0,))
    text, table = argument_names(spec)[1]["strides"], spec.operands[1].strides
    picked = View(
        operand=1,
        steps=tuple(zip(text[:2], table[:2], strict=True)),
        inner=table[2],
        inner_text=text[2],
        offset=cuda_map.sum_of((product("at0", text[0]), product("picked", text[1]))),
    )
    views = (*cuda_map.loop_views(loops, (0,)), picked)
    return loops, views, cuda_map.widest_pack(spec, views, loops[2].length)


class CudaGather(CudaFamily):
    """The family; see the module's docstring."""

    name = "cuda_gather"
    op = "gather"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        assert isinstance(spec, GatherSpec)
        if len(spec.operands) != 3 or spec.constants or not spec.epilogue.is_identity:
            return self.reject(spec, "a gather has a table, an index, nothing packed and no epilogue")
        if spec.operands[2].dtype not in (S32, S64):
            return self.reject(spec, "the index is neither s32 nor s64")
        if moved(spec.out.dtype, spec.operands[1].dtype) is None:
            return self.reject(spec, "the two types differ, and are not both floats")
        return None

    def configs(self, spec: Spec, target: Target) -> Sequence[Packs]:
        return (Packs(width=_rows(spec)[2]),)

    def estimate(self, spec: Spec, config: Packs, target: Target) -> float:
        """The rows that are read, not the whole table."""
        assert target.gpu is not None
        return cuda_map.LAUNCH_US + 2 * cuda_map.size_bytes(spec.out) / target.gpu.bandwidth * 1e6

    def render(self, spec: Spec, config: Packs, target: Target, name: str) -> str:
        types = moved(spec.out.dtype, spec.operands[1].dtype)
        assert types is not None
        loops, (out, table), _ = _rows(spec)
        to = f"({types.to}*)p[0] + {out.at('i')}"
        source = f"(const {types.source}*)p[1] + {table.at('i')}"
        call = f"move_pack<V, {types.how}>({to}, {source}, n)"
        if not table.moves:
            call = f"spread_pack<V>({to}, {types.how}::convert(*({source})), n)"
        names = argument_names(spec)
        return render(
            "cuda_gather.cu.jinja",
            {
                "axis": names[1]["dims"][1],
                "index_type": spec.operands[2].dtype.cxx,
                "index_step": names[2]["strides"][0],
                "call": call,
                **cuda_map.map_context(spec, name, loops, config=config, views=(out, table)),
            },
        )
