"""Generated CUDA modules, run by the execution provider on the emulated GPU (tests/cuda)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_models
import pytest
from ep.test_gpu import passes
from kernels.cuda_harness import NEEDS_EMULATOR
from lowered import optimized
from module import device_run
from onnx_models import ModelBuilder

from bolt.ep import package
from bolt.ep.artifact import Artifact
from bolt.graph.conventions import conventions
from bolt.graph.outline import outline
from bolt.program import Program
from bolt.search.candidates import supports
from bolt.target import SM80

pytestmark = NEEDS_EMULATOR


def layers() -> onnx.ModelProto:
    """Scaled and gated rows: two hand-written kernels with a value of theirs between them."""
    b = ModelBuilder()
    x = b.input("x", ["n", 40])
    y = b.add("LayerNormalization", x, b.weights("s", (40,)), b.weights("t", (40,)))
    return b.output(b.add("Softmax", b.add("Mul", y, b.add("Sigmoid", x)))).model()


def chosen_rows() -> onnx.ModelProto:
    """Kernels around an operator of the CPU; those behind it also read what those before it made."""
    b = ModelBuilder()
    x = b.input("x", ["n", 40])
    y = b.add("LayerNormalization", x, b.weights("s", (40,)), b.weights("t", (40,)))
    best, _ = b.add("TopK", b.add("Mul", y, b.add("Sigmoid", x)), b.constant([24], np.int64), outputs=2)
    gate = b.add("Softmax", b.add("Slice", y, *(b.constant([i], np.int64) for i in (3, 27, 1))))
    b.output(b.add("Mul", b.add("Relu", best), gate))
    return b.output(y).model()


def packaged(folder: Path, model: onnx.ModelProto, precision: str, **sizes: int) -> Artifact:
    """The package of a model, with a module for each partition."""
    graph, found = optimized(
        model, conventions=conventions(SM80, precision), supports=lambda s: supports(s, SM80), **sizes
    )

    def partition(name: str, program: Program) -> package.Partition:
        path, weights = device_run.built(program, SM80, found.sizes)
        variant = package.Variant(target=SM80.name, module_path=path, weights=weights)
        return package.Partition(name=name, variants=(variant,))

    return package.write(
        folder / "model.bolt",
        name="model",
        model=outline(graph, found.partitions, package.context_node),
        partitions=[
            partition(p.name, program) for p, program in zip(found.partitions, found.programs, strict=True)
        ],
        source_sha256="0" * 64,
        report={},
        tools={},
    )


def check(folder: Path, model: onnx.ModelProto, precision: str, *, partitions: int = 1, **sizes: int) -> None:
    artifact = packaged(folder, model, precision, **sizes)
    assert len(list((artifact.path / "modules").iterdir())) == partitions
    values = onnx_models.feeds(model, seed=1, **sizes)
    wanted = onnx_models.run(model, values)
    saved = {f"in:{k}": v for k, v in values.items()} | {f"out:{k}": v for k, v in wanted.items()}
    np.savez(folder / "values.npz", **saved)
    scenario = "generated" if partitions == 1 else "generated_parts"
    passes(scenario, artifact, str(folder / "values.npz"), precision)


def test_hand_written_kernels(tmp_path: Path) -> None:
    check(tmp_path, layers(), "fp16", n=3)


def test_partitions_around_a_node_of_the_cpu(tmp_path: Path) -> None:
    check(tmp_path, chosen_rows(), "fp16", partitions=2, n=3)


@pytest.mark.slow
@pytest.mark.parametrize("build", [onnx_models.convnet, onnx_models.attention_block])
def test_models(tmp_path: Path, build: object) -> None:
    check(tmp_path, build(), "fp16")
