"""Matrix multiplication on the CPU.

A constant b is packed ahead of time and runs as a 1x1 convolution over rows of pixels (`igemm`). Any other b
is packed panel by panel into scratch, as the register tile wants it, and used for all rows of its batch: as
pairs of bf16 numbers where both matrices have them and the target multiplies them, else as fp32 numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bolt.codegen.render import render
from bolt.kernels.family import argument_names
from bolt.kernels.finish import STORAGE, as_operand, epilogue_cycles, finish_context, wrong_storage
from bolt.kernels.igemm import (
    ASSUMED_COLUMNS,
    Cut,
    IgemmConfig,
    Panels,
    Problem,
    igemm_configs,
    igemm_cycles,
    igemm_source,
    pack_words,
    tile_step_cycles,
    widest_rows,
)
from bolt.kernels.products import FLOATS, Product, product_of, wrong_product
from bolt.kernels.rows import number
from bolt.ops.gemm import GemmSpec
from bolt.ops.spec import Spec
from bolt.report import Rejection
from bolt.target import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedConfig:
    """How a GEMM with a variable b runs.

    Attributes:
        mr: most rows of a register tile.
        nv: vectors of columns of a register tile and of a packed panel.
        kc: deepest packed panel.
    """

    mr: int
    nv: int
    kc: int


PANEL_BYTES = 256 << 10  # a packed panel of b stays in L2
PARTIAL_TILES = 16  # tiles that share a panel when the reduction takes several
ASSUMED_DEPTH = 64  # stands for a run-time k in the analytic model


def is_prepacked(spec: GemmSpec) -> bool:
    """Whether b is one constant matrix and a's rows are contiguous: then `igemm` computes it."""
    b = spec.operands[2]
    return spec.is_b_constant and b.dims[:2] == (1, 1) and spec.operands[1].strides[3] == 1


def gemm_problem(spec: GemmSpec) -> Problem:
    """The implicit GEMM of a product with one constant matrix."""
    names = argument_names(spec)
    a, (b0, b1, m, _) = names[1]["strides"], names[0]["dims"]
    depth, columns = spec.operands[2].dims[2:]
    assert depth is not None and columns is not None
    return Problem(
        spec=spec,
        extents=(b0, b1, m),
        a_steps=(a[0], a[1], a[2]),
        a_base="0",
        taps=(1, 1),
        tap_steps=("0", "0"),
        c=depth,
        k=columns,
        groups=1,
        group_c=depth,
    )


class CpuGemm:
    """Family of `GemmSpec`."""

    name = "cpu_gemm"
    op = "gemm"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        if not isinstance(spec, GemmSpec):
            return Rejection(stage="supports", subject=self.name, reason=f"computes gemm, not {spec.op}")
        if spec.is_b_constant and None in spec.operands[2].dims[2:]:
            reason = "b is constant, but its size is not known"
            return Rejection(stage="supports", subject=self.name, reason=reason)
        if is_prepacked(spec):
            return wrong_product(spec, self.name, target)
        return wrong_storage(spec, self.name, a=STORAGE, b=STORAGE)

    def configs(self, spec: Spec, target: Target) -> Sequence[IgemmConfig | PackedConfig]:
        assert isinstance(spec, GemmSpec)
        if is_prepacked(spec):
            return igemm_configs(gemm_problem(spec), target)
        return _packed_configs(spec, target)

    def estimate(self, spec: Spec, config: IgemmConfig | PackedConfig, target: Target) -> float:
        """Cycles of one core."""
        assert isinstance(spec, GemmSpec)
        if isinstance(config, IgemmConfig):
            return igemm_cycles(gemm_problem(spec), config, target)
        return _packed_cycles(spec, config, target)

    def render(self, spec: Spec, config: IgemmConfig | PackedConfig, target: Target, name: str) -> str:
        assert isinstance(spec, GemmSpec)
        tiles = f"tiles of {config.mr} rows x {config.nv} vectors"
        if isinstance(config, IgemmConfig):
            title = f"Product with a constant matrix, {tiles}"
            return igemm_source(gemm_problem(spec), config, target, name=name, title=title)
        return _packed_source(spec, config, target, name=name, title=f"Matrix product, {tiles}")

    def pack(
        self,
        spec: Spec,
        config: IgemmConfig | PackedConfig,
        target: Target,
        constants: Mapping[int, np.ndarray],
    ) -> dict[int, np.ndarray]:
        assert isinstance(spec, GemmSpec)
        packed = {i: as_operand(spec.operands[i], a) for i, a in constants.items()}
        if isinstance(config, IgemmConfig):
            product = gemm_problem(spec).product
            weights = constants[2][0].astype(product.b.np)
            packed[2] = pack_words(weights, product, config.nv, target.vector_lanes)
        return packed

    def scratch_bytes(self, spec: Spec, config: IgemmConfig | PackedConfig, target: Target) -> int:
        if isinstance(config, IgemmConfig):
            return 0
        assert isinstance(spec, GemmSpec)
        row = config.nv * target.vector_lanes
        partial = PARTIAL_TILES * config.mr if _is_deep(spec, config) else 0
        return 4 * row * (_product(spec, target).words(config.kc) + partial)


def _product(spec: GemmSpec, target: Target) -> Product:
    """What is multiplied: pairs where they can be, else fp32 numbers made of whatever the operands hold."""
    product = product_of(spec)
    is_paired = product is not None and product.size == 2 and product.runs_on(target)
    return product if product and is_paired and spec.operands[1].strides[3] == 1 else FLOATS


def _is_deep(spec: Spec, config: PackedConfig) -> bool:
    """Whether the reduction can be longer than one packed panel."""
    depth = spec.operands[1].dims[3]
    return depth is None or depth > config.kc


def _packed_configs(spec: GemmSpec, target: Target) -> list[PackedConfig]:
    (_, _, m, n), depth = spec.out.dims, spec.operands[1].dims[3]
    lanes = target.vector_lanes
    vectors = 8 if n is None else -(-n // lanes)
    found: dict[PackedConfig, None] = {}
    for nv in range(1, min(vectors, 6) + 1):
        widest = min(widest_rows(nv, target), 16, m or 16)
        if widest < 1:
            continue
        even = widest if m is None else -(-m // -(-m // widest))
        size = _product(spec, target).size
        kc = min(PANEL_BYTES // (4 * nv * lanes) * size, depth or ASSUMED_COLUMNS * 8)
        found[PackedConfig(mr=even, nv=nv, kc=kc)] = None
    return sorted(found, key=lambda c: _packed_cycles(spec, c, target))


def _packed_cycles(spec: GemmSpec, config: PackedConfig, target: Target) -> float:
    b0, b1, m, n = spec.out.dims
    m, n = m or ASSUMED_COLUMNS, n or ASSUMED_COLUMNS
    depth = _product(spec, target).words(spec.operands[1].dims[3] or ASSUMED_DEPTH)
    panels = Panels.of(n, config.nv, target.vector_lanes)
    tiles = -(-m // config.mr)
    last = tile_step_cycles(config.mr, panels.nv_last, target)
    steps = (panels.count - 1) * tile_step_cycles(config.mr, config.nv, target) + last
    is_row_major = spec.operands[2].strides[3] == 1
    packing = panels.vectors * depth * (1.0 if is_row_major else 0.25 * target.vector_lanes)
    finish = panels.vectors * config.mr * (1 + epilogue_cycles(spec.epilogue)) + 30 * panels.count
    return (b0 or 1) * (b1 or 1) * (tiles * (depth * steps + finish) + packing)


def _widths(columns: int | None, nv: int, lanes: int) -> list[int]:
    """How many vectors a panel can have."""
    if columns is None:
        return list(range(1, nv + 1))
    panels = Panels.of(columns, nv, lanes)
    return sorted({panels.nv_last, *([nv] if panels.count > 1 else [])})


def _packed_source(spec: GemmSpec, config: PackedConfig, target: Target, *, name: str, title: str) -> str:
    names = argument_names(spec)
    out, a, b = names[:3]
    columns, lanes = number(out["dims"][3]), target.vector_lanes
    product = _product(spec, target)
    context = {
        "title": title,
        "name": name,
        "lanes": lanes,
        "mr": config.mr,
        "nv": config.nv,
        "kc": config.kc,
        "kc_rows": product.words(config.kc),
        "a_type": spec.operands[1].dtype.cpu,
        "b_type": spec.operands[2].dtype.cpu,
        "is_paired": product.size == 2,
        "block": PARTIAL_TILES,
        "is_deep": _is_deep(spec, config),
        "tail": "false" if columns is not None and columns % lanes == 0 else "true",
        "extents": out["dims"][:3],
        "columns": out["dims"][3],
        "depth": a["dims"][3],
        "a_steps": a["strides"],
        "b_batch": b["strides"][:2],
        "b_steps": b["strides"][2:],
        "cut": Cut.of(number(out["dims"][2]), config.mr),
        "widths": _widths(columns, config.nv, lanes),
        "step_cycles": max(1, round(tile_step_cycles(config.mr, config.nv, target) / product.size)),
        **finish_context(spec),
    }
    return render("cpu_gemm.cc.jinja", context)
