"""Winograd convolution on the CPU: F(2x2, 3x3) and F(4x4, 3x3).

    Y = A^T [ (G g G^T) * (B^T d B) ] A

for every tile of m x m outputs, with * elementwise over the (m + 2)^2 coordinates and summed over channels:
per coordinate a GEMM of tiles x channels with transformed weights. It does 2.25 (m = 2) or 4 (m = 4) times
fewer multiplications than the direct convolution; errors grow by about 2 and 10 times. Inputs and weights
may be bf16; they are transformed and multiplied as fp32 numbers, or, with m = 2, multiplied as pairs of bf16.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bolt.codegen.render import render
from bolt.kernels.family import argument_names
from bolt.kernels.finish import beside_weights, epilogue_cycles, finish_context, wrong_storage
from bolt.kernels.igemm import (
    ASSUMED_COLUMNS,
    FAR_BYTES_PER_CYCLE,
    L3_BYTES_PER_CYCLE,
    Cut,
    Panels,
    pack_panels,
    tile_step_cycles,
    unrolled,
    widest_rows,
)
from bolt.kernels.products import FLOATS, PAIRS, Product, words_of_taps
from bolt.kernels.rows import product as times
from bolt.kernels.rows import total
from bolt.ops.conv import ConvSpec
from bolt.ops.spec import Spec
from bolt.report import Rejection
from bolt.target import Target
from bolt.types import BF16, F32, convert

FEWEST_CHANNELS = 16
"""With fewer channels the transforms cost more than the multiplications they save."""

LINE = 16
"""Floats of a cache line."""

FLOAT_TYPES = (F32, BF16)
"""What inputs and weights may be."""

NEAR_BYTES = 8 << 20
"""Transformed weights up to this size are streamed from L3, larger ones from memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transform:
    """F(m x m, 3 x 3): the weights' matrix G, and the cycles of transforming one vector of a tile."""

    m: int
    weights: tuple[tuple[float, float, float], ...]
    input_cycles: float
    output_cycles: float

    @property
    def size(self) -> int:
        """Inputs along an edge of a tile."""
        return self.m + 2


TRANSFORMS = {
    2: Transform(
        m=2,
        weights=((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)),
        input_cycles=40,
        output_cycles=24,
    ),
    4: Transform(
        m=4,
        weights=(
            (1 / 4, 0, 0),
            (-1 / 6, -1 / 6, -1 / 6),
            (-1 / 6, 1 / 6, -1 / 6),
            (1 / 24, 1 / 12, 1 / 6),
            (1 / 24, -1 / 12, 1 / 6),
            (0, 0, 1),
        ),
        input_cycles=130,
        output_cycles=90,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WinogradConfig:
    """How a Winograd convolution runs.

    Attributes:
        m: outputs along an edge of a tile.
        block: most tiles transformed together.
        mr: most tiles of a register tile.
        nv: vectors of output channels of a register tile.
        pairs: transformed inputs and weights are pairs of bf16.
    """

    m: int
    block: int
    mr: int
    nv: int
    pairs: bool = False

    @property
    def product(self) -> Product:
        """What is multiplied."""
        return PAIRS if self.pairs else FLOATS


def _channels(spec: ConvSpec) -> tuple[int, int]:
    """(input channels, output channels)."""
    c, k = spec.operands[1].dims[3], spec.out.dims[3]
    assert c is not None and k is not None
    return c, k


def _tiles(spec: ConvSpec, m: int) -> int:
    """Tiles of the whole output; run-time extents are guessed."""
    n, p, q = spec.out.dims[:3]
    if p is None or q is None:
        return (n or 1) * ASSUMED_COLUMNS
    return (n or 1) * -(-p // m) * -(-q // m)


def _planes(spec: ConvSpec, config: WinogradConfig, lanes: int) -> tuple[int, int, int]:
    """Values of a transformed tile and of a coordinate of the block, and floats of its sums.

    One cache line more than needed keeps equal channels of neighbouring tiles and coordinates out of each
    other's L1 sets.
    """
    c, _ = _channels(spec)
    line = LINE * config.product.size
    row = -(-c // lanes) * lanes
    row = -(-row // line) * line + (line if row % (16 * line) == 0 else 0)
    return row, config.block * row + line, config.block * config.nv * lanes + LINE


class CpuWinograd:
    """Family of `ConvSpec` for 3x3 kernels with stride 1, dilation 1 and one group."""

    name = "cpu_winograd"
    op = "conv"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        reason = self._reason(spec)
        if reason:
            return Rejection(stage="supports", subject=self.name, reason=reason)
        return wrong_storage(spec, self.name, a=FLOAT_TYPES, b=FLOAT_TYPES)

    def _reason(self, spec: Spec) -> str:
        if not isinstance(spec, ConvSpec):
            return f"computes conv, not {spec.op}"
        if 2 not in spec.constants:
            return "the weights are not constant"
        if spec.kernel != (3, 3) or spec.stride != (1, 1) or spec.dilation != (1, 1) or spec.groups != 1:
            return "only 3x3 kernels with stride 1, dilation 1 and one group"
        if min(_channels(spec)) < FEWEST_CHANNELS:
            return f"fewer than {FEWEST_CHANNELS} channels: the transforms cost more than they save"
        return ""

    def configs(self, spec: Spec, target: Target) -> Sequence[WinogradConfig]:
        assert isinstance(spec, ConvSpec)
        found: dict[WinogradConfig, None] = {}
        for m in TRANSFORMS:
            found |= dict.fromkeys(_configs(spec, m, target, pairs=False))
        if spec.operands[1].dtype is BF16 and PAIRS.runs_on(target):
            found |= dict.fromkeys(_configs(spec, 2, target, pairs=True))
        return sorted(found, key=lambda config: self.estimate(spec, config, target))

    def estimate(self, spec: Spec, config: WinogradConfig, target: Target) -> float:
        """Cycles of one core."""
        assert isinstance(spec, ConvSpec)
        (c, k), transform = _channels(spec), TRANSFORMS[config.m]
        lanes, coordinates = target.vector_lanes, transform.size**2
        tiles = _tiles(spec, config.m)
        panels = Panels.of(k, config.nv, lanes)
        blocks = -(-tiles // config.block)
        turns = -(-config.block // config.mr)
        full = tile_step_cycles(config.mr, config.nv, target)
        last = tile_step_cycles(config.mr, panels.nv_last, target)
        step = (panels.count - 1) * full + last
        words = config.product.words(c)
        per_tile = words * step + panels.vectors * config.mr + 25 * panels.count
        multiply = blocks * turns * coordinates * per_tile
        weight_bytes = 4 * coordinates * words * panels.vectors * lanes
        speed = L3_BYTES_PER_CYCLE if weight_bytes <= NEAR_BYTES else FAR_BYTES_PER_CYCLE
        traffic = blocks * weight_bytes / speed
        outputs = transform.output_cycles + config.m**2 * (1 + epilogue_cycles(spec.epilogue))
        transforms = -(-c // lanes) * transform.input_cycles + panels.vectors * outputs
        return max(multiply, traffic) + 0.25 * min(multiply, traffic) + tiles * transforms

    def render(self, spec: Spec, config: WinogradConfig, target: Target, name: str) -> str:
        assert isinstance(spec, ConvSpec)
        return render("cpu_winograd.cc.jinja", _context(spec, config, target, name))

    def pack(
        self, spec: Spec, config: WinogradConfig, target: Target, constants: Mapping[int, np.ndarray]
    ) -> dict[int, np.ndarray]:
        """Transformed weights as (panels, coordinates, words, nv * lanes)."""
        g = np.asarray(TRANSFORMS[config.m].weights, np.float64)
        weights = constants[2].astype(np.float64)
        transformed = np.einsum("ir,kcrs,js->ijck", g, weights, g, optimize=True)
        flat = transformed.reshape(-1, *transformed.shape[2:])
        words = np.stack([words_of_taps(m[None], config.product) for m in convert(flat, config.product.b)])
        packed = beside_weights(spec, constants)
        packed[2] = _interleave(words, config.nv, target.vector_lanes)
        return packed

    def scratch_bytes(self, spec: Spec, config: WinogradConfig, target: Target) -> int:
        assert isinstance(spec, ConvSpec)
        _, v_plane, s_plane = _planes(spec, config, target.vector_lanes)
        return TRANSFORMS[config.m].size ** 2 * (v_plane * config.product.a.size_bytes + 4 * s_plane)


def _configs(spec: ConvSpec, m: int, target: Target, *, pairs: bool) -> Iterator[WinogradConfig]:
    """Register tiles and blocks of one transform."""
    (c, k), tiles = _channels(spec), _tiles(spec, m)
    vectors = -(-k // target.vector_lanes)
    product = PAIRS if pairs else FLOATS
    for nv in range(1, min(vectors, 6) + 1):
        widest = min(widest_rows(nv, target), 14)
        if widest < 1:
            continue
        per_tile = 4 * TRANSFORMS[m].size ** 2 * (product.words(c) + nv * target.vector_lanes)
        for share in (2, 1):
            fit = min(tiles, max(widest, target.l2_bytes // share // per_tile))
            block = -(-tiles // -(-tiles // fit))
            mr = -(-block // -(-block // widest))
            yield WinogradConfig(m=m, block=block, mr=mr, nv=nv, pairs=pairs)


def _interleave(coordinates: np.ndarray, nv: int, lanes: int) -> np.ndarray:
    """(coordinates, words, k, size) as panels that hold all coordinates each."""
    k, width = coordinates.shape[2], nv * lanes
    pieces = [coordinates[:, :, s : s + width] for s in range(0, k, width)]
    return np.concatenate([pack_panels(m, nv, lanes) for piece in pieces for m in piece])


def _context(spec: ConvSpec, config: WinogradConfig, target: Target, name: str) -> dict[str, Any]:
    (c, k), lanes = _channels(spec), target.vector_lanes
    names = argument_names(spec)
    x, panels = names[1]["strides"], Panels.of(k, config.nv, lanes)
    coordinates = TRANSFORMS[config.m].size ** 2
    v_row, v_plane, s_plane = _planes(spec, config, lanes)
    product, words = config.product, config.product.words(c)
    unroll = unrolled(c // product.size)
    panel_words = coordinates * words * config.nv * lanes
    turns = (c // product.size // unroll) * -(-config.block // config.mr)
    step = tile_step_cycles(config.mr, config.nv, target) / config.mr
    return {
        "title": f"Winograd F({config.m}x{config.m}, 3x3), blocks of {config.block} tiles",
        "name": name,
        "lanes": lanes,
        "m": config.m,
        "a_type": spec.operands[1].dtype.cpu,
        "v_type": product.a.cpu,
        "c": c,
        "words": words,
        "k": k,
        "panels": panels.count,
        "mr": config.mr,
        "nv": config.nv,
        "nv_last": panels.nv_last,
        "unroll": unroll,
        "touches": min(4, max(1, -(-words * config.nv * lanes // (LINE * turns)))),
        "block": config.block,
        "v_row": v_row,
        "v_plane": v_plane,
        "s_plane": s_plane,
        "panel_words": panel_words,
        "pixel": x[2],
        "a_steps": x[:2],
        "a_base": total(times(str(-spec.pad[0]), x[1]), times(str(-spec.pad[1]), x[2])),
        "extents": names[0]["dims"][:3],
        "cut": Cut.of(None, config.mr),
        "unit_cost": max(1, round(coordinates * words * step)),
        "m_cost": max(1, round(-(-c // lanes) * TRANSFORMS[config.m].input_cycles)),
        "n_cost": max(1, 4 * panel_words // FAR_BYTES_PER_CYCLE),
        **finish_context(spec),
    }
