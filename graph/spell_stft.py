"""Short-time Fourier transforms of real signals as convolutions."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bolt.graph.attributes import attr, constant, operand, scalar
from bolt.graph.rewrite import add_constant, insert_before, nodes_of, replace
from bolt.graph.shapes import Shapes, infer

MOST_SAMPLES = 4096
"""Longest frame that is worth multiplying by the transform's matrix."""


class StftSpelling(ir.passes.InPlacePass):
    """Replaces an STFT with constant frames by one convolution over the signal (float32 only).

        re[f, k] = sum over n of x[f * step + n] * window[n] * cos(2 pi k n / N),   im = ... * -sin(...)

    The convolution's channels are all real parts, then all imaginary ones: one view of its result is what the
    STFT gives, (batch, frames, bins, 2).
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        shapes = infer(model)
        modified = False
        for node in nodes_of(model, "STFT"):
            weights = _weights(node, shapes)
            if weights is not None:
                _convolve(node, shapes, weights)
                modified = True
        return ir.passes.PassResult(model, modified=modified)


def _weights(node: ir.Node, shapes: Shapes) -> np.ndarray | None:
    """The convolution's (2 * bins, 1, samples); None when the node is no transform of a real fp32 signal."""
    extents, window = shapes.dims(operand(node, 0)), operand(node, 2)
    is_real = extents is not None and (len(extents) == 2 or (len(extents) == 3 and extents[2] == 1))
    if not is_real or shapes.onnx_dtype(node.outputs[0]) != ir.DataType.FLOAT:
        return None
    taper, length = constant(window), scalar(operand(node, 3))
    if window is None and length is not None:
        taper = np.ones(int(length))
    if taper is None or taper.ndim != 1 or length not in (None, len(taper)):
        return None
    if scalar(operand(node, 1)) is None or not 0 < len(taper) <= MOST_SAMPLES:
        return None
    samples = len(taper)
    bins = samples // 2 + 1 if attr(node, "onesided", 1) else samples
    # Whole turns are taken out before the cosine: its argument is exact then.
    angle = 2 * np.pi * (np.outer(np.arange(bins), np.arange(samples)) % samples) / samples
    both = np.concatenate([np.cos(angle), -np.sin(angle)]) * taper.astype(np.float64)
    return np.ascontiguousarray(both[:, None, :], np.float32)


def _convolve(node: ir.Node, shapes: Shapes, weights: np.ndarray) -> None:
    graph, stem = node.graph, node.name or "STFT"
    signal, extents, step = operand(node, 0), shapes.dims(operand(node, 0)), scalar(operand(node, 1))
    assert graph is not None and extents is not None and step is not None
    if len(extents) == 2:
        axis = add_constant(graph, np.array([1], np.int64), f"{stem}_axis")
        row = insert_before(node, "Unsqueeze", [signal, axis], name=f"{stem}_row")
    else:
        row = insert_before(node, "Transpose", [signal], {"perm": (0, 2, 1)}, name=f"{stem}_row")
    kernel = add_constant(graph, weights, f"{stem}_weights")
    parts = insert_before(node, "Conv", [row, kernel], {"strides": (int(step),)}, name=stem)
    target = add_constant(graph, np.array([0, 2, len(weights) // 2, -1], np.int64), f"{stem}_parts")
    split = insert_before(node, "Reshape", [parts, target], name=f"{stem}_split")
    replace(node, insert_before(node, "Transpose", [split], {"perm": (0, 3, 2, 1)}, name=f"{stem}_bins"))
