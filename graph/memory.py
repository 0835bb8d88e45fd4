"""Memory of a program being lowered: buffers, zeroed borders, constants, copies into other layouts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import onnx_ir as ir

from bolt import dims as D
from bolt.dims import Dim
from bolt.epilogue import Epilogue
from bolt.graph.conventions import CPU, Conventions
from bolt.graph.layouts import Order, row_major
from bolt.ops.pointwise import CopySpec, FillSpec
from bolt.ops.spec import Spec
from bolt.program import Buffer, Halo, IntsStep, Step, View, dense_strides
from bolt.types import DType, convert, from_numpy

MAX_RANK = 6
"""Dims a pointwise or copy kernel loops over after collapsing."""


class Memory:
    """The steps and buffers so far.

    Attributes:
        sample: a typical value of every symbol; decides orders where strides are symbolic.
        conventions: of the target.
        steps: in execution order.
        constants: contents of the "const" buffers, by name.
        assumed: pairs of dims that must turn out equal at run time.
    """

    def __init__(self, sample: Mapping[str, int], conventions: Conventions = CPU) -> None:
        self.sample = sample
        self.conventions = conventions
        self.steps: list[Step | IntsStep] = []
        self.constants: dict[str, np.ndarray] = {}
        self.assumed: list[tuple[Dim, Dim]] = []
        self._conformed: dict[tuple[object, ...], View] = {}
        self._temps = 0

    def temp(
        self,
        dtype: DType,
        dims: Sequence[Dim],
        order: Order | None = None,
        halo: Halo = (),
        border: int = 0,
    ) -> View:
        """A new temporary with its axes laid out in `order`, a `halo` filled with `border` around them.

        The innermost dim of a channels-last value is padded as the target's conventions say.
        """
        order = order or row_major(len(dims))
        halo = halo or ((0, 0),) * len(dims)
        padded = [D.add(d, before + after) for d, (before, after) in zip(dims, halo, strict=True)]
        strides: list[Dim] = [0] * len(dims)
        step: Dim = 1
        offset: Dim = 0
        for position, axis in enumerate(reversed(order)):
            strides[axis] = step
            offset = D.add(offset, D.mul(halo[axis][0], step))
            step = D.mul(step, padded[axis])
            if position == 0 and order != row_major(len(dims)):
                step = self.conventions.pixel_stride(step, dtype, [dims[a] for a in order[:-1]])
        # With a run-time height the gap behind the last row is cleared like the others: give it room.
        slack = D.mul(sum(halo[-1]), strides[-1]) if len(order) > 2 else 0
        self._temps += 1
        buffer = Buffer(name=f"t{self._temps}", dtype=dtype, elements=D.add(step, slack), kind="temp")
        view = View(buffer=buffer, dims=tuple(dims), strides=tuple(strides), offset=offset, halo=halo)
        view = replace(view, border=border)
        self._fill_halo(view, order, step)
        return view

    def _fill_halo(self, view: View, order: Order, elements: Dim) -> None:
        """Fill the border of every image.

        Right of one row and left of the next is one gap in memory; what lies before the first row's pixels
        and behind the last row's are two blocks.
        """
        if all(h == (0, 0) for h in view.halo):
            return
        spatial = [a for a in order if a >= 2]
        cols = spatial[-1]
        rows = spatial[-2] if len(spatial) > 1 else None
        outer = list(order[: order.index(spatial[0])])
        flat = View(buffer=view.buffer, dims=(elements,), strides=(1,))
        if len(spatial) > 2 or order.index(cols) - order.index(spatial[0]) != len(spatial) - 1:
            # A volume, or channels between rows and columns: fill everything.
            self._fill(flat, 0, (elements,), (1,), view.border)
            return
        images, step = D.prod(view.dims[a] for a in outer), view.strides[outer[-1]] if outer else elements
        pixel, (left, right) = view.strides[cols], view.halo[cols]
        (top, bottom), height = ((0, 0), 1) if rows is None else (view.halo[rows], view.dims[rows])
        pitch = step if rows is None else view.strides[rows]
        before = D.add(D.mul(top, pitch), D.mul(left, pixel))
        behind = D.add(D.mul(right, pixel), D.mul(bottom, pitch))
        row_end = D.add(before, D.mul(view.dims[cols], pixel))
        last_end = D.add(row_end, D.mul(D.sub(height, 1), pitch))
        if D.equal(before, behind) and before != 0:
            self._fill(flat, 0, (images, 2, before), (step, last_end, 1), view.border)
        else:
            for at, length in ((0, before), (last_end, behind)):
                if length != 0:
                    self._fill(flat, at, (images, length), (step, 1), view.border)
        gaps = D.sub(height, 1) if isinstance(height, int) else height
        if left + right and gaps != 0:
            dims, strides = (images, gaps, D.mul(left + right, pixel)), (step, pitch, 1)
            self._fill(flat, row_end, dims, strides, view.border)

    def _fill(
        self, flat: View, offset: Dim, dims: tuple[Dim, ...], strides: tuple[Dim, ...], number: int
    ) -> None:
        view = View(buffer=flat.buffer, dims=dims, strides=strides, offset=offset)
        (view,) = collapse([view])
        self.emit(partial(FillSpec, value=float(number)), (view,))

    def const(self, array: np.ndarray) -> View:
        """A dense view of `array` in the weights file; equal arrays share it."""
        array = np.ascontiguousarray(array)
        dtype = from_numpy(array.dtype)
        assert dtype is not None, array.dtype
        digest = hashlib.sha256(array.tobytes() + str((array.shape, array.dtype)).encode()).hexdigest()[:16]
        name = f"c_{digest}"
        self.constants[name] = array
        buffer = Buffer(name=name, dtype=dtype, elements=int(array.size), kind="const")
        return View(buffer=buffer, dims=array.shape, strides=dense_strides(array.shape))

    def order_of(self, view: View) -> Order:
        """Axes from outermost to innermost, judged by the strides at the sample dims."""
        stride = [D.evaluate(s, self.sample) for s in view.strides]
        extent = [D.evaluate(d, self.sample) for d in view.dims]
        axes = range(len(stride))
        ranked = sorted((a for a in axes if extent[a] != 1), key=lambda a: (-stride[a], a))
        order = list(ranked)
        for axis in axes:
            if extent[axis] == 1:
                order.insert(next((i for i, a in enumerate(order) if a > axis), len(order)), axis)
        return tuple(order)

    def emit(
        self,
        make: Callable[..., Spec],
        views: Sequence[View],
        *,
        epilogue: Epilogue | None = None,
        constants: Mapping[int, np.ndarray] | None = None,
        nodes: Sequence[ir.Node] = (),
    ) -> None:
        """Append the kernel call `make(operands=..., ...)` over `views`."""
        extra = {} if epilogue is None else {"epilogue": epilogue}
        operands = tuple(v.operand(aligned=self.conventions.is_device) for v in views)
        spec = make(operands=operands, constants=tuple(sorted(constants or ())), **extra)
        names = tuple(n.name or n.op_type for n in nodes)
        self.steps.append(Step(spec=spec, views=tuple(views), constants=dict(constants or {}), nodes=names))

    def copy(self, source: View, target: View, nodes: Sequence[ir.Node] = ()) -> None:
        """target = source, element for element (between float types: rounded)."""
        order = self.order_of(target)
        views = collapse([target.permute(order), source.permute(order)])
        self.emit(CopySpec, views, nodes=nodes)

    def conforms(
        self, view: View, order: Order, halo: Halo = (), dtype: DType | None = None, border: int = 0
    ) -> bool:
        """Whether the last axis of `order` is contiguous, `halo` holds `border`, the type is `dtype`."""
        halo = halo or ((0, 0),) * len(view.dims)
        inner = inner_axis(order, view.dims)
        contiguous = inner is None or view.strides[inner] == 1
        wide = all(h[0] >= w[0] and h[1] >= w[1] for h, w in zip(view.halo, halo, strict=True))
        filled = view.border == border or all(h == (0, 0) for h in halo)
        return contiguous and wide and filled and (dtype or view.dtype) is view.dtype

    def conform(
        self, view: View, order: Order, halo: Halo = (), dtype: DType | None = None, border: int = 0
    ) -> View:
        """`view`, or a copy of it, with its axes in `order`, the last one contiguous, and at least `halo`.

        Args:
            dtype: the type it must have; None: whichever it is kept in.
            border: the number in the halo.
        """
        if self.conforms(view, order, halo, dtype, border):
            return view
        halo, dtype = halo or ((0, 0),) * len(view.dims), dtype or self.kept_as(view)
        key = (view, order, halo, dtype, border)
        return self._once(key, lambda: self.relaid(view, order, halo, dtype, border))

    def _once(self, key: tuple[object, ...], make: Callable[[], View]) -> View:
        if key not in self._conformed:
            self._conformed[key] = make()
        return self._conformed[key]

    def kept_as(self, view: View) -> DType:
        """The type of a copy of `view`: its own, unless it is the caller's choice."""
        return self.conventions.dtype(view.dtype) if view.buffer.kind in ("input", "output") else view.dtype

    def relaid(
        self, view: View, order: Order, halo: Halo = (), dtype: DType | None = None, border: int = 0
    ) -> View:
        """A copy of `view` with its axes in `order`."""
        dtype = dtype or self.kept_as(view)
        array = self.constants.get(view.buffer.name)
        if array is not None and view.is_dense() and array.size == D.prod(view.dims):
            moved = np.ascontiguousarray(array.reshape(view.dims).transpose(order))
            if all(h == (0, 0) for h in halo):
                return self.as_type(self.const(moved).permute(tuple(np.argsort(order))), dtype)
        target = self.temp(dtype, view.dims, order, halo, border)
        self.copy(view, target)
        return target

    def as_type(self, view: View, dtype: DType) -> View:
        """`view`, or a copy of it, of type `dtype`; constants are converted here and now."""
        if view.dtype is dtype:
            return view
        array = self.constants.get(view.buffer.name)
        if array is not None:
            return replace(view, buffer=self.const(convert(array, dtype)).buffer)
        return self._once((view, dtype), lambda: self.relaid(view, self.order_of(view), dtype=dtype))

    def matrix(self, view: View, dtype: DType) -> View:
        """`view` as kernels want the operand of a matrix product (its last two dims) on this target."""
        if not self.conventions.is_device:
            return self.as_type(view, dtype) if view.dtype.is_float else view
        rows, columns = view.dims[-2:]
        if columns == 1:
            view = replace(view, strides=(*view.strides[:-1], 1))
        elif rows == 1 and view.strides[-1] != 1:
            view = replace(view, strides=(*view.strides[:-2], 1, view.strides[-1]))
        broadcast = any(s == 0 and d != 1 for d, s in zip(view.dims[-2:], view.strides[-2:], strict=True))
        if 1 not in view.strides[-2:] or broadcast:
            return self.dense(view, dtype)
        return self.as_type(view, dtype)

    def widened(self, view: View, order: Order, axis: int, length: int, dtype: DType) -> View:
        """A copy of `view` with its axes in `order` and zeros up to `length` along `axis`."""
        return self._once(
            (view, order, axis, length, dtype), lambda: self._widened(view, order, axis, length, dtype)
        )

    def _widened(self, view: View, order: Order, axis: int, length: int, dtype: DType) -> View:
        have = view.dims[axis]
        whole = self.temp(dtype, (*view.dims[:axis], length, *view.dims[axis + 1 :]), order)
        (rest,) = collapse([whole.slice(axis, have, D.sub(length, have)).permute(order)])
        self.emit(FillSpec, (rest,))
        self.copy(view, whole.slice(axis, 0, have))
        return whole

    def dense(self, view: View, dtype: DType | None = None) -> View:
        """Row-major and contiguous (and of type `dtype`), copied if need be."""
        if view.is_dense():
            return view if dtype is None else self.as_type(view, dtype)
        order, dtype = row_major(len(view.dims)), dtype or self.kept_as(view)
        return self._once((view, order, None, dtype), lambda: self.relaid(view, order, dtype=dtype))

    def reshaped(self, view: View, dims: tuple[Dim, ...]) -> View:
        """`view` with other dims: in place where the strides allow, else through a dense copy."""
        out = view.reshape(dims)
        if out is not None:
            return out
        flat = self.dense(view)
        out = flat.reshape(dims)
        if out is None:
            # The two have equally many elements only by an assumption of the model, checked at run time.
            self.assumed.append((D.prod(view.dims), D.prod(dims)))
            out = replace(flat, dims=dims, strides=dense_strides(dims), halo=())
        return out

    def broadcast(self, view: View, dims: Sequence[Dim]) -> View:
        """`view` broadcast to `dims`; what can't be proven equal becomes an assumption."""
        wide = view.broadcast(dims, self.assumed)
        assert wide is not None, f"{view.dims} does not broadcast to {dims}"
        return wide


def collapse(views: Sequence[View]) -> list[View]:
    """Merge neighbouring dims that are contiguous in every view; drop dims of 1.

    Args:
        views: with equal dims, in loop order, outermost dim first.
    """
    rank = len(views[0].dims)
    keep = [a for a in range(rank) if views[0].dims[a] != 1]
    views = [v.permute(keep) for v in views]
    axis = len(keep) - 2
    while axis >= 0:
        if all(_mergeable(v, axis) for v in views):
            views = [_merge(v, axis) for v in views]
        axis -= 1
    if not views[0].dims:
        views = [v.insert(0) for v in views]
    return list(views)


def _mergeable(view: View, axis: int) -> bool:
    return D.equal(view.strides[axis], D.mul(view.strides[axis + 1], view.dims[axis + 1]))


def _merge(view: View, axis: int) -> View:
    dims = (*view.dims[:axis], D.mul(view.dims[axis], view.dims[axis + 1]), *view.dims[axis + 2 :])
    return replace(view, dims=dims, strides=(*view.strides[:axis], *view.strides[axis + 1 :]), halo=())


def inner_axis(order: Order, dims: Sequence[Dim]) -> int | None:
    """The axis neighbouring elements differ in: the last of `order` that is not 1; None for one element."""
    return next((a for a in reversed(order) if dims[a] != 1), None)
