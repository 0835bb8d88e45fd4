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


def partition_names(graph: onnx.GraphProto) -> Iterator[str]:
    """The partitions that the EPContext nodes of a graph and of its subgraphs stand for."""
    for node in graph.node:
        attributes = {a.name: a for a in node.attribute}
        if node.op_type == OP_TYPE and node.domain == DOMAIN and attributes["source"].s == EP_NAME.encode():
            yield attributes["partition_name"].s.decode()
        for attribute in node.attribute:
            for subgraph in (attribute.g, *attribute.graphs):
                yield from partition_names(subgraph)
