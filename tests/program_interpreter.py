"""Runs a `Program` in NumPy through the specs' float64 references: lowering tested without any kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from bolt import dims as D
from bolt.chain import Chain, Link
from bolt.module.plan import Plan
from bolt.ops.conv import ConvSpec
from bolt.ops.spec import Operand, Spec
from bolt.program import IntsStep, Program, Step, View
from bolt.types import BOOL, F32, S8, U8, DType, convert


class Memory:
    """The buffers of one run; temporaries start as NaN so that reading one before writing it shows.

    With a plan, temporaries of one slot share memory as they do in the module.
    """

    def __init__(
        self,
        program: Program,
        inputs: Sequence[np.ndarray],
        sizes: Mapping[str, int],
        plan: Plan | None = None,
    ) -> None:
        self.sizes = sizes
        self.plan = plan
        self.slots: dict[int, np.ndarray] = {}
        self.program = program
        self.arrays: dict[str, np.ndarray] = {
            f"input{i}": np.ascontiguousarray(a).reshape(-1) for i, a in enumerate(inputs)
        }
        self.arrays |= {n: a.reshape(-1) for n, a in program.constants.items()}
        self.written: dict[str, np.ndarray] = {}

    def value(self, dim: D.Dim) -> int:
        return D.evaluate(dim, self.sizes)

    def flat(self, view: View) -> np.ndarray:
        name = view.buffer.name
        if name not in self.arrays:
            kind = view.dtype.np
            if self.plan is not None and view.buffer.kind == "temp":
                count = self.value(view.buffer.elements)
                return self._slot(self.plan.slot_of[name])[: count * kind.itemsize].view(kind)
            fill = np.nan if view.dtype.is_float else 77
            self.arrays[name] = np.full(self.value(view.buffer.elements), fill, kind)
        return self.arrays[name]

    def address(self, view: View) -> int:
        """Bytes from the start of the memory that the caller or the plan aligns."""
        return self.value(view.offset) * view.dtype.size_bytes

    def _slot(self, number: int) -> np.ndarray:
        if number not in self.slots:
            assert self.plan is not None
            size = max(self.value(s) for s in self.plan.slots[number])
            self.slots[number] = np.full(-(-size // 8), np.nan).view(np.uint8)
        return self.slots[number]

    def window(self, view: View, halo: tuple[tuple[int, int], ...] = ()) -> np.ndarray:
        """The view's elements, widened by `halo`, as an array that shares the buffer's memory."""
        halo = halo or ((0, 0),) * len(view.dims)
        flat = self.flat(view)
        strides = [self.value(s) for s in view.strides]
        dims = [self.value(d) + b + a for d, (b, a) in zip(view.dims, halo, strict=True)]
        start = self.value(view.offset) - sum(b * s for (b, _), s in zip(halo, strides, strict=True))
        last = start + sum((d - 1) * s for d, s in zip(dims, strides, strict=True))
        assert start >= 0 and last < flat.size, f"{view} leaves its buffer of {flat.size} elements"
        item = flat.itemsize
        words = flat[start:].view(f"u{item}")  # NumPy makes no strided views of all 8-bit floats
        return as_strided(words, dims, [s * item for s in strides]).view(flat.dtype)


def run(program: Program, inputs: Sequence[np.ndarray], plan: Plan | None = None) -> list[np.ndarray]:
    """The program's outputs."""
    sizes: dict[str, int] = {}
    for value, array in zip(program.inputs, inputs, strict=True):
        for d, size in zip(value.dims, array.shape, strict=True):
            if not isinstance(d, int) and d.is_Symbol:
                assert sizes.setdefault(d.name, size) == size
    for a, b in program.assumptions:
        assert D.evaluate(a, sizes) == D.evaluate(b, sizes)
    memory = Memory(program, inputs, sizes, plan)
    for step in program.steps:
        if isinstance(step, IntsStep):
            memory.window(step.view)[...] = np.reshape(
                [memory.value(v) for v in step.values], memory.window(step.view).shape
            )
        elif isinstance(step, Chain):
            _run_chain(step, memory)
        else:
            _run_step(step, memory)
    outputs = []
    for i, value in enumerate(program.outputs):
        dims = tuple(D.evaluate(d, sizes) for d in value.dims)
        outputs.append(memory.arrays[f"output{i}"].reshape(dims))
    return outputs


def _run_step(step: Step, memory: Memory) -> None:
    spec = step.bound(memory.sizes)
    for operand, view in zip(spec.operands, step.views, strict=True):
        assert operand.dtype is view.dtype
        assert not operand.alignment or memory.address(view) % operand.alignment == 0
    arrays = []
    for index, view in enumerate(step.views[1:], start=1):
        if index in step.constants:
            assert step.constants[index].shape == spec.operands[index].dims
            arrays.append(convert(step.constants[index], spec.operands[index].dtype))
            continue
        array = memory.window(view)
        halo = spec.halo().get(index)
        if halo is not None:
            border = memory.window(view, halo).copy()
            border[tuple(slice(b, b + d) for (b, _), d in zip(halo, array.shape, strict=True))] = view.border
            assert (border == view.border).all(), f"{spec.op} {step.nodes} reads a halo of another number"
            if view.border:
                spec, array = _bordered(spec, index, memory.window(view, halo))
        arrays.append(array.copy())
    result = spec.reference(arrays)[0]
    out = memory.window(step.views[0])
    out[...] = _stored(result, spec.out.dtype)


def _bordered(spec: Any, index: int, array: np.ndarray) -> tuple[Any, np.ndarray]:
    """A convolution that takes its padding, which are no zeros, for part of its input."""
    operands = list(spec.operands)
    operands[index] = replace(operands[index], dims=array.shape)
    return replace(spec, operands=tuple(operands), pad=(0, 0), pad_end=(0, 0)), array


def _run_chain(chain: Chain, memory: Memory) -> None:
    """Strip by strip; a row that is not kept between two strips is NaN."""
    for image in range(memory.value(chain.images)):
        kept = [np.empty(0)] * len(chain.links)
        done = [0] * len(chain.links)
        for top in range(0, chain.links[-1].rows, chain.strip):
            needed = [(top, min(top + chain.strip, chain.links[-1].rows))]
            for link in reversed(chain.links[1:]):
                needed.insert(0, _input_rows(link, *needed[0]))
            for i, (link, (first, end)) in enumerate(zip(chain.links, needed, strict=True)):
                start = max(done[i], first)
                if start < end:
                    source = kept[i - 1] if i else None
                    rows = _strip(link, memory, image, (start, end), source)
                    if not kept[i].size:
                        kept[i] = np.full((link.rows, *rows.shape[1:]), np.nan)
                    kept[i][start:end] = rows
                kept[i][:first], done[i] = np.nan, end
            for (first, end), rows in zip(needed, chain.capacities(), strict=True):
                assert end - first <= rows


def _input_rows(link: Link, first: int, end: int) -> tuple[int, int]:
    window = link.window
    low, high = (
        first * window.stride - window.before,
        (end - 1) * window.stride - window.before + window.extent,
    )
    return max(low, 0), min(high, link.input_rows)


def _strip(
    link: Link, memory: Memory, image: int, rows: tuple[int, int], source: np.ndarray | None
) -> np.ndarray:
    """Rows of a link's output, one (rows, elements) array; written to memory where the chain ends."""
    first, end = rows
    low, high = _input_rows(link, first, end)
    above = low - (first * link.window.stride - link.window.before)
    below = (end - 1) * link.window.stride - link.window.before + link.window.extent - high
    spec = link.spec.bind(link.ints(end - first, high - low))
    if isinstance(spec, ConvSpec):
        spec = replace(spec, pad=(0, spec.pad[1]), pad_end=(0, spec.pad_end[1]))
    arrays = []
    for index, (operand, view) in enumerate(zip(spec.operands, link.step.views, strict=True)):
        if index in link.step.constants:
            arrays.append(link.step.constants[index])
        elif index == 1 and source is not None:
            arrays.append(_padded(source[low:high].reshape(operand.dims), spec, above, below))
        elif index:
            row = low if index == 1 else first
            array = _rows_of(view, operand, memory, link.moves[index], image, row)
            arrays.append(_padded(array, spec, above, below) if index == 1 else array)
    result = np.broadcast_to(spec.reference(arrays)[0], spec.out.dims)
    if link.kept is None:
        _rows_of(link.step.views[0], spec.out, memory, link.moves[0], image, first)[...] = result
    return np.reshape(result, (end - first, -1))


def _padded(array: np.ndarray, spec: Spec, above: int, below: int) -> np.ndarray:
    if not isinstance(spec, ConvSpec):
        assert above == below == 0
        return array
    return np.pad(array, ((0, 0), (above, below), (0, 0), (0, 0)))


def _rows_of(
    view: View, operand: Operand, memory: Memory, moves: tuple[int, int], image: int, row: int
) -> np.ndarray:
    """Rows from `row` on of one image of a view, with the dims of a bound operand."""
    start = D.add(view.offset, image * moves[0] + row * moves[1])
    return memory.window(replace(view, dims=operand.dims, strides=operand.strides, offset=start, halo=()))


def _stored(result: np.ndarray, dtype: DType) -> np.ndarray:
    if dtype.is_float:
        return result if dtype is F32 else convert(result, dtype)
    if dtype in (U8, S8):
        return convert(result, dtype)
    return (result != 0) if dtype is BOOL else np.trunc(result)
