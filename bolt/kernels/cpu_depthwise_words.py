"""Depthwise convolution of 8-bit integers on the CPU: four taps of a row at a time.

The instruction that multiplies four 8-bit integers wants them in one word per channel, but in memory the
taps of a channel are a pixel apart. The kernel interleaves the bytes of neighbouring pixels into such words,
from every even pixel on: a word serves the two outputs whose taps begin at its first or its second pixel,
with weights of zero for the pixel that is not theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bolt.codegen.render import render
from bolt.kernels.finish import beside_weights, epilogue_cycles, finish_context
from bolt.kernels.igemm import ASSUMED_COLUMNS, L2_BYTES_PER_CYCLE, Cut
from bolt.kernels.products import BYTES, Product, product_of, shift_words, wrong_product
from bolt.kernels.rows import number, window_context
from bolt.ops.conv import ConvSpec
from bolt.ops.spec import Spec
from bolt.report import Rejection
from bolt.target import Target

WORD = 4
"""Pixels of a word."""

VECTORS = 4
"""Vectors of channels, one byte each, of a vector register."""

MOST_SUMS = 16
"""Vectors of sums of a tile; the interleaved pixels take the other registers."""

WIDEST_ROW = 7
"""Most taps of a row."""

UNROLLED_ROWS = 5
"""Up to so many rows of taps are unrolled: the sums stay in registers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WordsConfig:
    """How a depthwise convolution of words runs.

    Attributes:
        mr: most pixels of a register tile.
        chunk: blocks of 64 channels that go over the image together.
    """

    mr: int
    chunk: int


class CpuDepthwiseWords:
    """Family of `ConvSpec` of 8-bit integers with one input and one output channel per group."""

    name = "cpu_depthwise_words"
    op = "conv"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        reason = self._reason(spec)
        if reason:
            return Rejection(stage="supports", subject=self.name, reason=reason)
        return wrong_product(spec, self.name, target, BYTES)

    def _reason(self, spec: Spec) -> str:
        if not isinstance(spec, ConvSpec) or not spec.is_depthwise:
            return f"computes depthwise convolutions, not {spec.op}"
        if 2 not in spec.constants:
            return "the weights are not constant"
        if spec.dilation[1] != 1 or spec.stride[1] > 2 or spec.kernel[1] > WIDEST_ROW:
            return f"only up to {WIDEST_ROW} neighbouring columns of taps, and strides up to 2"
        return ""

    def configs(self, spec: Spec, target: Target) -> Sequence[WordsConfig]:
        assert isinstance(spec, ConvSpec)
        columns, blocks = spec.out.dims[2], _blocks(spec, target)
        together = min(VECTORS, _vectors(spec, target))
        found: dict[WordsConfig, None] = {}
        for most in range(1, MOST_SUMS // together + 1):
            mr = most if columns is None else -(-columns // -(-columns // most))
            for chunk in {blocks, min(blocks, _fitting(spec, target))}:
                found[WordsConfig(mr=mr, chunk=chunk)] = None
        return sorted(found, key=lambda c: (self.estimate(spec, c, target), c.mr, -c.chunk))

    def estimate(self, spec: Spec, config: WordsConfig, target: Target) -> float:
        """Cycles of one core."""
        assert isinstance(spec, ConvSpec)
        (r, s), step, mr = spec.kernel, spec.stride[1], config.mr
        n, p, columns = (d or ASSUMED_COLUMNS for d in spec.out.dims[:3])
        blocks, vectors = _blocks(spec, target), _vectors(spec, target)
        groups, pixels = _groups(spec), (mr - 1) * step + s
        words = (mr - 1) * step // 2 + 2 * groups - 1
        shuffles = blocks * 2 * pixels + vectors * words
        products = vectors * mr * groups
        row = max(products / target.fma_ports, shuffles / 2, (products + shuffles + blocks * pixels) / 4)
        tile = r * row + vectors * mr * (1 + epilogue_cycles(spec.epilogue)) + 12 * blocks + 20
        sizes = [o.dtype.size_bytes for o in spec.operands[:2]]
        moved = sizes[0] + sizes[1] * spec.stride[0] * step
        traffic = (spec.out.dims[3] or 1) * n * p * columns * moved / L2_BYTES_PER_CYCLE
        return float(max(n * p * -(-columns // mr) * tile, traffic))

    def render(self, spec: Spec, config: WordsConfig, target: Target, name: str) -> str:
        assert isinstance(spec, ConvSpec)
        (r, s), window = spec.kernel, window_context(spec)
        integers, lanes = _product(spec), target.vector_lanes
        context = {
            "title": f"Depthwise convolution {r}x{s} of 8-bit integers, tiles of {config.mr} pixels",
            "name": name,
            "lanes": lanes,
            "a_type": integers.a.cpu,
            "channels": spec.out.dims[3],
            "blocks": _blocks(spec, target),
            "last": _vectors(spec, target) - VECTORS * (_blocks(spec, target) - 1),
            "chunk": config.chunk,
            "groups": _groups(spec),
            "parities": _parities(spec),
            "start_words": VECTORS * lanes if integers.shift else 0,
            "unroll": r if r <= UNROLLED_ROWS else 1,
            "mr": config.mr,
            "cut": Cut.of(number(window["extents"][2]), config.mr),
            **window,
            **finish_context(spec),
        }
        return render("cpu_depthwise_words.cc.jinja", context)

    def pack(
        self, spec: Spec, config: WordsConfig, target: Target, constants: Mapping[int, np.ndarray]
    ) -> dict[int, np.ndarray]:
        """Weights as (blocks, rows of words, channels of a block, pixels of a word), the start first."""
        assert isinstance(spec, ConvSpec)
        channels = _blocks(spec, target) * VECTORS * target.vector_lanes
        weights = np.zeros((channels, *spec.kernel), np.int8)
        weights[: len(constants[2])] = constants[2][:, 0]
        words = _words(weights, _parities(spec), _groups(spec))
        if _product(spec).shift:
            words = np.concatenate([shift_words(weights.reshape(channels, -1).T, _product(spec)), words])
        blocks = words.reshape(len(words), _blocks(spec, target), -1, WORD).transpose(1, 0, 2, 3)
        packed = beside_weights(spec, constants)
        packed[2] = blocks.ravel()
        return packed

    def scratch_bytes(self, spec: Spec, config: WordsConfig, target: Target) -> int:
        return 0


def _words(weights: np.ndarray, parities: int, groups: int) -> np.ndarray:
    """Weights (channels, r, s) as (r * parities * groups, channels, pixels of a word)."""
    channels, r, s = weights.shape
    rows = np.zeros((r, parities, channels, groups * WORD), np.int8)
    for parity in range(parities):
        rows[:, parity, :, parity : parity + s] = weights.transpose(1, 0, 2)
    words = rows.reshape(r, parities, channels, groups, WORD)
    return words.transpose(0, 1, 3, 2, 4).reshape(-1, channels, WORD)


def _product(spec: ConvSpec) -> Product:
    found = product_of(spec)
    assert found is not None
    return found


def _parities(spec: ConvSpec) -> int:
    """Outputs begin at even pixels only, or at odd ones, too."""
    return 2 if spec.stride[1] == 1 else 1


def _groups(spec: ConvSpec) -> int:
    """Words that cover a row of taps, wherever it begins."""
    return -(-(spec.kernel[1] + _parities(spec) - 1) // WORD)


def _vectors(spec: ConvSpec, target: Target) -> int:
    """Vectors of channels."""
    return -(-(spec.out.dims[3] or 1) // target.vector_lanes)


def _blocks(spec: ConvSpec, target: Target) -> int:
    """Registers full of channels."""
    return -(-_vectors(spec, target) // VECTORS)


def _fitting(spec: ConvSpec, target: Target) -> int:
    """How many blocks keep the input rows under the taps in half of L1."""
    columns = (spec.out.dims[2] or ASSUMED_COLUMNS) * spec.stride[1] + spec.kernel[1]
    return max(1, target.l1_bytes // 2 // (VECTORS * target.vector_lanes * columns * spec.kernel[0]))
