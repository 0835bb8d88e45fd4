"""Any convolution, plain or transposed, by direct sums on CUDA: what no faster family computes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bolt.codegen.render import render
from bolt.kernels import cuda_pixels
from bolt.kernels.cuda_pixels import LAUNCH_US, VECTOR_BYTES, PixelFamily, known
from bolt.kernels.finish import beside_weights
from bolt.ops.conv import ConvSpec, ConvTransposeSpec
from bolt.ops.spec import Spec
from bolt.report import Rejection
from bolt.target import Target
from bolt.types import convert

RATE = 0.08
"""Share of the fp32 peak that the sums reach: each multiplication reads its weight from the L1 cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectConfig:
    """What a thread computes.

    Attributes:
        lanes: neighbouring output channels of a group.
    """

    lanes: int


class DirectFamily(PixelFamily):
    """What the two families share: sums over taps, then over the input channels of a group."""

    title: str

    def configs(self, spec: Spec, target: Target) -> Sequence[DirectConfig]:
        assert isinstance(spec, (ConvSpec, ConvTransposeSpec))
        most = VECTOR_BYTES // spec.operands[1].dtype.size_bytes
        most = cuda_pixels.lanes_of(spec, known(spec.out.dims[3]) // spec.groups, most)
        found = [DirectConfig(lanes=lanes) for lanes in sorted({most, max(1, most // 2), 1}, reverse=True)]
        return sorted(found, key=lambda c: self.estimate(spec, c, target))

    def estimate(self, spec: Spec, config: DirectConfig, target: Target) -> float:
        """Microseconds."""
        assert target.gpu is not None
        gpu = target.gpu
        threads = math.prod(d or 1 for d in spec.out.dims) / config.lanes
        busy = min(1.0, threads / (gpu.multiprocessors * 512))
        rate = gpu.f32_flops * RATE * busy * math.sqrt(config.lanes / 8)
        return LAUNCH_US + max(spec.flops() / rate, spec.bytes() / gpu.bandwidth) * 1e6

    def render(self, spec: Spec, config: DirectConfig, target: Target, name: str) -> str:
        return render("cuda_conv_direct.cu.jinja", self._context(spec, config, name))

    def _context(self, spec: Spec, config: DirectConfig, name: str) -> dict[str, Any]:
        assert isinstance(spec, (ConvSpec, ConvTransposeSpec))
        x, groups = spec.operands[1], spec.groups
        c, k = known(x.dims[3]), known(spec.out.dims[3])
        context = cuda_pixels.frame(spec, name, lanes=config.lanes, columns=1, channels=k // groups)
        context["input"]["vector"] = cuda_pixels.widest(x, c // groups, 8)
        return {
            **context,
            "title": self.title,
            "transposed": isinstance(spec, ConvTransposeSpec),
            "taps": spec.operands[2].dims[2:],
            "stride": spec.stride,
            "dilation": spec.dilation,
            "pad": spec.pad,
            "groups": groups,
            "c": c,
        }

    def pack(
        self, spec: Spec, config: DirectConfig, target: Target, constants: Mapping[int, np.ndarray]
    ) -> dict[int, np.ndarray]:
        """Weights as (group, r, s, input channel, output channel) in the type of the input."""
        assert isinstance(spec, (ConvSpec, ConvTransposeSpec))
        packed = beside_weights(spec, constants)
        weights = constants[2].reshape(spec.groups, -1, *constants[2].shape[1:])
        # a convolution's weights are (k, c / groups, r, s), a transposed one's (c, k / groups, r, s)
        axes = (0, 3, 4, 2, 1) if isinstance(spec, ConvSpec) else (0, 3, 4, 1, 2)
        packed[2] = convert(np.ascontiguousarray(weights.transpose(axes)).ravel(), spec.operands[1].dtype)
        return packed


class CudaConvDirect(DirectFamily):
    """Family of `ConvSpec`."""

    name = "cuda_conv_direct"
    op = "conv"
    title = "Convolution by direct sums"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        assert isinstance(spec, ConvSpec)
        return self.reject("the padding is in memory" if spec.has_halo else cuda_pixels.obstacle(spec))
