"""`cutlass_attention_sm80`: attention on tensor cores, by the memory-efficient kernel CUTLASS ships with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bolt.codegen.cxx import f32
from bolt.codegen.render import render
from bolt.kernels.family import Source, argument_names
from bolt.ops.attention import AttentionSpec
from bolt.ops.spec import Operand, Spec
from bolt.report import Rejection
from bolt.target import Target
from bolt.types import BF16, F16

_TENSOR = {"q": 1, "k": 2, "v": 3, "bias": 4}
_LAUNCH_US = 3.0
_EFFICIENCY = 0.45
"""Share of the tensor cores' rate that the kernel reaches on long sequences (xFormers' figures on A100)."""


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


class CutlassAttention:
    """The family; see the module's docstring."""

    name = "cutlass_attention_sm80"
    op = "attention"
    language = "cxx"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        reason = self._unsupported(spec, target)
        return Rejection(stage="supports", subject=self.name, reason=reason) if reason else None

    def _unsupported(self, spec: Spec, target: Target) -> str:
        if not isinstance(spec, AttentionSpec):
            return f"computes attention, not {spec.op}"
        assert target.gpu
        element = spec.out.dtype
        if element not in (F16, BF16) or any(o.dtype != element for o in spec.operands):
            return "the operands are not all f16 or all bf16"
        if element is BF16 and target.gpu.sm < 80:
            return "bf16 needs sm80"
        if any(o.strides[3] != 1 for o in spec.operands):
            return "rows are not contiguous"
        if not 0 < _depth(spec) <= CONFIGS[-1].depth:
            return f"the head size is above {CONFIGS[-1].depth} or only known at run time"
        if not _is_heads_inside(spec.out):
            return "the heads of the output do not lie side by side in its rows"
        if _alignment(spec) == 0:
            return "rows or their distances are not multiples of 8 bytes, or of 16 with a bias"
        return ""

    def configs(self, spec: Spec, target: Target) -> Sequence[Config]:
        assert isinstance(spec, AttentionSpec)
        return [next(c for c in CONFIGS if _depth(spec) <= c.depth)]

    def estimate(self, spec: Spec, config: Config, target: Target) -> float:
        """Microseconds."""
        assert isinstance(spec, AttentionSpec) and target.gpu
        b, h, m, _ = (d or 1 for d in spec.out.dims)
        blocks = b * h * -(-m // config.queries)
        waves = -(-blocks // target.gpu.multiprocessors) * target.gpu.multiprocessors / blocks
        rate = target.gpu.tensor_flops * _EFFICIENCY
        compute = spec.flops() * (0.5 if spec.causal else 1.0) / rate * waves
        return _LAUNCH_US + 1e6 * max(compute, spec.bytes() / target.gpu.bandwidth)

    def render(self, spec: Spec, config: Config, target: Target, name: str) -> str:
        assert isinstance(spec, AttentionSpec)
        names = argument_names(spec)
        tensors = [t for t in _TENSOR if t != "bias" or spec.has_bias]
        context = {
            "title": f"Attention, {config.queries} queries x {config.keys} keys at a time",
            "name": name,
            "unit": self._unit(spec, config, target).name,
            "out": names[0],
            "k": names[2],
            "operands": [({"name": t, **names[_TENSOR[t]]}, _TENSOR[t]) for t in tensors],
            "scale": f32(spec.scale),
            "causal": int(spec.causal),
        }
        return render("cutlass_attention_sm80_launch.cc.jinja", context)

    def units(self, spec: Spec, config: Config, target: Target) -> tuple[Source, ...]:
        assert isinstance(spec, AttentionSpec)
        return (self._unit(spec, config, target),)

    def _unit(self, spec: AttentionSpec, config: Config, target: Target) -> Source:
        assert target.gpu
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
        key = hashlib.sha256(repr(sorted(context.items())).encode()).hexdigest()[:12]
        name = f"bolt_attention_{spec.out.dtype}_{config.queries}x{config.keys}_{key}"
        text = render("cutlass_attention_sm80.cu.jinja", {"name": name, **context})
        return Source(name=name, text=text, language="cuda")

    def pack(
        self, spec: Spec, config: Config, target: Target, constants: Mapping[int, np.ndarray]
    ) -> dict[int, np.ndarray]:
        return {i: a.astype(spec.operands[i].dtype.np).reshape(-1) for i, a in constants.items()}

    def scratch_bytes(self, spec: Spec, config: Config, target: Target) -> int:
        return 0


def _depth(spec: AttentionSpec) -> int:
    """The larger of d and e; 0 when one is not known."""
    d, e = spec.operands[1].dims[3], spec.out.dims[3]
    return max(d, e) if d and e else 0


def _is_heads_inside(out: Operand) -> bool:
    """Whether `out` is (batch, row, head, e) in memory with nothing between heads and between batches."""
    (b, h, m, e), (sb, sh, sm, _) = out.dims, out.strides
    between_batches = b == 1 or (None not in (sm, m) and sb == (sm or 0) * (m or 0))
    return (h == 1 or sh == e) and between_batches and sm is not None


def _alignment(spec: AttentionSpec) -> int:
    """Bytes all rows start at a multiple of: 16 for the fast kernel, 8 for the slow one, 0 for neither."""
    for bytes_ in (16, 8):
        if all(_is_aligned(o, bytes_) for o in spec.operands):
            return bytes_
        if spec.has_bias:  # the bias is read in whole vectors, whatever the kernel
            return 0
    return 0


def _is_aligned(operand: Operand, bytes_: int) -> bool:
    steps = [s for d, s in zip(operand.dims[:3], operand.strides[:3], strict=True) if d != 1]
    row = operand.dims[3]
    return (
        max(operand.alignment, operand.dtype.size_bytes) >= bytes_
        and all(s is not None and s * operand.dtype.size_bytes % bytes_ == 0 for s in steps)
        and row is not None
        and row * operand.dtype.size_bytes % bytes_ == 0
    )
