"""EPContext nodes: where a model points at its compiled partitions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx

from bolt.ep.folder import MANIFEST
from bolt.ep.library import EP_NAME, bolt_version

OP_TYPE = "EPContext"
DOMAIN = "com.microsoft"


def context_node(name: str, inputs: Sequence[str], outputs: Sequence[str]) -> onnx.NodeProto:
    """The node that stands for the partition called `name`.

    Args:
        name: name of the partition in the manifest; also the node's name.
        inputs: its inputs, in the order of the module's inputs.
        outputs: its outputs, in the order of the module's outputs.
    """
    return onnx.helper.make_node(
        OP_TYPE,
        list(inputs),
        list(outputs),
        name=name,
        domain=DOMAIN,
        ep_cache_context=MANIFEST,
        embed_mode=0,
        ep_sdk_version=bolt_version(),
        main_context=1,
        partition_name=name,
        source=EP_NAME,
    )


def context_nodes(graph: onnx.GraphProto) -> Iterator[tuple[onnx.NodeProto, onnx.GraphProto]]:
    """bolt's EPContext nodes in a graph and its subgraphs, each with the graph it lies in."""
    for node in graph.node:
        if node.op_type == OP_TYPE and node.domain == DOMAIN and text(node, "source") == EP_NAME:
            yield node, graph
        for attribute in node.attribute:
            for subgraph in (attribute.g, *attribute.graphs):
                yield from context_nodes(subgraph)


def partition_of(node: onnx.NodeProto) -> str:
    """Name of the partition that an EPContext node stands for."""
    return text(node, "partition_name")


def untyped_outputs(node: onnx.NodeProto, graph: onnx.GraphProto) -> list[str]:
    """Outputs whose element type the graph does not state; EPContext nodes have no type inference."""
    typed = {v.name for v in (*graph.value_info, *graph.output) if v.type.tensor_type.elem_type}
    return [name for name in node.output if name not in typed]


def text(node: onnx.NodeProto, name: str) -> str:
    """A string attribute; empty when there is none."""
    return next((a.s.decode() for a in node.attribute if a.name == name), "")
