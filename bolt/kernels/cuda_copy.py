"""`cuda_copy`: moves elements between two strided views, converting between float types where they differ.

The way is picked from the strides: rows contiguous on both sides in packs, few channels as one thread per
pixel, two different contiguous axes as a transpose through shared memory, else one element at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bolt.codegen.render import render
from bolt.kernels import cuda_map
from bolt.kernels.cuda_map import CudaFamily, Packs, View
from bolt.kernels.loops import Loop, collapse, nest
from bolt.kernels.plain import OneWay
from bolt.ops.pointwise import CopySpec
from bolt.ops.spec import Spec
from bolt.report import Rejection
from bolt.target import Target
from bolt.types import DType

_UNSIGNED = {1: "uint8_t", 2: "uint16_t", 4: "uint32_t", 8: "uint64_t"}
_FEW = 16
"""Up to so many channels of a pixel are moved by one thread instead of through a tile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """The element types as the kernel sees them.

    Attributes:
        to, source: C++ types of output and input.
        how: struct of bolt/cuda/copy.h that makes one of the other.
    """

    to: str
    source: str
    how: str


def moved(to: DType, source: DType) -> Moved | None:
    """How elements of one type become those of another, or None when they can't."""
    if to == source and to.size_bytes in _UNSIGNED:
        name = _UNSIGNED[to.size_bytes]
        return Moved(to=name, source=name, how=f"Same<{name}>")
    if to.is_float and source.is_float:
        return Moved(to=to.cxx, source=source.cxx, how=f"Converted<{to.cxx}, {source.cxx}>")
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Two axes, each contiguous on one side only.

    Attributes:
        i: the axis along which the input is contiguous.
        j: the axis along which the output is contiguous.
        others: the axes around them.
    """

    i: Loop
    j: Loop
    others: tuple[Loop, ...]


def _turn(loops: Sequence[Loop]) -> Turn | None:
    j = next((loop for loop in loops if loop.steps[0] == 1), None)
    i = next((loop for loop in loops if loop.steps[1] == 1), None)
    if i is None or j is None or i is j:
        return None
    return Turn(i=i, j=j, others=tuple(loop for loop in loops if loop is not i and loop is not j))


def _is_few(loop: Loop) -> bool:
    return loop.length is not None and loop.length <= _FEW


def _rows(spec: Spec) -> tuple[tuple[Loop, ...], tuple[View, ...], int]:
    """Rows along the innermost axis, and the widest packs."""
    loops = collapse(nest(spec))
    views = cuda_map.loop_views(loops, (0, 1))
    return loops, views, cuda_map.widest_pack(spec, views, loops[-1].length)


class CudaCopy(CudaFamily):
    """The family; see the module's docstring."""

    name = "cuda_copy"
    op = "copy"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        assert isinstance(spec, CopySpec)
        if not spec.epilogue.is_identity:
            return self.reject(spec, "a copy has no epilogue")
        if len(spec.operands) != 2 or spec.constants:
            return self.reject(spec, "a copy has one output and one input, neither of them packed")
        if moved(spec.out.dtype, spec.operands[1].dtype) is None:
            return self.reject(spec, "the two types differ, and are not both floats")
        if not spec.out.dims:
            return self.reject(spec, "rank 0: use rank 1")
        return None

    def configs(self, spec: Spec, target: Target) -> Sequence[Packs | OneWay]:
        if _turn(collapse(nest(spec))) is not None:
            return (OneWay(),)
        return cuda_map.pack_configs(_rows(spec)[2])

    def estimate(self, spec: Spec, config: Packs | OneWay, target: Target) -> float:
        slower = 1.2 if isinstance(config, OneWay) else cuda_map.narrowing(config, _rows(spec)[2])
        return cuda_map.traffic_us(spec, target) * slower

    def render(self, spec: Spec, config: Packs | OneWay, target: Target, name: str) -> str:
        types = moved(spec.out.dtype, spec.operands[1].dtype)
        assert types is not None
        turn = _turn(collapse(nest(spec)))
        if turn is not None and not _is_few(turn.i) and not _is_few(turn.j):
            return render("cuda_copy_tiled.cu.jinja", _tiled(spec, turn, types, name))
        context = _few(spec, turn, types, name) if turn else _packed(spec, config, types, name)
        return render("cuda_copy.cu.jinja", context)


def _packed(spec: Spec, config: Packs | OneWay, types: Moved, name: str) -> dict[str, Any]:
    """Rows in packs; one element at a time where a side is strided."""
    assert isinstance(config, Packs)
    loops, views, _ = _rows(spec)
    to, source = (
        f"({t}*)p[{v.operand}] + {v.at('i')}"
        for t, v in zip((types.to, "const " + types.source), views, strict=True)
    )
    call = f"move_pack<V, {types.how}>({to}, {source}, n)"
    if not views[1].moves:
        call = f"spread_pack<V>({to}, {types.how}::convert(*({source})), n)"
    context = cuda_map.map_context(spec, name, loops, config=config, views=views)
    return {**context, "call": call}


def _few(spec: Spec, turn: Turn, types: Moved, name: str) -> dict[str, Any]:
    """One thread moves what is contiguous on one side; neighbouring threads are neighbours on the other."""
    few, along = (turn.j, turn.i) if _is_few(turn.j) else (turn.i, turn.j)
    loops = (*turn.others, along)
    to, source = cuda_map.loop_views(loops, (0, 1))
    call = (
        f"move_few<{few.length}, {types.how}, Index>(({types.to}*)p[0] + {to.at('i')}, {few.strides[0]}, "
        f"(const {types.source}*)p[1] + {source.at('i')}, {few.strides[1]})"
    )
    context = cuda_map.map_context(spec, name, loops, config=Packs(width=1), views=())
    return {**context, "call": call}


def _tiled(spec: Spec, turn: Turn, types: Moved, name: str) -> dict[str, Any]:
    """A transpose of the two axes through shared memory."""
    cell = types.source if spec.operands[1].dtype.size_bytes >= 4 else "uint32_t"
    if types.to != types.source:
        cell = "float"
    starts = [cuda_map.offset_text(turn.others, operand) for operand in (0, 1)]
    return {
        "name": name,
        "ints": len(spec.dynamic()),
        "cell": cell,
        "to": types.to,
        "from": types.source,
        "how": types.how,
        "rows": turn.i.dim,
        "columns": turn.j.dim,
        "planes": cuda_map.row_count(turn.others),
        "unravel": cuda_map.unravel(turn.others),
        "y_start": f"({types.to}*)p[0] + {starts[0]}",
        "x_start": f"(const {types.source}*)p[1] + {starts[1]}",
        "y_step": turn.i.strides[0],
        "x_step": turn.j.strides[1],
        "choice": cuda_map.choice_of(spec, variants=lambda width: [("", "")]),
    }
