"""A GEMM as CUTLASS kernels see it: layouts, alignments, and extents once batches are merged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from bolt.codegen import evt
from bolt.kernels.cutlass_tiles import Tile, unaligned
from bolt.ops.gemm import GemmSpec
from bolt.ops.spec import Operand
from bolt.target import Target
from bolt.types import BF16, F16, F32, S8, DType

WIDEST = 16
"""Bytes a thread can load or store at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GemmConfig:
    """How a GEMM runs.

    Attributes:
        tile: of a thread block.
        schedule: "data" (a thread block for each tile of the output), or "stream" (stream-K: the last waves
            of tiles are shared evenly by all thread blocks, or each tile by `split_k` of them).
        split_k: thread blocks that share a tile; 1 with schedule "stream" lets CUTLASS balance.
        swizzle: neighbouring column tiles that run together, for reuse in the L2 cache (schedule "data").
    """

    tile: Tile
    schedule: str = "data"
    split_k: int = 1
    swizzle: int = 1

    def __str__(self) -> str:
        suffix = {"data": f" swizzle {self.swizzle}", "stream": f" split {self.split_k}"}[self.schedule]
        return f"{self.tile.name}{suffix}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """What an operand type runs on.

    Attributes:
        math: `Tile.element`.
        accumulator: `Tile.accumulator`.
        opclass: which tiles of that element.
        k_major: both operands need contiguous k.
    """

    math: str
    accumulator: str = "f32"
    opclass: str = "TensorOp"
    k_major: bool = False


ELEMENTS = {
    (F16, "f32"): Element(math="f16"),
    (F16, "tf32"): Element(math="f16"),
    (BF16, "f32"): Element(math="bf16"),
    (BF16, "tf32"): Element(math="bf16"),
    (F32, "tf32"): Element(math="tf32"),
    (F32, "f32"): Element(math="f32", opclass="Simt"),
    (S8, "f32"): Element(math="s8", accumulator="s32", k_major=True),
    (S8, "tf32"): Element(math="s8", accumulator="s32", k_major=True),
}
"""(type of the operands, `GemmSpec.math`) -> instructions. f32 is rounded only where the spec says so."""


def power_of_two(value: int, most: int) -> int:
    """The largest power of two <= `most` that divides `value`."""
    return most if value == 0 else min(value & -value, most)


@dataclass(frozen=True, slots=True, kw_only=True)
class Aligned:
    """Elements an operand's vectors can have.

    Attributes:
        proven: whatever the run-time values are.
        possible: with the luckiest run-time values.
    """

    proven: int
    possible: int

    @classmethod
    def of(cls, operand: Operand, steps: Sequence[int | None]) -> Aligned:
        """`steps`: what must be a multiple of the vector, in elements, apart from the address."""
        size = operand.dtype.size_bytes
        most = WIDEST // size
        known = min([most, *(power_of_two(s, most) for s in steps if s is not None)])
        address = min(most, max(1, operand.alignment // size))
        is_proven = None not in steps
        return cls(
            proven=min(known, address) if is_proven else 1,
            possible=min(known, address) if operand.alignment else known,
        )


def _outer_steps(operand: Operand, axes: Sequence[int]) -> list[int | None]:
    """Strides along the axes that have more than one index."""
    return [operand.strides[x] for x in axes if operand.dims[x] != 1]


@dataclass(frozen=True)
class Problem:
    """A GEMM as the kernels see it."""

    spec: GemmSpec

    @cached_property
    def element(self) -> Element | None:
        return ELEMENTS.get((self.spec.operands[1].dtype, self.spec.math))

    @cached_property
    def dtype(self) -> DType:
        """Of both operands; a packed b is converted to it."""
        return self.spec.operands[1].dtype

    @cached_property
    def a_is_row_major(self) -> bool | None:
        """Whether a's k is contiguous, else its m is; None when neither is."""
        return _is_row_major(self.spec.operands[1])

    @cached_property
    def b_is_row_major(self) -> bool | None:
        """Whether b's n is contiguous, else its k is; None when neither is. A packed b has contiguous k."""
        return False if self.spec.is_b_constant else _is_row_major(self.spec.operands[2])

    @cached_property
    def a(self) -> Aligned:
        operand = self.spec.operands[1]
        inner, outer = (3, 2) if self.a_is_row_major else (2, 3)
        return Aligned.of(operand, [operand.dims[inner], *_outer_steps(operand, (0, 1, outer))])

    @cached_property
    def b(self) -> Aligned:
        operand = self.spec.operands[2]
        if self.spec.is_b_constant:
            # a main loop starts with what k leaves over, and goes on from there in whole steps
            vector = power_of_two(operand.dims[2] or 1, WIDEST // self.dtype.size_bytes)
            return Aligned(proven=vector, possible=vector)
        inner, outer = (3, 2) if self.b_is_row_major else (2, 3)
        return Aligned.of(operand, [operand.dims[inner], *_outer_steps(operand, (0, 1, outer))])

    @cached_property
    def d(self) -> Aligned:
        """Of the output, and of the epilogue inputs that are read along with it."""
        limits = [self._outputs(self.spec.out)]
        limits += [self._along(e) for e in self.spec.extras if e.strides[3] == 1]
        return Aligned(proven=min(x.proven for x in limits), possible=min(x.possible for x in limits))

    def _outputs(self, out: Operand) -> Aligned:
        return Aligned.of(out, [out.dims[3], *_outer_steps(out, (0, 1, 2))])

    def _along(self, extra: Operand) -> Aligned:
        """Vectors of an input are as many bytes as they need to be, 16 at most."""
        steps = [s for s in _outer_steps(extra, (0, 1, 2)) if s != 0]
        found = Aligned.of(extra, steps)
        most, widest = WIDEST // extra.dtype.size_bytes, WIDEST
        return Aligned(
            proven=widest if found.proven == most else found.proven,
            possible=widest if found.possible == most else found.possible,
        )

    @cached_property
    def extras(self) -> tuple[evt.Extra, ...]:
        return tuple(evt.extra_of(e) for e in self.spec.extras)


def _is_row_major(operand: Operand) -> bool | None:
    """Whether the last dim of a matrix is contiguous, else the one before; None when neither is."""
    rows, columns = operand.dims[2:]
    down, right = operand.strides[2:]
    if right == 1 or columns == 1:
        return True
    if down == 1 or rows == 1:
        return False
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Vectors:
    """Elements of one access to each operand: what a unit is compiled for."""

    a: int
    b: int
    d: int


def vectors_of(problem: Problem, tile: Tile) -> tuple[Vectors, ...]:
    """Of the units a launcher tries in turn; the last one runs whatever the run-time values are."""
    if tile.opclass == "Simt":
        return (Vectors(a=1, b=1, d=1),)
    widest = WIDEST // problem.spec.out.dtype.size_bytes
    found = [
        Vectors(a=a, b=b, d=min(d, widest))
        for a, b, d in (
            (problem.a.possible, problem.b.possible, problem.d.possible),
            (problem.a.proven, problem.b.proven, problem.d.proven),
        )
    ]
    return tuple(dict.fromkeys(found))


def tile_for(tile: Tile, vectors: Vectors, target: Target) -> Tile:
    """The tile itself, or one that can copy single elements where it comes to that."""
    is_narrow = tile.element in ("f16", "bf16") and min(vectors.a, vectors.b) == 1
    return unaligned(tile, target, "gemm") if is_narrow else tile


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """The extents of a product after its launcher has merged batches.

    Attributes:
        launches: how often the unit runs.
        batch: products of one run.
        m: rows.
        n: columns.
        k: depth.
    """

    launches: int
    batch: int
    m: int
    n: int
    k: int


ASSUMED = 128
"""Stands for a dim that is known at run time only, in the analytic model."""


def size_of(spec: GemmSpec) -> Size:
    """What the launcher makes of the batch dims (bolt/cuda/gemm_batches.h does it with run-time values).

    Strides that are not known are taken to be those of dense operands.
    """
    b0, b1, m, n = (d or ASSUMED for d in spec.out.dims)
    k = spec.operands[1].dims[3] or ASSUMED
    steps = _known_steps(spec)
    if steps is None:
        is_shared = spec.operands[2].strides[:2] == (0, 0)
        return Size(
            launches=1, batch=1 if is_shared else b0 * b1, m=m * (b0 * b1 if is_shared else 1), n=n, k=k
        )
    if b1 == 1:
        steps = [(outer, outer, row) for outer, _, row in steps]
    if b1 == 1 or all(outer == b1 * inner for outer, inner, _ in steps):
        b0, b1 = 1, b0 * b1
    if m == 1:
        fixed = () if Problem(spec).a_is_row_major else (1,)
        steps = [
            (outer, inner, inner if row and i not in fixed else row)
            for i, (outer, inner, row) in enumerate(steps)
        ]
    if b1 > 1 and all(inner == m * row for _, inner, row in steps):
        b1, m = 1, m * b1
    return Size(launches=b0, batch=b1, m=m, n=n, k=k)


def _known_steps(spec: GemmSpec) -> list[tuple[int, int, int]] | None:
    """Of each operand the steps between batches and between the output's rows; None when one is not known."""
    if spec.dynamic():
        return None
    found = []
    for index, operand in enumerate(spec.operands):
        outer, inner, row = (s or 0 for s in operand.strides[:3])
        found.append((outer, inner, 0 if index == 2 else row))
    return found
