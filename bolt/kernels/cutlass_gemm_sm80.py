"""Matrix multiplication by CUTLASS 2.x: tensor cores from compute capability 7.5 on, CUDA cores for fp32.

The device code is a unit that does not depend on sizes. The launcher merges batches into rows or into one
batch dim where the strides allow it, and runs the unit; where it is only known at run time how far operands
are aligned, it has a second unit that needs no more than what is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bolt.codegen import evt
from bolt.codegen.render import render
from bolt.kernels.cutlass_gemm_cost import gemm_us, occupancy
from bolt.kernels.cutlass_gemm_problem import WIDEST, GemmConfig, Problem, size_of, vectors_of
from bolt.kernels.cutlass_gemm_unit import unit_source
from bolt.kernels.cutlass_streamk import streamk_workspace
from bolt.kernels.cutlass_tiles import MOST_UNALIGNED, THREE_PRODUCTS, Tile, tiles, unaligned_tiles
from bolt.kernels.family import Source, argument_names
from bolt.kernels.finish import beside_weights
from bolt.ops.gemm import GemmSpec
from bolt.ops.spec import Spec
from bolt.report import Rejection
from bolt.target import Target
from bolt.types import DType, convert

SPLITS = (2, 3, 4, 6, 8, 12, 16)
SWIZZLES = (1, 2, 4, 8)
MIN_SPLIT_STEPS = 4  # steps of the main loop each share of a split keeps
SUBJECT = "cutlass_gemm_sm80"


class CutlassGemmSm80:
    """Family of `GemmSpec` on all CUDA targets."""

    name = SUBJECT
    op = "gemm"
    language = "cxx"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        assert isinstance(spec, GemmSpec)
        if not target.is_cuda:
            return _no(f"needs a GPU, {target.name} is none")
        reason = _obstacle(spec, target)
        return _no(reason) if reason else evt.obstacle(spec.extras, spec.out.dtype, self.name)

    def configs(self, spec: Spec, target: Target) -> Sequence[GemmConfig]:
        assert isinstance(spec, GemmSpec)
        problem, size = Problem(spec), size_of(spec)
        found: list[GemmConfig] = []
        for tile in _legal(problem, target):
            columns = -(-size.n // tile.shape[1])
            found += [GemmConfig(tile=tile, swizzle=s) for s in SWIZZLES if s == 1 or s <= columns]
            found += [
                GemmConfig(tile=tile, schedule="stream", split_k=s) for s in _splits(spec, tile, target)
            ]
        return found

    def estimate(self, spec: Spec, config: GemmConfig, target: Target) -> float:
        """Microseconds."""
        assert isinstance(spec, GemmSpec)
        return gemm_us(spec, config, target)

    def units(self, spec: Spec, config: GemmConfig, target: Target) -> tuple[Source, ...]:
        assert isinstance(spec, GemmSpec)
        problem = Problem(spec)
        return tuple(unit_source(problem, config, v, target) for v in vectors_of(problem, config.tile))

    def render(self, spec: Spec, config: GemmConfig, target: Target, name: str) -> str:
        assert isinstance(spec, GemmSpec)
        names = [unit.name for unit in self.units(spec, config, target)]
        return render("cutlass_gemm_sm80_launch.cc.jinja", _launch_context(spec, config, names, name))

    def pack(
        self, spec: Spec, config: GemmConfig, target: Target, constants: Mapping[int, np.ndarray]
    ) -> dict[int, np.ndarray]:
        assert isinstance(spec, GemmSpec)
        packed = beside_weights(spec, constants)
        if 2 in constants:
            packed[2] = pack_b(constants[2][0, 0], Problem(spec).dtype)
        return packed

    def scratch_bytes(self, spec: Spec, config: GemmConfig, target: Target) -> int:
        assert isinstance(spec, GemmSpec)
        if config.schedule == "data":
            return 0
        return streamk_workspace(size_of(spec), config, target)


def _no(reason: str) -> Rejection:
    return Rejection(stage="supports", subject=SUBJECT, reason=reason)


def _obstacle(spec: GemmSpec, target: Target) -> str | None:
    """Why the product can't be computed here, the epilogue aside; or None."""
    problem, (out, a, b) = Problem(spec), spec.operands[:3]
    element = problem.element
    if element is None:
        return f"multiplies f16, bf16, f32 or s8, not {a.dtype}"
    if b.dtype != a.dtype and not spec.is_b_constant:
        return f"a is {a.dtype} and b is {b.dtype}"
    if spec.is_b_constant and (b.dims[:2] != (1, 1) or None in b.dims):
        return "a constant b is one matrix of known size"
    for name, operand, known in (("a", a, problem.a_is_row_major), ("b", b, problem.b_is_row_major)):
        if known is None:
            return f"{name} has strides {operand.strides[2:]}; one of its matrix's dims must be contiguous"
    if out.strides[3] != 1 and out.dims[3] != 1:
        return f"the output has stride {out.strides[3]} along columns"
    if element.k_major and not (problem.a_is_row_major and problem.b_is_row_major is False):
        return f"products of {a.dtype} need contiguous k in both operands"
    if not _legal(problem, target):
        return _no_tile(problem, target)
    return None


def _no_tile(problem: Problem, target: Target) -> str:
    element = problem.element
    assert element is not None
    if not tiles(target, "gemm", element.math, element.accumulator).legal:
        return f"{target.name} has no instructions for {element.math}"
    return f"products of {problem.dtype} need operands aligned to {MIN_COPY_BYTES} bytes"


MIN_COPY_BYTES = 4
"""What cp.async copies at least."""


def _legal(problem: Problem, target: Target) -> list[Tile]:
    """The tiles that can run with the alignments at hand."""
    element = problem.element
    assert element is not None
    table = tiles(target, "gemm", element.math, element.accumulator).legal
    if element.k_major and min(problem.a.proven, problem.b.proven) < MIN_COPY_BYTES:
        table = ()
    elif element.opclass == "TensorOp" and min(problem.a.possible, problem.b.possible) == 1:
        table = unaligned_tiles(target, "gemm", element.math, element.accumulator)
    return [t for t in table if t.opclass == element.opclass or _is_three_products(t)]


MOST_IN_PARTS = 32 * 32
"""Accumulators of a warp that leave room for operands in two parts: with twice as many, stream-K spills."""


def _is_three_products(tile: Tile) -> bool:
    """Whether it multiplies fp32 on tensor cores, with registers to spare."""
    return tile.math_op == THREE_PRODUCTS and tile.warp[0] * tile.warp[1] <= MOST_IN_PARTS


def _splits(spec: GemmSpec, tile: Tile, target: Target) -> list[int]:
    """How many thread blocks may share a tile of the output; 1 lets CUTLASS balance.

    Their number decides how much scratch is needed, so all sizes must be known.
    """
    gpu, size = target.gpu, size_of(spec)
    assert gpu is not None
    if spec.dynamic() or size.batch * size.launches > 1 or not _can_share(spec, tile):
        return []
    tiles_ = -(-size.m // tile.shape[0]) * -(-size.n // tile.shape[1])
    steps = -(-size.k // tile.shape[2])
    room = 2 * gpu.multiprocessors * occupancy(tile, target)
    found = [s for s in SPLITS if s * MIN_SPLIT_STEPS <= steps and s * tiles_ <= room]
    is_uneven = gpu.multiprocessors < tiles_ < 8 * gpu.multiprocessors and tiles_ % gpu.multiprocessors != 0
    return found + ([1] if is_uneven and steps >= 2 * MIN_SPLIT_STEPS else [])


SHARED_EXTRAS = 2
"""Epilogue inputs whose arguments stream-K's kernel, which copies them, keeps in registers; one fewer beside
the accumulators of a large warp tile."""


def _can_share(spec: GemmSpec, tile: Tile) -> bool:
    """Whether the kernel whose thread blocks share tiles does without local memory."""
    if tile.warp[0] * tile.warp[1] <= MOST_UNALIGNED:
        return len(spec.extras) <= SHARED_EXTRAS
    return tile.opclass == "TensorOp" and len(spec.extras) < SHARED_EXTRAS


def pack_b(b: np.ndarray, dtype: DType) -> np.ndarray:
    """(k, n) as n rows of k elements, padded with zeros to whole vectors; 1-D."""
    k, n = b.shape
    packed = np.zeros((n, packed_depth(k, dtype)), dtype.np)
    packed[:, :k] = convert(b.T, dtype) if dtype.is_float else b.T
    return packed.reshape(-1)


def packed_depth(k: int, dtype: DType) -> int:
    """Elements between the rows of a packed b."""
    vector = WIDEST // dtype.size_bytes
    return -(-k // vector) * vector


def _launch_context(spec: GemmSpec, config: GemmConfig, units: Sequence[str], name: str) -> dict[str, Any]:
    problem, names = Problem(spec), argument_names(spec)
    (out, a, b), dtypes = names[:3], [o.dtype for o in spec.operands]
    strides = [n["strides"] for n in names]
    rows = [strides[0][2], strides[1][2], "0", *(s[2] for s in strides[3:])]
    b_leading = b["strides"][2 if problem.b_is_row_major else 3]
    return {
        "title": f"Matrix product, {config}",
        "name": name,
        "units": units,
        "operands": [
            {"size": dtype.size_bytes, "batch": s[:2], "row": row}
            for dtype, s, row in zip(dtypes, strides, rows, strict=True)
        ],
        "b0": out["dims"][0],
        "b1": out["dims"][1],
        "m": out["dims"][2],
        "n": out["dims"][3],
        "k": a["dims"][3],
        "lda": "0" if problem.a_is_row_major else a["strides"][3],
        "ldb": str(packed_depth(int(a["dims"][3]), problem.dtype)) if spec.is_b_constant else b_leading,
        "columns": [s[3] for s in strides[3:]],
        "split_k": config.split_k if config.schedule == "stream" else 0,
        "swizzle": config.swizzle,
    }
