"""The C++ of `cutlass_gemm_sm90`: what its templates are filled with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bolt.codegen import evt90
from bolt.codegen.evt90 import Loader
from bolt.codegen.render import render
from bolt.kernels.family import Source
from bolt.ops.gemm import GemmSpec
from bolt.ops.spec import Operand
from bolt.target import Target
from bolt.types import BF16, EIGHT_BIT_FLOATS, F16, F32, S8, DType

ALIGNMENT = 16
"""Bytes; of everything TMA moves (CUDA driver API, cuTensorMapEncodeTiled)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sm90Gemm:
    """A config.

    Attributes:
        tile: rows, columns and depth of a thread block's tile.
        cluster: thread blocks along m and n that share loads.
        schedule: "pingpong" or "cooperative" on Hopper, "1sm" or "2sm" on Blackwell (`cutlass_tiles_sm100`).
        stream_k: tiles are shared out by depth as well, so that the last wave is full (cooperative only).
        split_k: shares of the depth with `stream_k`; 1 lets the scheduler decide.
        swizzle: tiles of neighbouring columns that run together.
    """

    tile: tuple[int, int, int]
    cluster: tuple[int, int] = (1, 1)
    schedule: str = "pingpong"
    stream_k: bool = False
    split_k: int = 1
    swizzle: int = 1


def element(spec: GemmSpec) -> str | None:
    """What the tensor cores multiply, or None when they have no instruction for the operands' types.

    A constant b is packed in the type of a, except that 8-bit floats of either kind go with each other.
    """
    a, b = spec.operands[1].dtype, spec.operands[2].dtype
    if a in EIGHT_BIT_FLOATS or b in EIGHT_BIT_FLOATS:
        return "f8" if a in EIGHT_BIT_FLOATS and b in EIGHT_BIT_FLOATS else None
    if a is not b and not spec.is_b_constant:
        return None
    if a is F32:
        return "tf32" if spec.math == "tf32" else None
    return {F16: "f16", BF16: "bf16", S8: "s8"}.get(a)


def packed_dtype(spec: GemmSpec) -> DType:
    """The type in which a kernel reads b."""
    a, b = spec.operands[1].dtype, spec.operands[2].dtype
    return b if b in EIGHT_BIT_FLOATS else a


def major(operand: Operand, *axes: int) -> int | None:
    """The first of `axes` along which the operand is contiguous."""
    return next((axis for axis in axes if operand.strides[axis] == 1), None)


def b_major(spec: GemmSpec) -> int:
    """The axis of b along which the kernel reads contiguous elements."""
    axis = 2 if spec.is_b_constant else major(spec.operands[2], 2, 3)
    assert axis is not None
    return axis


def unaligned(operand: Operand, axis: int | None, what: str) -> str | None:
    """Why TMA can't move the operand, contiguous along `axis`, or None."""
    assert axis is not None
    if operand.alignment < ALIGNMENT:
        return f"{what} is not known to be aligned to {ALIGNMENT} bytes"
    contiguous, leading = operand.dims[axis], operand.strides[5 - axis]
    for value, name in ((contiguous, "extent"), (leading, "row stride")):
        if value is None:
            return f"the {name} of {what} is known at run time only"
        if value * operand.dtype.size_bytes % ALIGNMENT:
            return f"the {name} of {what} is {value}, not a multiple of {ALIGNMENT} bytes"
    return _unaligned_batch(operand, what)


def _unaligned_batch(operand: Operand, what: str) -> str | None:
    """The same for the batch steps.

    One that is known at run time only is a product with a run-time dim, hence outside the rows, whose stride
    is known, and a multiple of that.
    """
    for stride in operand.strides[:2]:
        if stride is not None and stride * operand.dtype.size_bytes % ALIGNMENT:
            return f"a batch step of {what} is {stride}, not a multiple of {ALIGNMENT} bytes"
    return None


def batch_axis(spec: GemmSpec) -> int:
    """The batch dim that is the kernel's; the launcher loops over the other one where it can't be joined."""
    return 0 if spec.out.dims[1] == 1 else 1


def is_shared(spec: GemmSpec, operand: Operand) -> bool:
    """Whether all batches of the kernel, of which there may be several, read the same elements."""
    axis = batch_axis(spec)
    return operand.strides[axis] == 0 and spec.out.dims[axis] != 1


def _loaders(spec: GemmSpec) -> tuple[Loader, ...]:
    """How the visitor tree reads the epilogue inputs; the first that TMA can move is the kernel's C."""
    source = next((i for i, e in enumerate(spec.extras) if _is_source(e)), -1)
    return tuple(_loader(spec, extra, is_source=index == source) for index, extra in enumerate(spec.extras))


def _is_source(extra: Operand) -> bool:
    if extra.dtype not in evt90.STORABLE or extra.strides[2:] in ((0, 0), (0, 1)):
        return False
    return extra.strides[3] == 1 and unaligned(extra, 3, "") is None


_BROADCASTS = {(0, 1): "row", (1, 0): "column", (0, 0): "scalar"}


def _loader(spec: GemmSpec, extra: Operand, *, is_source: bool) -> Loader:
    if is_source:
        batch = "_0" if is_shared(spec, extra) else "int64_t"
        return Loader(kind="source", dtype=extra.dtype, stride=f"Stride<int64_t, _1, {batch}>", strides="")
    m, n = extra.strides[2:]
    kind = _BROADCASTS.get((m, n), "tensor")  # type: ignore[arg-type]
    if kind == "tensor":
        rows, value = "int64_t", "x.strides[1]"
    else:
        rows, value = f"_{m}", f"_{m}{{}}"
    return Loader(
        kind=kind,
        dtype=extra.dtype,
        stride=f"Stride<{rows}, _{n}, int64_t>",
        strides=f"{{{value}, _{n}{{}}, x.strides[0]}}",
    )


def unit_context(spec: GemmSpec, config: Sm90Gemm, target: Target) -> dict[str, object]:
    """Substitutions of the unit's template; nothing in them is a size of the problem."""
    assert target.gpu is not None
    d, a, b = spec.operands[:3]
    loaders = _loaders(spec)
    tree = evt90.tree(spec.epilogue, loaders, d.dtype)
    is_integer = element(spec) == "s8"
    b_shared = spec.is_b_constant or is_shared(spec, b)
    return {
        "functor": tree.functor,
        "visitor": tree.types,
        "arguments": tree.arguments,
        "tile": constants(_multiplied(config)),
        "cta_tile": constants(config.tile),
        "cluster": constants((*config.cluster, 1)),
        "schedule": _SCHEDULES[config.schedule],
        "scheduler": "cutlass::gemm::StreamKScheduler" if config.stream_k else "void",
        "splits": _bool(config.stream_k),
        "multiprocessors": target.gpu.multiprocessors,
        "accumulator": "int32_t" if is_integer else "float",
        "a": _matrix(a.dtype, contiguous_last=major(a, 3, 2) == 3, shared=is_shared(spec, a)),
        "b": _matrix(packed_dtype(spec), contiguous_last=b_major(spec) == 2, shared=b_shared),
        "d": {"type": d.dtype.cutlass, "alignment": ALIGNMENT // d.dtype.size_bytes},
        "source": _source(spec, loaders, tree.source),
    }


_SCHEDULES = {
    "pingpong": {
        "arch": "Sm90",
        "mainloop": "KernelTmaWarpSpecializedPingpong",
        "epilogue": "TmaWarpSpecialized",
    },
    "cooperative": {
        "arch": "Sm90",
        "mainloop": "KernelTmaWarpSpecializedCooperative",
        "epilogue": "TmaWarpSpecializedCooperative",
    },
    "1sm": {
        "arch": "Sm100",
        "mainloop": "KernelTmaWarpSpecialized1SmSm100",
        "epilogue": "TmaWarpSpecialized1Sm",
    },
    "2sm": {
        "arch": "Sm100",
        "mainloop": "KernelTmaWarpSpecialized2SmSm100",
        "epilogue": "TmaWarpSpecialized2Sm",
    },
}


def _multiplied(config: Sm90Gemm) -> tuple[int, int, int]:
    """The tile one instruction sequence multiplies: with "2sm" that of two thread blocks."""
    m, n, k = config.tile
    return (2 * m, n, k) if config.schedule == "2sm" else config.tile


def constants(values: Sequence[int]) -> str:
    return ", ".join(f"Int<{v}>" for v in values)


def _bool(value: bool) -> str:
    return "true" if value else "false"


def _matrix(dtype: DType, *, contiguous_last: bool, shared: bool) -> dict[str, object]:
    """A or B: (rows, k, batch), where b's rows are its n."""
    batch = "_0" if shared else "int64_t"
    plane = "int64_t, _1" if contiguous_last else "_1, int64_t"
    return {
        "type": dtype.cutlass,
        "stride": f"Stride<{plane}, {batch}>",
        "shared": _bool(shared),
        "alignment": ALIGNMENT // dtype.size_bytes,
    }


def _source(spec: GemmSpec, loaders: Sequence[Loader], index: int) -> dict[str, object]:
    if index < 0:
        stride = "Stride<int64_t, _1, int64_t>"
        return {"type": "void", "stride": stride, "shared": "false", "alignment": 1, "index": -1}
    shared = is_shared(spec, spec.extras[index])
    dtype = loaders[index].dtype
    return {
        "type": evt90.ELEMENTS[dtype],
        "stride": loaders[index].stride,
        "shared": _bool(shared),
        "alignment": ALIGNMENT // dtype.size_bytes,
        "index": index,
    }


def launch_context(
    spec: GemmSpec, config: Sm90Gemm, name: str, unit: str, names: Sequence[Mapping[str, Sequence[str]]]
) -> dict[str, object]:
    """Substitutions of the launcher's template.

    Args:
        names: how to spell the dims and strides of each operand.
    """
    strides = [n["strides"] for n in names]
    inner = batch_axis(spec)
    outer = 1 - inner
    b_rows = 3 if b_major(spec) == 2 else 2
    a_rows = 2 if major(spec.operands[1], 3, 2) == 3 else 3
    ldb = names[2]["dims"][2] if spec.is_b_constant else strides[2][b_rows]
    fields = [("lda", strides[1][a_rows]), ("ldb", ldb), ("ldd", strides[0][2])]
    fields += [(f"{x}_batch", strides[i][inner]) for x, i in (("a", 1), ("b", 2), ("d", 0))]
    for index in range(len(spec.extras)):
        step = strides[spec.extra_base + index]
        fields += [(f"extras[{index}].strides[{i}]", step[axis]) for i, axis in enumerate((inner, 2, 3))]
    operands = range(len(spec.operands))
    is_looped = spec.out.dims[outer] != 1
    return {
        "name": name,
        "unit": unit,
        "m": names[0]["dims"][2],
        "n": names[0]["dims"][3],
        "k": names[1]["dims"][3],
        "strides": [f"g.{field} = {value};" for field, value in fields],
        "split_k": config.split_k,
        "swizzle": config.swizzle,
        "inner": names[0]["dims"][inner],
        "outer": names[0]["dims"][outer] if is_looped else "1",
        "joins": " && ".join(f"{strides[i][outer]} == inner * {strides[i][inner]}" for i in operands)
        if is_looped
        else "",
        "pointers": [_pointer(spec, i, strides[i][outer] if is_looped else "0") for i in operands],
    }


def _pointer(spec: GemmSpec, index: int, step: str) -> str:
    """The assignment of an operand's address in batch `i` of the launcher's loop."""
    field = ("d", "a", "b")[index] if index < 3 else f"extras[{index - 3}].data"
    size = spec.operands[index].dtype.size_bytes
    offset = "" if step == "0" else f" + i * {step} * {size}"
    return f"g.{field} = (char*)p[{index}]{offset};"


def unit_source(template: str, prefix: str, context: Mapping[str, object]) -> Source:
    """The unit a template gives, named after its text."""
    draft = render(template, {"name": "UNIT", **context})
    name = f"{prefix}_{hashlib.sha256(draft.encode()).hexdigest()[:12]}"
    return Source(name=name, text=render(template, {"name": name, **context}), language="cuda")
