"""Partition -> Program: every region becomes one kernel call, every data movement a view where it can be."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from bolt import dims as D
from bolt.dims import Dim
from bolt.epilogue import Builder, Epilogue
from bolt.graph.attributes import attr, constant
from bolt.graph.layouts import RESHAPES, Layouts, Order, row_major
from bolt.graph.partition import Partition
from bolt.graph.region import Region
from bolt.graph.shapes import Shapes
from bolt.ops.pointwise import CopySpec, FillSpec, PointwiseSpec
from bolt.ops.spec import Spec
from bolt.program import Buffer, Halo, IntsStep, Program, Step, Value, View, dense_strides
from bolt.types import F32, DType, from_numpy

MAX_RANK = 6
"""Dims a pointwise or copy kernel loops over after collapsing."""


class CannotLower(Exception):
    """A node turned out not to fit any kernel: the driver leaves it to ONNX Runtime."""

    def __init__(self, node: ir.Node, reason: str) -> None:
        super().__init__(reason)
        self.node = node
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An anchor before its epilogue and output are attached.

    Attributes:
        dims: dims of the anchor's ONNX output.
        order: memory order the kernel writes; None: any with the last dim innermost.
        make: (epilogue, constants) -> spec without operands, i.e. the spec class with its attributes.
        arrange: (output view, epilogue-input views), all with the ONNX output's dims -> every operand's view
            in the kernel's own dims.
        constants: arrays of constant operands.
        prologue: what happens to the accumulator before the region's pointwise nodes (bias, alpha).
    """

    dims: tuple[Dim, ...]
    order: Order | None
    make: Callable[..., Spec]
    arrange: Callable[[View, Sequence[View]], Sequence[View]]
    constants: Mapping[int, np.ndarray] = field(default_factory=dict)
    prologue: Callable[[Expression, int], int] = lambda expression, acc: acc


class Expression:
    """An epilogue being built, with the views of its inputs."""

    def __init__(self, low: Lowering, dims: tuple[Dim, ...]) -> None:
        self.low = low
        self.dims = dims
        self.builder = Builder()
        self.views: list[View] = []

    def input(self, view: View) -> int:
        """The node that reads `view` (broadcast to the expression's dims)."""
        wide = self.low.broadcast(view, self.dims)
        if wide not in self.views:
            self.views.append(wide)
        return self.builder.input(self.views.index(wide))


class Lowering:
    """State of lowering one partition: the view of each value, and the steps so far."""

    def __init__(
        self,
        partition: Partition,
        shapes: Shapes,
        layouts: Layouts,
        sample: Mapping[str, int],
        opset: int,
    ) -> None:
        self.opset = opset
        self.partition = partition
        self.shapes = shapes
        self.layouts = layouts
        self.sample = sample
        self.members = frozenset(partition.nodes)
        self.steps: list[Step | IntsStep] = []
        self.constants: dict[str, np.ndarray] = {}
        self.views: dict[ir.Value, View] = {}
        self.conformed: dict[tuple[ir.Value | View, Order, Halo], View] = {}
        self.concats: dict[ir.Node, View] = {}
        self.temps = 0
        self.assumed: list[tuple[Dim, Dim]] = [
            pair for node in partition.nodes for pair in shapes.assumptions.get(node, ())
        ]
        self.outputs = {v: i for i, v in enumerate(partition.outputs)}
        for index, value in enumerate(partition.inputs):
            self.views[value] = self._external(value, "input", index)

    def dims(self, value: ir.Value) -> tuple[Dim, ...]:
        dims = self.shapes.dims(value)
        assert dims is not None, value.name
        return dims

    def dtype(self, value: ir.Value) -> DType:
        dtype = self.shapes.dtype(value)
        assert dtype is not None, value.name
        return dtype

    def _external(self, value: ir.Value, kind: str, index: int) -> View:
        dims = self.dims(value)
        buffer = Buffer(
            name=f"{kind}{index}", dtype=self.dtype(value), elements=D.prod(dims), kind=kind, index=index
        )
        return View(buffer=buffer, dims=dims, strides=dense_strides(dims))

    def temp(self, dtype: DType, dims: Sequence[Dim], order: Order | None = None, halo: Halo = ()) -> View:
        """A new temporary with its axes laid out in `order`, zeroed `halo` around them.

        The innermost dim of a channels-last value is padded when its rows would fall on the same cache sets.
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
                step = _pixel_stride(step, dtype, [dims[a] for a in order[:-1]])
        # With a run-time height the gap behind the last row is cleared like the others: give it room.
        slack = D.mul(sum(halo[-1]), strides[-1]) if len(order) > 2 else 0
        self.temps += 1
        buffer = Buffer(name=f"t{self.temps}", dtype=dtype, elements=D.add(step, slack), kind="temp")
        view = View(buffer=buffer, dims=tuple(dims), strides=tuple(strides), offset=offset, halo=halo)
        self._zero_halo(view, order, step)
        return view

    def _zero_halo(self, view: View, order: Order, elements: Dim) -> None:
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
        if order.index(cols) - order.index(spatial[0]) != len(spatial) - 1:
            self._fill(flat, 0, (elements,), (1,))  # channels between rows and columns: clear everything
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
            self._fill(flat, 0, (images, 2, before), (step, last_end, 1))
        else:
            for at, length in ((0, before), (last_end, behind)):
                if length != 0:
                    self._fill(flat, at, (images, length), (step, 1))
        gaps = D.sub(height, 1) if isinstance(height, int) else height
        if left + right and gaps != 0:
            self._fill(flat, row_end, (images, gaps, D.mul(left + right, pixel)), (step, pitch, 1))

    def _fill(self, flat: View, offset: Dim, dims: tuple[Dim, ...], strides: tuple[Dim, ...]) -> None:
        view = View(buffer=flat.buffer, dims=dims, strides=strides, offset=offset)
        (view,) = collapse([view])
        self.emit(FillSpec, (view,))

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

    def array(self, value: ir.Value | None) -> np.ndarray | None:
        """The constant behind `value`, or None."""
        return constant(value)

    def view(self, value: ir.Value) -> View:
        """Where `value` is; a constant or a known shape is brought into memory on first use."""
        if value not in self.views:
            array = self.array(value)
            if array is not None:
                self.views[value] = self.const(array)
            else:
                self.views[value] = self._materialize(value)
        return self.views[value]

    def _materialize(self, value: ir.Value) -> View:
        ints = self.shapes.ints(value)
        assert ints is not None, f"value {value.name} is not computed yet"
        known = [D.static(D.dim(i)) for i in ints.reshape(-1)]
        dtype = self.dtype(value)
        if all(k is not None for k in known):
            return self.const(np.array(known, dtype.np).reshape(ints.shape))
        view = self.temp(dtype, ints.shape)
        self.steps.append(IntsStep(view=view, values=tuple(D.dim(i) for i in ints.reshape(-1))))
        return view

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

    def place(self, value: ir.Value, order: Order | None) -> View:
        """Where the kernel that computes `value` is to write it."""
        dims = self.dims(value)
        order = order or self.layouts.order(value) or row_major(len(dims))
        target = self._output_of(value)
        if target is not None and _same_memory_order(order, dims):
            return target
        joined = self._joined(value, order)
        if joined is not None:
            return joined
        return self.temp(self.dtype(value), dims, order, self.layouts.halo(value))

    def _output_of(self, value: ir.Value) -> View | None:
        """The caller's memory for `value`, seen through reshapes that only rename its dims."""
        if value in self.outputs:
            if any(h != (0, 0) for h in self.layouts.halo(value)):
                return None
            return self._external(value, "output", self.outputs[value])
        uses = list(value.uses())
        if len(uses) != 1 or uses[0].idx != 0 or uses[0].node not in self.members:
            return None
        node = uses[0].node
        if node.op_type not in RESHAPES:
            return None
        outer = self._output_of(node.outputs[0])
        return None if outer is None else outer.reshape(self.dims(value))

    def _joined(self, value: ir.Value, order: Order) -> View | None:
        """A slot of the concatenation that reads `value`, so that no copy is needed later."""
        if value in self.outputs:
            return None
        uses = list(value.uses())
        for use in uses:
            node = use.node
            if node not in self.members:
                continue
            if node.op_type == "Concat" and sum(v is value for v in node.inputs) == 1:
                slot = self._slot(value, node, use.idx, use.idx, order)
            elif node.op_type == "Split":
                slot = self._split_slot(value, node, order)
            elif node.op_type in RESHAPES and len(uses) == 1 and use.idx == 0:
                slot = self._reshaped_slot(value, node, order)
            else:
                continue
            if slot is not None:
                return slot
        return None

    def _slot(self, value: ir.Value, node: ir.Node, first: int, last: int, order: Order) -> View | None:
        """Inputs `first` to `last` of a Concat as one view with the dims of `value`."""
        if self.shapes.ints(node.outputs[0]) is not None:
            return None
        whole = self.concat(node, order)
        if self.order_of(whole) != self.order_of(self._probe(value, order)):
            return None
        axis, start, _ = self.concat_slot(node, first)
        return whole.slice(axis, start, self.dims(value)[axis])

    def _split_slot(self, value: ir.Value, split: ir.Node, order: Order) -> View | None:
        """The slot for all parts of a Split that one Concat reads side by side, in order."""
        users = [list(part.uses()) for part in split.outputs]
        for use in users[0]:
            node, first = use.node, use.idx
            if node not in self.members or node.op_type != "Concat":
                continue
            rank = len(self.dims(value))
            same_axis = attr(node, "axis") % rank == attr(split, "axis", 0) % rank
            run = node.inputs[first : first + len(split.outputs)]
            if same_axis and tuple(run) == tuple(split.outputs) and len(set(node.inputs)) == len(node.inputs):
                return self._slot(value, node, first, first + len(run) - 1, order)
        return None

    def _reshaped_slot(self, value: ir.Value, node: ir.Node, order: Order) -> View | None:
        """The slot of a reshaped `value`, seen with its own dims."""
        out = node.outputs[0]
        seen = self._probe(value, order).reshape(self.dims(out))
        if seen is None:
            return None
        slot = self._joined(out, self.order_of(seen))
        return None if slot is None else slot.reshape(self.dims(value))

    def _probe(self, value: ir.Value, order: Order) -> View:
        """A stand-in with the dims of `value` in `order`, to compare orders."""
        dims = self.dims(value)
        strides: list[Dim] = [0] * len(dims)
        step: Dim = 1
        for axis in reversed(order):
            strides[axis] = step
            step = D.mul(step, dims[axis])
        buffer = Buffer(name="probe", dtype=F32, elements=step, kind="temp")
        return View(buffer=buffer, dims=dims, strides=tuple(strides))

    def concat(self, node: ir.Node, order: Order) -> View:
        """The output of a Concat, allocated when its first part is (in that part's order)."""
        if node not in self.concats:
            self.concats[node] = self.place(node.outputs[0], order)
        return self.concats[node]

    def concat_slot(self, node: ir.Node, index: int) -> tuple[int, Dim, Dim]:
        """(axis, start, length) of input `index`."""
        rank = len(self.dims(node.outputs[0]))
        axis = node.attributes["axis"].as_int() % rank
        start: Dim = 0
        for value in node.inputs[:index]:
            assert value is not None
            start = D.add(start, self.dims(value)[axis])
        part = node.inputs[index]
        assert part is not None
        return axis, start, self.dims(part)[axis]

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
        spec = make(
            operands=tuple(v.operand() for v in views), constants=tuple(sorted(constants or ())), **extra
        )
        names = tuple(n.name or n.op_type for n in nodes)
        self.steps.append(Step(spec=spec, views=tuple(views), constants=dict(constants or {}), nodes=names))

    def copy(self, source: View, target: View, nodes: Sequence[ir.Node] = ()) -> None:
        """target = source, element for element."""
        order = self.order_of(target)
        views = collapse([target.permute(order), source.permute(order)])
        self.emit(CopySpec, views, nodes=nodes)

    def conform(self, view: View, order: Order, halo: Halo = ()) -> View:
        """`view`, or a copy of it, with its axes in `order`, the last one contiguous, and at least `halo`."""
        halo = halo or ((0, 0),) * len(view.dims)
        inner = inner_axis(order, view.dims)
        contiguous = inner is None or view.strides[inner] == 1
        wide = all(h[0] >= w[0] and h[1] >= w[1] for h, w in zip(view.halo, halo, strict=True))
        if contiguous and wide:
            return view
        key = (view, order, halo)
        if key not in self.conformed:
            self.conformed[key] = self.relaid(view, order, halo)
        return self.conformed[key]

    def relaid(self, view: View, order: Order, halo: Halo = ()) -> View:
        """A copy of `view` with its axes in `order`."""
        array = self.constants.get(view.buffer.name)
        if array is not None and view.is_dense() and array.size == D.prod(view.dims):
            moved = np.ascontiguousarray(array.reshape(view.dims).transpose(order))
            if all(h == (0, 0) for h in halo):
                return self.const(moved).permute(tuple(np.argsort(order)))
        target = self.temp(view.dtype, view.dims, order, halo)
        self.copy(view, target)
        return target

    def dense(self, view: View) -> View:
        """Row-major and contiguous, copied if need be."""
        if view.is_dense():
            return view
        key = (view, row_major(len(view.dims)), ((-1, -1),))
        if key not in self.conformed:
            self.conformed[key] = self.relaid(view, row_major(len(view.dims)), ((0, 0),) * len(view.dims))
        return self.conformed[key]

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

    def region(self, region: Region, draft: Draft | None) -> None:
        """Lower an anchor with its expression, or a pure expression, and remember the output's view."""
        if draft is None:
            self._pointwise(region)
            return
        expression = Expression(self, draft.dims)
        result = draft.prologue(expression, expression.builder.acc())
        result = self.expression(
            expression, region, {region.anchor.outputs[0]: result} if region.anchor else {}
        )
        order = draft.order or self._last_innermost(region.output)
        out = self.place(region.output, order)
        extras = [self._extra(v, order) for v in expression.views]
        views = draft.arrange(out, extras)
        epilogue = expression.builder.finish(result)
        self.emit(draft.make, views, epilogue=epilogue, constants=draft.constants, nodes=region.nodes)
        self.settle(region.output, out)

    def _last_innermost(self, value: ir.Value) -> Order:
        """The order the readers wish, if it keeps the last axis innermost; else row-major."""
        rank = len(self.dims(value))
        wish = self.layouts.order(value)
        return wish if wish and wish[-1] == rank - 1 else row_major(rank)

    def _extra(self, view: View, order: Order) -> View:
        """An epilogue input whose innermost stride is 0 or 1 in `order`."""
        inner = inner_axis(order, view.dims)
        if inner is None or view.strides[inner] in (0, 1):
            return view
        return self._narrow_copy(view, order)

    def _narrow_copy(self, view: View, order: Order) -> View:
        """A copy that keeps broadcast dims broadcast."""
        small = replace(
            view,
            dims=tuple(1 if s == 0 else d for d, s in zip(view.dims, view.strides, strict=True)),
            halo=(),
        )
        copied = self.relaid(small, order, ((0, 0),) * len(view.dims)).broadcast(view.dims)
        assert copied is not None
        return copied

    def expression(self, expression: Expression, region: Region, known: Mapping[ir.Value, int]) -> int:
        """Add the region's pointwise nodes; returns the node of the region's output."""
        from bolt.epilogue import from_node

        values = dict(known)
        for node in region.pointwise:
            arrays = [self.array(v) for v in node.inputs]
            args = [
                self._argument(expression, v, a, values) for v, a in zip(node.inputs, arrays, strict=True)
            ]
            attributes = {a.name: a.value for a in node.attributes.values()}
            scalars = [a if a is not None and a.size == 1 else None for a in arrays]
            index = from_node(expression.builder, node.op_type, attributes, args, scalars)
            if index is None:
                raise CannotLower(node, f"{node.op_type} with these attributes is not a pointwise kernel op")
            values[node.outputs[0]] = index
        return int(values[region.output])

    def _argument(
        self,
        expression: Expression,
        value: ir.Value | None,
        array: np.ndarray | None,
        known: Mapping[ir.Value, int],
    ) -> int:
        if value is None:
            return -1
        if value in known:
            return known[value]
        if array is not None and array.size == 1 and array.dtype.kind in "fiub":
            return expression.builder.const(float(array.reshape(())))
        return expression.input(self.view(value))

    def _pointwise(self, region: Region) -> None:
        dims = self.dims(region.output)
        expression = Expression(self, dims)
        result = self.expression(expression, region, {})
        order = self._pointwise_order(region.output, expression.views)
        out = self.place(region.output, order)
        extras = [self._extra(v, order) for v in expression.views]
        views = collapse([v.permute(order) for v in (out, *extras)])
        if len(views[0].dims) > MAX_RANK:
            raise CannotLower(region.nodes[0], f"needs more than {MAX_RANK} loops")
        epilogue = expression.builder.finish(result)
        self.emit(PointwiseSpec, views, epilogue=epilogue, nodes=region.nodes)
        self.settle(region.output, out)

    def _pointwise_order(self, value: ir.Value, views: Sequence[View]) -> Order:
        """The order most of the full-size inputs are in; else what the readers wish."""
        full = [v for v in views if all(s != 0 or d == 1 for d, s in zip(v.dims, v.strides, strict=True))]
        votes: dict[Order, int] = {}
        for view in full:
            if view.buffer.kind != "const":
                order = self.order_of(view)
                votes[order] = votes.get(order, 0) + 1
        wish = self.layouts.order(value)
        if votes:
            best = max(votes.values())
            winners = [o for o, n in votes.items() if n == best]
            return wish if wish in winners else winners[0]
        return wish or row_major(len(self.dims(value)))

    def settle(self, value: ir.Value, view: View) -> None:
        """`value` is at `view`; copy it out if the caller wants it elsewhere."""
        self.views[value] = view

    def finish(self) -> Program:
        """Copy what is not yet in the caller's outputs, and close the program."""
        for value, index in self.outputs.items():
            target = self._external(value, "output", index)
            view = self.view(value)
            if view.buffer.kind != "output" or view.buffer.index != index:
                self.copy(view, target)
        return Program(
            name=self.partition.name,
            inputs=tuple(self._value(v) for v in self.partition.inputs),
            outputs=tuple(self._value(v) for v in self.partition.outputs),
            steps=tuple(self.steps),
            constants=dict(self.constants),
            assumptions=tuple(dict.fromkeys(self.assumed)),
        )

    def _value(self, value: ir.Value) -> Value:
        assert value.name
        return Value(name=value.name, dtype=self.dtype(value), dims=self.dims(value))


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


def _same_memory_order(order: Order, dims: Sequence[Dim]) -> bool:
    """Whether `order` is row-major once dims of 1 are ignored."""
    axes = [a for a in order if dims[a] != 1]
    return axes == sorted(axes)


def _pixel_stride(channels: Dim, dtype: DType, outer: Sequence[Dim]) -> Dim:
    """Distance between pixels: a multiple of the cache line where that is cheap, never a multiple of 4 KB."""
    if not isinstance(channels, int) or all(d == 1 for d in outer):
        return channels
    padded = channels
    if channels >= 32 and channels % 16:
        padded = -(-channels // 16) * 16
    if padded * dtype.size_bytes % 4096 == 0:
        padded += 64 // dtype.size_bytes
    return padded
