"""Legal tiles of CUTLASS 2.x kernels, as data.

They come from the generator that ships with CUTLASS (`cutlass_library`), so they are the shapes its authors
instantiate and test, not ours. Reading the tables costs about a second and is done once in a process, when
the first tile is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from bolt.errors import ToolchainError
from bolt.report import Rejection
from bolt.target import Target

if TYPE_CHECKING:
    from types import ModuleType


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """How a thread block computes its part of the output.

    Attributes:
        shape: rows, columns and depth of the output tile of a thread block.
        warp: the same of one warp.
        instruction: the same of one instruction.
        stages: tiles of the operands in shared memory at a time; 2 loads through registers.
        opclass: "TensorOp" or "Simt".
        math_op: `cutlass::arch::Op...` as the generator spells it ("multiply_add", ...).
        arch: compute capability whose instructions it needs (CUTLASS's `ArchTag`).
        element: type the instructions multiply ("f16", "bf16", "tf32", "f32", "s8", "u8").
        accumulator: type they add in ("f32", "s32").
        alignments: elements the operands may be aligned to, widest first.
    """

    shape: tuple[int, int, int]
    warp: tuple[int, int, int]
    instruction: tuple[int, int, int]
    stages: int
    opclass: str
    math_op: str
    arch: int
    element: str
    accumulator: str
    alignments: tuple[int, ...]

    @property
    def name(self) -> str:
        """As CUTLASS names it, e.g. "128x256_32x3"."""
        m, n, k = self.shape
        return f"{m}x{n}_{k}x{self.stages}"

    @property
    def warps(self) -> int:
        """Warps of a thread block."""
        count = 1
        for block, warp in zip(self.shape, self.warp, strict=True):
            count *= block // warp
        return count

    @property
    def threads(self) -> int:
        """Threads of a thread block."""
        return 32 * self.warps

    @property
    def smem_bytes(self) -> int:
        """Shared memory of a thread block: what the main loop and the epilogue (which share it) need."""
        m, n, k = self.shape
        main_loop = self.stages * (m + n) * k * ELEMENT_BYTES[self.element]
        # the epilogue exchanges 8 rows of 32-bit values per warp row, each row padded by up to 8 values
        rows = 8 * (m // self.warp[0]) * (k // self.warp[2])
        return max(main_loop, rows * (n + 8) * 4)


ELEMENT_BYTES = {"f16": 2, "bf16": 2, "tf32": 4, "f32": 4, "s8": 1, "u8": 1}

SUBJECT = "cutlass_tiles"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiles:
    """The tiles a target can use, and why it can't use the others."""

    legal: tuple[Tile, ...]
    rejected: tuple[Rejection, ...]


@cache
def tiles(target: Target, kind: str, element: str, accumulator: str = "f32") -> Tiles:
    """The tiles of a kind of kernel for a type, in the generator's order, widest tables first.

    Args:
        target: a CUDA target.
        kind: "gemm" or "conv" (forward convolution).
        element: what the instructions multiply: "f16", "bf16", "tf32", "f32", "s8", "u8".
        accumulator: what they add in: "f32", or "s32" of 8-bit integers.
    """
    assert target.gpu is not None
    found: dict[Tile, None] = {}
    rejected: list[Rejection] = []
    for tile in _table(kind, target.gpu.sm):
        if (tile.element, tile.accumulator) != (element, accumulator):
            continue
        reason = _obstacle(tile, target)
        if reason is None:
            found[tile] = None
        else:
            rejected.append(Rejection(stage="candidates", subject=f"{SUBJECT}: {tile.name}", reason=reason))
    return Tiles(legal=tuple(found), rejected=tuple(rejected))


@cache
def unaligned_tiles(target: Target, kind: str, element: str, accumulator: str = "f32") -> tuple[Tile, ...]:
    """Tiles for operands aligned to their element only.

    cp.async copies 4 bytes at least, so narrower elements go through registers, which two stages do. Each has
    an address and a predicate; beside the accumulators of a large warp tile they would spill.
    """
    found: dict[Tile, None] = {}
    for tile in tiles(target, kind, element, accumulator).legal:
        if ELEMENT_BYTES[element] == 4 and tile.alignments[-1] == 1:
            found[tile] = None
        elif ELEMENT_BYTES[element] == 2 and tile.warp[0] * tile.warp[1] <= MOST_UNALIGNED:
            found[replace(tile, stages=2, alignments=tuple(dict.fromkeys((*tile.alignments, 1))))] = None
    return tuple(found)


def unaligned(tile: Tile, target: Target, kind: str) -> Tile:
    """What comes closest to a tile for operands aligned to their element only."""
    table = unaligned_tiles(target, kind, tile.element, tile.accumulator)
    return min(table, key=lambda t: [abs(a - b) for a, b in zip(t.shape, tile.shape, strict=True)])


MOST_UNALIGNED = 64 * 32
"""Accumulators of a warp that leave room for copies of single elements."""


def _obstacle(tile: Tile, target: Target) -> str | None:
    """Why the target can't run the tile, or None."""
    gpu = target.gpu
    assert gpu is not None
    if tile.smem_bytes > gpu.smem_bytes:
        return (
            f"needs {tile.smem_bytes} bytes of shared memory, a thread block of {target.name} "
            f"has {gpu.smem_bytes}"
        )
    return None


def _library(name: str) -> ModuleType:
    from importlib import import_module

    try:
        return import_module(f"cutlass_library.{name}")
    except ImportError as error:
        raise ToolchainError(
            f"CUTLASS's tables can't be read ({error}): install them with pip install 'bolt-ep[cuda]'"
        ) from error


GENERATIONS = ((80, ("GenerateSM80",)), (75, ("GenerateSM75", "GenerateSM50")))
"""Which generator functions describe 2.x kernels of a compute capability and later ones. CUDA cores have had
no new instructions since the table named after 50."""


@cache
def _table(kind: str, sm: int) -> tuple[Tile, ...]:
    """All tiles of the newest generation that `sm` has."""
    generation, functions = next(row for row in GENERATIONS if sm >= row[0])
    rows = [t for name in functions for t in _generated(name, generation) if t[0] == kind]
    widths: dict[Tile, set[int]] = {}
    for _, tile, alignment in rows:
        widths.setdefault(tile, set()).add(alignment)
    return tuple(replace(t, alignments=tuple(sorted(w, reverse=True))) for t, w in widths.items())


@cache
def _generated(function: str, generation: int) -> tuple[tuple[str, Tile, int], ...]:
    """(kind, tile without alignments, alignment) of every operation a generator function describes."""
    generator, manifest = _library("generator"), _library("manifest")
    options = ["--architectures", str(generation), "--kernels", "all", "--curr-build-dir", "."]
    operations = manifest.Manifest(generator.define_parser().parse_args(options))
    getattr(generator, function)(operations, CUDA_VERSION)
    return tuple(_rows(operations, generation))


CUDA_VERSION = "13.0.88"
"""The toolkit whose kernels are asked for; the 2.x tables have not depended on it since 11.0."""


def _rows(operations: Any, generation: int) -> Iterator[tuple[str, Tile, int]]:
    for by_name in operations.operations.values():
        for by_capability in by_name.values():
            for group in by_capability.values():
                for operation in group:
                    kind = _kind(operation)
                    if kind is not None:
                        yield kind, _tile(operation.tile_description, generation), operation.A.alignment


def _kind(operation: Any) -> str | None:
    """ "gemm" or "conv" of a dense real operation with equal operand types; None for the rest."""
    math = operation.tile_description.math_instruction
    if math.element_a != math.element_b or math.element_a.name not in ELEMENT_BYTES:
        return None
    if math.math_operation.name not in MATH_OPS:
        return None
    if operation.operation_kind.name == "Gemm":
        return "gemm" if operation.gemm_kind.name == "Universal" and not _is_interleaved(operation) else None
    if operation.operation_kind.name == "Conv2d":
        plain = operation.conv_kind.name == "Fprop" and operation.iterator_algorithm.name == "Optimized"
        return "conv" if plain and not _is_interleaved(operation) else None
    return None


THREE_PRODUCTS = "multiply_add_fast_f32"
"""fp32 on tensor cores: each operand is the sum of two tf32 numbers, and the product of their small parts is
left out. Sums are as exact as those of CUDA cores; an infinite operand gives NaN."""

MATH_OPS = ("multiply_add", "multiply_add_saturate", THREE_PRODUCTS)


def _is_interleaved(operation: Any) -> bool:
    layout = operation.A.layout.name
    return "Interleaved" in layout or "TensorNC" in layout


def _tile(description: Any, generation: int) -> Tile:
    math = description.math_instruction
    shape = tuple(int(x) for x in description.threadblock_shape)
    warps = tuple(int(x) for x in description.warp_count)
    m, n, k = (block // count for block, count in zip(shape, warps, strict=True))
    return Tile(
        shape=(shape[0], shape[1], shape[2]),
        warp=(m, n, k),
        instruction=tuple(int(x) for x in math.instruction_shape),  # type: ignore[arg-type]
        stages=int(description.stages),
        opclass=math.opcode_class.name,
        math_op=math.math_operation.name,
        arch=generation,
        element=math.element_a.name,
        accumulator=math.element_accumulator.name,
        alignments=(),
    )
