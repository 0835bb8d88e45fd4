"""What ONNX itself can tell about an operator without a rule of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir

from bolt.dims import Dim
from bolt.graph.site import Fact

if TYPE_CHECKING:
    from bolt.graph.shapes import Shapes

_REFUSALS = (
    onnx.shape_inference.InferenceError,
    onnx.checker.ValidationError,
    onnx.defs.SchemaError,
    RuntimeError,
    ValueError,
    KeyError,
)
"""How ONNX says that it can't infer a node."""


def fallback(node: ir.Node, shapes: Shapes, version: int) -> list[Fact]:
    """Facts from ONNX's shape inference of this one node, then from what the model states.

    Only static extents are taken over, and symbolic ones that ONNX passes through unchanged. Any other
    extent becomes a new symbol, listed in `shapes.introduced`.
    """
    tokens = _Tokens()
    inferred = _onnx_inference(node, shapes, version, tokens)
    before: list[str] = []
    facts = [_merge(value, inferred.get(value.name or ""), tokens, shapes, before) for value in node.outputs]
    if before:
        shapes.introduced[node] = tuple(before)
    return facts


class _Tokens:
    """dim_param spellings that stand for our dims while ONNX looks at them."""

    def __init__(self) -> None:
        self._dims: dict[str, Dim] = {}

    def spell(self, d: Dim) -> int | str:
        if isinstance(d, int):
            return d
        token = f"bolt_dim:{d}"
        self._dims[token] = d
        return token

    def read(self, token: str) -> Dim | None:
        return self._dims.get(token)


def _onnx_inference(
    node: ir.Node, shapes: Shapes, version: int, tokens: _Tokens
) -> dict[str, onnx.TypeProto]:
    """Output types by name; empty when ONNX has no schema, lacks a type, or rejects the node."""
    has_graphs = any(
        a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values()
    )
    if has_graphs or not onnx.defs.has(node.op_type, node.domain):
        return {}
    try:
        schema = onnx.defs.get_schema(node.op_type, version, node.domain)
        data = {v.name: _tensor(v) for v in node.inputs if v is not None and v.is_initializer()}
        types = {v.name: _type(v, shapes, tokens) for v in node.inputs if v is not None}
        return dict(
            onnx.shape_inference.infer_node_outputs(
                schema,
                ir.to_proto(node),
                {n: t for n, t in types.items() if t is not None},
                {n: t for n, t in data.items() if t is not None},
                opset_imports=[onnx.helper.make_opsetid(node.domain, version)],
                ir_version=onnx.IR_VERSION,
            )
        )
    except _REFUSALS:
        return {}


def _tensor(value: ir.Value) -> onnx.TensorProto | None:
    """A small initializer for ONNX to read; large ones never decide a shape."""
    tensor = value.const_value
    return None if tensor is None or tensor.size > 128 else ir.to_proto(tensor)


def _type(value: ir.Value, shapes: Shapes, tokens: _Tokens) -> onnx.TypeProto | None:
    dtype, extents = shapes.onnx_dtype(value), shapes.dims(value)
    if dtype is None:
        return None
    spelled = None if extents is None else [tokens.spell(d) for d in extents]
    return onnx.helper.make_tensor_type_proto(int(dtype), spelled)


def _merge(
    value: ir.Value, inferred: onnx.TypeProto | None, tokens: _Tokens, shapes: Shapes, before: list[str]
) -> Fact:
    dtype = value.dtype
    extents: list[Dim | None] | None = None
    if inferred is not None and inferred.HasField("tensor_type"):
        tensor = inferred.tensor_type
        dtype = ir.DataType(tensor.elem_type) if tensor.elem_type else dtype
        if tensor.HasField("shape"):
            extents = [_dim(d, tokens) for d in tensor.shape.dim]
    stated = None if value.shape is None else [d if isinstance(d, int) else None for d in value.shape]
    if extents is None:
        extents = stated
    elif stated is not None and len(stated) == len(extents):
        extents = [e if e is not None else s for e, s in zip(extents, stated, strict=True)]
    if extents is None:
        return Fact(None, dtype)
    out: list[Dim] = []
    for axis, extent in enumerate(extents):
        if extent is None:
            extent = shapes.fresh(f"{value.name}_{axis}")
            before.append(str(extent))
        out.append(extent)
    return Fact(tuple(out), dtype)


def _dim(d: onnx.TensorShapeProto.Dimension, tokens: _Tokens) -> Dim | None:
    if d.HasField("dim_value"):
        return int(d.dim_value)
    return tokens.read(d.dim_param) if d.dim_param else None
