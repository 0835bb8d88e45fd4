"""The loop nest of kernels whose operands all have the same dims, as text for their templates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bolt.kernels.family import argument_names
from bolt.ops.spec import Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """One axis of the nest.

    Attributes:
        dim: extent as C++ text.
        strides: one C++ text per operand, in elements.
        length: the extent when it is static.
        steps: the strides where they are static.
    """

    dim: str
    strides: tuple[str, ...]
    length: int | None
    steps: tuple[int | None, ...]


def nest(spec: Spec) -> tuple[Loop, ...]:
    """One loop per axis of the output, outermost first, over all operands of `spec`."""
    return nest_of(spec, range(len(spec.operands)))


def nest_of(spec: Spec, operands: Sequence[int]) -> tuple[Loop, ...]:
    """One loop per axis of the output over the given operands, which have the output's dims."""
    names = argument_names(spec)
    return tuple(
        Loop(
            dim=names[0]["dims"][axis],
            strides=tuple(names[i]["strides"][axis] for i in operands),
            length=spec.out.dims[axis],
            steps=tuple(spec.operands[i].strides[axis] for i in operands),
        )
        for axis in range(len(spec.out.dims))
    )


def collapse(loops: Sequence[Loop]) -> tuple[Loop, ...]:
    """The same index space with as few loops as the static facts allow; at least one loop.

    Axes of extent 1 go; neighbours merge where every operand moves from one to the other without a gap
    (or does not move at all).
    """
    kept = [loop for loop in loops if loop.length != 1]
    if not kept:
        return (_unit(len(loops[-1].strides)) if loops[-1].length is None else loops[-1],)
    out = [kept[0]]
    for loop in kept[1:]:
        outer = out[-1]
        if _joins(outer, loop):
            out[-1] = _join(outer, loop)
        else:
            out.append(loop)
    return tuple(out)


def outer_of(loops: Sequence[Loop]) -> tuple[Loop, ...]:
    """All loops but the innermost; never empty (templates walk at least one axis)."""
    return tuple(loops[:-1]) or (_unit(len(loops[-1].strides)),)


def walk(loops: Sequence[Loop]) -> str:
    """Initializer of a `Walk` (bolt/walk.h) over `loops`, before its first `seek`."""
    dims = ", ".join(loop.dim for loop in loops)
    strides = ", ".join(
        "{" + ", ".join(loop.strides[n] for loop in loops) + "}" for n in range(len(loops[0].strides))
    )
    return "{{" + dims + "}, {" + strides + "}, {}, {}}"


def _unit(operands: int) -> Loop:
    return Loop(dim="1", strides=("0",) * operands, length=1, steps=(0,) * operands)


def _joins(outer: Loop, inner: Loop) -> bool:
    return all(
        (a == 0 and b == 0)
        or (a is not None and b is not None and inner.length is not None and a == b * inner.length)
        for a, b in zip(outer.steps, inner.steps, strict=True)
    )


def _join(outer: Loop, inner: Loop) -> Loop:
    known = outer.length is not None and inner.length is not None
    length = outer.length * inner.length if known else None  # type: ignore[operator]
    dim = f"({outer.dim} * {inner.dim})" if length is None else str(length)
    return Loop(dim=dim, strides=inner.strides, length=length, steps=inner.steps)
