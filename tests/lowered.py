"""Lower a whole small model and run it in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnx_models
import program_interpreter
from onnx_models import ModelBuilder

from bolt.graph.conventions import CPU, Conventions
from bolt.graph.cover import Cover, Supports, cover
from bolt.graph.load import load
from bolt.graph.pipeline import optimize
from bolt.graph.samples import sample
from bolt.graph.shapes import infer
from bolt.module.plan import plan
from bolt.program import Step


def covered(
    model: onnx.ModelProto,
    *,
    conventions: Conventions = CPU,
    supports: Supports = lambda spec: None,
    **sizes: int,
) -> Cover:
    """The model's cover, every node taken that can be."""
    return optimized(model, conventions=conventions, supports=supports, **sizes)[1]


def optimized(
    model: onnx.ModelProto,
    *,
    conventions: Conventions = CPU,
    supports: Supports = lambda spec: None,
    **sizes: int,
) -> tuple[ir.Model, Cover]:
    """The model after the graph passes, and its cover."""
    graph = load(model)
    optimize(
        graph,
        device=conventions.is_device,
        int8=conventions.has_int8,
        float8=conventions.has_float8,
    )
    shapes = infer(graph)
    found = cover(
        graph,
        shapes,
        sample(graph, shapes, {n: (s,) for n, s in sizes.items()}),
        supports,
        conventions=conventions,
        everything=True,
    )
    return graph, found


def beside_ort(
    model: onnx.ModelProto, conventions: Conventions = CPU, *, seed: int = 0, **sizes: int
) -> tuple[Cover, list[tuple[np.ndarray, np.ndarray]]]:
    """Lower `model` and run its programs one after the other; the cover, and each output beside ORT's."""
    found = covered(model, conventions=conventions, **sizes)
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
    pairs = [(values[name], want) for name, want in expected.items()]
    for got, want in pairs:
        assert got.shape == want.shape
        assert got.dtype == want.dtype
    return found, pairs


def check(
    model: onnx.ModelProto,
    *,
    seed: int = 0,
    conventions: Conventions = CPU,
    tolerance: float = 2e-5,
    **sizes: int,
) -> Cover:
    """What `beside_ort` gives is equal within `tolerance`; returns the cover."""
    found, pairs = beside_ort(model, conventions, seed=seed, **sizes)
    for got, want in pairs:
        limit = tolerance * max(1.0, np.abs(want).max())
        np.testing.assert_allclose(got, want, rtol=10 * tolerance, atol=limit)
    return found


def ops(found: Any) -> list[str]:
    """Names of the kernels a cover calls, without the clearing of borders."""
    return [s.spec.op for p in found.programs for s in p.steps if isinstance(s, Step) and s.spec.op != "fill"]


def conv_model(x: list[Any], w: tuple[int, ...], *, bias: bool = True, **attributes: Any) -> Any:
    b = ModelBuilder()
    inputs = [b.input("x", x), b.weights("w", w)]
    if bias:
        inputs.append(b.weights("b", (w[0],)))
    return b.output(b.add("Relu", b.add("Conv", *inputs, **attributes))).model()


CONVS = {
    "3x3": ([1, 5, 9, 11], (7, 5, 3, 3), {"pads": [1, 1, 1, 1]}),
    "asymmetric pads": ([2, 3, 8, 9], (4, 3, 3, 3), {"pads": [0, 2, 1, 0]}),
    "stride and dilation": ([1, 4, 17, 15], (6, 4, 3, 3), {"strides": [2, 3], "dilations": [2, 1]}),
    "groups": ([1, 6, 8, 8], (9, 2, 3, 3), {"group": 3, "pads": [1, 1, 1, 1]}),
    "depthwise": ([1, 6, 8, 8], (6, 1, 5, 5), {"group": 6, "pads": [2, 2, 2, 2], "strides": [2, 2]}),
    "pointwise": ([2, 6, 5, 7], (3, 6, 1, 1), {}),
    "one input channel": ([1, 1, 9, 8], (4, 1, 3, 3), {"pads": [1, 1, 1, 1]}),
    "a column": ([2, 4, 20, 1], (5, 4, 3, 1), {"pads": [2, 0, 1, 0], "strides": [2, 1]}),
    "1-D": ([2, 4, 20], (5, 4, 3), {"pads": [2, 1], "strides": [2]}),
    "same upper": ([1, 3, 10, 11], (4, 3, 4, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "same lower": ([1, 3, 10, 11], (4, 3, 4, 3), {"auto_pad": "SAME_LOWER", "strides": [2, 1]}),
    "valid": ([1, 3, 10, 11], (4, 3, 3, 3), {"auto_pad": "VALID"}),
    "column kernel": ([1, 3, 10, 6], (4, 3, 3, 1), {"pads": [1, 0, 1, 0]}),
}
