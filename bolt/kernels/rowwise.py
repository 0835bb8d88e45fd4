"""The epilogue of kernels that produce their output row by row: text for `templates/rowwise.jinja`.

A row is the innermost dim of the output; epilogue inputs move along it (stride 1) or hold one value per row
(stride 0). The kernel walks the outer dims of the output and of these inputs together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bolt.codegen.simd import emit, stored
from bolt.kernels.family import argument_names
from bolt.kernels.finish import STORAGE
from bolt.kernels.loops import Loop, collapse, nest_of, outer_of, walk
from bolt.ops.spec import Operand, Spec
from bolt.types import BF16, S8, U8


def unsupported(spec: Spec) -> str | None:
    """Why the output and the epilogue inputs of `spec` don't fit rows, or None when they do."""
    if any(not o.dtype.cpu for o in spec.operands):
        return "kernels of a CPU don't have the type of an operand"
    if spec.constants:
        return "constants are operands like any other here: nothing to pack"
    if spec.out.strides[-1] != 1 and spec.out.dims[-1] != 1:
        return "the output's innermost stride is not 1"
    if any(len(o.dims) != len(spec.out.dims) for o in spec.extras):
        return "an epilogue input's rank is not the output's (broadcasts are strides of 0)"
    if any(o.strides[-1] not in (0, 1) and o.dims[-1] != 1 for o in spec.extras):
        return "an epilogue input's innermost stride is neither 0 nor 1"
    if spec.epilogue.inputs > len(spec.extras):
        return "the expression reads an input the spec does not have"
    return None


def unsupported_input(spec: Spec) -> str | None:
    """Why operand 1 is not read in rows, or None when it is."""
    source = spec.operands[1]
    if source.dtype not in STORAGE:
        return f"the input is {source.dtype}, not {', '.join(d.name for d in STORAGE)}"
    if source.strides[-1] != 1 and source.dims[-1] != 1:
        return "the input's innermost stride is not 1"
    return None


def extras_of(spec: Spec) -> tuple[int, ...]:
    """Indices of the epilogue's input operands."""
    return tuple(range(spec.extra_base, len(spec.operands)))


def vector_loops(spec: Spec, operands: Sequence[int]) -> tuple[Loop, ...]:
    """The collapsed nest over `operands`; its innermost loop moves the output by 1, the others by 0 or 1."""
    full = nest_of(spec, operands)
    loops = collapse(full)
    steps = loops[-1].steps
    if loops[-1] is full[-1] or (steps[0] == 1 and all(step in (0, 1) for step in steps)):
        return loops
    return (*loops, full[-1])  # the innermost dim has extent 1 and was dropped


def row_loops(spec: Spec, operands: Sequence[int]) -> tuple[Loop, ...]:
    """The collapsed loops outside the rows of the output; each row is its innermost dim alone."""
    full = nest_of(spec, operands)
    return collapse(full[:-1]) if len(full) > 1 else outer_of(full)


def context(
    spec: Spec,
    loops: Sequence[Loop],
    operands: Sequence[int],
    *,
    moves: Sequence[bool] | None = None,
    acc: str = "acc",
    along: tuple[str, int] | None = None,
    walk_name: str = "walk",
) -> dict[str, Any]:
    """What `rowwise.jinja` and the templates around it need.

    Args:
        spec: the kernel's spec.
        loops: what is walked.
        operands: indices of the operands `loops` has strides for; the output first.
        moves: whether each of them advances along a row (default: its innermost stride is 1).
        acc: the C++ expression of the accumulator.
        along: a C++ index variable and the output axis it runs over, when the walk leaves that axis out.
        walk_name: the C++ `Walk` that is at the row.
    """
    if moves is None:
        moves = [_advances(spec.operands[i]) for i in operands]
    inputs = [
        _input(
            spec.operands[i], i, start(spec, operands, i, along, walk_name), moves=moves[operands.index(i)]
        )
        for i in extras_of(spec)
    ]
    statements, result = emit(
        spec.epilogue, acc=acc, load=lambda i: inputs[i]["load"], coarse=spec.out.dtype is BF16
    )
    return {
        "out": spec.out.dtype.cpu,
        "source_type": spec.operands[min(1, len(spec.operands) - 1)].dtype.cpu,
        "store": store(spec),
        "out_start": start(spec, operands, 0, along, walk_name),
        "inputs": inputs,
        "statements": statements,
        "result": stored(spec, result),
        "arguments": "".join(f"x{x['index']}, " for x in inputs),
        "walk_type": f"Walk<{len(loops)}, {len(operands)}>",
        "walk": walk(loops),
    }


def store(spec: Spec) -> str:
    """The function of convert.h that stores a vector of the output; with `_n` behind it, part of one.

    8-bit integers are quantized values: rounded and saturated. Pointwise kernels cut, as they also are Cast.
    """
    return "vstore" if spec.out.dtype in (U8, S8) and spec.op != "pointwise" else "vstore_as"


def start(
    spec: Spec, operands: Sequence[int], index: int, along: tuple[str, int] | None, walk_name: str
) -> str:
    """C++ pointer to operand `index` at the walk's position."""
    dtype = spec.operands[index].dtype.cpu
    const = "const " if index else ""
    pixel = f" + {along[0]} * {argument_names(spec)[index]['strides'][along[1]]}" if along else ""
    return f"({const}{dtype}*)p[{index}] + {walk_name}.offset[{operands.index(index)}]{pixel}"


def _advances(operand: Operand) -> bool:
    return operand.strides[-1] == 1 and operand.dims[-1] != 1


def _input(operand: Operand, index: int, pointer: str, *, moves: bool) -> dict[str, Any]:
    """How the template declares, passes and loads one epilogue input."""
    if moves:
        cxx, load = f"const {operand.dtype.cpu}*", f"load<TAIL>(x{index} + i, n)"
        return {"index": index, "type": cxx, "start": pointer, "load": load}
    return {"index": index, "type": "vf", "start": f"vset((float)*({pointer}))", "load": f"x{index}"}
