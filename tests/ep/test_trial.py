"""The trial run: what it finds right, wrong and timed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from ep import toy
from onnx import TensorProto, helper, numpy_helper

from bolt.ep import package
from bolt.ep.artifact import Artifact
from bolt.ep.trial import run_trial
from bolt.target import TARGETS, runs_here

HERE = [t.name for t in TARGETS if runs_here(t)]
X = np.linspace(-1, 1, 3 * toy.K, dtype=np.float32).reshape(3, toy.K)


def plain_model() -> onnx.ModelProto:
    """y = x * 2 + w: what the toy computes, in ONNX."""
    constants = [numpy_helper.from_array(np.float32(2), "s"), numpy_helper.from_array(toy.Toy().weights, "w")]
    nodes = [helper.make_node("Mul", ["x", "s"], ["t"]), helper.make_node("Add", ["t", "w"], ["y"])]
    io = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", toy.K]) for n in "xy"]
    graph = helper.make_graph(nodes, "toy", io[:1], io[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def artifact(folder: Path, *toys: toy.Toy) -> Artifact:
    """One partition with the toys as its variants."""
    return package.write(
        folder / "toy.bolt",
        name="toy",
        model=toy.only_partition(),
        partitions=[package.Partition(name="p0", variants=tuple(toy.variant(t) for t in toys))],
        source_sha256="0" * 64,
        report={},
        tools={},
    )


def trial(folder: Path, *toys: toy.Toy, timed: bool = False):
    made = artifact(folder, *toys)
    onnx.save(plain_model(), folder / "plain.onnx")
    return run_trial(made.path, folder / "plain.onnx", {"x": X}, threads=1, timed=timed)


def test_a_right_package(tmp_path: Path) -> None:
    found = trial(tmp_path, toy.Toy(target=HERE[-1]))
    assert found.failures == () and found.errors["y"] < 1e-6
    assert found.speedup is None and not found.ort_ms


@pytest.mark.skipif(len(HERE) < 2, reason="this machine runs one target only")
@pytest.mark.parametrize("wrong", [0, 1])
def test_every_variant_is_compared(wrong: int, tmp_path: Path) -> None:
    toys = [toy.Toy(target=name, scale=3.0 if i == wrong else 2.0) for i, name in enumerate(HERE[:2])]
    found = trial(tmp_path, *toys)
    assert len(found.failures) == 1 and found.failures[0].startswith(f"output 'y' on {HERE[wrong]}: ")
