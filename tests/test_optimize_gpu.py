"""Packages for GPUs, made where there is none."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx_models import ModelBuilder

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
