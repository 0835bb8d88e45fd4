"""What is left of dequantization where no kernel takes the integers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bolt.epilogue import POINTWISE
from bolt.graph.attributes import constant
from bolt.graph.quantization import DEQUANTIZE, dequantized, duplicate, real_constant
from bolt.graph.rewrite import become_constants, nodes_of
from bolt.types import EIGHT_BIT_FLOATS, from_numpy


class DequantizeFolding(ir.passes.InPlacePass):
    """Replaces dequantized constants by the real numbers they stand for.

    Args:
        integers: also those that are integers.
    """

    def __init__(self, *, integers: bool = True) -> None:
        self.integers = integers

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, modified=become_constants(model, DEQUANTIZE, self._real))

    def _real(self, node: ir.Node) -> np.ndarray | None:
        stored = constant(node.inputs[0])
        if stored is None or not (self.integers or from_numpy(stored.dtype) in EIGHT_BIT_FLOATS):
            return None
        return real_constant(node.outputs[0])


class DequantizeSplitting(ir.passes.InPlacePass):
    """Dequantizes again for every pointwise reader: as a part of its expression that costs no memory."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for node in nodes_of(model, DEQUANTIZE):
            if dequantized(node.outputs[0]) is not None:
                modified |= _split(node)
        return ir.passes.PassResult(model, modified=modified)


def _split(node: ir.Node) -> bool:
    value = node.outputs[0]
    readers = list(dict.fromkeys(use.node for use in value.uses()))
    splittable = [r for r in readers if r.op_type in POINTWISE]
    if value.is_graph_output() or len(readers) < 2 or not splittable:
        return False
    for reader in splittable if len(splittable) < len(readers) else splittable[1:]:
        integers = node.inputs[0]
        assert integers is not None
        again = duplicate(node, integers, before=reader)
        again.type, again.shape = value.type, value.shape
        for index, used in enumerate(reader.inputs):
            if used is value:
                reader.replace_input_with(index, again)
    return True
