"""`cutlass_dual_gemm_sm80`: gated layers on tensor cores, by the dual GEMM that CUTLASS ships with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bolt.codegen import evt
from bolt.codegen.render import render
from bolt.kernels.cutlass_gemm_cost import LAUNCH_US, occupancy, step_us
from bolt.kernels.cutlass_gemm_problem import WIDEST
from bolt.kernels.cutlass_gemm_sm80 import pack_b, packed_depth
from bolt.kernels.cutlass_tiles import ELEMENT_BYTES, Tile, tiles
from bolt.kernels.family import Source, argument_names
from bolt.ops.dual_gemm import DualGemmSpec
from bolt.ops.spec import Operand, Spec
from bolt.report import Rejection
from bolt.target import Target
from bolt.types import BF16, F16, convert

_ACCUMULATORS = 128
"""fp32 sums one thread holds at most, of both products: more spill."""
_FEWEST_STAGES = 3
_FINISH_US = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How a dual GEMM runs.

    Attributes:
        tile: of each of the two products.
    """

    tile: Tile


class CutlassDualGemm:
    """The family; see the module's docstring."""

    name = "cutlass_dual_gemm_sm80"
    op = "dual_gemm"
    language = "cxx"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        reason = self._unsupported(spec, target)
        return Rejection(stage="supports", subject=self.name, reason=reason) if reason else None

    def _unsupported(self, spec: Spec, target: Target) -> str:
        assert isinstance(spec, DualGemmSpec)
        assert target.gpu
        if target.gpu.sm < 80:
            return "the kernel needs sm80"
        out, a, b = spec.operands[:3]
        if out.dtype not in (F16, BF16) or any(o.dtype is not out.dtype for o in spec.operands):
            return "the operands are not all f16 or all bf16"
        if None in b.dims:
            return "the matrices' size is not known"
        if not (_is_aligned(out) and _is_aligned(a)):
            return f"rows of a or of the output do not start and end at multiples of {WIDEST} bytes"
        return "" if _legal(out.dtype.name, target) else f"no tile fits {target.name}"

    def configs(self, spec: Spec, target: Target) -> Sequence[Config]:
        return [Config(tile=tile) for tile in _legal(spec.out.dtype.name, target)]

    def estimate(self, spec: Spec, config: Config, target: Target) -> float:
        """Microseconds."""
        assert isinstance(spec, DualGemmSpec) and target.gpu
        b0, b1, m, n = (d or 128 for d in spec.out.dims)
        tile = _doubled(config.tile)
        blocks = -(-b0 * b1 * m // tile.shape[0]) * -(-n // config.tile.shape[1])
        together = min(occupancy(tile, target), -(-blocks // target.gpu.multiprocessors))
        waves = -(-blocks // (target.gpu.multiprocessors * together))
        steps = -(-(spec.operands[1].dims[3] or 128) // tile.shape[2])
        one = steps * step_us(tile, together=together, width=WIDEST, target=target) + _FINISH_US
        return LAUNCH_US + max(waves * one, 1e6 * spec.bytes() / target.gpu.bandwidth)

    def units(self, spec: Spec, config: Config, target: Target) -> tuple[Source, ...]:
        assert isinstance(spec, DualGemmSpec) and target.gpu
        context = {
            "title": f"Dual GEMM, tile {config.tile.name}",
            "element": spec.out.dtype.cutlass,
            "vector": WIDEST // spec.out.dtype.size_bytes,
            "functor": evt.functor(spec.epilogue, name="Expression", inputs=1, out=spec.out.dtype),
            "scale": "NoBetaScaling" if spec.has_bias else "OnlyAlphaScaling",
            "tile": config.tile,
            "smem_bytes": target.gpu.smem_bytes,
        }
        text = render("cutlass_dual_gemm_sm80.cu.jinja", {"name": "NAME", **context})
        name = f"bolt_dual_gemm_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        text = render("cutlass_dual_gemm_sm80.cu.jinja", {"name": name, **context})
        return (Source(name=name, text=text, language="cuda"),)

    def render(self, spec: Spec, config: Config, target: Target, name: str) -> str:
        assert isinstance(spec, DualGemmSpec)
        names = argument_names(spec)
        out, a = names[0], names[1]
        matrices = [(*n["strides"][:2], n["strides"][2]) for n in (out, a)]
        matrices += [("0", "0", "0")] * (len(names) - 2)  # the same for every row and batch
        depth = spec.operands[2].dims[2]
        assert depth is not None
        context = {
            "title": f"Gated product, {config.tile.name}",
            "name": name,
            "unit": self.units(spec, config, target)[0].name,
            "operands": matrices,
            "size": spec.out.dtype.size_bytes,
            "b0": out["dims"][0],
            "b1": out["dims"][1],
            "m": out["dims"][2],
            "n": out["dims"][3],
            "k": a["dims"][3],
            "ldb": packed_depth(depth, spec.out.dtype),
        }
        return render("cutlass_dual_gemm_sm80_launch.cc.jinja", context)

    def pack(
        self, spec: Spec, config: Config, target: Target, constants: Mapping[int, np.ndarray]
    ) -> dict[int, np.ndarray]:
        dtype = spec.out.dtype
        return {
            i: pack_b(a[0, 0], dtype) if i < 4 else convert(a, dtype).reshape(-1)
            for i, a in constants.items()
        }

    def scratch_bytes(self, spec: Spec, config: Config, target: Target) -> int:
        return 0


def _legal(element: str, target: Target) -> list[Tile]:
    """CUTLASS's GEMM tiles whose accumulators and stages still fit when there are two products."""
    gpu = target.gpu
    assert gpu is not None
    return [
        tile
        for tile in tiles(target, "gemm", element, "f32").legal
        if tile.opclass == "TensorOp"
        and tile.stages >= _FEWEST_STAGES
        and 2 * tile.warp[0] * tile.warp[1] <= 32 * _ACCUMULATORS
        and tile.shape[2] == tile.warp[2]  # no partial sums of several warps
        and _doubled(tile).smem_bytes <= gpu.smem_bytes
        and WIDEST // ELEMENT_BYTES[element] in tile.alignments
    ]


def _doubled(tile: Tile) -> Tile:
    """Twice the columns, which is what the two products take together."""
    m, n, k = tile.shape
    return replace(tile, shape=(m, 2 * n, k), warp=(tile.warp[0], 2 * tile.warp[1], tile.warp[2]))


def _is_aligned(operand: Operand) -> bool:
    vector = WIDEST // operand.dtype.size_bytes
    steps = [s for d, s in zip(operand.dims[:3], operand.strides[:3], strict=True) if d != 1]
    columns = operand.dims[3]
    known = None not in steps and columns is not None
    return known and operand.alignment >= WIDEST and all(s % vector == 0 for s in (*steps, columns))  # type: ignore[operator]
