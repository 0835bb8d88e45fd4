"""Products with few output channels: the reduction runs along the lanes.

An implicit GEMM fills as many lanes of a vector as there are output channels. Here a vector is a piece of
the reduction instead: `mr * k` sums are accumulated lane by lane, and only at the end of a tile the lanes of
each are added up. `cpu_narrow_conv` and `cpu_narrow_gemm` share it (`templates/cpu_narrow.cc.jinja`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bolt.codegen.render import render
from bolt.kernels.finish import epilogue_cycles, finish_context
from bolt.kernels.igemm import ASSUMED_COLUMNS, ISSUE, L2_BYTES_PER_CYCLE, Cut, Problem
from bolt.kernels.rows import number
from bolt.ops.spec import Operand, Spec
from bolt.report import Rejection
from bolt.target import Target
from bolt.types import BF16, F32, S8

MOST_CHANNELS = 8
WEIGHTS = (F32, BF16, S8)
"""Types of constant weights; they are packed as fp32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NarrowConfig:
    """How a product with few output channels runs.

    Attributes:
        mr: most pixels of a tile.
        shares: what lies under a row of taps is loaded once, for all of them; else once for each tap.
    """

    mr: int
    shares: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TapRow:
    """A row of taps of a convolution.

    Attributes:
        count: taps.
        step: input columns between neighbouring outputs.
        spread: input columns between neighbouring taps.
        pixel: distance between neighbouring input columns.
    """

    count: int
    step: int
    spread: int
    pixel: str

    def columns(self, mr: int) -> int:
        """Input columns under the taps of `mr` neighbouring outputs."""
        return (mr - 1) * self.step + (self.count - 1) * self.spread + 1


def wrong_narrow(problem: Problem, family: str, target: Target) -> Rejection | None:
    """Why `problem` is none for these kernels, if there is a reason."""
    # Sums and weights of one pixel, and a vector of input, have to fit the registers.
    most = min(MOST_CHANNELS, target.vector_lanes, (target.vector_registers - 1) // 2)
    if problem.k > most:
        reason = f"computes at most {most} output channels"
        return Rejection(stage="supports", subject=family, reason=reason)
    return None


def has_pixel_lanes(problem: Problem) -> bool:
    """Whether the pixels of a row are neighbours in the output: then one vector finishes many of them."""
    spec = problem.spec
    operands = (spec.out, *spec.extras)
    return problem.k == 1 and spec.out.strides[2] == 1 and all(o.strides[2] in (0, 1) for o in operands)


def _turned(operand: Operand) -> Operand:
    """The operand with the pixels right of a first one as that one's channels."""
    image, row, column, _ = operand.strides
    return replace(operand, strides=(image, row, column, column))


def _finished_spec(problem: Problem) -> Spec:
    """The spec as the end of a tile sees it."""
    spec = problem.spec
    if not has_pixel_lanes(problem):
        return spec
    turned = [_turned(o) if i == 0 or i >= spec.extra_base else o for i, o in enumerate(spec.operands)]
    return replace(spec, operands=tuple(turned))


def _reduction(problem: Problem, config: NarrowConfig) -> tuple[int, int]:
    """(taps that are visited one by one, values of the reduction at each)."""
    if config.shares:
        return problem.taps[0], problem.group_c
    return problem.taps[0] * problem.taps[1], problem.c


def narrow_configs(problem: Problem, row: TapRow, target: Target) -> list[NarrowConfig]:
    """Legal configurations, best estimate first."""
    columns, k = number(problem.extents[2]), problem.k
    found: dict[NarrowConfig, None] = {}
    for shares, weights in ((False, k), (True, row.count * k)):
        widest = (target.vector_registers - 1 - weights) // k
        if has_pixel_lanes(problem):
            widest = min(widest, target.vector_lanes)
        for most in range(1, widest + 1 if row.count > 1 or not shares else 1):
            mr = most if columns is None else -(-columns // -(-columns // most))
            found[NarrowConfig(mr=mr, shares=shares)] = None
    return sorted(found, key=lambda c: narrow_cycles(problem, row, c, target))


def narrow_cycles(problem: Problem, row: TapRow, config: NarrowConfig, target: Target) -> float:
    """Analytic estimate in cycles of one core."""
    mr, k, lanes = config.mr, problem.k, target.vector_lanes
    together = row.count if config.shares else 1
    macs, loads = mr * k * together, (row.columns(mr) if config.shares else mr) + k * together
    taps, c = _reduction(problem, config)
    # Many loads of vectors that are not whole cache lines touch two.
    load_cycles = loads / 2 * (1.0 if problem.group_c % lanes == 0 else 1.25)
    step = max(macs / target.fma_ports, load_cycles, (macs + loads) / ISSUE, 4.0 * together)
    finished = 1 if has_pixel_lanes(problem) else mr
    tile = taps * (-(-c // lanes) * step + 2) + 2 * mr * k + 20
    tile += finished * (2 + epilogue_cycles(problem.spec.epilogue))
    images, rows, columns = (number(e) for e in problem.extents)
    count = (images or 1) * (rows or 1) * -(-(columns or ASSUMED_COLUMNS) // mr)
    return max(count * tile, 4 * problem.group_c * mr * count / L2_BYTES_PER_CYCLE)


def narrow_source(
    problem: Problem, row: TapRow, config: NarrowConfig, target: Target, *, name: str, title: str
) -> str:
    """The C++ source of the kernel called `name`."""
    return render("cpu_narrow.cc.jinja", _context(problem, row, config, target, name=name, title=title))


def _context(
    problem: Problem, row: TapRow, config: NarrowConfig, target: Target, *, name: str, title: str
) -> dict[str, Any]:
    if config.shares:
        taps, c = (problem.taps[0], 1), problem.group_c
    else:
        taps, c = problem.taps, problem.c
        row = TapRow(count=1, step=1, spread=1, pixel=problem.a_steps[2])
    cut = Cut.of(number(problem.extents[2]), config.mr)
    pixel_lanes = has_pixel_lanes(problem)
    return {
        "title": title,
        "name": name,
        "a_type": problem.spec.operands[1].dtype.cpu,
        "lanes": target.vector_lanes,
        "c": c,
        "k": problem.k,
        "taps": taps,
        "row": row,
        "tap_steps": problem.tap_steps,
        "a_steps": problem.a_steps,
        "a_base": problem.a_base,
        "extents": problem.extents,
        "mr": config.mr,
        "cut": cut,
        "pixel_lanes": pixel_lanes,
        "tail": not pixel_lanes or any(size != target.vector_lanes for size in cut.sizes),
        **finish_context(_finished_spec(problem)),
    }


def pack_narrow(weights: np.ndarray, config: NarrowConfig, lanes: int) -> np.ndarray:
    """Weights (rows, taps of a row, c, k) as the kernel visits them, c in vectors and zero beyond; 1-D."""
    rows, count, c, k = weights.shape
    if config.shares:
        taps = weights.transpose(0, 2, 1, 3).reshape(rows, c, count * k)
    else:
        taps = weights.reshape(rows * count, c, k)
    vectors = -(-c // lanes)
    padded = np.zeros((len(taps), vectors * lanes, taps.shape[2]), np.float32)
    padded[:, :c] = taps
    return padded.reshape(len(taps), vectors, lanes, -1).transpose(0, 1, 3, 2).ravel()
