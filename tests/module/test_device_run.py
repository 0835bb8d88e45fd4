"""Whole modules for CUDA targets on the emulated GPU against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_models
import pytest
from kernels.cuda_harness import NEEDS_EMULATOR
from lowered import covered
from module import device_run
from onnx_models import ModelBuilder
from quantized_models import float8_net

from bolt.graph.conventions import conventions
from bolt.search.candidates import supports
from bolt.target import SM75, SM80, SM90A, Target
from bolt.verify import compare_model

pytestmark = NEEDS_EMULATOR


def check(model: onnx.ModelProto, target: Target, precision: str, **sizes: int) -> None:
    """Everything of `model` runs on the device, in one module, and gives ORT's results."""
    found = covered(
        model,
        conventions=conventions(target, precision),
        supports=lambda spec: supports(spec, target),
        **sizes,
    )
    assert [r.reason for r in found.rejections] == []
    (program,) = found.programs
    values = onnx_models.feeds(model, seed=1, **sizes)
    outputs = device_run.run(program, [values[v.name] for v in program.inputs], target, found.sizes)
    for value, want in zip(program.outputs, onnx_models.run(model, values).values(), strict=True):
        got = outputs[program.outputs.index(value)]
        compare_model(got, want, precision=precision).require(value.name)


def rows(**names: Any) -> onnx.ModelProto:
    """Gathered, normalized and scaled rows; their count is part of the result."""
    b = ModelBuilder()
    ids = b.input("ids", ["n", "s"], np.int64)
    x = b.add("Gather", b.weights("table", (9, 20)), ids)
    count = b.add("Cast", b.add("Gather", b.add("Shape", ids), b.constant([1], np.int64)), to=1)
    y = b.add("LayerNormalization", x, b.weights("s", (20,)), b.weights("t", (20,)))
    y = b.add("Softmax", b.add("Mul", b.add("Add", y, x), b.add("Reciprocal", count)))
    return b.output(b.add("Transpose", y, perm=[0, 2, 1])).model()


def test_rows_with_run_time_sizes() -> None:
    check(rows(), SM80, "fp16", n=2, s=5)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
@pytest.mark.parametrize("build", [onnx_models.convnet, onnx_models.attention_block])
def test_models(build: Any, precision: str) -> None:
    check(build(), SM80, precision)


@pytest.mark.slow
@pytest.mark.parametrize("target", [SM75, SM90A], ids=lambda t: t.name)
def test_other_generations(target: Target) -> None:
    check(onnx_models.convnet(), target, "fp16")


@pytest.mark.slow
def test_models_with_run_time_sizes() -> None:
    check(onnx_models.convnet(batch="n", size="h"), SM80, "fp16", n=2, h=18, h2=14)
    check(onnx_models.attention_block(batch="n", length="s"), SM80, "fp16", n=2, s=7)


@pytest.mark.slow
def test_odd_channels() -> None:
    b = ModelBuilder()
    y = b.add("Relu", b.add("Conv", b.input("x", [1, 3, 9, 9]), b.weights("w0", (5, 3, 3, 3)), pads=[1] * 4))
    z = b.add("Conv", y, b.weights("w1", (5, 5, 3, 3)), pads=[1] * 4, strides=[2, 2])
    check(b.output(b.add("Conv", b.add("HardSwish", z), b.weights("w2", (7, 5, 1, 1)))).model(), SM80, "fp16")


@pytest.mark.slow
def test_a_model_quantized_to_8_bit_floats() -> None:
    check(float8_net(), SM90A, "fp16")
