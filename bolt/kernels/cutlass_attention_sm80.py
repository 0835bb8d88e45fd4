"""`cutlass_attention_sm80`: attention on tensor cores, by the memory-efficient kernel CUTLASS ships with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bolt.kernels.cutlass_attention_launch import (
    depth,
    is_aligned,
    is_heads_inside,
    launcher,
    microseconds,
    unit_source,
)
from bolt.kernels.cutlass_gemm_cost import MMA_SHARE
from bolt.kernels.family import Source
from bolt.ops.attention import AttentionSpec
from bolt.ops.spec import Spec
from bolt.report import Rejection
from bolt.target import Target
from bolt.types import BF16, F16

_EFFICIENCY = 0.45
"""Share of mma.sync's rate that the kernel reaches on long sequences (xFormers' figures on A100)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The block of a thread block.

    Attributes:
        queries: rows of q; 32 queries x 32 keys are one warp.
        keys: rows of k and v at a time.
        depth: upper bound of d and e; not above `keys`, so that the sums of the output stay in registers.
    """

    queries: int
    keys: int
    depth: int


CONFIGS = (
    Config(queries=64, keys=64, depth=64),
    Config(queries=32, keys=128, depth=128),
)
"""The blocks xFormers instantiates for inference (its generate_kernels.py), by head size. Its block for
larger heads, and all of fp32, spill registers with nvcc 13: there products and softmax run one by one."""


class CutlassAttentionSm80:
    """The family; see the module's docstring."""

    name = "cutlass_attention_sm80"
    op = "attention"
    language = "cxx"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        assert isinstance(spec, AttentionSpec)
        reason = self._unsupported(spec, target)
        return Rejection(stage="supports", subject=self.name, reason=reason) if reason else None

    def _unsupported(self, spec: AttentionSpec, target: Target) -> str:
        assert target.gpu
        element = spec.out.dtype
        if element not in (F16, BF16) or any(o.dtype != element for o in spec.operands):
            return "the operands are not all f16 or all bf16"
        if element is BF16 and target.gpu.sm < 80:
            return "bf16 needs sm80"
        if any(o.strides[3] != 1 for o in spec.operands):
            return "rows are not contiguous"
        if not 0 < depth(spec) <= CONFIGS[-1].depth:
            return f"the head size is above {CONFIGS[-1].depth} or only known at run time"
        if not is_heads_inside(spec.out):
            return "the heads of the output do not lie side by side in its rows"
        if _alignment(spec) == 0:
            return "rows or their distances are not multiples of 8 bytes, or of 16 with a bias"
        return ""

    def configs(self, spec: Spec, target: Target) -> Sequence[Config]:
        assert isinstance(spec, AttentionSpec)
        return [next(c for c in CONFIGS if depth(spec) <= c.depth)]

    def estimate(self, spec: Spec, config: Config, target: Target) -> float:
        """Microseconds."""
        assert isinstance(spec, AttentionSpec) and target.gpu
        rate = target.gpu.tensor_flops * MMA_SHARE.get(target.gpu.sm, 1.0) * _EFFICIENCY
        block = (config.queries, config.keys, depth(spec))
        return microseconds(spec, target.gpu, block=block, rate=rate)

    def render(self, spec: Spec, config: Config, target: Target, name: str) -> str:
        assert isinstance(spec, AttentionSpec)
        title = f"Attention, {config.queries} queries x {config.keys} keys at a time"
        return launcher(spec, name, self.units(spec, config, target)[0].name, title)

    def units(self, spec: Spec, config: Config, target: Target) -> tuple[Source, ...]:
        assert isinstance(spec, AttentionSpec) and target.gpu
        context = {
            "title": f"Attention over {spec.out.dtype}, {config.queries} queries x {config.keys} keys",
            "element": spec.out.dtype.cutlass,
            "arch": min(target.gpu.sm, 80),
            "aligned": "true" if _alignment(spec) == 16 else "false",
            "queries": config.queries,
            "keys": config.keys,
            "depth": config.depth,
            "has_bias": "true" if spec.has_bias else "false",
            "smem_bytes": target.gpu.smem_bytes,
        }
        prefix = f"bolt_attention_{spec.out.dtype}_{config.queries}x{config.keys}"
        return (unit_source("cutlass_attention_sm80.cu.jinja", prefix, context),)

    def pack(
        self, spec: Spec, config: Config, target: Target, constants: Mapping[int, np.ndarray]
    ) -> dict[int, np.ndarray]:
        return {i: a.astype(spec.operands[i].dtype.np).reshape(-1) for i, a in constants.items()}

    def scratch_bytes(self, spec: Spec, config: Config, target: Target) -> int:
        return 0


def _alignment(spec: AttentionSpec) -> int:
    """Bytes all rows start at a multiple of: 16 for the fast kernel, 8 for the slow one, 0 for neither."""
    for bytes_ in (16, 8):
        if all(is_aligned(o, bytes_) for o in spec.operands):
            return bytes_
        if spec.has_bias:  # the bias is read in whole vectors, whatever the kernel
            return 0
    return 0
