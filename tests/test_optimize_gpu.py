"""Packages for GPUs, made where there is none."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import pytest
from onnx_models import ModelBuilder
from quantized_models import E4M3, QuantizedBuilder

from bolt.driver import optimize
from bolt.ep.artifact import Artifact
from bolt.errors import ToolchainError
from bolt.options import OptionError, make
from bolt.toolchain import nvcc


@pytest.fixture(scope="module")
def compiler() -> None:
    try:
        nvcc.find()
    except ToolchainError as error:
        pytest.skip(str(error))


def model() -> onnx.ModelProto:
    b = ModelBuilder()
    x = b.input("x", ["n", 24])
    y = b.add("LayerNormalization", x, b.weights("s", (24,)), b.weights("t", (24,)))
    return b.output(b.add("Relu", b.add("MatMul", y, b.weights("w", (24, 16))))).model()


def packaged(cache: Path, **options: object) -> Artifact:
    return optimize(model(), make(budget="0", cache=cache, **options), everything=True)  # type: ignore[arg-type]


def test_a_package_for_a_gpu_that_is_not_here(compiler: None, tmp_path: Path) -> None:
    artifact = packaged(tmp_path, target="sm80", precision="fp16")
    report = artifact.report
    assert artifact.targets == ("sm80",)
    assert report["notes"]["precision"] == "fp16"
    assert report["notes"]["estimates"] == "for the A100 SXM 80 GB"
    assert report["notes"]["cutlass"] == "100.0% of the products' FLOPs, 100.0% with a fused epilogue"
    kernels = {k["op"]: k for k in report["partitions"][0]["kernels"]}
    assert kernels.keys() == {"norm", "gemm"}
    assert kernels["gemm"]["device"]["is_cutlass"] and not kernels["norm"]["device"]["is_cutlass"]
    for kernel in kernels.values():
        assert kernel["median_us"] is None and kernel["device"]["estimate_us"] > 0
        assert kernel["device"]["registers"] > 0 and kernel["device"]["spill_bytes"] == 0
    assert [r["subject"] for r in report["rejections"] if r["stage"] == "verify"] == ["sm80"]


@pytest.mark.slow
def test_equal_input_gives_equal_bytes(compiler: None, tmp_path: Path) -> None:
    first, second = (packaged(tmp_path / name, target="sm80", precision="fp16") for name in "ab")
    names = sorted(path.name for path in (first.path / "modules").iterdir())
    assert names == sorted(path.name for path in (second.path / "modules").iterdir()), "named by their sha256"


@pytest.mark.slow
def test_a_model_quantized_to_8_bit_floats(compiler: None, tmp_path: Path) -> None:
    b = QuantizedBuilder(opset=19)
    x = b.add("LayerNormalization", b.input("x", ["n", 32]), b.weights("s", (32,)), b.weights("t", (32,)))
    for depth, columns in ((32, 64), (64, 24)):
        x = b.add("Relu", b.add("MatMul", b.fake(x, 0.05, 0, E4M3), b.float8_weights((depth, columns))))
    found = optimize(
        b.output(b.add("MatMul", b.fake(x, 0.05, 0, E4M3), b.float8_weights((24, 8)))).model(),
        make(budget="0", cache=tmp_path, target="sm90a", precision="fp16"),
        everything=True,
    )
    report = found.report
    assert report["notes"]["precision"] == "fp8"
    kernels = Counter(k["family"] for k in report["partitions"][0]["kernels"])
    assert kernels == {"cuda_norm": 1, "cutlass_gemm_sm90": 3}
    reasons = [r["reason"] for r in report["rejections"] if r["stage"] == "graph"]
    assert reasons == ["computed wider: weights of 24 x 8 are not multiples of 16 x 8"]


@pytest.mark.parametrize(
    "options,said",
    [
        ({"target": "x86-portable", "precision": "fp16"}, "CPUs compute in fp32 or bf16"),
        ({"target": ["x86-portable", "sm80"]}, "both; make two packages"),
        ({"target": "sm75", "precision": "tf32"}, "sm75 has no tf32"),
    ],
)
def test_what_can_t_be_is_said_before_any_work(options: dict[str, object], said: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=said):
        packaged(tmp_path, **options)
    assert not list(tmp_path.iterdir())
