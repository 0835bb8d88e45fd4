"""Implicit GEMM with constant weights: what `cpu_conv` and `cpu_gemm` share.

A `Problem` is a list of rows of pixels; every pixel's output channels are the product of the input values
under its taps with packed weights. Its kernel (`templates/cpu_igemm.cc.jinja`) keeps a tile of `mr` pixels
times `nv` vectors of output channels in registers, runs it over the whole reduction, applies the epilogue
and stores once. Weights lie in panels of `nv` vectors, reduction-major, so they stream.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bolt.codegen.render import render
from bolt.kernels.finish import epilogue_cycles, finish_context
from bolt.kernels.products import FLOATS, Product, product_of, shift_words, words_of_taps
from bolt.kernels.rows import SHORT_ROW, Rows, merged_rows, number
from bolt.ops.spec import Spec
from bolt.target import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class IgemmConfig:
    """How an implicit GEMM runs.

    Attributes:
        mr: most pixels of a register tile.
        nv: vectors of output channels of a register tile.
        block: tiles that go through all weight panels together (their input stays in L2).
        rows: most rows of pixels of a register tile.
    """

    mr: int
    nv: int
    block: int
    rows: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An implicit GEMM. Numbers known only at run time are C++ expressions, as `argument_names` spells them.

    Attributes:
        spec: where operands and epilogue come from; output (n, y, x, k), input operand 1, weights operand 2.
        extents: images, rows and columns of the output.
        a_steps: distance in the input between neighbouring images, rows and columns of the output.
        a_base: offset of the first tap of the first pixel.
        taps: (rows, columns) of taps; columns next to each other in memory may be part of `c` instead.
        tap_steps: distance in the input between taps.
        c: values of the reduction per tap.
        k: output channels per group.
        groups: independent groups.
        group_c: input channels per group.
    """

    spec: Spec
    extents: tuple[str, str, str]
    a_steps: tuple[str, str, str]
    a_base: str
    taps: tuple[int, int]
    tap_steps: tuple[str, str]
    c: int
    k: int
    groups: int
    group_c: int

    @property
    def product(self) -> Product:
        """What is multiplied."""
        product = product_of(self.spec)
        assert product is not None
        return product

    @property
    def words(self) -> int:
        """Words of the reduction per tap."""
        return self.product.words(self.c)

    @property
    def depth(self) -> int:
        """Length of the whole reduction in words."""
        return self.taps[0] * self.taps[1] * self.words

    @property
    def panel_rows(self) -> int:
        """Rows of a panel of weights: one per word, and the sums at the start where they are not zero."""
        return self.depth + (1 if self.product.shift else 0)

    @property
    def rows(self) -> Rows:
        return merged_rows(self.spec, self.extents, self.a_steps)

    @property
    def has_static_rows(self) -> bool:
        """Whether distances between rows, and their number, are known: then a tile can have several."""
        operands = (self.spec.out, *self.spec.extras)
        known = [number(self.a_steps[1]), *(o.strides[1] for o in operands), number(self.rows.extents[1])]
        return None not in known and not self.rows.merge_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Panels:
    """How the output channels of one group are cut: `count` panels of `nv` vectors, the last of `nv_last`."""

    count: int
    nv: int
    nv_last: int

    @classmethod
    def of(cls, k: int, nv: int, lanes: int) -> Panels:
        vectors = -(-k // lanes)
        count = -(-vectors // nv)
        return cls(count=count, nv=nv, nv_last=vectors - (count - 1) * nv)

    @property
    def vectors(self) -> int:
        return (self.count - 1) * self.nv + self.nv_last


ASSUMED_COLUMNS = 256  # stands for a run-time number of columns in the analytic model
L2_BYTES_PER_CYCLE = 32  # sustained
L3_BYTES_PER_CYCLE = 24
FAR_BYTES_PER_CYCLE = 12  # memory
LINE_BYTES = 64
LEAD_FLOATS = 4096  # from the weights in use to those prefetched, when they are used once
MOST_TOUCHES = 24  # prefetches per turn of the innermost loop
ISSUE = 6  # instructions per cycle
MOST_UNROLLED = 12  # values of the reduction in straight-line code


def _is_fused(target: Target) -> bool:
    """Whether the target multiplies and adds in one instruction."""
    return target.arch != "x86_64" or "fma" in target.requires


def widest_rows(nv: int, target: Target, product: Product = FLOATS) -> int:
    """Most rows of a tile of `nv` vectors that fit the registers: mr * nv sums, nv weights, the input value.

    Without a fused multiply-add the product needs a register, too.
    """
    others = product.registers + (1 if _is_fused(target) else 2)
    return (target.vector_registers - nv - others) // nv


FEW_SIZES = (10, 7, 5, 3, 2, 1)
"""Sizes of tiles for what is left of a run-time extent. Each costs compile time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """How an extent is cut into tiles.

    Attributes:
        function: the function of tile.h that cuts.
        sizes: all sizes of tiles it can give.
    """

    function: str
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, extent: int | None, most: int) -> Cut:
        """Even tiles when the extent is known, else the widest and a few smaller ones."""
        if extent is None:
            sizes = (most, *(s for s in FEW_SIZES if s < most))
            return cls(function=f"listed_tiles<{', '.join(map(str, sizes))}>", sizes=sizes)
        size, longer = divmod(extent, -(-extent // most))
        sizes = (size, size + 1) if longer else (size,)
        return cls(function=f"even_tiles<{most}>", sizes=sizes)


ONE_BY_ONE = Cut(function="even_tiles<1>", sizes=(1,))
"""How any extent is cut into single rows."""


def _rows_of_tile(columns: int | None, widest: int) -> list[int]:
    """Good choices of `mr`: the widest tile and the one with one more tile per row, evened out."""
    if columns is None:
        return [widest, max(1, widest * 3 // 4)]
    fewest = -(-columns // widest)
    return [-(-columns // tiles) for tiles in (fewest, fewest + 1)]


def _grids(rows: Rows, widest: int) -> Iterator[tuple[int, int]]:
    """Good (rows, columns) of tiles of several rows of short rows, evened out."""
    lines, columns = number(rows.extents[1]), rows.columns
    if lines is None or columns is None or columns > SHORT_ROW:
        return
    for most in range(2, min(lines, widest) + 1):
        height = -(-lines // -(-lines // most))
        width = -(-columns // -(-columns // (widest // most)))
        if height == most:
            yield height, width


def igemm_configs(problem: Problem, target: Target) -> list[IgemmConfig]:
    """Legal configurations, best by `igemm_cycles` first."""
    rows = problem.rows
    vectors = -(-problem.k // target.vector_lanes)
    found: dict[IgemmConfig, None] = {}
    for nv in range(1, min(vectors, 15) + 1):
        widest = min(widest_rows(nv, target, problem.product), 16)
        if widest < 1:
            continue
        shapes = [(1, mr) for mr in _rows_of_tile(rows.columns, widest)]
        if problem.has_static_rows:
            shapes += _grids(rows, widest)
        for height, width in shapes:
            for size in _blocks(problem, height, width, target):
                found[IgemmConfig(mr=height * width, nv=nv, block=size, rows=height)] = None
    return sorted(found, key=lambda c: igemm_cycles(problem, c, target))


def _tile_bytes(problem: Problem, mr: int) -> int:
    """Bytes of input, output and epilogue inputs that a tile of all output channels touches first."""
    wide = [problem.spec.out, *(e for e in problem.spec.extras if e.strides[2] != 0)]
    channels_out = problem.groups * problem.k
    return _input_bytes(problem, mr) + mr * channels_out * sum(o.dtype.size_bytes for o in wide)


def _input_bytes(problem: Problem, mr: int) -> int:
    """Bytes of input that a tile reads."""
    channels, step = problem.groups * problem.group_c, number(problem.a_steps[2])
    return mr * max(channels, min(step or channels, 2 * channels)) * problem.product.a.size_bytes


def _blocks(problem: Problem, height: int, width: int, target: Target) -> Iterator[int]:
    """Good sizes of blocks: all that a block touches, or only what it reads again, takes part of L2.

    A known number of tiles is cut evenly: few tiles left over would read all weights for little work.
    """
    mr, share = height * width, target.l2_bytes // 4
    fitting = max(1, share // _tile_bytes(problem, mr))
    shapes = _tile_shapes(problem.rows, IgemmConfig(mr=mr, nv=1, block=1, rows=height))
    tiles = sum(shapes.values()) if problem.rows.columns and problem.rows.count else None
    for size in (fitting, 4 * fitting, 2 * share // _input_bytes(problem, mr)):
        if size > 0:
            yield size if tiles is None else -(-tiles // -(-tiles // size))


def tile_step_cycles(mr: int, nv: int, target: Target) -> float:
    """Cycles of one word of the reduction on an mr x nv tile: arithmetic, loads, issue or latency."""
    # Without a fused multiply-add a broadcast is a shuffle on the same ports, too.
    macs = mr * nv if _is_fused(target) else 2 * mr * nv + mr
    return max(macs / target.fma_ports, (mr + nv) / 2, (macs + mr + nv) / ISSUE, 4.0)


def _set_conflicts(problem: Problem, height: int, width: int) -> float:
    """Slow-down by input pixels whose distance is a multiple of 4 KB: they share the same few L1 sets."""
    size = problem.product.a.size_bytes
    down, across = (size * (number(s) or 0) for s in problem.a_steps[1:])
    lines = {(y * down + x * across) // LINE_BYTES for y in range(height) for x in range(width)}
    same_set = max(Counter(line % (4096 // LINE_BYTES) for line in lines).values())
    return 1.0 if same_set <= 8 else 1.3 if same_set <= 12 else 2.0


def _tile_shapes(rows: Rows, config: IgemmConfig) -> dict[tuple[int, int], int]:
    """How many tiles of each (rows, columns) all images have."""
    if config.rows == 1:
        down, count = {1: 1}, rows.count or 1
    else:
        down, count = _pieces(number(rows.extents[1]) or 1, config.rows), number(rows.extents[0]) or 1
    across = _pieces(rows.columns or ASSUMED_COLUMNS, config.mr // config.rows)
    return {(h, w): count * i * j for h, i in down.items() for w, j in across.items()}


def _pieces(extent: int, most: int) -> dict[int, int]:
    """How many pieces of each size an extent has, cut evenly."""
    count = -(-extent // most)
    size, longer = divmod(extent, count)
    return {size: count - longer} | ({size + 1: longer} if longer else {})


def igemm_cycles(problem: Problem, config: IgemmConfig, target: Target) -> float:
    """Analytic estimate in cycles of one core."""
    rows, panels = problem.rows, Panels.of(problem.k, config.nv, target.vector_lanes)
    tiles = _tile_shapes(rows, config)
    widths = [(panels.count - 1, panels.nv), (1, panels.nv_last)]
    image = sum(
        t * w * _tile_cycles(problem, shape, nv, target)
        for shape, t in tiles.items()
        for w, nv in widths
        if w
    )
    compute = problem.groups * image
    weight_bytes = 4 * problem.groups * problem.depth * panels.vectors * target.vector_lanes
    count = sum(tiles.values())
    blocks = -(-count // config.block)
    fits = weight_bytes + config.block * _tile_bytes(problem, config.mr) <= target.l2_bytes
    traffic = weight_bytes * (1 / FAR_BYTES_PER_CYCLE + (blocks - 1) / (64 if fits else FAR_BYTES_PER_CYCLE))
    # Only a panel that fits L2 beside the current one arrives while all tiles of a block compute.
    panel_bytes = 4 * problem.depth * config.nv * target.vector_lanes
    hidden = compute if 3 * panel_bytes <= target.l2_bytes else compute / min(count, config.block)
    return compute + 0.25 * min(hidden, traffic) + max(0.0, traffic - hidden)


def _tile_cycles(problem: Problem, shape: tuple[int, int], nv: int, target: Target) -> float:
    panel_row, mr = nv * target.vector_lanes * 4, shape[0] * shape[1]
    step = tile_step_cycles(mr, nv, target) * _set_conflicts(problem, *shape)
    if panel_row * problem.depth > target.l1_bytes // 2:
        step = max(step, panel_row / L2_BYTES_PER_CYCLE) + 0.1 * panel_row / L2_BYTES_PER_CYCLE
    if panel_row * problem.depth > target.l2_bytes // 2:
        step = max(step, panel_row / L3_BYTES_PER_CYCLE)
    finish = mr * nv * (1 + epilogue_cycles(problem.spec.epilogue))
    return problem.depth * step + finish + 30


def igemm_source(problem: Problem, config: IgemmConfig, target: Target, *, name: str, title: str) -> str:
    """The C++ source of the kernel called `name`."""
    return render("cpu_igemm.cc.jinja", igemm_context(problem, config, target, name=name, title=title))


def igemm_context(
    problem: Problem, config: IgemmConfig, target: Target, *, name: str, title: str
) -> dict[str, Any]:
    """What the template substitutes."""
    rows, lanes = problem.rows, target.vector_lanes
    panels = Panels.of(problem.k, config.nv, lanes)
    panel_words = problem.panel_rows * config.nv * lanes
    return {
        "title": title,
        "name": name,
        "lanes": lanes,
        "a_type": problem.product.a.cpu,
        "c": problem.c,
        "words": problem.words,
        "has_start": problem.product.shift != 0,
        "group_c": problem.group_c,
        "k": problem.k,
        "taps": problem.taps,
        "tap_steps": problem.tap_steps,
        "a_steps": problem.a_steps,
        "a_base": problem.a_base,
        "groups": problem.groups,
        "panels": panels.count,
        "panel_words": panel_words,
        "group_words": problem.panel_rows * panels.vectors * lanes,
        "nv": config.nv,
        "nv_last": panels.nv_last,
        "block": config.block,
        "down": Cut.of(number(rows.extents[1]), config.rows) if config.rows > 1 else ONE_BY_ONE,
        "across": Cut.of(rows.columns, config.mr // config.rows),
        "grid_steps": (problem.a_steps[1] if config.rows > 1 else "0", problem.a_steps[2]),
        "unroll": unrolled_words(problem),
        "turns": _turns(problem),
        "touches": _touches(problem, config, rows, panel_words),
        "lead": _lead(problem, config, rows, panel_words // config.nv * panels.nv_last),
        "extents": rows.extents,
        "merge_rows": rows.merge_rows,
        "merge_images": rows.merge_images,
        "unit_cost": max(1, round(problem.depth * tile_step_cycles(config.mr, config.nv, target))),
        "m_cost": max(1, _tile_bytes(problem, config.mr) // L2_BYTES_PER_CYCLE),
        "n_cost": max(1, 4 * panel_words // FAR_BYTES_PER_CYCLE),
        **finish_context(problem.spec, grid=config.rows > 1),
    }


def unrolled_words(problem: Problem) -> int:
    """Whole words of a tap's reduction per turn of the innermost loop."""
    return max(1, unrolled(problem.c // problem.product.size))


def _turns(problem: Problem) -> int:
    """Turns of the innermost loop per tap (1 also where a tap is less than a word)."""
    return max(1, problem.c // problem.product.size // unrolled_words(problem))


def unrolled(c: int) -> int:
    """Values of the reduction per turn of the innermost loop: all when few, else preferably a divisor."""
    if c <= MOST_UNROLLED:
        return c
    return next((u for u in (4, 5, 6, 7, 8, 3) if c % u == 0), 4)


def _touches(problem: Problem, config: IgemmConfig, rows: Rows, panel_words: int) -> int:
    """Cache lines to prefetch per turn of the innermost loop, for a block to cover the next panel.

    A tile of few pixels has no time for many, and the hardware finds the only stream it reads by itself.
    """
    tiles = sum(_tile_shapes(rows, config).values())
    steps = problem.taps[0] * problem.taps[1] * _turns(problem)
    lines = panel_words // 16
    most = MOST_TOUCHES if config.mr >= 4 else 4
    return min(most, max(1, -(-lines // (steps * min(tiles, config.block)))))


def _lead(problem: Problem, config: IgemmConfig, rows: Rows, last_words: int) -> int:
    """How many words ahead weights are prefetched when a block is one tile; 0 when it is a whole panel."""
    is_one_tile = rows.columns is not None and rows.count is not None
    is_one_tile = is_one_tile and min(config.block, sum(_tile_shapes(rows, config).values())) == 1
    return min(LEAD_FLOATS, last_words // 2) if is_one_tile else 0


def pack_panels(matrix: np.ndarray, nv: int, lanes: int) -> np.ndarray:
    """A (depth, k, ...) array as panels of nv vectors: (depth, nv * lanes, ...), k padded with zeros; 1-D."""
    panels = Panels.of(matrix.shape[1], nv, lanes)
    padded = np.zeros((matrix.shape[0], panels.vectors * lanes, *matrix.shape[2:]), matrix.dtype)
    padded[:, : matrix.shape[1]] = matrix
    starts = range(0, padded.shape[1], nv * lanes)
    return np.concatenate([padded[:, s : s + nv * lanes].ravel() for s in starts])


def pack_words(matrix: np.ndarray, product: Product, nv: int, lanes: int) -> np.ndarray:
    """Weights (taps, c, k) of one group as panels of words, in the type of the weights; 1-D."""
    words = words_of_taps(matrix, product)
    if product.shift:
        words = np.concatenate([shift_words(matrix, product), words])
    return pack_panels(words, nv, lanes)
