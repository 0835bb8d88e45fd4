"""A lowered partition: straight-line steps over buffers, with symbolic dims.

Lowering (`bolt.graph.lower`) produces a `Program`; the module generator (`bolt.module`) plans its memory
and renders its `run`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Union

import numpy as np

from bolt import dims as D
from bolt.dims import Dim
from bolt.ops.spec import Operand, Spec
from bolt.types import DType

if TYPE_CHECKING:
    from bolt.chain import Chain

Halo = tuple[tuple[int, int], ...]
"""Elements kept (before, after) each dim of a view for kernels that read beyond it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffer:
    """A block of memory.

    Attributes:
        name: unique within the program; a C identifier.
        dtype: element type.
        elements: size in elements.
        kind: "input" and "output" belong to the caller (index = position), "temp" is workspace that the
            memory plan places, "const" lies in the weights file.
        index: position among the inputs or outputs.
    """

    name: str
    dtype: DType
    elements: Dim
    kind: str
    index: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A strided window of a buffer, with the dims of an ONNX value (or of a kernel's operand).

    Attributes:
        buffer: the memory.
        dims: extents.
        strides: elements between neighbours along each dim; 0 broadcasts.
        offset: elements from the buffer's start to element (0, ..., 0).
        halo: readable elements around each dim.
        border: the number in all of them.
    """

    buffer: Buffer
    dims: tuple[Dim, ...]
    strides: tuple[Dim, ...]
    offset: Dim = 0
    halo: Halo = ()
    border: int = 0

    def __post_init__(self) -> None:
        assert len(self.dims) == len(self.strides)
        if len(self.halo) != len(self.dims):
            object.__setattr__(self, "halo", ((0, 0),) * len(self.dims))

    @property
    def dtype(self) -> DType:
        return self.buffer.dtype

    def operand(self, *, aligned: bool = False) -> Operand:
        """The view as a spec sees it: what is symbolic becomes run-time.

        Args:
            aligned: state the alignment.
        """
        return Operand(
            dtype=self.dtype,
            dims=tuple(D.static(d) for d in self.dims),
            strides=tuple(D.static(s) for s in self.strides),
            alignment=self.alignment() if aligned else 0,
        )

    def alignment(self) -> int:
        """Bytes, a power of two up to 16, that divide the distance from the buffer's start for certain."""
        offset = D.mul(self.offset, self.dtype.size_bytes)
        return next(size for size in (16, 8, 4, 2, 1) if divides(size, offset))

    def permute(self, order: Sequence[int]) -> View:
        """The same memory with its dims in another order."""
        return replace(
            self,
            dims=tuple(self.dims[i] for i in order),
            strides=tuple(self.strides[i] for i in order),
            halo=tuple(self.halo[i] for i in order),
        )

    def insert(self, axis: int) -> View:
        """With a dim of 1 at `axis`."""
        return replace(
            self,
            dims=(*self.dims[:axis], 1, *self.dims[axis:]),
            strides=(*self.strides[:axis], 0, *self.strides[axis:]),
            halo=(*self.halo[:axis], (0, 0), *self.halo[axis:]),
        )

    def remove(self, axis: int) -> View:
        """Without dim `axis`, which is 1."""
        keep = [i for i in range(len(self.dims)) if i != axis]
        return self.permute(keep)

    def slice(self, axis: int, start: Dim, length: Dim, step: int = 1) -> View:
        """`length` elements along `axis` from `start`, every `step`-th."""
        whole = start == 0 and step == 1 and D.equal(length, self.dims[axis])
        halo = self.halo if whole else (*self.halo[:axis], (0, 0), *self.halo[axis + 1 :])
        return replace(
            self,
            dims=(*self.dims[:axis], length, *self.dims[axis + 1 :]),
            strides=(*self.strides[:axis], D.mul(self.strides[axis], step), *self.strides[axis + 1 :]),
            offset=D.add(self.offset, D.mul(start, self.strides[axis])),
            halo=halo,
        )

    def broadcast(self, dims: Sequence[Dim], assume: list[tuple[Dim, Dim]] | None = None) -> View | None:
        """The view broadcast to `dims` by NumPy's rules (stride 0), or None when it can't be.

        Args:
            assume: where given, symbolic dims that can't be proven equal are taken to be, and added here.
        """
        missing = len(dims) - len(self.dims)
        if missing < 0:
            return None
        strides: list[Dim] = [0] * missing
        for mine, stride, theirs in zip(self.dims, self.strides, dims[missing:], strict=True):
            if D.equal(mine, theirs):
                strides.append(stride)
            elif mine == 1:
                strides.append(0)
            elif assume is not None and not D.is_static(mine, theirs):
                assume.append((mine, theirs))
                strides.append(stride)
            else:
                return None
        return replace(self, dims=tuple(dims), strides=tuple(strides), halo=())

    def reshape(self, dims: Sequence[Dim]) -> View | None:
        """The view with other dims over the same elements, or None when that needs a copy."""
        strides = _reshaped_strides(self.dims, self.strides, tuple(dims))
        if strides is None:
            return None
        return replace(self, dims=tuple(dims), strides=strides, halo=())

    def is_dense(self) -> bool:
        """Row-major and contiguous (dims of 1 do not matter)."""
        expected: Dim = 1
        for d, s in zip(reversed(self.dims), reversed(self.strides), strict=True):
            if d != 1 and not D.equal(s, expected):
                return False
            expected = D.mul(expected, d)
        return True


def dense_strides(dims: Sequence[Dim]) -> tuple[Dim, ...]:
    """Row-major strides."""
    strides: list[Dim] = []
    step: Dim = 1
    for d in reversed(dims):
        strides.insert(0, step)
        step = D.mul(step, d)
    return tuple(strides)


def divides(a: Dim, b: Dim) -> bool:
    """Whether a divides b for every value of the symbols."""
    if isinstance(a, int) and isinstance(b, int):
        return a != 0 and b % a == 0
    quotient = D.floordiv(b, a)
    return D.equal(D.mul(quotient, a), b)


def _reshaped_strides(
    dims: tuple[Dim, ...], strides: tuple[Dim, ...], new: tuple[Dim, ...]
) -> tuple[Dim, ...] | None:
    """NumPy's no-copy reshape, on symbolic dims: match groups of equal product, each contiguous."""
    old = [(d, s) for d, s in zip(dims, strides, strict=True) if d != 1]
    out: list[Dim] = [0] * len(new)
    todo = [i for i, d in enumerate(new) if d != 1]
    i = j = 0
    while i < len(old) and j < len(todo):
        i0, j0 = i, j
        have, want = old[i][0], new[todo[j]]
        i, j = i + 1, j + 1
        while not D.equal(have, want):
            want_is_smaller = divides(want, have) or (D.is_static(want, have) and want < have)
            if j < len(todo) and (want_is_smaller or i == len(old)):
                want = D.mul(want, new[todo[j]])
                j += 1
            elif i < len(old):
                have = D.mul(have, old[i][0])
                i += 1
            else:
                return None
        for t in range(i0, i - 1):
            if not D.equal(old[t][1], D.mul(old[t + 1][0], old[t + 1][1])):
                return None
        step = old[i - 1][1]
        for t in range(j - 1, j0 - 1, -1):
            out[todo[t]] = step
            step = D.mul(step, new[todo[t]])
    return tuple(out) if i == len(old) and j == len(todo) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One kernel call.

    Attributes:
        spec: what it computes.
        views: one per operand.
        constants: arrays of the operands in `spec.constants`.
        nodes: names of the ONNX nodes it covers, for the report.
    """

    spec: Spec
    views: tuple[View, ...]
    constants: Mapping[int, np.ndarray] = field(default_factory=dict)
    nodes: tuple[str, ...] = ()

    def ints(self) -> tuple[Dim, ...]:
        """The kernel's `d` array."""
        return tuple(
            (self.views[slot.operand].dims if slot.what == "dims" else self.views[slot.operand].strides)[
                slot.axis
            ]
            for slot in self.spec.dynamic()
        )

    def bound(self, sample: Mapping[str, int]) -> Spec:
        """The spec with the symbols' sample values."""
        return self.spec.bind([D.evaluate(i, sample) for i in self.ints()])


@dataclass(frozen=True, slots=True, kw_only=True)
class IntsStep:
    """Writes known integers (a shape, a range) into a dense s64 or s32 view."""

    view: View
    values: tuple[Dim, ...]
    nodes: tuple[str, ...] = ()


AnyStep = Union[Step, IntsStep, "Chain"]
"""Whatever a program does in one step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """An input or output of a program: its name, type and (symbolic) dims."""

    name: str
    dtype: DType
    dims: tuple[Dim, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A lowered partition.

    Attributes:
        inputs, outputs: as the caller passes them: dense, row-major, ONNX dim order.
        steps: in execution order.
        assumptions: pairs of dims that must turn out equal at run time.
        constants: contents of the "const" buffers, by buffer name.
    """

    name: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    steps: tuple[AnyStep, ...]
    constants: Mapping[str, np.ndarray]
    assumptions: tuple[tuple[Dim, Dim], ...] = ()

    def symbols(self) -> list[str]:
        """The symbolic dims of the inputs, sorted."""
        return D.symbols(d for v in self.inputs for d in v.dims)

    def bound_symbols(self) -> set[str]:
        """The symbols that are themselves an extent of some input, so that a run can read them off."""
        dims = (d for v in self.inputs for d in v.dims if not isinstance(d, int))
        return {d.name for d in dims if d.is_Symbol}

    def used_symbols(self) -> set[str]:
        """Every symbol a run needs the value of."""
        used = [d for v in (*self.inputs, *self.outputs) for d in v.dims]
        for step in self.steps:
            views = (step.view,) if isinstance(step, IntsStep) else step.views
            for view in views:
                used += [*view.dims, *view.strides, view.offset]
            if isinstance(step, IntsStep):
                used += step.values
        return set(D.symbols(used))
