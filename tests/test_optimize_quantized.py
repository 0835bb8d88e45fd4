"""Quantized models from ONNX to an ONNX Runtime session, on machines that multiply 8-bit integers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_models
import onnxruntime as ort
import pytest
from quantized_models import QuantizedBuilder, dynamic_net, residual_net, two_branches

from bolt.driver import optimize
from bolt.ep.artifact import Artifact
from bolt.options import make
from bolt.target import TARGETS, runs_here

HERE = [t.name for t in TARGETS if t.has_vnni and runs_here(t)]

pytestmark = pytest.mark.skipif(not HERE, reason="this machine does not multiply 8-bit integers")


def signed_net() -> onnx.ModelProto:
    """int8 activations, a depthwise convolution and a linear resize between dequantized values."""
    b = QuantizedBuilder()
    x = b.fake(b.input("x", [1, 5, 9, 8]), 0.017, -3, np.int8)
    y = b.add("Conv", x, b.quantized_weights((24, 5, 1, 1)), b.quantized_bias(24, 0.017))
    y = b.fake(b.add("Clip", y, b.constant(0, np.float32), b.constant(6, np.float32)), 0.0237, -128, np.int8)
    y = b.add("Conv", y, b.quantized_weights((24, 1, 3, 3)), pads=[1] * 4, group=24)
    y = b.fake(y, 0.0213, 5, np.int8)
    y = b.fake(b.add("Conv", y, b.quantized_weights((6, 24, 1, 1))), 0.031, 11, np.int8)
    y = b.add("Resize", y, "", b.constant([1, 1, 2, 2], np.float32), mode="linear")
    return b.output(b.fake(y, 0.0293, 7, np.int8)).model()


MODELS: dict[str, tuple[Callable[[], onnx.ModelProto], float]] = {
    "residual": (residual_net, 0.07),
    "branches": (two_branches, 0.05),
    "dynamic": (dynamic_net, 0.02),
    "signed": (signed_net, 0.0293),
}
"""Model, and the step its outputs are quantized with (or how far apart two of ONNX Runtime's ways are)."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def package(model: onnx.ModelProto, cache: Path, *, verify: bool = False) -> Artifact:
    asked = make(target=HERE[0], budget="0", threads=1, cache=cache, verify=verify, ab=False)
    return optimize(model, asked, everything=True)


@pytest.mark.parametrize("name", MODELS)
def test_results_are_within_one_step_of_onnx_runtime(name: str, cache: Path) -> None:
    build, step = MODELS[name]
    model = build()
    artifact = package(model, cache)
    assert artifact.report["notes"]["precision"] == "int8"
    assert len(artifact.report["partitions"]) == 1
    feeds = onnx_models.feeds(model)
    for threads in (1, 2):
        (got,) = artifact.session(threads=threads).run(None, feeds)
        for want in (onnx_models.run(model, feeds), default_run(model, feeds)):
            error = np.abs(got - next(iter(want.values())))
            assert error.max() <= 1.001 * step
            assert (error > 0.5 * step).mean() <= 0.03


def default_run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """With ONNX Runtime's own kernels for 8-bit integers."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


def test_the_trial_knows_that_a_model_is_quantized(cache: Path) -> None:
    artifact = package(residual_net(), cache, verify=True)
    assert artifact.report["partitions"], "not handed back to ONNX Runtime"
    assert max(artifact.report["notes"]["errors"].values()) < 0.2
