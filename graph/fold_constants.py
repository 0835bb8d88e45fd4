"""Constant folding: what can be computed once is computed here."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from bolt import dims
from bolt.graph.attributes import attr, constant, is_op
from bolt.graph.rewrite import add_constant, remove_dead
from bolt.graph.shapes import Shapes, infer

_FOLDABLE = frozenset(
    """Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh Cast Ceil Clip Concat ConstantOfShape
    Cos Cosh CumSum DepthToSpace Div Einsum Equal Erf Exp Expand Flatten Floor Gather GatherElements
    GatherND Gemm Greater GreaterOrEqual HardSigmoid Identity LeakyRelu Less LessOrEqual Log MatMul Max
    Mean Min Mod Mul Neg Not OneHot Or Pad Pow Range Reciprocal ReduceL1 ReduceL2 ReduceMax ReduceMean
    ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Round ScatterElements ScatterND Shape
    Sigmoid Sign Sin Sinh Size Slice Softmax SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh Tile
    Transpose Trilu Unsqueeze Where Xor""".split()
)
"""Deterministic operators. Quantization is left out on purpose: its constants are small as they are."""

_FREE_BYTES = 64 << 10
"""A result of at most this size may be larger than what it is computed from."""


class ConstantFolding(ir.passes.InPlacePass):
    """Replaces computed constants by initializers.

    Two kinds: nodes all of whose inputs are constants, and integers of shape arithmetic that inference
    knows even though they depend on an input's (static) extents. A result larger than everything it was
    computed from (a wide Expand, a ConstantOfShape) stays a node.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        shapes = infer(model)
        modified = False
        for node in list(model.graph):
            if node.graph is not None and _is_candidate(node):
                modified |= _fold(node, shapes, model)
        return ir.passes.PassResult(model, modified=modified)


def _is_candidate(node: ir.Node) -> bool:
    return is_op(node, *_FOLDABLE) and not any(o.is_graph_output() for o in node.outputs)


def _fold(node: ir.Node, shapes: Shapes, model: ir.Model) -> bool:
    arrays = _known_integers(node, shapes)
    if arrays is None:
        arrays = _computed(node, shapes, model)
    if arrays is None:
        return False
    for value, array in zip(node.outputs, arrays, strict=True):
        if value.uses():
            value.replace_all_uses_with(add_constant(model.graph, array, value.name or node.op_type))
    remove_dead(node)
    return True


def _known_integers(node: ir.Node, shapes: Shapes) -> list[np.ndarray] | None:
    """Outputs whose elements inference knows as plain integers."""
    arrays = []
    for value in node.outputs:
        content, dtype = shapes.ints(value), shapes.onnx_dtype(value)
        if content is None or dtype is None or not dims.is_static(*content.reshape(-1)):
            return None
        arrays.append(content.astype(dtype.numpy()))
    return arrays


def _computed(node: ir.Node, shapes: Shapes, model: ir.Model) -> list[np.ndarray] | None:
    """Outputs by ONNX's reference evaluator; None where it fails or disagrees with inference."""
    feeds = [constant(v) if v is not None else None for v in node.inputs]
    if any(v is not None and a is None for v, a in zip(node.inputs, feeds, strict=True)):
        return None
    if not _is_small(node, shapes, sum(a.nbytes for a in feeds if a is not None)):
        return None
    try:
        with np.errstate(all="ignore"):
            outputs = _run(node, feeds, model.opset_imports[""])
    except (RuntimeError, ValueError, TypeError, IndexError, KeyError, NotImplementedError, AttributeError):
        # The evaluator raises whatever NumPy does for a node it can't run; such a node is left alone.
        return None
    arrays = [np.asarray(a) for a in outputs]
    return arrays if _agree(node, shapes, arrays) else None


def _is_small(node: ir.Node, shapes: Shapes, input_bytes: int) -> bool:
    total = 0
    for value in node.outputs:
        extents, dtype = shapes.dims(value), shapes.onnx_dtype(value)
        if extents is None or dtype is None or not dims.is_static(*extents):
            return False
        total += math.prod(int(d) for d in extents) * int(np.ceil(dtype.itemsize))
    return total <= max(_FREE_BYTES, input_bytes)


def _agree(node: ir.Node, shapes: Shapes, arrays: Sequence[np.ndarray]) -> bool:
    """Whether the arrays have the types and extents that inference derived on its own."""
    return len(arrays) == len(node.outputs) and all(
        a.shape == shapes.dims(v) and a.dtype == dtype.numpy()
        for v, a in zip(node.outputs, arrays, strict=True)
        if (dtype := shapes.onnx_dtype(v)) is not None
    )


def _run(node: ir.Node, arrays: Sequence[np.ndarray | None], opset: int) -> list[np.ndarray]:
    if node.op_type == "GatherElements":  # which the evaluator can't do when indices are fewer than elements
        data, index = arrays
        assert data is not None and index is not None
        return [_gather_elements(data, index, attr(node, "axis", 0) % data.ndim)]
    given = {v.name: a for v, a in zip(node.inputs, arrays, strict=True) if v is not None and a is not None}
    return _evaluate(ir.to_proto(node), given, opset)


def _gather_elements(data: np.ndarray, index: np.ndarray, axis: int) -> np.ndarray:
    corner = tuple(slice(None) if a == axis else slice(d) for a, d in enumerate(index.shape))
    return np.take_along_axis(data[corner], index, axis)


def _evaluate(node: onnx.NodeProto, given: dict[str | None, np.ndarray], opset: int) -> list[np.ndarray]:
    node.domain = ""
    graph = onnx.helper.make_graph(
        [node],
        "constant",
        [
            onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in given.items()
        ],
        [onnx.helper.make_empty_tensor_value_info(n) for n in node.output if n],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    return list(ReferenceEvaluator(model).run(None, given))
