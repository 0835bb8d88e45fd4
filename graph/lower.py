"""Regions -> kernel calls: epilogues, orders of pointwise results, and the finished program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from bolt.epilogue import Builder, Epilogue, from_node
from bolt.graph.draft import CannotLower, Draft, Expression
from bolt.graph.layouts import Order, row_major
from bolt.graph.linear_epilogue import merge_scales
from bolt.graph.memory import MAX_RANK, collapse, inner_axis
from bolt.graph.region import Region
from bolt.graph.short_rows import lengthened
from bolt.graph.spare_channels import SpareChannels
from bolt.ops.pointwise import PointwiseSpec
from bolt.program import Program, Value, View
from bolt.spelling import NARROWED
from bolt.types import EIGHT_BIT_FLOATS, S8, U8, DType, from_numpy


def stored_epilogue(builder: Builder, result: int, dtype: DType) -> Epilogue:
    """The expression that ends in node `result`, without what storing it as `dtype` does anyway.

    Anchors' stores of 8-bit integers round to nearest even and saturate; pointwise kernels truncate.
    """
    if dtype in NARROWED:
        return _narrowed(builder.finish(result), dtype)
    if dtype not in _SATURATED:
        return builder.finish(result)
    limits = builder.nodes[result]
    inner = builder.nodes[limits.args[0]] if limits.op == "clip" else limits
    if limits.params == _SATURATED[dtype] and inner.op == "round":
        result = inner.args[0]
    found = merge_scales(builder.finish(result))
    *rest, last = found.nodes
    return Epilogue(nodes=tuple(rest)) if dtype is U8 and last.op == "relu" else found


def _is_number(dtype: np.dtype) -> bool:
    """Whether its elements become Python floats (NumPy has no kind for 8-bit floats)."""
    return dtype.kind in "fiub" or from_numpy(dtype) in EIGHT_BIT_FLOATS


def _narrowed(epilogue: Epilogue, dtype: DType) -> Epilogue:
    """The expression without the rounding to 8-bit floats that storing them is."""
    *rest, last = epilogue.nodes
    if last.op == "narrow" and last.params == NARROWED[dtype] and last.args == (len(rest) - 1,):
        epilogue = Epilogue(nodes=tuple(rest))
    return merge_scales(epilogue)


_SATURATED = {U8: (0.0, 255.0), S8: (-128.0, 127.0)}


class Lowering(SpareChannels):
    """Lowers the regions of one partition, one after the other."""

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
        order = draft.order or self.last_innermost(region.output)
        out = self.place(region.output, order)
        operands = [out, *(self._extra(v, order) for v in expression.views)]
        epilogue = stored_epilogue(expression.builder, result, out.dtype)
        channels = self.room(region.output, out)
        wider = None if channels is None else draft.widen(channels)
        if wider is not None:
            filled = self.fill_spare(region.output, out, operands[1:], epilogue, wider[1])
            if filled is not None:
                draft, operands = wider[0], filled
        for call in draft.called(operands[0], operands[1:]):
            self.emit(call.make, call.views, epilogue=epilogue, constants=call.constants, nodes=region.nodes)
        self.settle(region.output, out)

    def last_innermost(self, value: ir.Value) -> Order:
        """The order the readers wish, if it keeps the last axis innermost; else row-major."""
        rank = len(self.dims(value))
        wish = self.layouts.order(value)
        return wish if wish and wish[-1] == rank - 1 else row_major(rank)

    def _extra(self, view: View, order: Order) -> View:
        """An epilogue input whose innermost stride is 0 or 1 in `order`."""
        if self.is_plain and view.dtype in EIGHT_BIT_FLOATS:
            view = self.as_type(view, self.conventions.stored)
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
        if array is not None and array.size == 1 and _is_number(array.dtype):
            return expression.builder.const(float(array.reshape(())))
        return expression.input(self.view(value))

    def _pointwise(self, region: Region) -> None:
        dims = self.dims(region.output)
        expression = Expression(self, dims)
        result = self.expression(expression, region, {})
        order = self._pointwise_order(region.output, expression.views)
        out = self.place(region.output, order)
        operands = [out, *(self._extra(v, order) for v in expression.views)]
        epilogue = expression.builder.finish(result)
        if out.dtype in _SATURATED:
            epilogue = merge_scales(epilogue)
        elif out.dtype in NARROWED:
            epilogue = _narrowed(epilogue, out.dtype)
        operands = self.fill_spare(region.output, out, operands[1:], epilogue, None) or operands
        views = collapse([v.permute(order) for v in operands])
        if len(views[0].dims) > MAX_RANK:
            raise CannotLower(region.nodes[0], f"needs more than {MAX_RANK} loops")
        if not self.conventions.is_device:
            views = list(lengthened(self, views))
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
        """`value` is at `view`."""
        self.views[value] = view

    def finish(self) -> Program:
        """Copy what is not yet in the caller's outputs, and close the program."""
        for value, index in self.outputs.items():
            target = self.external(value, "output", index)
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
