"""`cpu_attention`: softmax(scale * q k^T + bias) v on the CPU, with the scores of a few queries in L1.

A share of the work packs the keys (transposed) and values of one head into scratch and runs all its tiles of
queries over them: scores, softmax of whole rows, product with the values. Where there are more keys than a
block holds, or nobody knows how many, blocks follow each other and the output so far shrinks whenever a
larger score turns up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bolt.codegen.cxx import f32
from bolt.codegen.render import render
from bolt.kernels.family import argument_names
from bolt.kernels.igemm import Cut, Panels, tile_step_cycles, widest_rows
from bolt.ops.attention import AttentionSpec
from bolt.ops.spec import Spec
from bolt.report import Rejection
from bolt.target import Target
from bolt.types import BF16, F32

MOST_KEYS = 1024
"""Keys of the largest block: with 64 columns they and their values take half of L2."""
SCORE_BYTES = 24 << 10  # of the scores of a tile that leave the rest of L1 to panels
TILES_OF_BLOCK = 16  # tiles of queries whose output is kept while blocks of keys follow each other
ASSUMED = 128  # stands for run-time numbers of queries and keys in the analytic model


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionConfig:
    """How an attention runs.

    Attributes:
        mr: most queries of a tile.
        nv: vectors of keys, and of columns of the output, of a tile.
        keys: most keys of a block.
        tiles: most tiles of queries that use the packed keys and values one after the other.
    """

    mr: int
    nv: int
    keys: int
    tiles: int


class CpuAttention:
    """The family; see the module's docstring."""

    name = "cpu_attention"
    op = "attention"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        reason = _unsupported(spec)
        return Rejection(stage="supports", subject=self.name, reason=reason) if reason else None

    def configs(self, spec: Spec, target: Target) -> Sequence[AttentionConfig]:
        assert isinstance(spec, AttentionSpec)
        found: dict[AttentionConfig, None] = {}
        m, e = spec.out.dims[2:]
        assert e is not None
        for nv in range(1, min(4, -(-e // target.vector_lanes)) + 1):
            widest = min(widest_rows(nv, target), 16)
            if widest < 1:
                continue
            mr = widest if m is None else -(-m // -(-m // widest))
            for keys in _blocks(spec, mr, nv * target.vector_lanes):
                found[AttentionConfig(mr=mr, nv=nv, keys=keys, tiles=TILES_OF_BLOCK)] = None
        return sorted(found, key=lambda c: self.estimate(spec, c, target))

    def estimate(self, spec: Spec, config: AttentionConfig, target: Target) -> float:
        """Cycles of one core."""
        assert isinstance(spec, AttentionSpec)
        (b, h, m, e), (n, d) = spec.out.dims, spec.operands[2].dims[2:]
        assert d is not None and e is not None
        m, n, lanes = m or ASSUMED, n or ASSUMED, target.vector_lanes
        size = 2 if _is_paired(spec, target) else 1
        tiles, seen = -(-m // config.mr), n * (0.5 + 0.5 / -(-n // 64) if spec.causal else 1.0)
        step = tile_step_cycles(config.mr, config.nv, target) / config.nv
        columns = Panels.of(e, config.nv, lanes)
        last = tile_step_cycles(config.mr, columns.nv_last, target)
        product = (columns.count - 1) * step * config.nv + last
        scores = (seen / lanes * d * step + seen * product) / size
        softmax = config.mr * (seen / lanes * 14 + 30 * -(-n // config.keys))
        packing = n * (d * 0.16 + e / lanes) / size * -(-tiles // config.tiles)
        rescaling = (-(-n // config.keys) - 1) * config.mr * e / lanes * 3
        return (b or 1) * (h or 1) * (tiles * (scores + softmax + rescaling + 60) + packing)

    def render(self, spec: Spec, config: AttentionConfig, target: Target, name: str) -> str:
        assert isinstance(spec, AttentionSpec)
        return render("cpu_attention.cc.jinja", _context(spec, config, target, name))

    def pack(
        self, spec: Spec, config: AttentionConfig, target: Target, constants: Mapping[int, np.ndarray]
    ) -> dict[int, np.ndarray]:
        return {}

    def scratch_bytes(self, spec: Spec, config: AttentionConfig, target: Target) -> int:
        assert isinstance(spec, AttentionSpec)
        return 4 * sum(_areas(spec, config, target).values())


def _unsupported(spec: Spec) -> str:
    if not isinstance(spec, AttentionSpec):
        return f"computes attention, not {spec.op}"
    other = next((o.dtype for o in spec.operands if o.dtype not in (F32, BF16)), None)
    if other is not None:
        return f"an operand is {other}, not f32 or bf16"
    if spec.constants:
        return "constants are operands like any other here: nothing to pack"
    if any(o.strides[3] != 1 for o in spec.operands):
        return "rows are not contiguous"
    if spec.out.dims[3] is None or spec.operands[1].dims[3] is None:
        return "the head size is only known at run time"
    if spec.out.dims[2] == 1:
        return "one query does not pay for packing the keys: products with a vector run one by one"
    return ""


def _is_paired(spec: AttentionSpec, target: Target) -> bool:
    """Whether pairs of bf16 numbers are multiplied; else numbers are, as fp32."""
    d = spec.operands[1].dims[3]
    return (
        target.has_bf16 and d is not None and d % 2 == 0 and all(o.dtype is BF16 for o in spec.operands[1:4])
    )


def _blocks(spec: AttentionSpec, mr: int, panel: int) -> list[int]:
    """Sizes of blocks, in whole panels: all keys if that is few enough, and what keeps the scores in L1."""
    n = spec.operands[2].dims[2]
    fitting = SCORE_BYTES // (4 * mr)
    wanted = [fitting, 2 * fitting] if n is None or n > MOST_KEYS else [min(n, fitting), n]
    return [_up(min(size, MOST_KEYS), panel) for size in wanted]


def _is_deep(spec: AttentionSpec, config: AttentionConfig) -> bool:
    """Whether there can be more keys than one block holds."""
    n = spec.operands[2].dims[2]
    return n is None or n > config.keys


def _areas(spec: AttentionSpec, config: AttentionConfig, target: Target) -> dict[str, int]:
    """Floats of every part of a share's scratch."""
    lanes, d, e = target.vector_lanes, spec.operands[1].dims[3], spec.out.dims[3]
    assert d is not None and e is not None
    queries, width = config.tiles * config.mr, _up(e, lanes)
    areas = {
        "keys": config.keys * d,
        "values": config.keys * width,
        "queries": _up(config.mr * d, lanes),
        "scores": config.mr * (config.keys + lanes),
    }
    if _is_deep(spec, config):
        areas["sums"] = queries * (width + 2)
    return areas


def _context(spec: AttentionSpec, config: AttentionConfig, target: Target, name: str) -> dict[str, Any]:
    names = argument_names(spec)
    lanes, m, n, e = target.vector_lanes, spec.out.dims[2], spec.operands[2].dims[2], spec.out.dims[3]
    assert e is not None
    paired = _is_paired(spec, target)
    is_deep, panels = _is_deep(spec, config), Panels.of(e, config.nv, lanes)
    areas = _areas(spec, config, target)
    starts = [sum(list(areas.values())[:i]) for i in range(len(areas))]
    keys = Panels.of(n, config.nv, lanes) if n is not None and not is_deep and not spec.causal else None
    return {
        "title": f"Attention: tiles of {config.mr} queries, {config.keys} keys at a time",
        "name": name,
        "types": [o.dtype.cpu for o in spec.operands],
        "product": BF16.cpu if paired else F32.cpu,
        "paired": paired,
        "key_word": F32.cpu if paired else spec.operands[2].dtype.cpu,
        "lanes": lanes,
        "mr": config.mr,
        "nv": config.nv,
        "keys": config.keys,
        "tiles": config.tiles,
        "d": names[1]["dims"][3],
        "e": e,
        "m": names[0]["dims"][2],
        "n": names[2]["dims"][2],
        "heads": names[0]["dims"][:2],
        "out": names[0]["strides"],
        "q": names[1]["strides"],
        "k": names[2]["strides"],
        "v": names[3]["strides"],
        "bias": names[4]["strides"] if spec.has_bias else [],
        "bias_parameter": f"const {spec.operands[4].dtype.cpu}* bias, " if spec.has_bias else "",
        "bias_argument": f"bias + i * {names[4]['strides'][2]}, " if spec.has_bias else "",
        "count": names[2]["dims"][2] if keys else "at_most(block.count, visible - block.first)",
        "seen": "at_most(count, row + i + 1 - block.first)" if spec.causal else "count",
        "sums_parameters": ", float* sums, const float* shrink, bool is_first, bool is_last"
        if is_deep
        else "",
        "query_scale": "" if paired else f" * {f32(spec.scale)}",
        "score_scale": f" * {f32(spec.scale)}" if paired else "",
        "has_bias": spec.has_bias,
        "causal": spec.causal,
        "is_deep": is_deep,
        "areas": [{"name": a, "start": s} for a, s in zip(areas, starts, strict=True)],
        "cut": Cut.of(m, config.mr),
        "key_widths": _widths(keys) if keys else list(range(1, config.nv + 1)),
        "panels": [_panel(panels, i, e, lanes, is_deep=is_deep) for i in range(panels.count)],
        "keeps_packed": "false" if is_deep or spec.causal else "packed == index",
    }


def _widths(panels: Panels) -> list[int]:
    """How many vectors a panel can have."""
    return sorted({panels.nv_last, *([panels.nv] if panels.count > 1 else [])})


def _panel(panels: Panels, index: int, columns: int, lanes: int, *, is_deep: bool) -> dict[str, Any]:
    """Where a panel of columns of the output is, lanes of its last vector that exist, what it adds to."""
    is_last = index + 1 == panels.count
    vectors, first = panels.nv_last if is_last else panels.nv, index * panels.nv * lanes
    exist = columns - first - (vectors - 1) * lanes if is_last else lanes
    sums = f", sums[0].output + {first}, shrink, is_first, is_last" if is_deep else ""
    return {"vectors": vectors, "first": first, "lanes": exist, "sums": sums}


def _up(value: int, step: int) -> int:
    return -(-value // step) * step
