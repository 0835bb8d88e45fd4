"""What the families of attention share: the launcher of their units and an analytic time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from bolt.codegen.cxx import f32
from bolt.codegen.render import render
from bolt.kernels.family import Source, argument_names
from bolt.ops.attention import AttentionSpec
from bolt.ops.spec import Operand
from bolt.target import Gpu

_TENSOR = {"out": 0, "q": 1, "k": 2, "v": 3, "bias": 4}
_LAUNCH_US = 3.0
UNKNOWN = 1024
"""What a dim is taken for that is known at run time only."""


def launcher(spec: AttentionSpec, name: str, unit: str, title: str) -> str:
    """C++ that fills BoltAttention and calls the unit."""
    names = argument_names(spec)
    tensors = [t for t in _TENSOR if t != "bias" or spec.has_bias]
    context = {
        "title": title,
        "name": name,
        "unit": unit,
        "dims": (*names[0]["dims"], *names[2]["dims"][2:]),
        "operands": [({"name": t, **names[_TENSOR[t]]}, _TENSOR[t]) for t in tensors],
        "scale": f32(spec.scale),
        "causal": int(spec.causal),
    }
    return render("cutlass_attention_launch.cc.jinja", context)


def unit_source(template: str, prefix: str, context: Mapping[str, object]) -> Source:
    """The unit a template gives, named after what fills it."""
    key = hashlib.sha256(repr(sorted(context.items())).encode()).hexdigest()[:12]
    name = f"{prefix}_{key}"
    return Source(name=name, text=render(template, {"name": name, **context}), language="cuda")


def is_heads_inside(out: Operand) -> bool:
    """Whether `out` is (batch, row, head, e) in memory with nothing between heads and between batches."""
    (b, h, m, e), (sb, sh, sm, _) = out.dims, out.strides
    between_batches = b == 1 or (None not in (sm, m) and sb == (sm or 0) * (m or 0))
    return (h == 1 or sh == e) and between_batches and sm is not None


def depth(spec: AttentionSpec) -> int:
    """The larger of d and e; 0 when one is not known."""
    d, e = spec.operands[1].dims[3], spec.out.dims[3]
    return max(d, e) if d and e else 0


def is_aligned(operand: Operand, bytes_: int) -> bool:
    """Whether all rows are known to start at, and to be, multiples of `bytes_`."""
    steps = [s for d, s in zip(operand.dims[:3], operand.strides[:3], strict=True) if d != 1]
    row = operand.dims[3]
    return (
        max(operand.alignment, operand.dtype.size_bytes) >= bytes_
        and all(s is not None and s * operand.dtype.size_bytes % bytes_ == 0 for s in steps)
        and row is not None
        and row * operand.dtype.size_bytes % bytes_ == 0
    )


def microseconds(spec: AttentionSpec, gpu: Gpu, *, block: tuple[int, int, int], rate: float) -> float:
    """The time of one call: waves of thread blocks, each over all keys, and at least the traffic with memory.

    Args:
        block: queries, keys and depth of a thread block; what a problem leaves of them is computed as well.
        rate: operations per second of all multiprocessors.
    """
    b, h, m, _ = (UNKNOWN if d is None else d for d in spec.out.dims)
    queries, keys, columns = block
    tiles = -(-(spec.operands[2].dims[2] or UNKNOWN) // keys)
    seen = (tiles + 1) / 2 if spec.causal else tiles
    waves = -(-(b * h * -(-m // queries)) // gpu.multiprocessors)
    computing = waves * gpu.multiprocessors * seen * 4.0 * queries * keys * columns / rate
    return _LAUNCH_US + 1e6 * max(computing, spec.bytes() / gpu.bandwidth)
