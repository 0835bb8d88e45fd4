"""A model with chains, from ONNX to a session of ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import chained
import numpy as np
import onnx_models
import pytest

from bolt import display, driver
from bolt.graph import chains as finding
from bolt.options import make
from bolt.search import chains
from bolt.target import X86_AVX512_BF16, runs_here


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small images are worth a chain, and measuring always says that chains pay."""
    for name, value in {"CALL_BYTES": 0, "NEAR": 0.0, "WORTH": 0.0, "FLOPS_PER_BYTE": 1e9}.items():
        monkeypatch.setattr(finding, name, value)

    def measured(self: Any, program: Any, modules: Any, groups: Sequence[Sequence[Any]]) -> chains.Verdict:
        return chains.Verdict(ratios=(0.5,) * len(groups[1]), whole=0.5)

    monkeypatch.setattr(chains.Contest, "_measured", measured)
    monkeypatch.setattr(driver, "_tried", lambda made, *rest: (made, None))  # times it against ONNX Runtime


def model() -> Any:
    """A block at a batch known at run time."""
    b = onnx_models.ModelBuilder()
    y = b.input("x", ["n", 8, 15, 12])
    y = chained.conv(b, y, "wide", (24, 8, 1, 1))
    y = chained.conv(b, y, "depthwise", (24, 1, 3, 3), group=24, pads=[1] * 4, strides=[2, 2])
    y = chained.conv(b, y, "narrow", (8, 24, 1, 1), "")
    return b.output(y).model()


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_package_with_chains(precision: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if precision == "bf16" and not runs_here(X86_AVX512_BF16):
        pytest.skip("this machine has no bf16 instructions")
    graph = model()
    asked = make(
        target="auto", budget="0.001s", threads=2, shapes={"n": (2,)}, cache=tmp_path / "cache",
        precision=precision, verify=False,
    )  # fmt: skip
    made = driver.optimize(graph, asked, everything=True, output=tmp_path / "package.bolt")
    (partition,) = made.report["partitions"]
    assert partition["chains"]
    assert sum(step["op"] == "chain" for step in partition["steps"]) == len(partition["chains"])
    for n in (1, 3):
        feeds = onnx_models.feeds(graph, n=n)
        (want,) = onnx_models.run(graph, feeds).values()
        for threads in (1, 3):
            (got,) = made.session(threads=threads).run(None, feeds)
            limit = {"fp32": 1e-5, "bf16": 3e-2}[precision] * np.abs(want).max()
            np.testing.assert_allclose(got, want, atol=limit, rtol=0)
    display.explain(made.report, every=False)
    assert "kept in cache" in capsys.readouterr().out
