"""Whether a parsed model agrees with itself: its text is text, its types and shapes fit each other."""

from __future__ import annotations

import math
from typing import Any

import onnx
from google.protobuf.message import Message

_SMALL = 128
"""Elements of a constant that may decide a shape; larger ones are known by type and dims alone."""

_REFUSALS = (onnx.shape_inference.InferenceError, RuntimeError, ValueError, TypeError, MemoryError)


def contradiction(proto: onnx.ModelProto) -> str | None:
    """What ONNX's shape inference finds wrong, None when nothing; ORT refuses to load such a model.

    What the model states about its results is not judged: ORT overlooks wrong shapes there too.
    """
    try:
        onnx.shape_inference.infer_shapes(_sketch(proto), check_type=True, strict_mode=True)
    except _REFUSALS as error:
        if str(error).count("Inference error(s)") > 1:
            return None  # in the body of an operator that is a function: a fault of onnx, not of the model
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return " ".join(lines[:2]) or type(error).__name__
    return None


def _sketch(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model without the content of its weights, and without what it states about results."""
    small = onnx.ModelProto(ir_version=max(proto.ir_version, 4))
    small.opset_import.extend(proto.opset_import)
    small.functions.extend(proto.functions)
    small.graph.name = proto.graph.name
    small.graph.node.extend(proto.graph.node)
    small.graph.input.extend(proto.graph.input)
    small.graph.output.extend(onnx.ValueInfoProto(name=value.name) for value in proto.graph.output)
    for tensor in proto.graph.initializer:
        if 0 <= math.prod(tensor.dims) <= _SMALL:
            small.graph.initializer.add().CopyFrom(tensor)
        else:
            small.graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    return small


def not_text(message: Message) -> str | None:
    """Name of a text field that holds bytes which are no text: a damaged file; None when there is none."""
    for field, value in message.ListFields():
        if field.type == field.TYPE_STRING:
            if not all(isinstance(v, str) for v in _each(value)):
                return str(field.full_name)
        elif field.type == field.TYPE_MESSAGE:
            for part in _each(value):
                if found := not_text(part):
                    return found
    return None


def _each(value: Any) -> Any:
    """The elements of a repeated field, or a single field's value in a tuple."""
    return (value,) if isinstance(value, (str, bytes, Message)) else value
