"""`cutlass_gemm_sm90`: matrix products by Hopper's warp-specialized kernels (CUTLASS 3.x: TMA and wgmma).

TMA moves boxes whose start and strides are multiples of 16 bytes, so operands that are not aligned like that
are left to `cutlass_gemm_sm80`, whose kernels run here too. A constant b is packed as its transpose (n, k),
the one layout that all types' instructions read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bolt.codegen import evt, evt90
from bolt.codegen.evt90 import Loader
from bolt.codegen.render import render
from bolt.kernels.cutlass_tiles_sm90 import Tile, tiles
from bolt.kernels.family import Config, Source, argument_names
from bolt.kernels.finish import as_operand, epilogue_cost
from bolt.kernels.sm90_model import Problem, blocks, microseconds
from bolt.ops.gemm import GemmSpec
from bolt.ops.spec import Operand, Spec
from bolt.report import Rejection
from bolt.target import Target
from bolt.types import BF16, F16, F32, S8, DType, convert

ALIGNMENT = 16
"""Bytes; of everything TMA moves (CUDA driver API, cuTensorMapEncodeTiled)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sm90Gemm:
    """A config.

    Attributes:
        tile: rows, columns and depth of a thread block's tile.
        cluster: thread blocks along m and n that share loads.
        schedule: "pingpong" or "cooperative".
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
    """What the tensor cores multiply, or None when they have no instruction for the operands' types."""
    types = (spec.operands[1].dtype, spec.operands[2].dtype)
    if types[0] is not types[1]:
        return None
    if types[0] is F32:
        return "tf32" if spec.math == "tf32" else None
    return {F16: "f16", BF16: "bf16", S8: "s8"}.get(types[0])


class CutlassGemmSm90:
    """The family; see the module's docstring."""

    name = "cutlass_gemm_sm90"
    language = "cxx"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        reason = _obstacle(spec, target)
        return (
            Rejection(stage="supports", subject=f"{self.name} {spec.op}", reason=reason) if reason else None
        )

    def configs(self, spec: Spec, target: Target) -> Sequence[Sm90Gemm]:
        assert isinstance(spec, GemmSpec)
        kind = element(spec)
        assert kind is not None
        problem = _problem(spec)
        legal = tiles(kind).legal
        plain = [_config(t, swizzle=_swizzle(problem, t)) for t in legal]
        return (*plain, *_split(spec, problem, legal))

    def estimate(self, spec: Spec, config: Config, target: Target) -> float:
        assert isinstance(spec, GemmSpec)
        assert target.gpu is not None
        tile = Tile(shape=config.tile, cluster=config.cluster, schedule=config.schedule)
        problem = _problem(spec)
        return microseconds(problem, tile, target.gpu, splits=_shares(problem, config, tile, target))

    def render(self, spec: Spec, config: Config, target: Target, name: str) -> str:
        assert isinstance(spec, GemmSpec)
        unit = self.units(spec, config, target)[0].name
        return render("cutlass_gemm_sm90_launch.cc.jinja", _launcher(spec, config, name, unit))

    def units(self, spec: Spec, config: Config, target: Target) -> tuple[Source, ...]:
        assert isinstance(spec, GemmSpec)
        context = _unit(spec, config, target)
        draft = render("cutlass_gemm_sm90.cu.jinja", {"name": "UNIT", **context})
        name = f"bolt_gemm_{target.name}_{hashlib.sha256(draft.encode()).hexdigest()[:12]}"
        text = render("cutlass_gemm_sm90.cu.jinja", {"name": name, **context})
        return (Source(name=name, text=text, language="cuda"),)

    def pack(
        self, spec: Spec, config: Config, target: Target, constants: Mapping[int, np.ndarray]
    ) -> dict[int, np.ndarray]:
        packed = {i: as_operand(spec.operands[i], a) for i, a in constants.items() if i != 2}
        if 2 in constants:
            packed[2] = _as(np.ascontiguousarray(constants[2][0, 0].T).ravel(), spec.operands[2].dtype)
        return packed

    def scratch_bytes(self, spec: Spec, config: Config, target: Target) -> int:
        assert isinstance(spec, GemmSpec)
        return _workspace_bytes(spec, config, target) if config.stream_k else 0


UNKNOWN = 1024
"""What a dim is taken for that is known at run time only."""


def _problem(spec: GemmSpec) -> Problem:
    kind = element(spec)
    assert kind is not None
    b0, b1, m, n = (UNKNOWN if d is None else d for d in spec.out.dims)
    if spec.out.dims[0] is None:
        b0 = 1
    whole = [e for e in spec.extras if e.strides[2:] not in ((0, 0), (0, 1), (1, 0))]
    return Problem(
        m=m,
        n=n,
        k=spec.operands[1].dims[3] or UNKNOWN,
        batch=b0 * b1,
        element=kind,
        bytes=spec.bytes(),
        out_bytes=spec.out.dtype.size_bytes + sum(e.dtype.size_bytes for e in whole),
        epilogue_cost=epilogue_cost(spec.epilogue),
    )


def _config(tile: Tile, *, swizzle: int = 1, stream_k: bool = False, split_k: int = 1) -> Sm90Gemm:
    return Sm90Gemm(
        tile=tile.shape,
        cluster=tile.cluster,
        schedule=tile.schedule,
        stream_k=stream_k,
        split_k=split_k,
        swizzle=swizzle,
    )


def _swizzle(problem: Problem, tile: Tile) -> int:
    """8 columns of tiles run together where the grid has them: neighbours share operands in L2."""
    return 8 if min(blocks(problem, tile)) >= 6 else 1


def _split(spec: GemmSpec, problem: Problem, legal: Sequence[Tile]) -> list[Sm90Gemm]:
    """Configs that share out the depth. Their workspace grows with the problem, so its dims must be known."""
    if None in (*spec.out.dims, spec.operands[1].dims[3]):
        return []
    return [
        _config(tile, stream_k=True, split_k=shares)
        for tile in legal
        if tile.schedule == "cooperative" and tile.cluster == (1, 1) and tile.shape[0] == 128
        for shares in (1, 2, 4, 8, 16)
        if problem.k >= 4 * shares * tile.shape[2]
    ]


def _shares(problem: Problem, config: Sm90Gemm, tile: Tile, target: Target) -> int:
    """Thread blocks that share one tile's depth, for the analytic model."""
    assert target.gpu is not None
    if not config.stream_k or config.split_k > 1:
        return config.split_k
    rows, columns = blocks(problem, tile)
    return max(1, target.gpu.multiprocessors // (rows * columns * problem.batch))


MAX_MULTIPROCESSORS = 144
"""Of any Hopper GPU: the full chip."""


def _workspace_bytes(spec: GemmSpec, config: Sm90Gemm, target: Target) -> int:
    """What the stream-K scheduler needs: one fp32 tile and two barriers for each tile that is shared.

    (`get_workspace_component_sizes` of cutlass/gemm/kernel/tile_scheduler_params.h; without fixed shares the
    tiles of two waves at most.)
    """
    problem = _problem(spec)
    tile = Tile(shape=config.tile, cluster=config.cluster, schedule=config.schedule)
    rows, columns = blocks(problem, tile)
    shared = rows * columns * (spec.out.dims[_batch_axis(spec)] or 1)
    if config.split_k == 1:
        shared = min(shared, 2 * MAX_MULTIPROCESSORS)
    m, n, _ = config.tile
    return _l2_lines(shared * m * n * 4) + _l2_lines(shared * 2 * 4)


def _l2_lines(size: int) -> int:
    return -(-size // 128) * 128


def _as(array: np.ndarray, dtype: DType) -> np.ndarray:
    return convert(array, dtype) if dtype.is_float else array.astype(dtype.np)


def _obstacle(spec: Spec, target: Target) -> str | None:
    """Why the family can't compute `spec`, or None."""
    if not isinstance(spec, GemmSpec):
        return "not a gemm spec"
    if target.name != "sm90a":
        return f"wgmma is an instruction of sm90a, not of {target.name}"
    kind = element(spec)
    if kind is None:
        a, b = spec.operands[1].dtype, spec.operands[2].dtype
        return f"wgmma has no instruction for {a} x {b} operands (f32 needs precision tf32)"
    refused = evt.obstacle(spec.extras, spec.out.dtype, CutlassGemmSm90.name)
    return refused.reason if refused is not None else _layout_obstacle(spec, kind)


def _layout_obstacle(spec: GemmSpec, kind: str) -> str | None:
    d, a, b = spec.operands[:3]
    if d.strides[3] != 1:
        return "the output's columns are not contiguous"
    if _major(a, 3, 2) is None:
        return "operand a has no contiguous dim"
    if not spec.is_b_constant and _major(b, 2, 3) is None:
        return "operand b has no contiguous dim"
    if kind in ("tf32", "s8") and not (_major(a, 3, 2) == 3 and _b_major(spec) == 2):
        return f"{kind} operands must be contiguous along k"
    if spec.is_b_constant and (b.dims[2] is None or b.dims[3] is None):
        return "the dims of a constant operand must be known"
    unaligned = _unaligned(d, 3, "the output") or _unaligned(a, _major(a, 3, 2), "operand a")
    if not unaligned and not spec.is_b_constant:
        unaligned = _unaligned(b, _b_major(spec), "operand b")
    if not unaligned and spec.is_b_constant and b.dims[2] * b.dtype.size_bytes % ALIGNMENT:  # type: ignore[operator]
        unaligned = f"k of the constant operand is {b.dims[2]}, not a multiple of {ALIGNMENT} bytes"
    return unaligned


def _major(operand: Operand, *axes: int) -> int | None:
    """The first of `axes` along which the operand is contiguous."""
    return next((axis for axis in axes if operand.strides[axis] == 1), None)


def _b_major(spec: GemmSpec) -> int:
    """The axis of b along which the kernel reads contiguous elements."""
    major = 2 if spec.is_b_constant else _major(spec.operands[2], 2, 3)
    assert major is not None
    return major


def _unaligned(operand: Operand, major: int | None, what: str) -> str | None:
    """Why TMA can't move the operand, contiguous along `major`, or None."""
    assert major is not None
    if operand.alignment < ALIGNMENT:
        return f"{what} is not known to be aligned to {ALIGNMENT} bytes"
    contiguous, leading = operand.dims[major], operand.strides[5 - major]
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


def _batch_axis(spec: GemmSpec) -> int:
    """The batch dim that is the kernel's; the launcher loops over the other one where it can't be joined."""
    return 0 if spec.out.dims[1] == 1 else 1


def _is_shared(operand: Operand, axis: int) -> bool:
    """Whether all batches of the kernel read the same elements."""
    return operand.strides[axis] == 0 and operand.dims[axis] != 1


def _loaders(spec: GemmSpec) -> tuple[Loader, ...]:
    """How the visitor tree reads the epilogue inputs; the first that TMA can move is the kernel's C."""
    source = next((i for i, e in enumerate(spec.extras) if _is_source(e)), -1)
    return tuple(_loader(spec, extra, is_source=index == source) for index, extra in enumerate(spec.extras))


def _is_source(extra: Operand) -> bool:
    return (
        extra.strides[2:] not in ((0, 0), (0, 1)) and extra.strides[3] == 1 and not _unaligned(extra, 3, "")
    )


_BROADCASTS = {(0, 1): "row", (1, 0): "column", (0, 0): "scalar"}


def _loader(spec: GemmSpec, extra: Operand, *, is_source: bool) -> Loader:
    if is_source:
        batch = "_0" if _is_shared(extra, _batch_axis(spec)) else "int64_t"
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


def _unit(spec: GemmSpec, config: Sm90Gemm, target: Target) -> dict[str, object]:
    """Substitutions of the unit's template; nothing in them is a size of the problem."""
    assert target.gpu is not None
    d, a, b = spec.operands[:3]
    loaders = _loaders(spec)
    tree = evt90.tree(spec.epilogue, loaders, d.dtype)
    axis = _batch_axis(spec)
    is_integer = element(spec) == "s8"
    b_shared = spec.is_b_constant or _is_shared(b, axis)
    return {
        "functor": tree.functor,
        "visitor": tree.types,
        "arguments": tree.arguments,
        "arch": "Sm90",
        "tile": _constants(config.tile),
        "cluster": _constants((*config.cluster, 1)),
        "schedule": _SCHEDULES[config.schedule],
        "scheduler": "cutlass::gemm::StreamKScheduler" if config.stream_k else "void",
        "splits": _bool(config.stream_k),
        "multiprocessors": target.gpu.multiprocessors,
        "accumulator": "int32_t" if is_integer else "float",
        "a": _matrix(a.dtype, contiguous_last=_major(a, 3, 2) == 3, shared=_is_shared(a, axis)),
        "b": _matrix(b.dtype, contiguous_last=_b_major(spec) == 2, shared=b_shared),
        "d": {"type": d.dtype.cutlass, "alignment": ALIGNMENT // d.dtype.size_bytes},
        "source": _source(spec, loaders, tree.source),
    }


_SCHEDULES = {
    "pingpong": {"mainloop": "KernelTmaWarpSpecializedPingpong", "epilogue": "TmaWarpSpecialized"},
    "cooperative": {
        "mainloop": "KernelTmaWarpSpecializedCooperative",
        "epilogue": "TmaWarpSpecializedCooperative",
    },
}


def _constants(values: Sequence[int]) -> str:
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
    shared = _is_shared(spec.extras[index], _batch_axis(spec))
    dtype = loaders[index].dtype
    return {
        "type": evt.ELEMENTS[dtype],
        "stride": loaders[index].stride,
        "shared": _bool(shared),
        "alignment": ALIGNMENT // dtype.size_bytes,
        "index": index,
    }


def _launcher(spec: GemmSpec, config: Sm90Gemm, name: str, unit: str) -> dict[str, object]:
    names = argument_names(spec)
    strides = [n["strides"] for n in names]
    inner = _batch_axis(spec)
    outer = 1 - inner
    b_rows = 3 if _b_major(spec) == 2 else 2
    a_rows = 2 if _major(spec.operands[1], 3, 2) == 3 else 3
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
