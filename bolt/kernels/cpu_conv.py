"""Convolution as implicit GEMM on the CPU: channels-last input, packed weights, epilogue in registers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bolt.kernels.finish import beside_weights
from bolt.kernels.igemm import (
    IgemmConfig,
    Problem,
    igemm_configs,
    igemm_cycles,
    igemm_source,
    pack_words,
)
from bolt.kernels.products import wrong_product
from bolt.kernels.rows import product, window_context
from bolt.ops.conv import ConvSpec
from bolt.ops.spec import Spec
from bolt.report import Rejection
from bolt.target import Target


def joined_groups(groups: int, k: int, lanes: int) -> int:
    """Groups computed together as one: narrow groups share a vector, with zero weights between them."""
    fit = max(1, lanes // (k // groups))
    return max(d for d in range(1, fit + 1) if groups % d == 0)


def conv_problem(spec: ConvSpec, target: Target) -> Problem:
    """The implicit GEMM of a convolution."""
    window = window_context(spec)
    (r, s), k, c = spec.kernel, spec.out.dims[3], spec.operands[1].dims[3]
    assert k is not None and c is not None
    groups = spec.groups // joined_groups(spec.groups, k, target.vector_lanes)
    group_c = c // groups
    # Neighbouring taps of a row that are neighbours in memory are one longer tap.
    is_contiguous = s == 1 or (window["pixel"] == str(group_c) and spec.dilation[1] == 1)
    return Problem(
        spec=spec,
        extents=window["extents"],
        a_steps=window["a_steps"],
        a_base=window["a_base"],
        taps=(r, 1 if is_contiguous else s),
        tap_steps=(window["tap_step"], product(str(spec.dilation[1]), window["pixel"])),
        c=group_c * s if is_contiguous else group_c,
        k=k // groups,
        groups=groups,
        group_c=group_c,
    )


def reduction_matrices(weights: np.ndarray, groups: int, lanes: int) -> np.ndarray:
    """Weights (k, c / groups, r, s) as (joint groups, r * s * c, k) matrices; block-diagonal where joined."""
    k, c, r, s = weights.shape
    joined, per_k = joined_groups(groups, k, lanes), k // groups
    groups //= joined
    blocks = weights.reshape(groups, joined, per_k, c, r, s)
    dense = np.zeros((groups, r, s, joined, c, joined, per_k), weights.dtype)
    for j in range(joined):
        dense[:, :, :, j, :, j, :] = blocks[:, j].transpose(0, 3, 4, 2, 1)
    return dense.reshape(groups, r * s * joined * c, joined * per_k)


class CpuConv:
    """Family of `ConvSpec` by implicit GEMM: any kernel, stride, dilation, groups and channel counts."""

    name = "cpu_conv"
    op = "conv"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        if not isinstance(spec, ConvSpec):
            return Rejection(stage="supports", subject=self.name, reason=f"computes conv, not {spec.op}")
        if 2 not in spec.constants:
            return Rejection(stage="supports", subject=self.name, reason="the weights are not constant")
        return wrong_product(spec, self.name, target)

    def configs(self, spec: Spec, target: Target) -> Sequence[IgemmConfig]:
        assert isinstance(spec, ConvSpec)
        return igemm_configs(conv_problem(spec, target), target)

    def estimate(self, spec: Spec, config: IgemmConfig, target: Target) -> float:
        """Cycles of one core."""
        assert isinstance(spec, ConvSpec)
        return igemm_cycles(conv_problem(spec, target), config, target)

    def render(self, spec: Spec, config: IgemmConfig, target: Target, name: str) -> str:
        assert isinstance(spec, ConvSpec)
        r, s = spec.kernel
        pixels = f"{config.rows} x {config.mr // config.rows}" if config.rows > 1 else f"{config.mr}"
        title = f"Convolution {r}x{s} by implicit GEMM, tiles of {pixels} pixels x {config.nv} vectors"
        return igemm_source(conv_problem(spec, target), config, target, name=name, title=title)

    def pack(
        self, spec: Spec, config: IgemmConfig, target: Target, constants: Mapping[int, np.ndarray]
    ) -> dict[int, np.ndarray]:
        assert isinstance(spec, ConvSpec)
        problem, lanes = conv_problem(spec, target), target.vector_lanes
        weights = constants[2].astype(problem.product.b.np)
        matrices = reduction_matrices(weights, spec.groups, lanes)
        taps = matrices.reshape(len(matrices), -1, problem.c, problem.k)
        packed = beside_weights(spec, constants)
        packed[2] = np.concatenate([pack_words(t, problem.product, config.nv, lanes) for t in taps])
        return packed

    def scratch_bytes(self, spec: Spec, config: IgemmConfig, target: Target) -> int:
        return 0
