"""From an ONNX model to an ONNX Runtime session, whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_models
import pytest
from onnx_models import ModelBuilder

from bolt.driver import optimize
from bolt.ep.artifact import Artifact
from bolt.errors import ModelError, TargetError
from bolt.options import make
from bolt.target import TARGETS, runs_here
from bolt.verify import compare_model

HERE = [t.name for t in TARGETS if runs_here(t)]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache of kernels for the whole module: what is tested is the way, not the compiler."""
    return tmp_path_factory.mktemp("cache")


def package(
    model: onnx.ModelProto, cache: Path, *, target: str = "auto", sizes: Mapping[str, int] | None = None
) -> Artifact:
    """The artifact without measuring: the analytic pick of every kernel."""
    shapes = {name: (size,) for name, size in (sizes or {}).items()}
    asked = make(target=target, budget="0", threads=1, shapes=shapes, cache=cache, verify=False, ab=False)
    return optimize(model, asked, everything=True)


def agree(model: onnx.ModelProto, artifact: Artifact, *, threads: int = 1, **sizes: int) -> None:
    """The artifact's session and stock ORT give the same outputs."""
    feeds = onnx_models.feeds(model, **sizes)
    expected = onnx_models.run(model, feeds)
    session = artifact.session(threads=threads)
    actual = session.run(None, feeds)
    for output, got in zip(session.get_outputs(), actual, strict=True):
        assert compare_model(got, expected[output.name]).require(output.name)


def depthwise_block() -> onnx.ModelProto:
    """An inverted residual with squeeze-and-excite, hard swish by parts, odd channels."""
    b = ModelBuilder(opset=13)
    x = b.input("x", ["n", 9, "h", "w"])
    y = b.add("Conv", x, b.weights("w0", (27, 9, 1, 1)), b.weights("b0", (27,)))
    clipped = b.add("Clip", b.add("Add", y, b.constant(3.0, np.float32)), *_bounds(b))
    y = b.add("Div", b.add("Mul", y, clipped), b.constant(6.0, np.float32))
    y = b.add("Conv", y, b.weights("w1", (27, 1, 5, 5)), pads=[2] * 4, group=27)
    gate = b.add("Conv", b.add("GlobalAveragePool", y), b.weights("w2", (27, 27, 1, 1)))
    y = b.add("Mul", y, b.add("HardSigmoid", gate))
    y = b.add("Add", x, b.add("Conv", y, b.weights("w3", (9, 27, 1, 1))))
    return b.output(y, ["n", 9, "h", "w"]).model()


def _bounds(b: ModelBuilder) -> tuple[str, str]:
    return b.constant(0.0, np.float32), b.constant(6.0, np.float32)


def upsampler() -> onnx.ModelProto:
    """Transposed convolution, resize, split, concat, pooling."""
    b = ModelBuilder(opset=13)
    x = b.input("x", [1, 8, 10, 12])
    a, c = b.add("Split", x, b.constant([4, 4], np.int64), outputs=2, axis=1)
    a = b.add("MaxPool", a, kernel_shape=[2, 2], strides=[2, 2])
    a = b.add("ConvTranspose", a, b.weights("w0", (4, 6, 2, 2)), strides=[2, 2])
    c = b.add("Resize", c, "", b.constant([1, 1, 0.5, 0.5], np.float32), mode="linear")
    c = b.add("Resize", c, "", b.constant([1, 1, 2, 2], np.float32), mode="nearest")
    y = b.add("Concat", b.add("LeakyRelu", a, alpha=0.1), c, axis=1)
    return b.output(b.add("Conv", y, b.weights("w1", (5, 10, 3, 3)), pads=[1] * 4)).model()


MODELS: dict[str, tuple[Callable[[], onnx.ModelProto], dict[str, int]]] = {
    "convnet": (onnx_models.convnet, {}),
    "attention": (lambda: onnx_models.attention_block(batch="n", length="s"), {"n": 2, "s": 7}),
    "depthwise": (depthwise_block, {"n": 1, "h": 13, "w": 10}),
    "upsampler": (upsampler, {}),
}


@pytest.mark.parametrize("target", HERE)
@pytest.mark.parametrize("name", MODELS)
def test_results_agree_with_ort(name: str, target: str, cache: Path) -> None:
    build, sizes = MODELS[name]
    model = build()
    artifact = package(model, cache, target=target, sizes=sizes)
    assert artifact.report["notes"]["flops_share"] == 1.0
    agree(model, artifact, **sizes)


def test_other_sizes_run_without_compiling_again(cache: Path) -> None:
    model = depthwise_block()
    artifact = package(model, cache, sizes={"n": 1, "h": 13, "w": 10})
    for n, h, w in ((1, 5, 5), (3, 8, 17), (2, 31, 6)):
        agree(model, artifact, n=n, h=h, w=w)


def test_two_threads_give_the_same(cache: Path) -> None:
    model = onnx_models.convnet(batch=2, size=40)
    agree(model, package(model, cache), threads=2)


def test_an_input_too_small_is_an_error_and_not_a_crash(cache: Path) -> None:
    b = ModelBuilder()
    x = b.input("x", [1, 3, "h", 8])
    y = b.add("Conv", x, b.weights("w", (4, 3, 5, 5)))
    artifact = package(b.output(y).model(), cache, sizes={"h": 9})
    session = artifact.session()
    with pytest.raises(Exception, match="too small"):
        session.run(None, {"x": np.zeros((1, 3, 3, 8), np.float32)})
    assert session.run(None, {"x": np.zeros((1, 3, 6, 8), np.float32)})[0].shape == (1, 4, 2, 4)


def test_operators_without_a_kernel_stay_with_ort(cache: Path) -> None:
    b = ModelBuilder()
    x = b.input("x", [1, 4, 6, 6])
    y = b.add("Relu", b.add("Conv", x, b.weights("w0", (4, 4, 3, 3))))
    y = b.add("CumSum", y, b.constant(2, np.int64))
    model = b.output(b.add("Relu", b.add("Conv", y, b.weights("w1", (4, 4, 1, 1))))).model()
    artifact = package(model, cache)
    assert len(artifact.report["partitions"]) == 2
    assert any("CumSum" in r["reason"] for r in artifact.report["rejections"])
    agree(model, artifact)


def test_a_model_of_unsupported_operators_is_handed_back(cache: Path) -> None:
    b = ModelBuilder()
    x = b.input("x", [4, 6])
    model = b.output(b.add("CumSum", x, b.constant(1, np.int64))).model()
    artifact = package(model, cache)
    assert artifact.report["partitions"] == []
    agree(model, artifact)


def test_the_second_time_comes_from_the_cache(cache: Path) -> None:
    model = onnx_models.convnet()
    stages: list[str] = []
    asked = make(budget="0", threads=1, cache=cache, verify=False, ab=False)
    first = optimize(model, asked, everything=True)
    second = optimize(model, asked, lambda e: stages.append(e.stage), everything=True)
    assert first.path == second.path
    assert "graph" not in stages


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    model = onnx_models.convnet()
    folders = [package(model, tmp_path / name).path for name in ("a", "b")]
    names = [sorted(p.relative_to(f) for p in f.rglob("*") if p.is_file()) for f in folders]
    assert names[0] == names[1]
    for name in names[0]:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes(), name


def test_verification_and_measuring(cache: Path) -> None:
    """With both on, the report tells errors and times, whatever the outcome."""
    model = onnx_models.convnet(size=32)
    artifact = optimize(model, make(budget="0", threads=1, cache=cache))
    report = artifact.report
    assert max(report["notes"]["errors"].values()) < 1e-4
    assert report["ort_ms"] > 0
    assert report["bolt_ms"] > 0
    agree(model, artifact)


def test_save_copies_the_whole_package(cache: Path, tmp_path: Path) -> None:
    model = onnx_models.convnet()
    artifact = package(model, cache).save(tmp_path / "moved.bolt")
    artifact.verify()
    agree(model, artifact)


@pytest.mark.parametrize("source", ["missing.onnx", b"not a model"])
def test_bad_models_are_errors(source: str | bytes, cache: Path) -> None:
    with pytest.raises(ModelError):
        optimize(source, make(cache=cache))


def test_unknown_target_is_an_error(cache: Path) -> None:
    with pytest.raises(TargetError, match="x86-avx512"):
        optimize(onnx_models.convnet(), make(target="sparc", cache=cache))


def test_a_shape_that_does_not_fit_is_an_error(cache: Path) -> None:
    with pytest.raises(ModelError, match="dims"):
        optimize(onnx_models.convnet(), make(shapes={"x": (1, 3, 9, 9)}, cache=cache))
