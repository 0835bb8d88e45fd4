"""Depthwise convolution on the CPU: one vector of channels at a time, no reduction over channels.

Products are of fp32 numbers whatever the operands are stored as: there is nothing to multiply in pairs, and
sums of products of 8-bit integers are exact in fp32 (up to 2^24).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bolt.codegen.render import render
from bolt.kernels.finish import STORAGE, beside_weights, epilogue_cycles, finish_context, wrong_storage
from bolt.kernels.igemm import ASSUMED_COLUMNS, ISSUE, L2_BYTES_PER_CYCLE, Cut
from bolt.kernels.rows import number, window_context
from bolt.ops.conv import ConvSpec
from bolt.ops.spec import Spec
from bolt.report import Rejection
from bolt.target import Target
from bolt.types import BF16, F32, S8


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthwiseConfig:
    """How a depthwise convolution runs.

    Attributes:
        mr: most pixels of a register tile.
        chunk: vectors of channels that go over the image together.
        reuse: the input values under a row of taps are loaded once; else once per tap.
    """

    mr: int
    chunk: int
    reuse: bool


def _sizes(spec: ConvSpec) -> tuple[int, int, int]:
    """(channels, rows of taps, columns of taps)."""
    channels = spec.out.dims[3]
    assert channels is not None
    return channels, *spec.kernel


def _values(spec: ConvSpec, mr: int) -> int:
    """Input vectors under a row of taps of a tile."""
    return (mr - 1) * spec.stride[1] + (spec.kernel[1] - 1) * spec.dilation[1] + 1


def _chunks(spec: ConvSpec, target: Target) -> list[int]:
    """All channels at once, and as many as keep the input rows under the taps in half of L1."""
    channels, r, s = _sizes(spec)
    vectors = -(-channels // target.vector_lanes)
    columns = (spec.out.dims[2] or ASSUMED_COLUMNS) * spec.stride[1] + s
    size = spec.operands[1].dtype.size_bytes
    fit = target.l1_bytes // 2 // (size * target.vector_lanes * columns * r)
    return sorted({vectors, min(vectors, max(1, fit))})


class CpuDepthwise:
    """Family of `ConvSpec` with one input and one output channel per group."""

    name = "cpu_depthwise"
    op = "conv"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        if not isinstance(spec, ConvSpec) or not spec.is_depthwise:
            reason = f"computes depthwise convolutions, not {spec.op}"
            return Rejection(stage="supports", subject=self.name, reason=reason)
        if 2 not in spec.constants:
            return Rejection(stage="supports", subject=self.name, reason="the weights are not constant")
        return wrong_storage(spec, self.name, a=STORAGE, b=(F32, BF16, S8))

    def configs(self, spec: Spec, target: Target) -> Sequence[DepthwiseConfig]:
        assert isinstance(spec, ConvSpec)
        columns = spec.out.dims[2]
        found: dict[DepthwiseConfig, None] = {}
        for most in range(1, 15):
            mr = most if columns is None else -(-columns // -(-columns // most))
            for chunk in _chunks(spec, target):
                if _values(spec, mr) + mr + 2 <= target.vector_registers:
                    found[DepthwiseConfig(mr=mr, chunk=chunk, reuse=True)] = None
                if mr + 3 <= target.vector_registers:
                    found[DepthwiseConfig(mr=mr, chunk=chunk, reuse=False)] = None
        return sorted(found, key=lambda c: self.estimate(spec, c, target))

    def estimate(self, spec: Spec, config: DepthwiseConfig, target: Target) -> float:
        """Cycles of one core."""
        assert isinstance(spec, ConvSpec)
        channels, r, s = _sizes(spec)
        n, p = (d or 1 for d in spec.out.dims[:2])
        columns = spec.out.dims[2] or ASSUMED_COLUMNS
        macs = config.mr * s
        values = _values(spec, config.mr) if config.reuse else macs
        loads = s + values
        converted = 0 if spec.operands[1].dtype is F32 else 2 * values
        issued = (macs + loads + converted) / ISSUE
        tile = r * max(macs / target.fma_ports, loads / 2, converted / 2, issued, 4.0 * s) + 12
        tile += config.mr * (1 + epilogue_cycles(spec.epilogue))
        vectors = -(-channels // target.vector_lanes)
        tiles = n * p * -(-columns // config.mr)
        sizes = [o.dtype.size_bytes for o in spec.operands[:2]]
        moved = sizes[0] + sizes[1] * spec.stride[0] * spec.stride[1]
        traffic = channels * n * p * columns * moved / L2_BYTES_PER_CYCLE
        # Single vectors of pixels that are not whole cache lines: each line is fetched twice.
        split = 1.1 if config.chunk < vectors and channels % target.vector_lanes else 1.0
        return float(max(tiles * (vectors * tile + 20) * split, traffic))

    def render(self, spec: Spec, config: DepthwiseConfig, target: Target, name: str) -> str:
        assert isinstance(spec, ConvSpec)
        channels, r, s = _sizes(spec)
        window, lanes = window_context(spec), target.vector_lanes
        context = {
            "title": f"Depthwise convolution {r}x{s}, tiles of {config.mr} pixels",
            "name": name,
            "lanes": lanes,
            "channels": channels,
            "vectors": -(-channels // lanes),
            "a_type": spec.operands[1].dtype.cpu,
            "reuse": config.reuse,
            "mr": config.mr,
            "chunk": config.chunk,
            "cut": Cut.of(number(window["extents"][2]), config.mr),
            **window,
            **finish_context(spec),
        }
        return render("cpu_depthwise.cc.jinja", context)

    def pack(
        self, spec: Spec, config: DepthwiseConfig, target: Target, constants: Mapping[int, np.ndarray]
    ) -> dict[int, np.ndarray]:
        """Weights as (vectors, r, s, lanes)."""
        assert isinstance(spec, ConvSpec)
        (channels, r, s), lanes = _sizes(spec), target.vector_lanes
        vectors = -(-channels // lanes)
        padded = np.zeros((vectors * lanes, r, s), np.float32)
        padded[:channels] = constants[2][:, 0]
        packed = beside_weights(spec, constants)
        packed[2] = padded.reshape(vectors, lanes, r, s).transpose(0, 2, 3, 1).ravel()
        return packed

    def scratch_bytes(self, spec: Spec, config: DepthwiseConfig, target: Target) -> int:
        return 0
