"""Whole models through the execution provider on this machine's GPU, against ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx_models
import pytest
from kernels import real_gpu
from onnx_models import ModelBuilder

from bolt import verify
from bolt.driver import optimize
from bolt.ep.artifact import Artifact
from bolt.options import PRECISIONS, make

pytestmark = pytest.mark.gpu

_PLACE = ("gpu", 0, 0x10DE)  # NVIDIA's number


def bottlenecks(*, batch: int | str) -> onnx.ModelProto:
    """A stem and four blocks as ResNet-50 has them: 1x1, 3x3 (the second of stride 2), 1x1, residual."""
    b, random = ModelBuilder(), np.random.default_rng(1)

    def conv(x: str, c: int, k: int, size: int = 1, stride: int = 1) -> str:
        weights = random.standard_normal((k, c, size, size)) * np.sqrt(2 / (c * size * size))
        bias = random.standard_normal(k) * 0.1
        values = b.constant(weights, np.float32), b.constant(bias, np.float32)
        return str(b.add("Conv", x, *values, pads=[size // 2] * 4, strides=[stride] * 2))

    x = b.add("Relu", conv(b.input("x", [batch, 3, 64, 64]), 3, 64, 7, 2))
    x = b.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    width = 64
    for inner, stride in ((64, 1), (64, 1), (128, 2), (128, 1)):
        y = b.add("Relu", conv(x, width, inner))
        y = b.add("Relu", conv(y, inner, inner, 3, stride))
        y = conv(y, inner, 4 * inner)
        skip = x if width == 4 * inner else conv(x, width, 4 * inner, 1, stride)
        x, width = b.add("Relu", b.add("Add", y, skip)), 4 * inner
    x = b.add("Flatten", b.add("GlobalAveragePool", x))
    scores = b.add(
        "Gemm", x, b.weights("w", (100, width), low=-0.1, high=0.1), b.weights("b", (100,)), transB=1
    )
    return b.output(scores, [batch, 100]).model()


MODELS: Mapping[str, tuple[onnx.ModelProto, Mapping[str, int]]] = {
    "bottlenecks": (bottlenecks(batch=2), {}),
    "bottlenecks-open": (bottlenecks(batch="n"), {"n": 3}),
    "convnet": (onnx_models.convnet(batch=2, size=32), {}),
    "attention": (onnx_models.attention_block(batch=2, length=24, width=64, heads=4), {}),
    "attention-open": (
        onnx_models.attention_block(batch="n", length="s", width=64, heads=2),
        {"n": 2, "s": 21},
    ),
}


def packaged(model: onnx.ModelProto, precision: str, sizes: Mapping[str, int]) -> Artifact:
    """The analytic picks; in the tests' cache, so that what was compiled before is there."""
    options: dict[str, Any] = {"shapes": dict(sizes), "verify": False, "ab": False, "budget": "0"}
    return optimize(
        model, make(target=real_gpu.target().name, precision=precision, **options), everything=True
    )


OFTEN = frozenset(
    {("bottlenecks", "fp16"), ("bottlenecks-open", "fp16")}
    | {("attention-open", precision) for precision in PRECISIONS}
)
"""What is also run without the slow ones: a model takes half a minute to compile on 16 cores."""

CASES = [
    pytest.param(name, precision, marks=() if (name, precision) in OFTEN else pytest.mark.slow)
    for name in MODELS
    for precision in PRECISIONS
]


@pytest.mark.parametrize("name,precision", CASES)
def test_results(name: str, precision: str) -> None:
    model, sizes = MODELS[name]
    artifact = packaged(model, precision, sizes)
    assert artifact.partitions, artifact.report["rejections"]
    if real_gpu.COMPILES_ONLY:
        return
    session, given = artifact.session(), onnx_models.feeds(model, **sizes)
    want = onnx_models.run(model, given)
    for values in (given, {k: -v for k, v in given.items()}):
        got = dict(zip(want, session.run(None, values), strict=True))
        for output, reference in onnx_models.run(model, values).items():
            verify.compare_model(got[output], reference, precision=precision).require(output)


def test_a_captured_graph_gives_new_results_for_new_inputs() -> None:
    model, _ = MODELS["bottlenecks"]
    artifact = packaged(model, "fp16", {})
    if real_gpu.COMPILES_ONLY:
        return
    import onnxruntime as ort

    session = artifact.session(ep_options={"cuda_graph": "1"})
    binding, given = session.io_binding(), onnx_models.feeds(model)
    x = ort.OrtValue.ortvalue_from_numpy(given["x"], *_PLACE)
    y = ort.OrtValue.ortvalue_from_shape_and_type([2, 100], np.float32, *_PLACE)
    binding.bind_ortvalue_input("x", x)
    binding.bind_ortvalue_output(session.get_outputs()[0].name, y)
    for scale in (1.0, -0.5, 0.25):
        values = {"x": (given["x"] * scale).astype(np.float32)}
        x.update_inplace(values["x"])
        session.run_with_iobinding(binding)
        (reference,) = onnx_models.run(model, values).values()
        verify.compare_model(y.numpy(), reference, precision="fp16").require(f"scale {scale}")
