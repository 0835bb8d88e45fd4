"""Dequantization behind data movement: what is moved is 8 bits wide."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from bolt.graph.attributes import attr
from bolt.graph.quantization import VIEWS, Dequantized, dequantized, duplicate
from bolt.graph.rewrite import nodes_of, remove_dead

_MOVES = (*VIEWS, "Slice", "Split", "MaxPool", "Resize", "Identity")


class DequantizeSinking(ir.passes.InPlacePass):
    """Moves integers instead of the real numbers they stand for.

        move(dequantize(q))  =  dequantize(move(q))

    A maximum and the nearest pixel are moves too, for scales are positive. The parts of a concatenation
    need the same scale and zero point.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        opset = model.opset_imports.get("", 1)
        for node in nodes_of(model, *_MOVES):
            if _takes_integers(node, opset):
                modified |= _sink(node, [dequantized(node.inputs[0])])
        for node in nodes_of(model, "Concat"):
            modified |= _sink(node, [dequantized(v) for v in node.inputs])
        for node in nodes_of(model, "Gather"):  # rows of a quantized table
            modified |= _sink(node, [dequantized(node.inputs[0], fixed=True)])
        return ir.passes.PassResult(model, modified=modified)


def _takes_integers(node: ir.Node, opset: int) -> bool:
    """Whether every output of a move is made of elements of the first input, of any type."""
    if node.op_type == "MaxPool":
        return len(node.outputs) == 1 and opset >= 12
    return node.op_type != "Resize" or bool(attr(node, "mode", "nearest") == "nearest")


def _sink(node: ir.Node, parts: Sequence[Dequantized | None]) -> bool:
    """Lets the node take the first inputs before they are dequantized."""
    found = [part for part in parts if part is not None]
    if not found or len(found) < len(parts) or len({part.quantizer for part in found}) > 1:
        return False
    if any(out.is_graph_output() for out in node.outputs):
        return False
    for index, part in enumerate(found):
        node.replace_input_with(index, part.integers)
    for value in node.outputs:
        users = [(use.node, use.idx) for use in value.uses()]
        real = duplicate(found[0].node, value, after=node)
        for user, index in users:
            user.replace_input_with(index, real)
        real.type, value.type = value.type, found[0].integers.type
    for part in found:
        remove_dead(part.node)
    return True
