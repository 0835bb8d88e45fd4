"""STFT becomes a convolution."""

from __future__ import annotations

from typing import Any

import lowered
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from lowered import ops
from onnx_models import ModelBuilder

from bolt.graph.load import load
from bolt.graph.spell_stft import StftSpelling


def stft(
    shape: list[Any], *, window: bool = True, length: int | None = None, step: int = 3, onesided: int = 1
) -> onnx.ModelProto:
    """An STFT with frames of 16 samples (or `length`), its power summed."""
    b = ModelBuilder(opset=18)
    inputs = [b.input("x", shape), b.constant(step, np.int64)]
    inputs.append(b.constant(np.hanning(16), np.float32) if window else "")
    if length:
        inputs.append(b.constant(length, np.int64))
    spectrum = b.add("STFT", *inputs, onesided=onesided)
    return b.output(b.add("ReduceSumSquare", spectrum, b.constant([-1], np.int64), keepdims=0)).model()


@pytest.mark.parametrize(
    "model",
    [
        stft([1, 50]),
        stft([2, 50, 1], length=16),
        stft([1, 41, 1], window=False, length=15, step=4),
        stft([1, 50], onesided=0),
        stft(["N", "L"]),
    ],
    ids=["flat", "column", "no window", "both sides", "open sizes"],
)
def test_same_result(model: onnx.ModelProto) -> None:
    found = lowered.check(model, **({"N": 2, "L": 37} if "L" in str(model.graph.input) else {}))
    assert ops(found).count("conv") == 1


@pytest.mark.parametrize(
    "model",
    [stft([1, 50, 2], onesided=0), stft([1, 9000], window=False, length=8192)],
    ids=["complex", "long"],
)
def test_others_stay(model: onnx.ModelProto) -> None:
    graph = load(model)
    assert not StftSpelling()(graph).modified
    assert any(node.op_type == "STFT" for node in graph.graph)


def test_a_computed_window_stays() -> None:
    b = ModelBuilder(opset=18)
    window = b.add("Abs", b.input("w", [16]))
    model = b.output(b.add("STFT", b.input("x", [1, 50]), b.constant(4, np.int64), window)).model()
    graph: ir.Model = load(model)
    assert not StftSpelling()(graph).modified
