"""`cutlass_gemm_sm90`: matrix products by Hopper's warp-specialized kernels (CUTLASS 3.x: TMA and wgmma).

TMA moves boxes whose start and strides are multiples of 16 bytes, so operands that are not aligned like that
are left to `cutlass_gemm_sm80`, whose kernels run here too. A constant b is packed as its transpose (n, k),
the one layout that all types' instructions read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from bolt.codegen import evt, evt90
from bolt.codegen.render import render
from bolt.kernels.cutlass_gemm_sm90_code import (
    ALIGNMENT,
    Sm90Gemm,
    b_major,
    batch_axis,
    element,
    launch_context,
    major,
    packed_dtype,
    unaligned,
    unit_context,
    unit_source,
)
from bolt.kernels.cutlass_tiles_sm90 import Tile, Tiles, tiles
from bolt.kernels.family import Config, Source, argument_names
from bolt.kernels.finish import beside_weights, epilogue_cost
from bolt.kernels.sm90_model import Problem, blocks, microseconds
from bolt.ops.gemm import GemmSpec
from bolt.ops.spec import Spec
from bolt.report import Rejection
from bolt.target import Target
from bolt.types import DType, convert


class CutlassGemmSm90:
    """The family; see the module's docstring."""

    name = "cutlass_gemm_sm90"
    op = "gemm"
    language = "cxx"
    target_name = "sm90a"
    """The one target that has the instructions."""

    def tiles(self, element: str) -> Tiles:
        """Of the kernels for what the tensor cores multiply."""
        return tiles(element)

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        if target.name == self.target_name:
            reason = _obstacle(spec, self.tiles)
        else:
            reason = f"its instructions are those of {self.target_name}, not of {target.name}"
        return None if reason is None else Rejection(stage="supports", subject=self.name, reason=reason)

    def configs(self, spec: Spec, target: Target) -> Sequence[Sm90Gemm]:
        assert isinstance(spec, GemmSpec)
        kind = element(spec)
        assert kind is not None
        problem = _problem(spec)
        legal = self.tiles(kind).legal
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
        return render(
            "cutlass_gemm_sm90_launch.cc.jinja",
            launch_context(spec, config, name, unit, argument_names(spec)),
        )

    def units(self, spec: Spec, config: Config, target: Target) -> tuple[Source, ...]:
        assert isinstance(spec, GemmSpec)
        context = unit_context(spec, config, target)
        return (unit_source("cutlass_gemm_sm90.cu.jinja", f"bolt_gemm_{target.name}", context),)

    def pack(
        self, spec: Spec, config: Config, target: Target, constants: Mapping[int, np.ndarray]
    ) -> dict[int, np.ndarray]:
        assert isinstance(spec, GemmSpec)
        packed = beside_weights(spec, constants)
        if 2 in constants:
            packed[2] = _as(np.ascontiguousarray(constants[2][0, 0].T).ravel(), packed_dtype(spec))
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
    shared = rows * columns * (spec.out.dims[batch_axis(spec)] or 1)
    if config.split_k == 1:
        shared = min(shared, 2 * MAX_MULTIPROCESSORS)
    m, n, _ = config.tile
    return _l2_lines(shared * m * n * 4) + _l2_lines(shared * 2 * 4)


def _l2_lines(size: int) -> int:
    return -(-size // 128) * 128


def _as(array: np.ndarray, dtype: DType) -> np.ndarray:
    return convert(array, dtype) if dtype.is_float else array.astype(dtype.np)


def _obstacle(spec: Spec, tiles_of: Callable[[str], Tiles]) -> str | None:
    """Why the family can't compute `spec`, or None."""
    assert isinstance(spec, GemmSpec)
    kind = element(spec)
    if kind is None or not tiles_of(kind).legal:
        a, b = spec.operands[1].dtype, spec.operands[2].dtype
        return f"there is no instruction for {a} x {b} operands (f32 needs precision tf32)"
    known = evt90.TYPES if tiles_of("f8").legal else evt.TYPES
    refused = evt.obstacle(spec.extras, spec.out.dtype, CutlassGemmSm90.name, known)
    return refused.reason if refused is not None else _layout_obstacle(spec, kind)


def _layout_obstacle(spec: GemmSpec, kind: str) -> str | None:
    d, a, b = spec.operands[:3]
    if d.strides[3] != 1:
        return "the output's columns are not contiguous"
    if major(a, 3, 2) is None:
        return "operand a has no contiguous dim"
    if not spec.is_b_constant and major(b, 2, 3) is None:
        return "operand b has no contiguous dim"
    if kind in ("tf32", "s8", "f8") and not (major(a, 3, 2) == 3 and b_major(spec) == 2):
        return f"{kind} operands must be contiguous along k"
    if spec.is_b_constant and (b.dims[2] is None or b.dims[3] is None):
        return "the dims of a constant operand must be known"
    reason = unaligned(d, 3, "the output") or unaligned(a, major(a, 3, 2), "operand a")
    if not reason and not spec.is_b_constant:
        reason = unaligned(b, b_major(spec), "operand b")
    if not reason and spec.is_b_constant and b.dims[2] * a.dtype.size_bytes % ALIGNMENT:  # type: ignore[operator]
        reason = f"k of the constant operand is {b.dims[2]}, not a multiple of {ALIGNMENT} bytes"
    return reason


GEMM = CutlassGemmSm90()
