"""What the driver does with the verdict of a trial run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx_models import ModelBuilder

from bolt import driver
from bolt.ep.artifact import Artifact
from bolt.ep.trial import Trial
from bolt.errors import VerifyError
from bolt.options import make
from bolt.search.operands import Operands
from bolt.verify import Comparison


def two_parts() -> onnx.ModelProto:
    """A convolution with all the work, an operator bolt lacks, and a few pointwise nodes."""
    b = ModelBuilder()
    x = b.input("x", [1, 16, 12, 12])
    y = b.add("Conv", x, b.weights("w", (16, 16, 3, 3)))
    y = b.add("CumSum", y, b.constant(2, np.int64))
    return b.output(b.add("Neg", b.add("Tanh", b.add("Abs", y)))).model()


def trial(speedup: float, *failures: str) -> Trial:
    times = {"min": 1.0, "median": 1.0}
    return Trial(errors={}, failures=failures, ort_ms=times, bolt_ms=times, speedup=speedup)


def optimized(
    verdicts: list[Trial | Exception], monkeypatch: pytest.MonkeyPatch, cache: Path
) -> tuple[Artifact, list[Any]]:
    """The artifact when trial runs end like `verdicts`, and what is left of them."""
    left: Iterator[Trial | Exception] = iter(verdicts)

    def run_trial(*_: Any, **__: Any) -> Trial:
        verdict = next(left)
        if isinstance(verdict, Exception):
            raise verdict
        return verdict

    monkeypatch.setattr(driver, "run_trial", run_trial)
    artifact = driver.optimize(two_parts(), make(budget="0", threads=1, cache=cache), everything=True)
    return artifact, list(left)


def test_a_faster_model_ships_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    artifact, left = optimized([trial(1.3)], monkeypatch, tmp_path)
    assert len(artifact.report["partitions"]) == 2
    assert left == []


def test_what_no_kernel_computes_right_is_left_to_ort(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    check = Operands.check

    def checked(self: Operands, memory: np.ndarray) -> Comparison:
        found = check(self, memory)
        return replace(found, ok=False, reason="it is odd") if self.spec.op == "conv" else found

    monkeypatch.setattr(Operands, "check", checked)
    options = make(budget="20s", threads=1, cache=tmp_path, ab=False)
    artifact = driver.optimize(two_parts(), options, everything=True)
    assert [p["nodes"] for p in artifact.report["partitions"]] == [["n2_Abs", "n3_Tanh", "n4_Neg"]]
    assert any("failed: wrong: it is odd" in r["reason"] for r in artifact.report["rejections"])


def test_small_parts_go_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    artifact, _ = optimized([trial(0.8), trial(1.2)], monkeypatch, tmp_path)
    assert [p["nodes"] for p in artifact.report["partitions"]] == [["n0_Conv"]]
    assert artifact.report["notes"]["flops_share"] > 0.9
    reasons = [r["reason"] for r in artifact.report["rejections"] if r["stage"] == "choose"]
    assert any("0.80x" in r for r in reasons)
    artifact.session(threads=1).run(None, {"x": np.zeros((1, 16, 12, 12), np.float32)})


def test_what_stays_slower_is_left_to_ort(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    artifact, _ = optimized([trial(0.8), trial(0.9)], monkeypatch, tmp_path)
    assert artifact.report["partitions"] == []
    assert onnx.load(artifact.model_path).graph.node[0].op_type == "Conv"


@pytest.mark.parametrize("verdict", [trial(1.0, "output 'y': off"), VerifyError("it crashed")])
def test_a_wrong_or_crashing_model_is_left_to_ort(
    verdict: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    artifact, _ = optimized([verdict], monkeypatch, tmp_path)
    assert artifact.report["partitions"] == []
    assert any(r["stage"] == "verify" for r in artifact.report["rejections"])
