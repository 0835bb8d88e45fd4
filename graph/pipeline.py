"""The ordered list of graph passes."""

from __future__ import annotations

import onnx_ir as ir

from bolt.graph.dead_code import DeadCodeElimination
from bolt.graph.fold_batch_norm import BatchNormFolding
from bolt.graph.fold_constants import ConstantFolding
from bolt.graph.fold_pad import PadFolding
from bolt.graph.fold_scale import ScaleFolding
from bolt.graph.hoist_scale import ScaleHoisting
from bolt.graph.identities import IdentityElimination
from bolt.graph.merge_moves import MoveMerging
from bolt.graph.merge_products import ProductMerging
from bolt.graph.nest_concats import ConcatNesting
from bolt.graph.reshape_targets import ReshapeTargets
from bolt.graph.softmax_guard import SoftmaxGuardElimination
from bolt.graph.spell_activations import ActivationSpelling
from bolt.graph.spell_norms import NormSpelling
from bolt.graph.spell_softmax import SoftmaxSpelling
from bolt.graph.unflatten_products import ProductUnflattening
from bolt.graph.unfold_norms import NormUnfolding

PASSES: tuple[ir.passes.PassBase, ...] = (
    DeadCodeElimination(),
    ConstantFolding(),
    IdentityElimination(),
    ReshapeTargets(),
    BatchNormFolding(),
    ScaleHoisting(),
    ScaleFolding(),
    SoftmaxGuardElimination(),
    PadFolding(),
    MoveMerging(),
    ProductUnflattening(),
    ConcatNesting(),
)
"""Passes whose results are plain ONNX of the model's own opset."""

CANONICAL: tuple[ir.passes.PassBase, ...] = (
    NormSpelling(),
    SoftmaxSpelling(),
    ActivationSpelling(),
    NormUnfolding(),
)
"""Passes towards what bolt's kernels want; they may leave operators in bolt's domain."""

DEVICE: tuple[ir.passes.PassBase, ...] = (ProductMerging(),)
"""Passes that pay on a GPU only."""

_ROUNDS = 8
"""Upper bound of the fixed-point iteration; real models need two or three."""


def optimize(model: ir.Model, *, canonical: bool = True, device: bool = False) -> list[str]:
    """Runs the passes in order until none changes the model (in place).

    Args:
        canonical: also spell operators the way bolt's kernels want them; some are in domain "ai.bolt" where
            the model's opset does not have them, so ORT can't run what no partition takes.
        device: for a GPU.

    Returns:
        Names of the passes that changed something, in the order they did.
    """
    passes = (*PASSES, *(CANONICAL if canonical else ()), *(DEVICE if device else ()))
    changed: list[str] = []
    for _ in range(_ROUNDS):
        names = [type(p).__name__ for p in passes if p(model).modified]
        changed += names
        if not names:
            break
    DeadCodeElimination()(model)
    model.graph.sort()
    return changed
