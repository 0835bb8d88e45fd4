"""Which nodes bolt takes, and the walk that lowers a partition of them."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from bolt import dims as D
from bolt.epilogue import POINTWISE, supports_dtype
from bolt.graph.anchors import ANCHORS
from bolt.graph.anchors_spatial import conv_pads
from bolt.graph.attention import Attention, Supports, attentions, lower_attention
from bolt.graph.attributes import BOLT_DOMAIN, constant, operand
from bolt.graph.conventions import CPU, Conventions
from bolt.graph.draft import CannotLower, is_used
from bolt.graph.full_precision import full_precision
from bolt.graph.gated import Gated, gated_products, lower_gated
from bolt.graph.layouts import Layouts
from bolt.graph.lower import Lowering
from bolt.graph.movers import MOVERS
from bolt.graph.partition import Partition
from bolt.graph.region import Region, grow
from bolt.graph.shapes import Shapes
from bolt.ops.spec import Spec
from bolt.program import Halo, IntsStep, Program
from bolt.report import Rejection
from bolt.types import EIGHT_BIT_FLOATS


def is_pointwise(node: ir.Node, shapes: Shapes) -> bool:
    """Whether `node` is part of the epilogue language, its types included."""
    if node.op_type not in POINTWISE or len(node.outputs) != 1:
        return False
    types = [shapes.dtype(v) for v in node.inputs if v is not None]
    out = shapes.dtype(node.outputs[0])
    if out is None or None in types or not supports_dtype(node.op_type, types, out):
        return False
    return all(_broadcasts(v, node.outputs[0], shapes) for v in node.inputs if v is not None)


def _broadcasts(value: ir.Value, out: ir.Value, shapes: Shapes) -> bool:
    """Whether no static extent keeps `value` from being broadcast; ONNX does not check Clip's limits."""
    have, want = shapes.dims(value), shapes.dims(out)
    if have is None or want is None:
        return True
    pairs = zip(reversed(have), reversed(want), strict=False)
    return len(have) <= len(want) and not any(D.is_static(h, w) and h not in (1, w) for h, w in pairs)


def claim(node: ir.Node, shapes: Shapes) -> Rejection | None:
    """None when bolt has a kernel for `node`, else why not."""

    def no(reason: str) -> Rejection:
        return Rejection(stage="partition", subject=node.name or node.op_type, reason=reason)

    if node.domain not in ("", "ai.onnx", BOLT_DOMAIN):
        return no(f"{node.domain}::{node.op_type} is not an ONNX operator")
    if _is_known(node, shapes):
        return None
    for value in (*node.inputs, *node.outputs):
        if value is None or (value in node.outputs[1:] and not is_used(value)):
            continue
        if shapes.dtype(value) is None:
            return no(f"the type of {value.name!r} has no kernel")
        if shapes.dims(value) is None or _depends_on_data(value, shapes):
            return no(f"the shape of {value.name!r} depends on data")
        if any(d == 0 for d in shapes.dims(value) or ()) and not value.is_initializer():
            return no(f"{value.name!r} is empty")
    if node.op_type in ANCHORS or node.op_type in MOVERS or is_pointwise(node, shapes):
        return None
    return no(f"{node.op_type} has no kernel for these types")


def _depends_on_data(value: ir.Value, shapes: Shapes) -> bool:
    """Whether an extent of `value` only exists once some node has run."""
    made = {name for names in shapes.introduced.values() for name in names}
    return bool(made) and not made.isdisjoint(D.symbols(shapes.dims(value) or ()))


def _is_known(node: ir.Node, shapes: Shapes) -> bool:
    """Whether every output is integers the module can compute from the input dims alone."""
    return (
        bool(node.outputs)
        and all(shapes.ints(o) is not None and shapes.dtype(o) is not None for o in node.outputs)
        and not any(_depends_on_data(v, shapes) for v in node.inputs if v is not None)
    )


def no_kernel(spec: Spec) -> Rejection:
    """What `supports` says where no chain has a kernel."""
    return Rejection(stage="supports", subject=spec.op, reason="there are no chains")


def lower(
    partition: Partition,
    shapes: Shapes,
    *,
    opset: int,
    sample: Mapping[str, int],
    conventions: Conventions = CPU,
    supports: Supports = no_kernel,
) -> Program:
    """The program of a partition.

    Args:
        opset: version of the ONNX operators.
        sample: a typical value of every symbol; decides memory orders where strides are symbolic.
        conventions: of the target.
        supports: whether a kernel computes the spec of a chain of regions, which else run one by one.

    Raises:
        CannotLower: a node fits no kernel after all; it names the node and the reason.
    """
    outputs = frozenset(partition.outputs)
    nodes = [n for n in partition.nodes if not _is_known(n, shapes)]

    def pads(node: ir.Node) -> Halo | None:
        weights, value = constant(operand(node, 1)), node.inputs[0]
        dims = None if value is None else shapes.dims(value)
        return None if weights is None or dims is None else conv_pads(node, dims, weights.shape[2:])

    def pointwise(node: ir.Node) -> bool:
        return is_pointwise(node, shapes)

    layouts = Layouts(nodes, outputs, shapes, (lambda node: None) if conventions.is_device else pads)
    precise = full_precision(nodes, shapes, pointwise)
    low = Lowering(partition, shapes, layouts, sample, opset, conventions, precise)
    regions = grow(
        nodes,
        outputs,
        shapes,
        is_pointwise=pointwise,
        takes_epilogue=lambda n: n.op_type in ANCHORS,
    )
    chains: list[Attention | Gated] = [*attentions(regions, outputs, shapes, opset=opset)]
    if conventions.is_device:
        chains += gated_products(regions, outputs, shapes)
    chain_of = {region: chain for chain in chains for region in chain.regions}
    for region in regions:
        chain = chain_of.get(region)
        if chain is None:
            _lower_region(low, region, supports)
        elif region is chain.last and not _lower_chain(low, chain, supports):
            for part in chain.regions:
                _lower_region(low, part, supports)
    return low.finish()


def _lower_chain(low: Lowering, chain: Attention | Gated, supports: Supports) -> bool:
    if isinstance(chain, Attention):
        return lower_attention(low, chain, supports)
    return lower_gated(low, chain, supports)


def _lower_region(low: Lowering, region: Region, supports: Supports) -> None:
    """One kernel; where none can do that with 8-bit floats, several."""
    if region.anchor is None or region.anchor.op_type not in ANCHORS or not _has_float8(low, region):
        _lower_whole(low, region)
        return
    if region.anchor.op_type not in _IMAGES:
        take_back, before = low.attempt(), len(low.steps)
        _lower_whole(low, region)
        if all(isinstance(s, IntsStep) or supports(s.spec) is None for s in low.steps[before:]):
            return
        take_back()
    low.is_plain = True
    for part in _apart(low, region):
        _lower_whole(low, part)
    low.is_plain = False


_IMAGES = ("Conv", "ConvTranspose")
"""Anchors whose fast kernels know no 8-bit floats; that a slow one does is no help."""


def _has_float8(low: Lowering, region: Region) -> bool:
    """Whether its kernel reads or writes them."""
    inside = {v for n in region.nodes for v in n.outputs if v is not region.output}
    values = {v for n in region.nodes for v in n.inputs if v is not None} - inside
    return any(low.dtype(v) in EIGHT_BIT_FLOATS for v in (*values, region.output))


def _apart(low: Lowering, region: Region) -> tuple[Region, ...]:
    """The region without the quantization that ends it, and that."""
    if low.dtype(region.output) not in EIGHT_BIT_FLOATS:
        return (region,)
    *others, last = region.pointwise
    real = last.inputs[0]
    assert real is not None
    return (
        Region(anchor=region.anchor, pointwise=tuple(others), output=real),
        Region(anchor=None, pointwise=(last,), output=region.output),
    )


def _lower_whole(low: Lowering, region: Region) -> None:
    anchor = region.anchor
    if anchor is None or anchor.op_type in ANCHORS:
        low.region(region, None if anchor is None else ANCHORS[anchor.op_type](low, anchor))
    elif anchor.op_type in MOVERS:
        MOVERS[anchor.op_type](low, anchor)
    else:
        raise CannotLower(anchor, f"{anchor.op_type} has no kernel for these types")
