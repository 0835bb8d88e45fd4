"""`cpu_copy`: moves elements between two strided views.

Elements of one type are moved as they are, fp32 and bf16 are converted into each other. The way is picked
from the strides: contiguous rows by memcpy, an inner broadcast as a fill, two different contiguous axes as a
tiled transpose (few channels: interleave), anything else one element at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bolt.codegen.render import render
from bolt.kernels.loops import Loop, collapse, nest, outer_of, walk
from bolt.kernels.plain import OneWay, PlainFamily
from bolt.ops.pointwise import CopySpec
from bolt.ops.spec import Spec
from bolt.report import Rejection
from bolt.target import Target
from bolt.types import BF16, F32

UNSIGNED = {1: "uint8_t", 2: "uint16_t", 4: "uint32_t", 8: "uint64_t"}
"""What stands for elements that are only moved, by their size."""
_CONVERTED = (F32, BF16)
_FEW = 4
"""Up to so many channels go through an interleave instead of a transpose."""
_SHORT_BYTES = 64
"""Static rows up to so many bytes are moved without a call of memcpy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How one row is moved.

    Attributes:
        row: the axis that is cut into pieces.
        outer: the axes that are walked.
        call: C++ call that moves elements [first, last) of the row at `y` from `x`.
    """

    row: Loop
    outer: tuple[Loop, ...]
    call: str


def _way(spec: Spec) -> Way:
    loops = collapse(nest(spec))
    inner = loops[-1]
    for choose in (_contiguous, _broadcast, _transposed):
        way = choose(loops)
        if way is not None:
            return way
    y_step, x_step = inner.strides
    call = f"copy_strided(y, {y_step}, x, {x_step}, first, last)"
    return Way(row=inner, outer=outer_of(loops), call=call)


def _contiguous(loops: Sequence[Loop]) -> Way | None:
    inner = loops[-1]
    if inner.steps != (1, 1):
        return None
    return Way(row=inner, outer=outer_of(loops), call="copy_contiguous(y, x, first, last)")


def _broadcast(loops: Sequence[Loop]) -> Way | None:
    inner = loops[-1]
    if inner.steps != (1, 0):
        return None
    return Way(row=inner, outer=outer_of(loops), call="copy_broadcast(y, x, first, last)")


def _transposed(loops: Sequence[Loop]) -> Way | None:
    """The output is contiguous along `j`, the input along another axis `i`."""
    j = next((loop for loop in loops if loop.steps[0] == 1), None)
    i = next((loop for loop in loops if loop.steps[1] == 1), None)
    if i is None or j is None or i is j:
        return None
    others = tuple(loop for loop in loops if loop is not i and loop is not j)
    outer = others or outer_of((i,))
    y_step, x_step = i.strides[0], j.strides[1]
    if j.length is not None and j.length <= _FEW:
        call = f"copy_interleave<{j.length}>(y, {y_step}, x, {x_step}, first, last)"
        return Way(row=i, outer=outer, call=call)
    if i.length is not None and i.length <= _FEW:
        call = f"copy_deinterleave<{i.length}>(y, {y_step}, x, {x_step}, first, last)"
        return Way(row=j, outer=outer, call=call)
    call = f"copy_transposed(y, {y_step}, x, {x_step}, (int64_t){j.dim}, first, last)"
    return Way(row=i, outer=outer, call=call)


def _short(way: Way, size: int) -> Way:
    """Many contiguous rows of a few bytes: the whole row at once, rows cut into shares."""
    length = way.row.length
    if not way.call.startswith("copy_contiguous") or length is None or length * size > _SHORT_BYTES:
        return way
    row, outer = way.outer[-1], way.outer[:-1] or outer_of((way.row,))
    return Way(
        row=row,
        outer=outer,
        call=f"for (int64_t i = first; i < last; i++) "
        f"copy_short<{length}>(y + i * {row.strides[0]}, x + i * {row.strides[1]})",
    )


class CpuCopy(PlainFamily):
    """The family; see the module's docstring."""

    name = "cpu_copy"
    op = "copy"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        if not isinstance(spec, CopySpec):
            return self.reject(spec, "not a copy spec")
        if not spec.epilogue.is_identity:
            return self.reject(spec, "a copy has no epilogue")
        if len(spec.operands) != 2 or spec.constants:
            return self.reject(spec, "a copy has one output and one input, neither of them packed")
        types = (spec.out.dtype, spec.operands[1].dtype)
        if types[0] != types[1] and not set(types) <= set(_CONVERTED):
            return self.reject(spec, f"there is no conversion from {types[1]} to {types[0]}")
        if not spec.out.dims:
            return self.reject(spec, "rank 0: use rank 1")
        return None

    def render(self, spec: Spec, config: OneWay, target: Target, name: str) -> str:
        types = [o.dtype for o in spec.operands]
        way = _short(_way(spec), max(t.size_bytes for t in types))
        y, x = (t.cpu if types[0] != types[1] else UNSIGNED[t.size_bytes] for t in types)
        return render(
            "cpu_copy.cc.jinja",
            {
                "name": name,
                "to": y,
                "from": x,
                "walk_type": f"Walk<{len(way.outer)}, 2>",
                "walk": walk(way.outer),
                "row": way.row.dim,
                "call": way.call,
            },
        )
