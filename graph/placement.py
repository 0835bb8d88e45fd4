"""Where values live: the caller's memory, a slot of the concatenation that reads them, or a temporary."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from bolt import dims as D
from bolt.dims import Dim
from bolt.graph.attributes import attr, constant
from bolt.graph.conventions import CPU, Conventions
from bolt.graph.layouts import RESHAPES, Layouts, Order, row_major
from bolt.graph.memory import Memory
from bolt.graph.partition import Partition
from bolt.graph.shapes import Shapes
from bolt.program import Buffer, IntsStep, View, dense_strides
from bolt.types import F32, DType


class Placement(Memory):
    """The view of each value of one partition.

    Attributes:
        partition: what is lowered.
        shapes: its dims.
        layouts: the readers' wishes.
        opset: version of the ONNX operators.
        precise: values that are not stored in fewer bits than they have.
        views: where each value is.
        whole: temporaries that one value has to itself, by name.
        is_plain: whether kernels get what all of them take: results have temporaries of their own, and
            epilogues read copies of 8-bit floats in a wider type.
    """

    is_plain = False

    def __init__(
        self,
        partition: Partition,
        shapes: Shapes,
        layouts: Layouts,
        sample: Mapping[str, int],
        opset: int,
        conventions: Conventions = CPU,
        precise: frozenset[ir.Value] = frozenset(),
    ) -> None:
        super().__init__(sample, conventions)
        self.partition = partition
        self.shapes = shapes
        self.layouts = layouts
        self.opset = opset
        self.precise = precise
        self.members = frozenset(partition.nodes)
        self.views: dict[ir.Value, View] = {}
        self.whole: dict[str, ir.Value] = {}
        self.concats: dict[ir.Node, View] = {}
        self.outputs = {v: i for i, v in enumerate(partition.outputs)}
        self.assumed += [pair for n in partition.nodes for pair in shapes.assumptions.get(n, ())]
        for index, value in enumerate(partition.inputs):
            self.views[value] = self.external(value, "input", index)

    def dims(self, value: ir.Value) -> tuple[Dim, ...]:
        dims = self.shapes.dims(value)
        assert dims is not None, value.name
        return dims

    def dtype(self, value: ir.Value) -> DType:
        dtype = self.shapes.dtype(value)
        assert dtype is not None, value.name
        return dtype

    def stored(self, value: ir.Value) -> DType:
        """The type in which `value` is kept inside the partition."""
        dtype = self.dtype(value)
        return dtype if value in self.precise else self.conventions.dtype(dtype)

    def math(self, value: ir.Value) -> str:
        """How products that make `value` are computed."""
        return "f32" if value in self.precise else self.conventions.math

    def external(self, value: ir.Value, kind: str, index: int) -> View:
        dims = self.dims(value)
        buffer = Buffer(
            name=f"{kind}{index}", dtype=self.dtype(value), elements=D.prod(dims), kind=kind, index=index
        )
        return View(buffer=buffer, dims=dims, strides=dense_strides(dims))

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

    def attempt(self) -> Callable[[], None]:
        """What takes back all steps emitted from here on, and the views that need them."""
        steps, conformed = len(self.steps), dict(self._conformed)
        views = dict(self.views)

        def take_back() -> None:
            del self.steps[steps:]
            self._conformed, self.views = conformed, views

        return take_back

    def place(self, value: ir.Value, order: Order | None) -> View:
        """Where the kernel that computes `value` is to write it."""
        dims = self.dims(value)
        order = order or self.layouts.order(value) or row_major(len(dims))
        target = self._output_of(value)
        if target is not None and _same_memory_order(order, dims):
            return target
        joined = None if self.is_plain else self._joined(value, order)
        if joined is not None:
            return joined
        wish = self.layouts.order(value)
        # Those who want a halo copy what is in another order.
        halo = self.layouts.halo(value) if wish is None or order == wish else ()
        view = self.temp(self.stored(value), dims, order, halo, self.layouts.border(value))
        self.whole[view.buffer.name] = value
        return view

    def _output_of(self, value: ir.Value) -> View | None:
        """The caller's memory for `value`, seen through reshapes that only rename its dims."""
        if value in self.outputs:
            if any(h != (0, 0) for h in self.layouts.halo(value)):
                return None
            return self.external(value, "output", self.outputs[value])
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
                slot = self._slot(value, node, use.idx, order)
            elif node.op_type == "Split":
                slot = self._split_slot(value, node, order)
            elif node.op_type in RESHAPES and len(uses) == 1 and use.idx == 0:
                slot = self._reshaped_slot(value, node, order)
            else:
                continue
            if slot is not None:
                return slot
        return None

    def _slot(self, value: ir.Value, node: ir.Node, first: int, order: Order) -> View | None:
        """The inputs of a Concat from `first` on that `value` covers, as one view."""
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
                return self._slot(value, node, first, order)
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


def _same_memory_order(order: Order, dims: Sequence[Dim]) -> bool:
    """Whether `order` is row-major once dims of 1 are ignored."""
    axes = [a for a in order if dims[a] != 1]
    return axes == sorted(axes)
