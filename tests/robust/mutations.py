"""Ways to damage an ONNX model: blindly, byte by byte, and knowingly, field by field.

Each mutation changes a serialized or a parsed model by a seeded `random.Random` and says what it did.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

EXTENTS = (-(1 << 63), -1, 0, 1, 2, 3, 7, 1 << 20, 1 << 31, (1 << 63) - 1)
"""Integers that shape arithmetic and loops trip over."""
FLOATS = (float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1e-45, 3e38)
STRINGS = ("", "NOTSET", "SAME_UPPER", "linear", "bias", "\x00", "é" * 40)
OPERATORS = (
    *("Relu", "Conv", "Gemm", "MatMul", "Add", "Concat", "Reshape", "Softmax", "Resize", "Slice", "Split"),
    *("Transpose", "Gather", "MaxPool", "ReduceMean", "Pad", "If", "Loop", "Constant", "NoSuchOperator"),
)
STRUCTURE_BYTES = 1 << 16
"""Nodes lie at the front of most files; flips among megabytes of weights would rarely hit anything else."""

Mutation = Callable[[random.Random, onnx.ModelProto], str]


def damage(source: random.Random, data: bytes) -> tuple[bytes, str]:
    """A damaged copy of a serialized model, and what was done."""
    if source.random() < 0.3:
        return damage_bytes(source, data)
    model = onnx.ModelProto.FromString(data)
    done = [source.choice(FIELDS)(source, model) for _ in range(source.choice((1, 1, 1, 2, 4)))]
    return model.SerializeToString(), "; ".join(done)


def damage_bytes(source: random.Random, data: bytes) -> tuple[bytes, str]:
    """Flips, cuts and moves without knowing what the bytes mean."""
    kind, mutate = source.choice(tuple(BYTES.items()))
    return mutate(source, bytearray(data)), f"bytes: {kind}"


def _place(source: random.Random, data: bytearray) -> int:
    size = len(data)
    near = min(size, STRUCTURE_BYTES)
    spans = ((0, near), (0, min(size, 256)), (size - min(size, 4096), size), (0, size))
    return source.randrange(*source.choice(spans))


def _flip(source: random.Random, data: bytearray) -> bytes:
    for _ in range(source.choice((1, 1, 3, 20))):
        data[_place(source, data)] ^= 1 << source.randrange(8)
    return bytes(data)


def _overwrite(source: random.Random, data: bytearray) -> bytes:
    at = _place(source, data)
    end = min(len(data), at + source.randrange(1, 32))
    data[at:end] = source.choice((bytes(end - at), b"\xff" * (end - at), source.randbytes(end - at)))
    return bytes(data)


def _truncate(source: random.Random, data: bytearray) -> bytes:
    return bytes(data[: _place(source, data)])


def _swap(source: random.Random, data: bytearray) -> bytes:
    a, b = sorted((_place(source, data), _place(source, data)))
    size = min(source.randrange(1, 512), b - a, len(data) - b)
    data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]
    return bytes(data)


def _duplicate(source: random.Random, data: bytearray) -> bytes:
    at = _place(source, data)
    chunk = data[at : at + source.randrange(1, 512)]
    return bytes(data[:at] + chunk + data[at:])


def _remove(source: random.Random, data: bytearray) -> bytes:
    at = _place(source, data)
    del data[at : at + source.randrange(1, 64)]
    return bytes(data)


BYTES: dict[str, Callable[[random.Random, bytearray], bytes]] = {
    "flip": _flip,
    "overwrite": _overwrite,
    "truncate": _truncate,
    "swap": _swap,
    "duplicate": _duplicate,
    "remove": _remove,
}


def _pick(source: random.Random, items: Sequence[Any]) -> Any:
    return items[source.randrange(len(items))] if len(items) else None


def _attribute(source: random.Random, model: onnx.ModelProto) -> str:
    node = _pick(source, [n for n in model.graph.node if n.attribute])
    if node is None:
        return "no attributes"
    attribute = _pick(source, node.attribute)
    said = f"{node.op_type}.{attribute.name}"
    if attribute.ints and source.random() < 0.7:
        attribute.ints[source.randrange(len(attribute.ints))] = source.choice(EXTENTS)
    elif attribute.ints:
        attribute.ints.append(source.choice(EXTENTS))
    elif attribute.type == onnx.AttributeProto.INT:
        attribute.i = source.choice(EXTENTS)
    elif attribute.type == onnx.AttributeProto.FLOAT:
        attribute.f = source.choice(FLOATS)
    elif attribute.type == onnx.AttributeProto.STRING:
        attribute.s = source.choice(STRINGS).encode()
    elif attribute.type == onnx.AttributeProto.TENSOR:
        return f"{said}: {_tensor(source, attribute.t)}"
    return f"attribute {said} = {helper.get_attribute_value(attribute)!r:.60}"


def _attribute_type(source: random.Random, model: onnx.ModelProto) -> str:
    node = _pick(source, [n for n in model.graph.node if n.attribute])
    if node is None:
        return "no attributes"
    attribute = _pick(source, node.attribute)
    attribute.type = source.randrange(0, 15)
    return f"type of attribute {node.op_type}.{attribute.name} = {attribute.type}"


def _drop_attribute(source: random.Random, model: onnx.ModelProto) -> str:
    node = _pick(source, [n for n in model.graph.node if n.attribute])
    if node is None:
        return "no attributes"
    index = source.randrange(len(node.attribute))
    name = node.attribute[index].name
    del node.attribute[index]
    return f"dropped attribute {node.op_type}.{name}"


def _extent(source: random.Random, model: onnx.ModelProto) -> str:
    values = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    value = _pick(source, [v for v in values if v.type.tensor_type.shape.dim])
    if value is None:
        return "no shapes"
    dims = value.type.tensor_type.shape.dim
    if source.random() < 0.2:
        dims.add().dim_value = source.choice(EXTENTS)
        return f"a dim more for {value.name}"
    dim = _pick(source, dims)
    if source.random() < 0.3:
        dim.dim_param = source.choice(("n", "batch", "a*b", "1+", "", "floor(h/2)", "é", "x y"))
    else:
        dim.dim_value = source.choice(EXTENTS)
    return f"a dim of {value.name} = {dim.dim_value or dim.dim_param!r}"


def _value_dtype(source: random.Random, model: onnx.ModelProto) -> str:
    value = _pick(source, [*model.graph.input, *model.graph.output, *model.graph.value_info])
    if value is None:
        return "no values"
    value.type.tensor_type.elem_type = source.randrange(0, 25)
    return f"dtype of {value.name} = {value.type.tensor_type.elem_type}"


def _no_shape(source: random.Random, model: onnx.ModelProto) -> str:
    value = _pick(source, [*model.graph.input, *model.graph.output])
    if value is None:
        return "no values"
    value.type.tensor_type.ClearField("shape")
    return f"no shape for {value.name}"


def _initializer(source: random.Random, model: onnx.ModelProto) -> str:
    tensor = _pick(source, model.graph.initializer)
    return "no initializers" if tensor is None else f"{tensor.name}: {_tensor(source, tensor)}"


def _integers(source: random.Random, model: onnx.ModelProto) -> str:
    """Shapes, axes, pads, starts and ends are integer initializers."""
    kinds = (TensorProto.INT64, TensorProto.INT32)
    tensor = _pick(source, [t for t in model.graph.initializer if t.data_type in kinds])
    return "no integers" if tensor is None else f"{tensor.name}: {_content(source, tensor)}"


def _tensor(source: random.Random, tensor: TensorProto) -> str:
    return source.choice((_content, _dims, _dtype))(source, tensor)


def _content(source: random.Random, tensor: TensorProto) -> str:
    try:
        array = numpy_helper.to_array(tensor).copy()
    except (TypeError, ValueError, KeyError):  # an earlier mutation has already damaged it
        return "left as it is"
    if not array.size or array.dtype.kind not in "iuf":
        return "left as it is"
    junk = FLOATS if array.dtype.kind == "f" else [e for e in EXTENTS if _fits(e, array.dtype)]
    array.reshape(-1)[source.randrange(array.size)] = source.choice(junk)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return "an element changed"


def _fits(number: int, dtype: np.dtype[Any]) -> bool:
    info = np.iinfo(dtype)
    return bool(info.min <= number <= info.max)


def _dims(source: random.Random, tensor: TensorProto) -> str:
    dims = list(tensor.dims)
    if source.random() < 0.5 and len(dims) > 1:
        source.shuffle(dims)
    elif dims and source.random() < 0.5:
        dims[source.randrange(len(dims))] = source.choice(EXTENTS)
    else:
        dims.append(source.choice(EXTENTS))
    tensor.ClearField("dims")
    tensor.dims.extend(dims)
    return f"dims = {dims}"


def _dtype(source: random.Random, tensor: TensorProto) -> str:
    tensor.data_type = source.randrange(0, 25)
    return f"dtype = {tensor.data_type}"


def _edge(source: random.Random, model: onnx.ModelProto) -> str:
    """Reads another value: of another shape, of a later node (a cycle), of none."""
    node = _pick(source, [n for n in model.graph.node if n.input])
    other = _pick(source, model.graph.node)
    if node is None or not other.output:
        return "no edges"
    names = [*other.output, *(t.name for t in model.graph.initializer[:50]), "", "no_such_value"]
    index = source.randrange(len(node.input))
    node.input[index] = source.choice(names)
    return f"{node.op_type} reads {node.input[index]!r} as input {index}"


def _inputs(source: random.Random, model: onnx.ModelProto) -> str:
    node = _pick(source, [n for n in model.graph.node if n.input])
    if node is None:
        return "no edges"
    if source.random() < 0.5:
        node.input.pop()
        return f"{node.op_type} has an input less"
    node.input.append(node.input[0])
    return f"{node.op_type} has an input more"


def _outputs(source: random.Random, model: onnx.ModelProto) -> str:
    node, other = _pick(source, model.graph.node), _pick(source, model.graph.node)
    if node is None or not node.output:
        return "no nodes"
    choice = source.randrange(3)
    if choice == 0:
        node.output.pop()
    elif choice == 1:
        node.output.append(f"more_{len(node.output)}")
    else:
        node.output[0] = other.output[0] if other.output else ""
    return f"outputs of {node.op_type} = {list(node.output)}"


def _operator(source: random.Random, model: onnx.ModelProto) -> str:
    node = _pick(source, model.graph.node)
    if node is None:
        return "no nodes"
    old, node.op_type = node.op_type, source.choice(OPERATORS)
    if source.random() < 0.2:
        node.domain = source.choice(("com.microsoft", "ai.bolt", "no.such"))
    return f"{old} becomes {node.op_type}"


def _nodes(source: random.Random, model: onnx.ModelProto) -> str:
    nodes = model.graph.node
    if not nodes:
        return "no nodes"
    index, other = source.randrange(len(nodes)), source.randrange(len(nodes))
    op_type, choice = nodes[index].op_type, source.randrange(3)
    if choice == 0:
        del nodes[index]
    elif choice == 1:
        nodes.add().CopyFrom(nodes[index])
    else:
        copy = onnx.NodeProto()
        copy.CopyFrom(nodes[index])
        nodes[index].CopyFrom(nodes[other])
        nodes[other].CopyFrom(copy)
    return f"{op_type} {('removed', 'duplicated', 'swapped')[choice]}"


def _opset(source: random.Random, model: onnx.ModelProto) -> str:
    entry = _pick(source, model.opset_import) or model.opset_import.add()
    if source.random() < 0.2:
        entry.domain = source.choice(("", "ai.onnx", "com.microsoft", "no.such"))
    elif source.random() < 0.2:
        model.ClearField("opset_import")
        return "no opsets"
    entry.version = source.choice((*range(0, 30), -1, 1 << 40))
    return f"opset {entry.domain!r} = {entry.version}"


def _versions(source: random.Random, model: onnx.ModelProto) -> str:
    model.ir_version = source.choice((0, 1, 3, 4, 7, 10, 13, 100, -1))
    return f"ir_version = {model.ir_version}"


def _graph_outputs(source: random.Random, model: onnx.ModelProto) -> str:
    outputs = model.graph.output
    if not outputs:
        return "no outputs"
    choice = source.randrange(3)
    if choice == 0:
        del outputs[source.randrange(len(outputs))]
    elif choice == 1:
        outputs.add().CopyFrom(outputs[0])
    else:
        outputs[0].name = source.choice([v.name for v in model.graph.input] or ["nothing"])
    return f"graph outputs {('less', 'twice', 'an input')[choice]}"


FIELDS: tuple[Mutation, ...] = (
    *(_attribute,) * 4,
    _attribute_type,
    _drop_attribute,
    *(_extent,) * 2,
    _value_dtype,
    _no_shape,
    *(_initializer,) * 2,
    *(_integers,) * 2,
    *(_edge,) * 2,
    _inputs,
    _outputs,
    _operator,
    _nodes,
    _opset,
    _versions,
    _graph_outputs,
)
"""Frequent faults stand several times."""
