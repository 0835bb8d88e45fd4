"""Convolution by CUTLASS 2.x implicit GEMM: every CUDA target, fp16, bf16, tf32 and fp32.

The main loops are CUTLASS's forward convolutions over NHWC, whose iterators take arbitrary strides of images,
rows and pixels and supply the padding themselves. The epilogue is
`templates/include/bolt/cuda/implicit_gemm.h`: any expression with up to `MAX_EXTRAS` inputs; CUTLASS's own
epilogues of convolutions stop at one vector and one tensor. Groups are the third dimension of the grid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from bolt.kernels import implicit_gemm
from bolt.kernels.cuda_pixels import known
from bolt.kernels.family import Source
from bolt.kernels.finish import beside_weights
from bolt.kernels.implicit_gemm import ConvConfig
from bolt.kernels.implicit_gemm_cost import conv_us
from bolt.ops.conv import ConvSpec
from bolt.ops.spec import Spec
from bolt.report import Rejection
from bolt.target import Target


class CutlassConvSm80:
    """Family of `ConvSpec` without halo."""

    name = "cutlass_conv_sm80"
    op = "conv"
    language = "cxx"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        assert isinstance(spec, ConvSpec)
        reason = implicit_gemm.obstacle(spec, target)
        return Rejection(stage="supports", subject=self.name, reason=reason) if reason else None

    def configs(self, spec: Spec, target: Target) -> Sequence[ConvConfig]:
        assert isinstance(spec, ConvSpec)
        found = implicit_gemm.configs_of(spec, target)
        return sorted(found, key=lambda c: self.estimate(spec, c, target))

    def estimate(self, spec: Spec, config: ConvConfig, target: Target) -> float:
        """Microseconds on the target's typical device."""
        assert isinstance(spec, ConvSpec)
        return conv_us(spec, config, target)

    def render(self, spec: Spec, config: ConvConfig, target: Target, name: str) -> str:
        assert isinstance(spec, ConvSpec)
        unit, call = implicit_gemm.unit_of(spec, config), implicit_gemm.call_of(spec)
        return implicit_gemm.launcher(name, unit.name, [call], split_k=config.split_k)

    def units(self, spec: Spec, config: ConvConfig, target: Target) -> tuple[Source, ...]:
        assert isinstance(spec, ConvSpec)
        return (implicit_gemm.unit_of(spec, config),)

    def pack(
        self, spec: Spec, config: ConvConfig, target: Target, constants: Mapping[int, np.ndarray]
    ) -> dict[int, np.ndarray]:
        packed = beside_weights(spec, constants)
        packed[2] = implicit_gemm.pack_weights(spec, constants[2].transpose(0, 2, 3, 1))
        return packed

    def scratch_bytes(self, spec: Spec, config: ConvConfig, target: Target) -> int:
        if config.split_k == 1:
            return 0
        return 4 * config.split_k * math.prod(known(d) for d in spec.out.dims)
