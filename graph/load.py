"""Load: an ONNX file becomes an `onnx_ir` model in the one form the later stages expect."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError
from onnx_ir.passes import common

from bolt.errors import ModelError
from bolt.graph.consistency import contradiction, not_text

_log = logging.getLogger(__name__)

OLDEST_OPSET = 7
_LARGEST_BYTES = (2 << 30) - 1
"""A protobuf message can't be larger; larger models keep their weights in other files."""

_READER_ERRORS = (
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, OSError, RuntimeError),
    *(AssertionError, NotImplementedError, MemoryError, OverflowError),
)

_CONSTANT_TYPES = {
    "value_int": np.int64,
    "value_ints": np.int64,
    "value_float": np.float32,
    "value_floats": np.float32,
}


def load(source: str | Path | bytes | onnx.ModelProto) -> ir.Model:
    """The model, checked and normalized.

    Functions are inlined, Constant nodes are initializers, external data is resolved, nodes have unique
    names, and initializers that double as graph inputs are plain constants (their names:
    `model.meta["overridable"]`). Subgraphs of control flow are kept as they are.

    Args:
        source: a path, the bytes of a file, or a parsed model (which is not changed).

    Raises:
        ModelError: the model can't be read or is not valid.
    """
    where = str(source) if isinstance(source, (str, Path)) else "the given model"
    folder = Path(source).resolve().parent if isinstance(source, (str, Path)) else None
    proto = _parse(source, where)
    _drop_unreadable(proto, where)
    _check_opset(proto, where)
    _check(proto, where)
    try:
        model = ir.from_proto(proto)
        _check_names(model, where)
        _resolve_external(model, folder, where)
        _check_tensors(model, where)
        _normalize(model)
    except ModelError:
        raise
    except _READER_ERRORS as error:
        # onnx_ir reports malformed protos by whichever of these its readers trip over.
        raise ModelError(f"{where}: not a valid ONNX model ({error}); export or download it again") from error
    return model


def _parse(source: str | Path | bytes | onnx.ModelProto, where: str) -> onnx.ModelProto:
    if isinstance(source, onnx.ModelProto):
        proto = onnx.ModelProto()
        proto.CopyFrom(source)
        return proto
    data = source if isinstance(source, bytes) else _read(Path(source))
    if not data:
        raise ModelError(f"{where}: the model is empty; export or download it again")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except (DecodeError, RuntimeError) as error:
        raise ModelError(
            f"{where}: not an ONNX file, or cut short ({error}); export or download it again"
        ) from error
    return proto


def _drop_unreadable(proto: onnx.ModelProto, where: str) -> None:
    """Leaves out metadata in some other encoding than UTF-8, which ORT overlooks and protobuf can't copy."""
    for entry in [e for e in proto.metadata_props if not_text(e)]:
        _log.warning("%s: metadata %r is not UTF-8 and is left out", where, entry.key)
        proto.metadata_props.remove(entry)


def _read(path: Path) -> bytes:
    if not path.exists():
        raise ModelError(f"{path}: no such file; check the path")
    if not path.is_file():
        raise ModelError(f"{path}: not a file; give the path of a .onnx file")
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise ModelError(f"{path}: larger than 2 GiB, so not one ONNX file; save it with external data")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: can't be read ({error.strerror}); check its permissions") from error


def _check_opset(proto: onnx.ModelProto, where: str) -> None:
    if not proto.HasField("graph") or not (proto.graph.node or proto.graph.output):
        raise ModelError(f"{where}: holds no graph; is it an ONNX model?")
    versions = [o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")]
    newest = onnx.defs.onnx_opset_version()
    for version in versions:
        if version < OLDEST_OPSET:
            raise ModelError(
                f"{where}: opset {version} is older than {OLDEST_OPSET}; "
                "convert it with onnx.version_converter.convert_version(model, 13)"
            )
        if version > newest:
            raise ModelError(
                f"{where}: opset {version} is newer than the installed onnx knows ({newest}); upgrade onnx"
            )


def _check(proto: onnx.ModelProto, where: str) -> None:
    """onnx.checker on the model's structure, then types and shapes."""
    small = _skeleton(proto)
    if field := not_text(small):
        raise ModelError(
            f"{where}: damaged ({field} holds bytes that are no text); export or download it again"
        )
    try:
        onnx.checker.check_model(small)
    except (onnx.checker.ValidationError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"{where}: not a valid ONNX model ({reason}); export it again") from error
    if fault := contradiction(proto):
        raise ModelError(f"{where}: the model contradicts itself ({fault}); export it again")


def _skeleton(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model without the content of its weights, which the checker would copy.

    Graph inputs and outputs without a shape get one: the checker insists on it, ORT does not.
    """
    # Before IR version 4 every initializer had to be an input too; ORT does not insist, nor do we.
    small = onnx.ModelProto(ir_version=max(proto.ir_version, 4))
    small.producer_name, small.producer_version = proto.producer_name, proto.producer_version
    small.metadata_props.extend(proto.metadata_props)
    small.opset_import.extend(proto.opset_import)
    small.functions.extend(proto.functions)
    small.graph.name = proto.graph.name
    small.graph.node.extend(proto.graph.node)
    small.graph.input.extend(proto.graph.input)
    small.graph.output.extend(proto.graph.output)
    small.graph.sparse_initializer.extend(proto.graph.sparse_initializer)
    for tensor in proto.graph.initializer:
        small.graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=[0])
    for value in (*small.graph.input, *small.graph.output):
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.shape.SetInParent()
    return small


def _values(model: ir.Model) -> Iterator[ir.Value]:
    for graph in model.graphs():
        yield from graph.initializers.values()


def _resolve_external(model: ir.Model, folder: Path | None, where: str) -> None:
    for value in _values(model):
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor):
            value.const_value = _external(tensor, folder, where)
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        for name, attribute in list(node.attributes.items()):
            if attribute.type == ir.AttributeType.TENSOR and isinstance(attribute.value, ir.ExternalTensor):
                node.attributes[name] = ir.AttrTensor(name, _external(attribute.value, folder, where))


def _external(tensor: ir.ExternalTensor, folder: Path | None, where: str) -> ir.Tensor:
    """The tensor with its content mapped from the file next to the model."""
    if folder is None:
        raise ModelError(f"{where}: tensor {tensor.name!r} is stored in another file; give the model's path")
    path = (folder / tensor.location).resolve()
    if Path(tensor.location).is_absolute() or not path.is_relative_to(folder):
        raise ModelError(
            f"{where}: tensor {tensor.name!r} points outside the model's folder ({tensor.location})"
        )
    if not path.is_file():
        raise ModelError(f"{where}: {path} with tensor {tensor.name!r} is missing; keep it next to the model")
    offset, available = tensor.offset or 0, path.stat().st_size
    if offset < 0 or offset + tensor.nbytes > available or (tensor.length or 0) not in (0, tensor.nbytes):
        raise ModelError(f"{where}: {path} is too short for tensor {tensor.name!r}; copy both files again")
    # Containment was checked above, so onnx_ir's own check (which refuses hard links, as package caches
    # make them) is switched off by an empty base folder.
    resolved = ir.ExternalTensor(
        str(path),
        offset,
        tensor.nbytes,
        tensor.dtype,
        shape=tensor.shape,
        name=tensor.name or "",
        base_dir="",
    )
    return ir.Tensor(resolved.numpy(), dtype=tensor.dtype, name=tensor.name)


def _check_names(model: ir.Model, where: str) -> None:
    """Names are text; a damaged file may hold bytes that are not, which protobuf hands on as they are."""
    for graph in model.graphs():
        values = [*graph.inputs, *graph.initializers.values()]
        for node in graph:
            values += node.outputs
            if not all(isinstance(n, str | None) for n in (node.name, node.op_type, node.domain)):
                raise ModelError(
                    f"{where}: the name of a node is not text; export or download the model again"
                )
        if not all(isinstance(v.name, str | None) for v in values):
            raise ModelError(f"{where}: the name of a value is not text; export or download the model again")


def _check_tensors(model: ir.Model, where: str) -> None:
    """Every constant has as many bytes as its shape needs."""
    for value in _values(model):
        if value.const_value is None:
            raise ModelError(f"{where}: initializer {value.name!r} has no content; export the model again")
        _check_tensor(value.const_value, f"initializer {value.name!r}", where)
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.TENSOR and not attribute.is_ref():
                _check_tensor(attribute.as_tensor(), f"attribute {attribute.name} of {node.op_type}", where)


def _check_tensor(tensor: ir.TensorProtocol, what: str, where: str) -> None:
    if tensor.dtype == ir.DataType.STRING:
        return
    try:
        fits = len(tensor.tobytes()) == tensor.nbytes and tensor.numpy().shape == tuple(tensor.shape)
    except _READER_ERRORS:
        fits = False
    if not fits:
        raise ModelError(f"{where}: {what} does not have the size its type and dims ask for; export it again")


def _normalize(model: ir.Model) -> None:
    common.InlinePass()(model)
    _lift_constants(model)
    overridable = [v.name for v in model.graph.inputs if v.is_initializer()]
    common.RemoveInitializersFromInputsPass()(model)
    model.graph.sort()
    _name_nodes(model)
    model.meta["overridable"] = tuple(overridable)


def _name_nodes(model: ir.Model) -> None:
    """Gives every node of the main graph a name of its own; reports and plans refer to nodes by name."""
    taken: set[str] = set()
    for node in model.graph:
        stem = node.name or f"{node.op_type}_{node.outputs[0].name if node.outputs else ''}"
        name, count = stem, 1
        while name in taken:
            count += 1
            name = f"{stem}_{count}"
        taken.add(name)
        node.name = name


def _lift_constants(model: ir.Model) -> None:
    """Constant nodes become initializers; one that is a graph output has to stay a node."""
    for node in list(ir.traversal.RecursiveGraphIterator(model.graph)):
        tensor = _constant_tensor(node)
        if tensor is None or node.outputs[0].is_graph_output():
            continue
        old, graph = node.outputs[0], node.graph
        assert graph is not None
        name = old.name
        value = ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
        old.replace_all_uses_with(value)
        graph.remove(node, safe=True)
        graph.register_initializer(value)


def _constant_tensor(node: ir.Node) -> ir.TensorProtocol | None:
    """The tensor of a Constant node; None for other nodes, strings and sparse tensors."""
    if node.op_type != "Constant" or node.domain != "" or len(node.attributes) != 1:
        return None
    name, attribute = next(iter(node.attributes.items()))
    if name == "value":
        return attribute.as_tensor()
    if name not in _CONSTANT_TYPES:
        return None
    return ir.Tensor(np.asarray(attribute.value, dtype=_CONSTANT_TYPES[name]), name=node.outputs[0].name)
