"""The last step of a register tile: epilogue and store, as C++ for templates/tile_finish.jinja."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bolt.codegen.simd import emit, stored
from bolt.epilogue import OPS, Epilogue
from bolt.kernels.family import argument_names
from bolt.kernels.rows import product, total
from bolt.ops.spec import Operand, Spec
from bolt.report import Rejection
from bolt.types import BF16, F32, S8, U8, DType

LONG_EPILOGUE = 8.0
"""Vector instructions from which on an epilogue is not unrolled over the tile: code size and compile time."""


STORAGE = (F32, BF16, U8, S8)
"""Types from which CPU kernels read numbers and in which they write them. Arithmetic is fp32."""


def wrong_storage(
    spec: Spec,
    family: str,
    *,
    a: Sequence[DType] = (F32,),
    b: Sequence[DType] = (F32,),
    output: Sequence[DType] = STORAGE,
    extras: Sequence[DType] = STORAGE,
) -> Rejection | None:
    """The reason why a tile can't read or write the operands of `spec`, if there is one.

    Args:
        spec: a spec whose operands 1 and 2 are multiplied.
        family: who asks.
        a, b, output, extras: types that operand 1, operand 2, the output and epilogue inputs may have.
    """
    allowed = (output, a, b)
    for index, operand in enumerate(spec.operands):
        known = allowed[index] if index < spec.extra_base else extras
        if operand.dtype not in known:
            names = " or ".join(d.name for d in known)
            reason = f"operand {index} is {operand.dtype}; the family takes {names}"
            return Rejection(stage="supports", subject=family, reason=reason)
    if spec.out.strides[-1] != 1 or any(e.strides[-1] not in (0, 1) for e in spec.extras):
        reason = "the innermost stride of the output is not 1, or of an epilogue input not 0 or 1"
        return Rejection(stage="supports", subject=family, reason=reason)
    return None


def epilogue_cost(epilogue: Epilogue) -> float:
    """Vector instructions per vector."""
    return sum(OPS[n.op].cost for n in epilogue.nodes if n.op in OPS)


def epilogue_cycles(epilogue: Epilogue) -> float:
    """Cycles per vector, loads included."""
    return (epilogue_cost(epilogue) + epilogue.inputs) / 2


def finish_context(spec: Spec, *, step: int = 1, grid: bool = False, weights: DType = F32) -> dict[str, Any]:
    """Substitutions for a tile of every `step`-th pixel along dim 2 of the 4-D output.

    The pixels are in one row, or in rows of `W` along dim 1 when `grid`. `weights` is their packed type.

    The template has the coordinates `n`, `y`, `x` of the tile's first pixel and `panel.k`, its first channel,
    in scope, and `i`, `j`, `lanes` in its loops.
    """
    names = argument_names(spec)
    extras = range(spec.epilogue.inputs)
    strides = {e: names[spec.extra_base + e]["strides"] for e in extras}
    pixel = {e: _pixel(strides[e], step, grid=grid) for e in extras}
    hoisted = [e for e in extras if pixel[e] == "0"]
    body, result = emit(
        spec.epilogue,
        acc="acc[i][j]",
        coarse=spec.out.dtype is BF16,
        load=lambda e: f"held{e}" if e in hoisted else _load(e, pixel[e], strides[e][3]),
    )
    return {
        "weights": weights.cpu,
        "out_type": spec.out.dtype.cpu,
        "out": f"({spec.out.dtype.cpu}*)p[0] + {_offset(names[0]['strides'])}",
        "out_pixel": _pixel(names[0]["strides"], step, grid=grid),
        "extras": [_pointer(spec, e, _offset(strides[e])) for e in extras],
        "hoisted": [f"const vf held{e} = {_load(e, pixel[e], strides[e][3])};" for e in hoisted],
        "body": body,
        "result": stored(spec, result),
        "rolled": epilogue_cost(spec.epilogue) >= LONG_EPILOGUE,
    }


def _pointer(spec: Spec, extra: int, offset: str) -> str:
    index = spec.extra_base + extra
    cxx = spec.operands[index].dtype.cpu
    return f"const {cxx}* in{extra} = (const {cxx}*)p[{index}] + {offset};"


def _offset(strides: list[str]) -> str:
    n, y, x, inner = strides
    terms = [product(i, s) for i, s in (("n", n), ("y", y), ("x", x), ("panel.k", inner))]
    return total(*terms)


def _pixel(strides: list[str], step: int, *, grid: bool) -> str:
    """Offset of pixel `i` of a tile from its first."""
    if not grid:
        return product("i", str(step), strides[2])
    return total(product("(i / W)", strides[1]), product("(i % W)", str(step), strides[2]))


def _load(extra: int, pixel: str, inner: str) -> str:
    if inner == "0":
        return f"vset(in{extra}[{pixel}])"
    return f"load_lanes<TAIL>(in{extra} + {total(pixel, 'j * VL')}, lanes)"


def as_operand(operand: Operand, array: np.ndarray) -> np.ndarray:
    """A constant laid out with the strides of its operand; 1-D."""
    shape = tuple(d if s else 1 for d, s in zip(array.shape, operand.strides, strict=True))
    strides = tuple(s or 0 for s in operand.strides)
    flat = np.zeros(1 + sum((d - 1) * s for d, s in zip(shape, strides, strict=True)), operand.dtype.np)
    index = tuple(slice(None) if s else slice(0, 1) for s in strides)
    np.lib.stride_tricks.as_strided(flat, shape, [s * flat.itemsize for s in strides])[...] = array[index]
    return flat


def beside_weights(spec: Spec, constants: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
    """What `Family.pack` returns of all constants but operand 2: each as its operand lies."""
    return {i: as_operand(spec.operands[i], array) for i, array in constants.items() if i != 2}
