"""`cutlass_attention_sm90`: attention by Hopper's TMA and wgmma, the kernel of CUTLASS's example 88.

A warp loads tiles of keys and values while warpgroups multiply; scores stay in registers. What its loads
can't move (rows that are no multiples of 16 bytes), biases, and the other GPUs are left to
`cutlass_attention_sm80`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bolt.kernels.cutlass_attention_launch import (
    depth,
    is_aligned,
    launcher,
    microseconds,
    unit_source,
)
from bolt.kernels.family import Source
from bolt.ops.attention import AttentionSpec
from bolt.ops.spec import Operand, Spec
from bolt.report import Rejection
from bolt.target import SM90A, Target
from bolt.types import BF16, F16

_TMA_BYTES = 16
"""What rows and their distances are multiples of (CUDA driver API, cuTensorMapEncodeTiled)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What a thread block computes.

    Attributes:
        queries: rows of q; 64 are one warpgroup.
        keys: rows of k and v at a time; a divisor or a multiple of `queries`, as causal masks need it.
        depth: upper bound of the head size.
        stages: tiles of keys or values on their way.
        efficiency: share of the tensor cores' rate on long sequences.
    """

    queries: int
    keys: int
    depth: int
    stages: int
    efficiency: float


CONFIGS = (
    Config(queries=128, keys=128, depth=32, stages=5, efficiency=0.25),
    Config(queries=128, keys=128, depth=64, stages=5, efficiency=0.42),
    Config(queries=128, keys=128, depth=128, stages=5, efficiency=0.6),
    Config(queries=128, keys=64, depth=256, stages=4, efficiency=0.55),
)
"""Blocks whose sums stay in registers, by head size: two warpgroups, as the registers that loads leave to one
are more than a thread may have. Efficiencies are FlashAttention-3's figures on H100, which the example is
said to come close to."""


class CutlassAttentionSm90:
    """The family; see the module's docstring."""

    name = "cutlass_attention_sm90"
    op = "attention"
    language = "cxx"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        assert isinstance(spec, AttentionSpec)
        reason = _obstacle(spec, target)
        return Rejection(stage="supports", subject=self.name, reason=reason) if reason else None

    def configs(self, spec: Spec, target: Target) -> Sequence[Config]:
        assert isinstance(spec, AttentionSpec)
        return [next(c for c in CONFIGS if depth(spec) <= c.depth)]

    def estimate(self, spec: Spec, config: Config, target: Target) -> float:
        """Microseconds."""
        assert isinstance(spec, AttentionSpec) and target.gpu
        block = (config.queries, config.keys, config.depth)
        rate = target.gpu.tensor_flops * config.efficiency
        return microseconds(spec, target.gpu, block=block, rate=rate)

    def render(self, spec: Spec, config: Config, target: Target, name: str) -> str:
        assert isinstance(spec, AttentionSpec)
        return launcher(spec, name, self.units(spec, config, target)[0].name, f"Attention, {_block(config)}")

    def units(self, spec: Spec, config: Config, target: Target) -> tuple[Source, ...]:
        assert isinstance(spec, AttentionSpec) and target.gpu
        context = {
            "title": f"Attention over {spec.out.dtype}, {_block(config)}",
            "element": spec.out.dtype.cutlass,
            "queries": config.queries,
            "keys": config.keys,
            "depth": config.depth,
            "warpgroups": config.queries // 64,
            "stages": config.stages,
            "mask": "CausalTail" if spec.causal else "Tail",
            "causal": "true" if spec.causal else "false",
            "smem_bytes": target.gpu.smem_bytes,
        }
        prefix = f"bolt_attention_sm90a_{spec.out.dtype}_{config.queries}x{config.keys}x{config.depth}"
        return (unit_source("cutlass_attention_sm90.cu.jinja", prefix, context),)

    def pack(
        self, spec: Spec, config: Config, target: Target, constants: Mapping[int, np.ndarray]
    ) -> dict[int, np.ndarray]:
        return {i: a.astype(spec.operands[i].dtype.np).reshape(-1) for i, a in constants.items()}

    def scratch_bytes(self, spec: Spec, config: Config, target: Target) -> int:
        return 0


def _block(config: Config) -> str:
    return f"{config.queries} queries x {config.keys} keys at a time"


def _obstacle(spec: AttentionSpec, target: Target) -> str:
    """Why the family can't compute `spec`, or ""."""
    if target is not SM90A:
        return f"its instructions are those of {SM90A.name}, not of {target.name}"
    element = spec.out.dtype
    if element not in (F16, BF16) or any(o.dtype != element for o in spec.operands):
        return "the operands are not all f16 or all bf16"
    if spec.has_bias:
        return "it adds no bias to the scores"
    if spec.scale <= 0:
        return "the scale is not positive: the largest product is not the largest score"
    return _layout_obstacle(spec)


def _layout_obstacle(spec: AttentionSpec) -> str:
    d, e = spec.operands[1].dims[3], spec.out.dims[3]
    if d != e or not d or d > CONFIGS[-1].depth:
        return f"queries and values are not of one size up to {CONFIGS[-1].depth}, known beforehand"
    if any(o.strides[3] != 1 for o in spec.operands):
        return "rows are not contiguous"
    if not all(_is_movable(o) for o in spec.operands):
        return f"rows or their distances are not multiples of {_TMA_BYTES} bytes"
    if any(_is_repeated(o) for o in spec.operands):
        return "heads share their keys: a distance of 0 is no stride of TMA"
    return ""


def _is_movable(operand: Operand) -> bool:
    """Whether TMA can read and write the rows.

    A distance of heads or batches that is known at run time only is a product with a run-time dim, hence
    outside the rows, whose distance is known, and a multiple of that.
    """
    row = operand.strides[2]
    known = tuple(row if s is None else s for s in operand.strides)
    return row is not None and is_aligned(replace(operand, strides=known), _TMA_BYTES)


def _is_repeated(operand: Operand) -> bool:
    return any(d != 1 and s == 0 for d, s in zip(operand.dims[:3], operand.strides[:3], strict=True))
