"""Memory, data and expected results for running one bound spec."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from bolt.ops.spec import Operand, Spec
from bolt.types import S8, U8, DType, convert
from bolt.verify import FLIPS, Comparison, compare

GUARD = 64
"""Elements around the output that a kernel must leave alone."""

INDEX_BOUND: Mapping[str, Callable[[Spec], int]] = {
    "gather": lambda spec: spec.operands[1].dims[1] or 1,
}
"""Ops with an integer operand that indexes something: its exclusive upper bound."""

_INTEGERS = 100
_UNWRITTEN = {"i": 113, "u": 113, "b": True}
"""What an output of no float type holds before a kernel runs, by dtype kind."""


@dataclass(frozen=True, slots=True)
class Block:
    """Memory of one operand.

    Attributes:
        memory: all of it, 1-D.
        start: index of element (0, ..., 0).
        view: the operand's elements inside `memory`.
    """

    memory: np.ndarray
    start: int
    view: np.ndarray


@dataclass(frozen=True, slots=True)
class Operands:
    """A bound spec with data.

    Attributes:
        spec: without run-time dims.
        blocks: one per operand.
        constants: the constant operands' values, as `Family.pack` takes them (16-bit floats as fp32).
        reference: the float64 result.
        sums: products summed into one element (for the tolerance).
    """

    spec: Spec
    blocks: tuple[Block, ...]
    constants: dict[int, np.ndarray]
    reference: np.ndarray
    sums: int

    def check(self, memory: np.ndarray) -> Comparison:
        """Compares the output memory that a kernel left with the reference."""
        block, out = self.blocks[0], self.spec.out
        after = Block(memory, block.start, _view(memory, block.start, _dims(out), _strides(out)))
        if stray := _changed_outside(block, after):
            return Comparison(
                ok=False, max_abs=math.inf, max_rel_to_range=math.inf, tolerance=0.0,
                reason=f"it wrote {stray} elements outside its output",
            )  # fmt: skip
        reference = np.broadcast_to(self.reference, after.view.shape)
        if not (out.dtype.is_float or out.dtype in (U8, S8)):
            reference = reference.astype(out.dtype.np)
        products = getattr(self.spec, "math", "f32")
        rounds = any(node.op in ("round", "narrow") for node in self.spec.epilogue.nodes)
        flips = FLIPS if rounds else 0.0
        return compare(after.view, reference, dtype=out.dtype, k=self.sums, math=products, flips=flips)


def make(spec: Spec, *, seed: int = 0) -> Operands:
    """Random data for a bound spec: normal values, weights scaled so that results stay near 1.

    Where such values leave an operation's domain (square root, logarithm, ...), all are positive.
    """
    made = _make(spec, seed, _normal)
    with np.errstate(over="ignore"):
        is_number = np.isfinite(made.reference.astype(np.float32)).all()
    return made if is_number else _make(spec, seed, _positive)


Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal(shape, np.float32)


def _positive(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.random(shape, np.float32) * 0.8 + 0.1


def _make(spec: Spec, seed: int, draw: Draw) -> Operands:
    rng = np.random.default_rng(seed)
    halos, values = spec.halo(), {}
    sums = max(1, spec.flops() // (2 * max(1, math.prod(_dims(spec.out)))))
    for index, operand in enumerate(spec.operands[1:], start=1):
        values[index] = _random(spec, operand, rng, draw)
        if index in spec.constants and index < spec.extra_base and operand.dtype.is_float:
            values[index] = _stored(values[index] / math.sqrt(sums), operand.dtype)
        if index >= spec.extra_base and operand.dtype.is_float and _multiplies_integers(spec):
            values[index] = _stored(values[index] / (_INTEGERS * math.sqrt(sums)), operand.dtype)
    blocks = tuple(_block(operand, halos.get(index, ())) for index, operand in enumerate(spec.operands))
    for index, value in values.items():
        blocks[index].view[...] = value
    blocks[0].memory[...] = np.nan if spec.out.dtype.is_float else _UNWRITTEN[spec.out.dtype.np.kind]
    with np.errstate(all="ignore"):
        reference = spec.reference([values[i] for i in sorted(values)])[0]
    constants = {index: values[index] for index in spec.constants}
    return Operands(spec, blocks, constants, reference, sums)


def constant_bytes(spec: Spec) -> int:
    """Bytes of a spec's constant operands."""
    return sum(
        math.prod(d or 1 for d, s in zip(o.dims, o.strides, strict=True) if s != 0) * o.dtype.size_bytes
        for o in (spec.operands[i] for i in spec.constants)
    )


def _random(spec: Spec, operand: Operand, rng: np.random.Generator, draw: Draw) -> np.ndarray:
    shape = tuple(d if s else 1 for d, s in zip(_dims(operand), _strides(operand), strict=True))
    kind = operand.dtype.np.kind
    if operand.dtype.is_float:
        return _stored(draw(rng, shape), operand.dtype)
    if kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if operand.dtype is S8:
        return rng.integers(-_INTEGERS, _INTEGERS, shape).astype(np.int8)
    bound = INDEX_BOUND[spec.op](spec) if spec.op in INDEX_BOUND else _INTEGERS
    return rng.integers(0, bound, shape).astype(operand.dtype.np)


def _multiplies_integers(spec: Spec) -> bool:
    """Whether sums are large and the epilogue scales them down."""
    return spec.is_product and spec.operands[2].dtype is S8


def _stored(values: np.ndarray, dtype: DType) -> np.ndarray:
    """As fp32, what is left of values that were stored: specs and families take no 16-bit arrays."""
    return convert(values, dtype).astype(np.float32)


def _block(operand: Operand, halo: tuple[tuple[int, int], ...]) -> Block:
    dims, strides = _dims(operand), _strides(operand)
    halo = halo or ((0, 0),) * len(dims)
    corners = [
        sorted((-before * s, (d - 1 + after) * s))
        for d, s, (before, after) in zip(dims, strides, halo, strict=True)
    ]
    low, high = sum(c[0] for c in corners), sum(c[1] for c in corners)
    memory = np.zeros(high - low + 1 + 2 * GUARD, operand.dtype.np)
    return Block(memory, GUARD - low, _view(memory, GUARD - low, dims, strides))


def _view(memory: np.ndarray, start: int, dims: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
    steps = [s * memory.itemsize for s in strides]
    words = memory[start:].view(f"u{memory.itemsize}")  # NumPy makes no strided views of all 8-bit floats
    return np.lib.stride_tricks.as_strided(words, dims, steps).view(memory.dtype)


def _changed_outside(before: Block, after: Block) -> int:
    """How many elements outside the view differ; the view's own elements are skipped."""
    changed = before.memory.view(f"u{before.memory.itemsize}") != after.memory.view(
        f"u{after.memory.itemsize}"
    )
    strides = tuple(s // after.memory.itemsize for s in after.view.strides)
    _view(changed, after.start, after.view.shape, strides)[...] = False
    return int(changed.sum())


def _dims(operand: Operand) -> tuple[int, ...]:
    assert None not in operand.dims, "bind the spec first"
    return operand.dims  # type: ignore[return-value]


def _strides(operand: Operand) -> tuple[int, ...]:
    assert None not in operand.strides, "bind the spec first"
    return operand.strides  # type: ignore[return-value]
