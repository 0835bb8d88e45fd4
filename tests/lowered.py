"""Lower a whole small model and run it in NumPy."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_models
import program_interpreter

from bolt.graph.cover import Cover, cover
from bolt.graph.load import load
from bolt.graph.pipeline import optimize
from bolt.graph.samples import sample
from bolt.graph.shapes import infer
from bolt.module.plan import plan


def covered(model: onnx.ModelProto, **sizes: int) -> Cover:
    """The model's cover, every node taken that can be."""
    graph = load(model)
    optimize(graph)
    shapes = infer(graph)
    return cover(
        graph,
        shapes,
        sample(graph, shapes, {n: (s,) for n, s in sizes.items()}),
        lambda spec: None,
        everything=True,
    )


def check(model: onnx.ModelProto, *, seed: int = 0, **sizes: int) -> Cover:
    """Lower `model`, run its programs one after the other, and compare with ORT; returns the cover."""
    found = covered(model, **sizes)
    assert [r.reason for r in found.rejections] == []
    values = onnx_models.feeds(model, seed=seed, **sizes)
    expected = onnx_models.run(model, values)
    for program in found.programs:
        inputs = [values[v.name] for v in program.inputs]
        outputs = program_interpreter.run(program, inputs)
        shared = program_interpreter.run(program, inputs, plan(program, sizes))
        for one, other in zip(outputs, shared, strict=True):
            np.testing.assert_array_equal(one, other, "sharing memory between temporaries changes the result")
        values |= {v.name: o for v, o in zip(program.outputs, outputs, strict=True)}
    for name, want in expected.items():
        got = values[name]
        assert got.shape == want.shape
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-5 * max(1.0, np.abs(want).max()))
    return found
