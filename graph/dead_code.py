"""Dead code: nodes and constants that nothing reads."""

from __future__ import annotations

import onnx_ir as ir

from bolt.graph.rewrite import remove_dead


class DeadCodeElimination(ir.passes.InPlacePass):
    """Removes nodes none of whose outputs is used, and then unused constants.

    Works on the main graph; the model's inputs and outputs stay.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        nodes, constants = len(model.graph), len(model.graph.initializers)
        for node in reversed(list(model.graph)):
            if node.graph is not None:
                remove_dead(node)
        for name, value in list(model.graph.initializers.items()):
            if not (value.uses() or value.is_graph_output() or value.is_graph_input()):
                del model.graph.initializers[name]
        modified = (nodes, constants) != (len(model.graph), len(model.graph.initializers))
        return ir.passes.PassResult(model, modified=modified)
