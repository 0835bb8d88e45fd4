"""Outline: the model with each partition replaced by one node."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx
import onnx_ir as ir

from bolt.errors import ModelError
from bolt.graph.attributes import BOLT_DOMAIN
from bolt.graph.partition import Partition, schedule, used_values
from bolt.graph.shapes import Shapes, infer

_LOWEST_IR_VERSION = 8
"""Constants that are no graph inputs need 4; 8 is what every supported ORT reads."""

_CONTEXT_DOMAIN = "com.microsoft"

MakeNode = Callable[[str, list[str], list[str]], onnx.NodeProto]


class CanonicalLeft(ModelError):
    """An operator of bolt's own domain is in no partition, so ORT would have to run it."""


def outline(model: ir.Model, partitions: Sequence[Partition], make_node: MakeNode) -> onnx.ModelProto:
    """The model as ORT will load it; `model` itself is left as it is.

    Graph inputs and outputs keep their names, order, types and symbolic dims. Constants that only
    partitions read are left out.

    Args:
        make_node: (partition name, input names, output names) -> the node that stands for it.

    Raises:
        CanonicalLeft: a canonical operator of bolt's own domain is in no partition.
    """
    units = schedule(list(model.graph), partitions)
    outside = [unit for unit in units if isinstance(unit, ir.Node)]
    _refuse_canonical(outside)
    proto = onnx.ModelProto()
    proto.ir_version = max(model.ir_version or 0, _LOWEST_IR_VERSION)
    proto.producer_name, proto.producer_version = model.producer_name or "", model.producer_version or ""
    proto.opset_import.extend(_opsets(model))
    for key, value in sorted(model.metadata_props.items()):
        proto.metadata_props.add(key=key, value=value)
    _fill_graph(proto.graph, model, units, make_node, infer(model))
    return proto


def _refuse_canonical(outside: Sequence[ir.Node]) -> None:
    for node in outside:
        if node.domain == BOLT_DOMAIN:
            raise CanonicalLeft(
                f"{node.name or node.outputs[0].name}: {node.op_type} is bolt's own spelling of several "
                "nodes and is in no partition; optimize the model with canonical=False"
            )


def _opsets(model: ir.Model) -> list[onnx.OperatorSetIdProto]:
    versions = {d: v for d, v in model.opset_imports.items() if d != BOLT_DOMAIN}
    versions.setdefault(_CONTEXT_DOMAIN, 1)
    return [onnx.helper.make_opsetid(domain, version) for domain, version in sorted(versions.items())]


def _fill_graph(
    graph: onnx.GraphProto,
    model: ir.Model,
    units: Sequence[ir.Node | Partition],
    make_node: MakeNode,
    shapes: Shapes,
) -> None:
    graph.name = model.graph.name or "main"
    graph.input.extend(ir.to_proto(v) for v in model.graph.inputs)
    graph.output.extend(ir.to_proto(v) for v in model.graph.outputs)
    used = set(model.graph.outputs)
    for unit in units:
        if isinstance(unit, Partition):
            names = [_name(v) for v in unit.inputs], [_name(v) for v in unit.outputs]
            graph.node.append(make_node(unit.name, *names))
            values = unit.outputs
        else:
            graph.node.append(ir.to_proto(unit))
            used.update(used_values(unit))
            values = unit.outputs if unit.domain else ()
        graph.value_info.extend(
            info for v in values if not v.is_graph_output() and (info := _value_info(v, shapes)) is not None
        )
    graph.initializer.extend(
        _tensor(name, v) for name, v in model.graph.initializers.items() if v in used or v.is_graph_input()
    )


def _tensor(name: str, value: ir.Value) -> onnx.TensorProto:
    assert value.const_value is not None
    proto = ir.to_proto(value.const_value)
    proto.name = name
    return proto


def _name(value: ir.Value) -> str:
    assert value.name, "every value that crosses a partition's border has a name"
    return str(value.name)


def _value_info(value: ir.Value, shapes: Shapes) -> onnx.ValueInfoProto | None:
    """Type and static extents; ORT can't infer them through a node of ours. Unknown extents stay open."""
    if not value.name:
        return None
    dtype, extents = shapes.onnx_dtype(value), shapes.dims(value)
    if dtype is None:
        return ir.to_proto(value) if value.type is not None else None
    shape = None if extents is None else [d if isinstance(d, int) else None for d in extents]
    return onnx.helper.make_tensor_value_info(value.name, int(dtype), shape)
