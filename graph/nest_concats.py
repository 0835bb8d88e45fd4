"""Concatenations that begin with another one read its result."""

from __future__ import annotations

import onnx_ir as ir

from bolt.graph.attributes import attr
from bolt.graph.rewrite import nodes_of


class ConcatNesting(ir.passes.InPlacePass):
    """Reuses a concatenation as the beginning of a longer one.

        c = concat(x, y),  d = concat(x, y, z)   =   c = concat(x, y),  d = concat(c, z)

    A densely connected block joins all earlier results again after every layer. Nested, each result is
    written once, into its place in the longest concatenation, and the shorter ones are views of that.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        seen: dict[tuple[object, ...], ir.Value] = {}
        for node in nodes_of(model, "Concat"):
            axis, inputs = attr(node, "axis"), tuple(node.inputs)
            longest = next((n for n in range(len(inputs) - 1, 1, -1) if (axis, *inputs[:n]) in seen), 0)
            if longest:
                node.replace_input_with(0, seen[axis, *inputs[:longest]])
                for index in range(1, len(inputs)):
                    later = index - 1 + longest
                    node.replace_input_with(index, inputs[later] if later < len(inputs) else None)
                node.resize_inputs(1 + len(inputs) - longest)
                modified = True
            seen.setdefault((axis, *inputs), node.outputs[0])
        return ir.passes.PassResult(model, modified=modified)
