"""The ordered list of graph passes."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from bolt.graph.dead_code import DeadCodeElimination
from bolt.graph.float8 import Float8Constants, Float8Products, Float8Raising
from bolt.graph.fold_batch_norm import BatchNormFolding
from bolt.graph.fold_constants import ConstantFolding
from bolt.graph.fold_dequantize import DequantizeFolding, DequantizeSplitting
from bolt.graph.fold_pad import PadFolding
from bolt.graph.fold_scale import ScaleFolding
from bolt.graph.hoist_scale import ScaleHoisting
from bolt.graph.identities import IdentityElimination
from bolt.graph.merge_moves import MoveMerging
from bolt.graph.merge_products import ProductMerging
from bolt.graph.nest_concats import ConcatNesting
from bolt.graph.quantized_products import QuantizedProducts
from bolt.graph.raise_quantize import QuantizeRaising, QuantizeScaling
from bolt.graph.reshape_targets import ReshapeTargets
from bolt.graph.sink_dequantize import DequantizeSinking
from bolt.graph.softmax_guard import SoftmaxGuardElimination
from bolt.graph.spell_activations import ActivationSpelling
from bolt.graph.spell_norms import NormSpelling
from bolt.graph.spell_quantized import QuantizedSpelling
from bolt.graph.spell_softmax import SoftmaxSpelling
from bolt.graph.spell_stft import StftSpelling
from bolt.graph.swap_moves import MoveSwapping
from bolt.graph.swap_products import ProductSwapping
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
    MoveSwapping(),
    ProductUnflattening(),
    ProductSwapping(),
    ConcatNesting(),
)
"""Passes whose results are plain ONNX of the model's own opset."""

CANONICAL: tuple[ir.passes.PassBase, ...] = (
    NormSpelling(),
    SoftmaxSpelling(),
    ActivationSpelling(),
    NormUnfolding(),
    StftSpelling(),
)
"""Passes towards what bolt's kernels want; they may leave operators in bolt's domain."""

DEVICE: tuple[ir.passes.PassBase, ...] = (ProductMerging(),)
"""Passes that pay on a GPU only."""

QUANTIZED: tuple[ir.passes.PassBase, ...] = (
    QuantizedSpelling(),
    DequantizeSinking(),
    QuantizeRaising(),
    QuantizedProducts(),
    QuantizeScaling(),
)
"""Passes for targets that multiply 8-bit integers; they leave operators in bolt's domain."""

FLOAT8: tuple[ir.passes.PassBase, ...] = (Float8Constants(), Float8Products(), Float8Raising())
"""Passes for targets that multiply 8-bit floats; they leave operators in bolt's domain."""

_ROUNDS = 8
"""Upper bound of the fixed-point iteration; real models need two or three."""


def optimize(
    model: ir.Model,
    *,
    canonical: bool = True,
    device: bool = False,
    int8: bool = False,
    float8: bool = False,
) -> list[str]:
    """Runs the passes in order until none changes the model (in place).

    Args:
        canonical: also spell operators the way bolt's kernels want them; some are in domain "ai.bolt" where
            the model's opset does not have them, so ORT can't run what no partition takes.
        device: for a GPU.
        int8: for a target that multiplies 8-bit integers (what becomes of a quantized model is canonical).
        float8: for a target that multiplies 8-bit floats (the same).

    Returns:
        Names of the passes that changed something, in the order they did.
    """
    quantized = (*(QUANTIZED if int8 else ()), *(FLOAT8 if float8 else ())) if canonical else ()
    passes = (*PASSES, *(CANONICAL if canonical else ()), *(DEVICE if device else ()), *quantized)
    changed = _settle(model, passes)
    if quantized and DequantizeFolding(integers=int8)(model).modified:
        changed += [DequantizeFolding.__name__, *_settle(model, passes)]
    if int8 and quantized and DequantizeSplitting()(model).modified:
        changed.append(DequantizeSplitting.__name__)
    DeadCodeElimination()(model)
    model.graph.sort()
    return changed


def _settle(model: ir.Model, passes: Sequence[ir.passes.PassBase]) -> list[str]:
    """Names of the passes that changed something until none did."""
    changed: list[str] = []
    for _ in range(_ROUNDS):
        names = [type(p).__name__ for p in passes if p(model).modified]
        changed += names
        if not names:
            break
    return changed
