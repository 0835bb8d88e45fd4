"""Models optimized with precision bf16 on a CPU that multiplies bf16 numbers, through ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_models
import pytest
from onnx_models import ModelBuilder

import bolt
from bolt.driver import optimize
from bolt.ep.artifact import Artifact
from bolt.options import OptionError, make
from bolt.target import X86_AVX512_BF16, runs_here
from bolt.verify import compare_model

TARGET = X86_AVX512_BF16
pytestmark = pytest.mark.skipif(not runs_here(TARGET), reason="this CPU does not multiply bf16 numbers")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def packaged(model: onnx.ModelProto, cache: Path, *, verify: bool = False, **sizes: int) -> Artifact:
    shapes = {name: (size,) for name, size in sizes.items()}
    asked = make(
        target=TARGET.name, precision="bf16", budget="0", threads=1, shapes=shapes, cache=cache,
        verify=verify, ab=False,
    )  # fmt: skip
    return optimize(model, asked, everything=True)


def agree(model: onnx.ModelProto, artifact: Artifact, **sizes: int) -> None:
    feeds = onnx_models.feeds(model, **sizes)
    expected = onnx_models.run(model, feeds)
    session = artifact.session(threads=2)
    for output, got in zip(session.get_outputs(), session.run(None, feeds), strict=True):
        want = expected[output.name]
        assert got.dtype == want.dtype
        comparison = compare_model(got, want, precision="bf16").require(output.name)
        assert 0 < comparison.max_rel_to_range < 3e-2, "computed in bf16, and right"


def shrinking_and_growing() -> onnx.ModelProto:
    """Odd channels, a stem, a depthwise and a transposed convolution, pooling, resizing, a gate, a skip."""
    b = ModelBuilder(opset=13)
    x = b.input("x", ["n", 3, "h", "w"])
    y = b.add("Relu", b.add("Conv", x, b.weights("w0", (13, 3, 3, 3)), strides=[2, 2], pads=[1] * 4))
    z = b.add("Conv", y, b.weights("w1", (13, 1, 3, 3)), pads=[1] * 4, group=13)
    gate = b.add("Sigmoid", b.add("Conv", b.add("GlobalAveragePool", z), b.weights("w2", (13, 13, 1, 1))))
    y = b.add("Add", b.add("Mul", z, gate), y)
    small = b.add("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
    large = b.add("Resize", small, "", b.constant([1, 1, 2, 2], np.float32))
    y = b.add("Concat", y, large, axis=1)
    y = b.add("ConvTranspose", y, b.weights("w3", (26, 5, 4, 4)), strides=[2, 2], pads=[1] * 4)
    return b.output(y).model()


def test_images_of_any_size(cache: Path) -> None:
    model = shrinking_and_growing()
    artifact = packaged(model, cache, n=1, h=16, w=24)
    agree(model, artifact, n=1, h=16, w=24)
    agree(model, artifact, n=2, h=8, w=12)


def test_attention_of_any_length(cache: Path) -> None:
    model = onnx_models.attention_block(batch="n", length="s")
    artifact = packaged(model, cache, n=1, s=9)
    agree(model, artifact, n=1, s=9)
    agree(model, artifact, n=2, s=33)


def test_the_report_says_what_was_computed_and_how_far_off_it_is(cache: Path) -> None:
    artifact = packaged(onnx_models.convnet(), cache, verify=True)
    notes = artifact.report["notes"]
    assert notes["precision"] == "bf16"
    assert all(0 < error < 3e-2 for error in notes["errors"].values())


def test_other_cpus_refuse(cache: Path) -> None:
    with pytest.raises(OptionError, match="x86-avx2 has no bf16 arithmetic; compute in fp32, or for"):
        bolt.optimize(onnx_models.convnet(), target="x86-avx2", precision="bf16", budget="0", cache=cache)
