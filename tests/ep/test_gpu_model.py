"""Generated CUDA modules, run by the execution provider on the emulated GPU (tests/cuda)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_models
import pytest
from ep.test_gpu import passes
from kernels.cuda_harness import NEEDS_EMULATOR
from lowered import covered
from module import device_run
from onnx import helper
from onnx_models import ModelBuilder

from bolt.ep import package
from bolt.ep.artifact import Artifact
from bolt.graph.conventions import conventions
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


def outlined(model: onnx.ModelProto, program: Program) -> onnx.ModelProto:
    """The model as one partition."""
    node = package.context_node("p0", [v.name for v in program.inputs], [v.name for v in program.outputs])
    graph = helper.make_graph([node], "g", list(model.graph.input), list(model.graph.output))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def packaged(folder: Path, model: onnx.ModelProto, precision: str, **sizes: int) -> Artifact:
    """The package of a model that one module takes as a whole."""
    found = covered(
        model, conventions=conventions(SM80, precision), supports=lambda s: supports(s, SM80), **sizes
    )
    (program,) = found.programs
    path, weights = device_run.built(program, SM80, found.sizes)
    variant = package.Variant(target=SM80.name, module_path=path, weights=weights)
    return package.write(
        folder / "model.bolt",
        name="model",
        model=outlined(model, program),
        partitions=[package.Partition(name="p0", variants=(variant,))],
        source_sha256="0" * 64,
        report={},
        tools={},
    )


def check(folder: Path, model: onnx.ModelProto, precision: str, **sizes: int) -> None:
    artifact = packaged(folder, model, precision, **sizes)
    values = onnx_models.feeds(model, seed=1, **sizes)
    wanted = onnx_models.run(model, values)
    saved = {f"in:{k}": v for k, v in values.items()} | {f"out:{k}": v for k, v in wanted.items()}
    np.savez(folder / "values.npz", **saved)
    passes("generated", artifact, str(folder / "values.npz"), precision)


def test_hand_written_kernels(tmp_path: Path) -> None:
    check(tmp_path, layers(), "fp16", n=3)


@pytest.mark.slow
@pytest.mark.parametrize("build", [onnx_models.convnet, onnx_models.attention_block])
def test_models(tmp_path: Path, build: object) -> None:
    check(tmp_path, build(), "fp16")
