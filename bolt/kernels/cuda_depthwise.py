"""Depthwise convolution on CUDA: a thread sums some channels of some neighbouring pixels, fp32 arithmetic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bolt.codegen.render import render
from bolt.kernels import cuda_pixels
from bolt.kernels.cuda_pixels import LAUNCH_US, VECTOR_BYTES, PixelFamily, known
from bolt.kernels.finish import beside_weights
from bolt.ops.conv import ConvSpec
from bolt.ops.spec import Spec
from bolt.report import Rejection
from bolt.target import Target
from bolt.types import convert

REGISTERS = 112
"""32-bit values a thread may hold besides addresses."""

UNROLLED_TAPS = 16
"""Kernels up to this size are unrolled over their rows."""

L1_BYTES_PER_CYCLE = 128
"""What the L1 cache of a multiprocessor delivers."""

CLOCK_MHZ = 1500.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthwiseConfig:
    """What a thread computes.

    Attributes:
        lanes: neighbouring channels.
        columns: neighbouring pixels of a line.
        reuse: inputs are read once for all pixels of the thread, with a row of taps in registers.
    """

    lanes: int
    columns: int
    reuse: bool


class CudaDepthwise(PixelFamily):
    """Family of `ConvSpec` with one input and one output channel per group."""

    name = "cuda_depthwise"
    op = "conv"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        assert isinstance(spec, ConvSpec)
        if not spec.is_depthwise:
            return self.reject("the convolution is not depthwise")
        return self.reject("the padding is in memory" if spec.has_halo else cuda_pixels.obstacle(spec))

    def configs(self, spec: Spec, target: Target) -> Sequence[DepthwiseConfig]:
        assert isinstance(spec, ConvSpec)
        most = cuda_pixels.lanes_of(
            spec, known(spec.out.dims[3]), VECTOR_BYTES // spec.operands[1].dtype.size_bytes
        )
        found = [
            DepthwiseConfig(lanes=lanes, columns=columns, reuse=reuse)
            for lanes in sorted({most, max(1, most // 2), max(1, most // 4)}, reverse=True)
            for columns in (4, 2, 1)
            for reuse in (True, False)
            if columns <= (spec.out.dims[2] or columns)
            and _registers(spec, lanes, columns, reuse) <= REGISTERS
        ]
        return sorted(found, key=lambda c: self.estimate(spec, c, target))

    def estimate(self, spec: Spec, config: DepthwiseConfig, target: Target) -> float:
        """Microseconds: memory traffic, or loads from the L1 cache, whichever is more."""
        assert isinstance(spec, ConvSpec) and target.gpu is not None
        gpu, (r, s) = target.gpu, spec.kernel
        n, p, q, k = (d or 1 for d in spec.out.dims)
        threads = n * p * math.ceil(q / config.columns) * math.ceil(k / config.lanes)
        reads = (config.columns - 1) * spec.stride[1] + (s - 1) * spec.dilation[1] + 1
        loads = threads * r * (s + (min(reads, s * config.columns) if config.reuse else s * config.columns))
        busy = min(1.0, threads / (gpu.multiprocessors * 512))
        moved = loads * config.lanes * spec.operands[1].dtype.size_bytes
        cycles = moved / L1_BYTES_PER_CYCLE / gpu.multiprocessors / busy
        flops = spec.flops() / gpu.f32_flops * 1e6
        return LAUNCH_US + max(spec.bytes() / gpu.bandwidth * 1e6, cycles / CLOCK_MHZ, flops)

    def render(self, spec: Spec, config: DepthwiseConfig, target: Target, name: str) -> str:
        assert isinstance(spec, ConvSpec)
        x, channels = spec.operands[1], known(spec.out.dims[3])
        context = cuda_pixels.frame(spec, name, lanes=config.lanes, columns=config.columns, channels=channels)
        context["input"]["vector"] = cuda_pixels.widest(x, channels, config.lanes)
        return render(
            "cuda_depthwise.cu.jinja",
            {
                **context,
                "taps": spec.kernel,
                "stride": spec.stride,
                "dilation": spec.dilation,
                "pad": spec.pad,
                "reuse": config.reuse,
                "unrolled": math.prod(spec.kernel) <= UNROLLED_TAPS,
            },
        )

    def pack(
        self, spec: Spec, config: DepthwiseConfig, target: Target, constants: Mapping[int, np.ndarray]
    ) -> dict[int, np.ndarray]:
        """Weights as (r, s, k) in the type of the input."""
        packed = beside_weights(spec, constants)
        taps = np.ascontiguousarray(constants[2][:, 0].transpose(1, 2, 0)).ravel()
        packed[2] = convert(taps, spec.operands[1].dtype)
        return packed


def _registers(spec: ConvSpec, lanes: int, columns: int, reuse: bool) -> int:
    """Values a thread holds: sums, an input, taps."""
    return lanes * (columns + 1 + (spec.kernel[1] if reuse else 1))
