"""Reading what an ONNX node says: attributes, constant inputs, and facts spelled either way by opset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

if TYPE_CHECKING:
    from bolt.graph.shapes import Shapes

BOLT_DOMAIN = "ai.bolt"
"""Domain of canonical operators that the model's own opset does not have."""

_STANDARD_DOMAINS = ("", BOLT_DOMAIN)


def is_op(node: ir.Node | None, *op_types: str) -> bool:
    """Whether `node` is one of these standard operators (ONNX's own domain or bolt's)."""
    return node is not None and node.op_type in op_types and node.domain in _STANDARD_DOMAINS


def attr(node: ir.Node, name: str, default: Any = None) -> Any:
    """The value of an attribute, or `default` when the node does not have it."""
    found = node.attributes.get(name)
    return default if found is None else found.value


def operand(node: ir.Node, index: int) -> ir.Value | None:
    """Input `index`, or None when it is left out."""
    return node.inputs[index] if index < len(node.inputs) else None


def constant(value: ir.Value | None) -> np.ndarray | None:
    """The content of an initializer; None for anything computed or fed."""
    if value is None or value.is_graph_input() or value.const_value is None:
        return None
    if not value.is_initializer() or value.dtype == ir.DataType.STRING:
        return None
    return np.asarray(value.const_value.numpy())


def scalar(value: ir.Value | None) -> float | None:
    """The one number of a single-element constant of a real type; None for everything else."""
    found = constant(value)
    if found is None or found.size != 1 or found.dtype.kind not in "fiub":
        return None
    return float(found.reshape(()))


def ints(
    node: ir.Node,
    shapes: Shapes | None,
    input_index: int | None,
    attribute: str | None,
    default: Sequence[int] | None = None,
) -> tuple[int, ...] | None:
    """Integers that older opsets spell as an attribute and newer ones as an input.

    Args:
        shapes: lets computed inputs be read where their content is known; constants need none.
        input_index: the input's position, or None where only the attribute exists.
        attribute: the attribute's name, or None where only the input exists.
        default: returned when the node gives neither.

    Returns:
        The integers; None when they are only known at run time.
    """
    if attribute is not None and attribute in node.attributes:
        value = node.attributes[attribute].value
        return (int(value),) if isinstance(value, int) else tuple(int(v) for v in value)
    value_in = operand(node, input_index) if input_index is not None else None
    if value_in is None:
        return None if default is None else tuple(default)
    found = constant(value_in)
    if found is None and shapes is not None:
        found = shapes.ints(value_in)
    if found is None or not all(isinstance(v, (int, np.integer)) for v in found.reshape(-1)):
        return None
    return tuple(int(v) for v in found.reshape(-1))
