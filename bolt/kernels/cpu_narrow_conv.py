"""Convolution with few output channels on the CPU: vectors of input channels (`narrow`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bolt.kernels.cpu_conv import conv_problem
from bolt.kernels.finish import STORAGE, beside_weights, wrong_storage
from bolt.kernels.narrow import (
    WEIGHTS,
    NarrowConfig,
    TapRow,
    narrow_configs,
    narrow_cycles,
    narrow_source,
    pack_narrow,
    wrong_narrow,
)
from bolt.ops.conv import ConvSpec
from bolt.ops.spec import Spec
from bolt.report import Rejection
from bolt.target import Target


def _row(spec: ConvSpec) -> TapRow:
    pixel = spec.operands[1].strides[2]
    return TapRow(count=spec.kernel[1], step=spec.stride[1], spread=spec.dilation[1], pixel=str(pixel))


class CpuNarrowConv:
    """Family of `ConvSpec` with a handful of output channels."""

    name = "cpu_narrow_conv"
    op = "conv"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        if not isinstance(spec, ConvSpec):
            return Rejection(stage="supports", subject=self.name, reason=f"computes conv, not {spec.op}")
        if 2 not in spec.constants or spec.groups > 1:
            reason = "the weights are not constant, or there are several groups"
            return Rejection(stage="supports", subject=self.name, reason=reason)
        narrow = wrong_narrow(conv_problem(spec, target), self.name, target)
        return wrong_storage(spec, self.name, a=STORAGE, b=WEIGHTS) if narrow is None else narrow

    def configs(self, spec: Spec, target: Target) -> Sequence[NarrowConfig]:
        assert isinstance(spec, ConvSpec)
        return narrow_configs(conv_problem(spec, target), _row(spec), target)

    def estimate(self, spec: Spec, config: NarrowConfig, target: Target) -> float:
        """Cycles of one core."""
        assert isinstance(spec, ConvSpec)
        return narrow_cycles(conv_problem(spec, target), _row(spec), config, target)

    def render(self, spec: Spec, config: NarrowConfig, target: Target, name: str) -> str:
        assert isinstance(spec, ConvSpec)
        (r, s), k = spec.kernel, spec.out.dims[3]
        title = f"Convolution {r}x{s} to {k} channels by vectors of input channels, {config.mr} pixels each"
        return narrow_source(conv_problem(spec, target), _row(spec), config, target, name=name, title=title)

    def pack(
        self, spec: Spec, config: NarrowConfig, target: Target, constants: Mapping[int, np.ndarray]
    ) -> dict[int, np.ndarray]:
        assert isinstance(spec, ConvSpec)
        problem = conv_problem(spec, target)
        weights = constants[2].transpose(2, 3, 1, 0)
        if not config.shares:
            weights = weights.reshape(*problem.taps, problem.c, problem.k)
        packed = beside_weights(spec, constants)
        packed[2] = pack_narrow(weights, config, target.vector_lanes)
        return packed

    def scratch_bytes(self, spec: Spec, config: NarrowConfig, target: Target) -> int:
        return 0
