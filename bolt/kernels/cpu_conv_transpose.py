"""Transposed convolution on the CPU, one output phase at a time.

Outputs whose row and column leave the same remainders by the stride are made by the same taps: each such
phase is a convolution with stride 1 by a part of the kernel, written to every stride-th pixel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bolt.codegen.render import render
from bolt.kernels.cpu_conv import joined_groups, reduction_matrices
from bolt.kernels.family import argument_names
from bolt.kernels.finish import beside_weights, epilogue_cycles, finish_context
from bolt.kernels.igemm import (
    ASSUMED_COLUMNS,
    FAR_BYTES_PER_CYCLE,
    L2_BYTES_PER_CYCLE,
    Cut,
    IgemmConfig,
    Panels,
    pack_words,
    tile_step_cycles,
    unrolled,
    widest_rows,
)
from bolt.kernels.products import PRODUCTS, Product, product_of, wrong_product
from bolt.ops.conv import ConvTransposeSpec
from bolt.ops.spec import Spec
from bolt.report import Rejection
from bolt.target import Target


def phases(taps: int, stride: int, dilation: int, pad: int) -> list[list[tuple[int, int]]]:
    """For each remainder of the output position by the stride: its (tap, input offset) pairs.

    Output `f + i * stride` is the sum over the phase's taps of the input at `i + offset`.
    """
    found: list[list[tuple[int, int]]] = [[] for _ in range(stride)]
    for tap in range(taps):
        f = (tap * dilation - pad) % stride
        found[f].append((tap, (f + pad - tap * dilation) // stride))
    return found


def _axes(spec: ConvTransposeSpec) -> tuple[list[list[tuple[int, int]]], list[list[tuple[int, int]]]]:
    """Phases of rows and of columns."""
    r, s = spec.operands[2].dims[2:]
    assert r is not None and s is not None
    y = phases(r, spec.stride[0], spec.dilation[0], spec.pad[0])
    return y, phases(s, spec.stride[1], spec.dilation[1], spec.pad[1])


def _channels(spec: ConvTransposeSpec, lanes: int) -> tuple[int, int, int]:
    """(groups after joining narrow ones, input channels, output channels of one)."""
    c, k = spec.operands[1].dims[3], spec.out.dims[3]
    assert c is not None and k is not None
    groups = spec.groups // joined_groups(spec.groups, k, lanes)
    return groups, c // groups, k // groups


def _columns(spec: ConvTransposeSpec) -> int | None:
    """Outputs of one phase of a row."""
    q = spec.out.dims[2]
    return None if q is None else -(-q // spec.stride[1])


def _interior(spec: ConvTransposeSpec) -> list[int] | None:
    """Columns of each phase whose taps all lie inside the input; None when only known at run time."""
    q, w = spec.out.dims[2], spec.operands[1].dims[2]
    if q is None or w is None:
        return None
    found = []
    for f, taps in enumerate(_axes(spec)[1]):
        outputs = max(0, -(-(q - f) // spec.stride[1]))
        low = min(outputs, max(0, *(-o for _, o in taps), 0))
        found.append(max(0, min([outputs, *(w - o for _, o in taps)]) - low))
    return found


def _product(spec: ConvTransposeSpec) -> Product:
    product = product_of(spec)
    assert product is not None
    return product


def _cut(spec: ConvTransposeSpec, mr: int) -> Cut:
    """The tiles of the interior columns of all phases."""
    interior = _interior(spec)
    if interior is None:
        return Cut.of(None, mr)
    cuts = [Cut.of(columns, mr) for columns in interior if columns] or [Cut.of(1, mr)]
    return Cut(function=cuts[0].function, sizes=tuple(sorted({s for cut in cuts for s in cut.sizes})))


class CpuConvTranspose:
    """Family of `ConvTransposeSpec`: any stride, pads, dilation and groups."""

    name = "cpu_conv_transpose"
    op = "conv_transpose"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        if not isinstance(spec, ConvTransposeSpec):
            reason = f"computes conv_transpose, not {spec.op}"
            return Rejection(stage="supports", subject=self.name, reason=reason)
        if 2 not in spec.constants:
            return Rejection(stage="supports", subject=self.name, reason="the weights are not constant")
        return wrong_product(spec, self.name, target, [p for p in PRODUCTS if p.a.is_float])

    def configs(self, spec: Spec, target: Target) -> Sequence[IgemmConfig]:
        assert isinstance(spec, ConvTransposeSpec)
        groups, c, k = _channels(spec, target.vector_lanes)
        columns = _columns(spec) or ASSUMED_COLUMNS
        size = spec.operands[1].dtype.size_bytes
        row_bytes = size * groups * columns * (c + k * spec.stride[1]) // spec.stride[0]
        block = max(spec.stride[0], target.l2_bytes // 4 // row_bytes)
        found: dict[IgemmConfig, None] = {}
        for nv in range(1, min(-(-k // target.vector_lanes), 8) + 1):
            widest = min(widest_rows(nv, target), 16)
            if widest >= 1:
                mr = -(-columns // -(-columns // widest))
                found[IgemmConfig(mr=mr, nv=nv, block=block)] = None
        return sorted(found, key=lambda config: self.estimate(spec, config, target))

    def estimate(self, spec: Spec, config: IgemmConfig, target: Target) -> float:
        """Cycles of one core."""
        assert isinstance(spec, ConvTransposeSpec)
        groups, c, k = _channels(spec, target.vector_lanes)
        n, p = (d or 1 for d in spec.out.dims[:2])
        y, x = _axes(spec)
        columns = _columns(spec) or ASSUMED_COLUMNS
        panels = Panels.of(k, config.nv, target.vector_lanes)
        last = tile_step_cycles(config.mr, panels.nv_last, target)
        step = (panels.count - 1) * tile_step_cycles(config.mr, config.nv, target) + last
        taps = sum(map(len, y)) * sum(map(len, x)) / spec.stride[0]  # of all phases of a row
        finish = panels.vectors * config.mr * (1 + epilogue_cycles(spec.epilogue)) + 40 * panels.count
        tiles = -(-columns // config.mr)
        return n * p * groups * tiles * (taps * _product(spec).words(c) * step + spec.stride[1] * finish)

    def render(self, spec: Spec, config: IgemmConfig, target: Target, name: str) -> str:
        assert isinstance(spec, ConvTransposeSpec)
        return render("cpu_conv_transpose.cc.jinja", _context(spec, config, target, name))

    def pack(
        self, spec: Spec, config: IgemmConfig, target: Target, constants: Mapping[int, np.ndarray]
    ) -> dict[int, np.ndarray]:
        """Per group and panel the taps phase by phase, each (c, nv * lanes)."""
        assert isinstance(spec, ConvTransposeSpec)
        product, lanes = _product(spec), target.vector_lanes
        weights = constants[2].astype(product.b.np)
        c, k, r, s = weights.shape
        grouped = weights.reshape(spec.groups, c // spec.groups, k, r, s).transpose(0, 2, 1, 3, 4)
        matrices = reduction_matrices(grouped.reshape(-1, c // spec.groups, r, s), spec.groups, lanes)
        by_tap = matrices.reshape(len(matrices), r, s, -1, matrices.shape[-1])  # (c, k) of each tap
        y, x = _axes(spec)
        order = [(i, j) for fy in y for fx in x for i, _ in fy for j, _ in fx]
        ordered = np.stack([by_tap[:, i, j] for i, j in order], axis=1)
        packed = beside_weights(spec, constants)
        packed[2] = np.concatenate([pack_words(taps, product, config.nv, lanes) for taps in ordered])
        return packed

    def scratch_bytes(self, spec: Spec, config: IgemmConfig, target: Target) -> int:
        return 0


def _taps_before(y: list[list[tuple[int, int]]], x: list[list[tuple[int, int]]]) -> list[list[int]]:
    """For each pair of phases the number of taps that are packed before its own."""
    count, rows = 0, []
    for fy in y:
        rows.append([0] * len(x))
        for f, fx in enumerate(x):
            rows[-1][f] = count
            count += len(fy) * len(fx)
    return rows


def _context(spec: ConvTransposeSpec, config: IgemmConfig, target: Target, name: str) -> dict[str, Any]:
    lanes = target.vector_lanes
    groups, c, k = _channels(spec, lanes)
    names, (y, x) = argument_names(spec), _axes(spec)
    panels, taps = Panels.of(k, config.nv, lanes), sum(map(len, y)) * sum(map(len, x))
    columns = _columns(spec) or ASSUMED_COLUMNS
    step = tile_step_cycles(config.mr, config.nv, target) / config.mr
    product = _product(spec)
    words = product.words(c)
    panel_words = taps * words * config.nv * lanes
    return {
        "title": f"Transposed convolution by phases, tiles of {config.mr} pixels x {config.nv} vectors",
        "name": name,
        "lanes": lanes,
        "a_type": product.a.cpu,
        "c": c,
        "words": words,
        "k": k,
        "groups": groups,
        "panels": panels.count,
        "panel_words": panel_words,
        "group_words": taps * words * panels.vectors * lanes,
        "block": config.block,
        "nv": config.nv,
        "nv_last": panels.nv_last,
        "unroll": max(1, unrolled(c // product.size)),
        "pixel": names[1]["strides"][2],
        "a_steps": names[1]["strides"],
        "y_phases": [[offset for _, offset in f] for f in y],
        "x_phases": [[offset for _, offset in f] for f in x],
        "most_taps": max(map(len, [*y, *x])),
        "before": _taps_before(y, x),
        "extents": names[0]["dims"][:3],
        "input": names[1]["dims"][1:3],
        "cut": _cut(spec, config.mr),
        "unit_cost": max(1, round(columns * taps * words * step / spec.stride[0])),
        "m_cost": max(1, product.a.size_bytes * columns * c // L2_BYTES_PER_CYCLE),
        "n_cost": max(1, 4 * panel_words // FAR_BYTES_PER_CYCLE),
        **finish_context(spec, step=spec.stride[1]),
    }
