"""Lowering against ORT, through the NumPy interpreter: layouts, views, halos, epilogues, dynamic dims."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_models
import pytest
from lowered import CONVS, check, conv_model, covered, ops
from onnx_models import ModelBuilder


@pytest.mark.parametrize("name", CONVS)
def test_conv(name: str) -> None:
    x, w, attributes = CONVS[name]
    found = check(conv_model(x, w, **attributes))
    assert ops(found).count("conv") == 1
    assert "pointwise" not in ops(found)


def test_conv_dynamic() -> None:
    model = conv_model(["n", 3, "h", "w"], (4, 3, 3, 3), pads=[1, 1, 1, 1], strides=[2, 2])
    check(model, n=1, h=12, w=9)
    check(model, n=3, h=7, w=16)


@pytest.mark.parametrize("stride,pad,group", [(2, 0, 1), (2, 1, 1), (1, 1, 2), (3, 0, 1)])
def test_conv_transpose(stride: int, pad: int, group: int) -> None:
    b = ModelBuilder()
    x = b.input("x", [1, 4, 5, 6])
    w = b.weights("w", (4, 3, 3, 3))
    bias = b.weights("b", (3 * group,))
    y = b.add(
        "ConvTranspose", x, w, bias, strides=[stride] * 2, pads=[pad] * 4, group=group, output_padding=[0, 0]
    )
    check(b.output(y).model())


OPEN = {"N": 2, "H": 5}
BLOCKS: dict[str, tuple[list[Any], tuple[int, ...], dict[str, Any], int]] = {
    "2x2": ([1, 4, 5, 6], (4, 3, 2, 2), {"strides": [2, 2]}, 2),
    "one channel": ([2, 6, 4, 3], (6, 1, 2, 2), {"strides": [2, 2]}, 2),
    "3x2": ([1, 4, 3, 4], (4, 2, 3, 2), {"strides": [3, 2]}, 3),
    "1-D": ([1, 4, 9], (4, 3, 4), {"strides": [4]}, 1),
    "open sizes": (["N", 4, "H", 6], (4, 3, 2, 2), {"strides": [2, 2]}, 2),
    "overlapping": ([1, 4, 5, 6], (4, 3, 3, 3), {"strides": [2, 2]}, 0),
    "cropped": ([1, 4, 5, 6], (4, 3, 2, 2), {"strides": [2, 2], "pads": [0, 0, 1, 0]}, 0),
    "groups": ([1, 4, 5, 6], (4, 1, 2, 2), {"strides": [2, 2], "group": 2}, 0),
}


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("with_residual", [False, True])
def test_blocks_of_a_transposed_convolution(name: str, with_residual: bool) -> None:
    x, w, attributes, rows = BLOCKS[name]
    b = ModelBuilder()
    weights, bias = b.weights("w", w), b.weights("b", (w[1] * attributes.get("group", 1),))
    y = b.add("Relu", b.add("ConvTranspose", b.input("x", x), weights, bias, **attributes))
    if with_residual:
        y = b.add("Add", y, b.add("ConvTranspose", "x", b.weights("v", w), bias, **attributes))
    found = check(b.output(b.add("Sigmoid", y)).model(), **{n: s for n, s in OPEN.items() if n in x})
    calls = 2 if with_residual else 1
    assert ops(found).count("conv") == calls * rows
    assert ops(found).count("conv_transpose") == (0 if rows else calls)


def test_residual_and_activation_are_one_kernel() -> None:
    b = ModelBuilder()
    x = b.input("x", [1, 8, 6, 6])
    y = b.add("Relu", b.add("Conv", x, b.weights("w0", (8, 8, 3, 3)), pads=[1] * 4))
    z = b.add("Conv", y, b.weights("w1", (8, 8, 3, 3)), pads=[1] * 4)
    found = check(b.output(b.add("Relu", b.add("Add", z, y))).model())
    assert [o for o in ops(found) if o != "copy"] == ["conv", "conv"]


def test_silu_by_parts_is_an_epilogue() -> None:
    b = ModelBuilder()
    x = b.input("x", [1, 4, 6, 6])
    y = b.add("Conv", x, b.weights("w", (4, 4, 1, 1)))
    found = check(b.output(b.add("Mul", y, b.add("Sigmoid", y))).model())
    assert "pointwise" not in ops(found)


def test_squeeze_and_excite() -> None:
    b = ModelBuilder()
    x = b.input("x", ["n", 6, 8, 8])
    y = b.add("Conv", x, b.weights("w", (6, 6, 3, 3)), pads=[1] * 4)
    gate = b.add("Conv", b.add("GlobalAveragePool", y), b.weights("w1", (6, 6, 1, 1)))
    y = b.add("Mul", y, b.add("HardSigmoid", gate))
    check(b.output(b.add("Conv", y, b.weights("w2", (5, 6, 1, 1)))).model(), n=2)


def test_concat_parts_are_written_in_place() -> None:
    b = ModelBuilder()
    x = b.input("x", [1, 4, 6, 6])
    parts = [b.add("Conv", x, b.weights(f"w{i}", (c, 4, 1, 1))) for i, c in enumerate((3, 5, 4))]
    y = b.add("Concat", *parts, axis=1)
    found = check(b.output(b.add("Conv", y, b.weights("w", (2, 12, 3, 3)), pads=[1] * 4)).model())
    assert ops(found).count("copy") <= 2, "the input's and the output's layout change"


def test_split_feeds_concat_without_copies() -> None:
    """C2f of YOLOv8: both halves of a split and a branch of one half are concatenated."""
    b = ModelBuilder()
    x = b.input("x", [1, 4, 6, 6])
    y = b.add("Conv", x, b.weights("w0", (8, 4, 1, 1)))
    a, c = b.add("Split", y, b.constant([4, 4], np.int64), outputs=2, axis=1)
    d = b.add("Conv", c, b.weights("w1", (4, 4, 3, 3)), pads=[1] * 4)
    z = b.add("Concat", a, c, b.add("Add", d, c), axis=1)
    found = check(b.output(b.add("Conv", z, b.weights("w2", (4, 12, 1, 1)))).model())
    assert ops(found).count("copy") <= 2


def test_concat_used_twice_and_with_constants() -> None:
    b = ModelBuilder()
    x = b.input("x", [2, 3, 4])
    y = b.add("Relu", x)
    z = b.add("Concat", y, y, b.weights("c", (2, 2, 4)), axis=1)
    check(b.output(b.add("Tanh", z)).model())


GEMMS = [
    dict(transA=0, transB=0, alpha=1.0, beta=1.0),
    dict(transA=1, transB=0, alpha=0.5, beta=2.0),
    dict(transA=0, transB=1, alpha=1.0, beta=0.0),
    dict(transA=1, transB=1, alpha=-1.0, beta=1.0),
]


@pytest.mark.parametrize("attributes", GEMMS)
@pytest.mark.parametrize("constant", [True, False])
def test_gemm(attributes: dict[str, Any], constant: bool) -> None:
    b = ModelBuilder()
    a = b.input("a", [6, 5] if attributes["transA"] else [5, 6])
    shape = [7, 6] if attributes["transB"] else [6, 7]
    w = b.weights("w", shape) if constant else b.input("w", shape)
    y = b.add("Gemm", a, w, b.weights("c", (7,)), **attributes)
    check(b.output(b.add("Relu", y)).model())


@pytest.mark.parametrize(
    "a,w,constant",
    [
        ([2, 3, 5, 6], [6, 4], True),
        ([2, 3, 5, 6], [2, 3, 6, 4], False),
        ([2, 3, 5, 6], [3, 6, 4], False),
        ([5, 6], [2, 6, 4], False),
        (["b", "s", 6], [6, 4], True),
        (["b", 3, "s", 6], ["b", 3, 6, "s"], False),
    ],
)
def test_matmul(a: list[Any], w: list[Any], constant: bool) -> None:
    b = ModelBuilder()
    x = b.input("x", a)
    y = b.add("MatMul", x, b.weights("w", w) if constant else b.input("w", w))
    sizes = {n: s for n, s in (("b", 2), ("s", 5)) if n in a}
    check(b.output(b.add("Relu", y)).model(), **sizes)


@pytest.mark.parametrize("opset,axis", [(11, 1), (11, 2), (11, 0), (13, 1), (13, -1), (13, 0)])
@pytest.mark.parametrize("kind", ["Softmax", "LogSoftmax"])
def test_softmax(opset: int, axis: int, kind: str) -> None:
    b = ModelBuilder(opset=opset)
    x = b.input("x", [3, 4, 5])
    check(b.output(b.add(kind, x, axis=axis)).model())


@pytest.mark.parametrize("axes", [[0], [1], [2], [3], [1, 2], [2, 3], [0, 2], [0, 1, 2, 3], [1, 3]])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_reduce(axes: list[int], keepdims: int) -> None:
    b = ModelBuilder(opset=13)
    x = b.input("x", [2, 3, 4, 5])
    check(b.output(b.add("ReduceMean", x, axes=axes, keepdims=keepdims)).model())


@pytest.mark.parametrize("axes", [[1], [2, 3], [1, 2, 3]])
def test_reduce_after_conv(axes: list[int]) -> None:
    b = ModelBuilder(opset=13)
    x = b.input("x", [2, 3, 6, 5])
    y = b.add("Conv", x, b.weights("w", (4, 3, 3, 3)), pads=[1] * 4)
    check(b.output(b.add("Sqrt", b.add("Abs", b.add("ReduceMax", y, axes=axes, keepdims=0)))).model())


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize(
    "attributes",
    [
        dict(kernel_shape=[2, 2], strides=[2, 2]),
        dict(kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        dict(kernel_shape=[3, 2], strides=[2, 1], pads=[0, 1, 1, 0], ceil_mode=1),
        dict(kernel_shape=[3, 3], auto_pad="SAME_UPPER", strides=[2, 2]),
    ],
)
def test_pool(kind: str, attributes: dict[str, Any]) -> None:
    b = ModelBuilder()
    x = b.input("x", [1, 3, 9, 8])
    y = b.add("Conv", x, b.weights("w", (4, 3, 1, 1)))
    check(b.output(b.add(kind, y, **attributes)).model())


def test_layer_norm_over_two_axes() -> None:
    b = ModelBuilder()
    x = b.input("x", ["n", 4, 6])
    y = b.add("LayerNormalization", x, b.weights("s", (4, 6)), b.weights("t", (4, 6)), axis=1)
    check(b.output(y).model(), n=3)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_resize(mode: str) -> None:
    b = ModelBuilder()
    x = b.input("x", [1, 3, "h", 4])
    scales = b.constant([1, 1, 2, 3], np.float32)
    y = b.add("Resize", b.add("Relu", x), "", scales, mode=mode, coordinate_transformation_mode="asymmetric")
    check(b.output(y).model(), h=5)


@pytest.mark.parametrize("coordinate", ["half_pixel", "align_corners", "pytorch_half_pixel"])
def test_cubic_resize(coordinate: str) -> None:
    b = ModelBuilder(opset=13)
    sizes = b.constant([1, 2, 9, 3], np.int64)
    how = {"coordinate_transformation_mode": coordinate, "cubic_coeff_a": -0.5}
    y = b.add("Resize", b.input("x", [1, 2, 5, 7]), "", "", sizes, mode="cubic", **how)
    check(b.output(b.add("Relu", y)).model())


def test_data_movement() -> None:
    b = ModelBuilder(opset=13)
    x = b.input("x", [2, 6, 4, 4])
    y = b.add("Slice", x, *(b.constant(v, np.int64) for v in ([1, -3], [100, 4], [1, 3], [2, 1])))
    y = b.add("Transpose", y, perm=[0, 2, 3, 1])
    y = b.add("Reshape", y, b.constant([0, -1], np.int64))
    y = b.add("Unsqueeze", y, b.constant([1], np.int64))
    y = b.add("Expand", y, b.constant([2, 3, 1], np.int64))
    y = b.add("Pad", y, b.constant([0, 1, 2, 0, 0, 3], np.int64), b.constant(1.5, np.float32))
    check(b.output(b.add("Neg", y)).model())


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(mode: str) -> None:
    b = ModelBuilder()
    x = b.input("x", [1, 8, 3, 4])
    y = b.add("Conv", x, b.weights("w", (12, 8, 1, 1)))
    y = b.add("DepthToSpace", y, blocksize=2, mode=mode)
    check(b.output(b.add("SpaceToDepth", b.add("Relu", y), blocksize=2)).model())


def test_gather() -> None:
    b = ModelBuilder()
    x = b.input("ids", ["n", "s"], np.int64)
    y = b.add("Gather", b.weights("table", (9, 5)), x)
    check(b.output(b.add("Relu", y)).model(), n=2, s=4)


GATHERED = {
    "all elements in order": ([2, 3], [[[i, j] for j in range(3)] for i in range(2)]),
    "rows in order": ([4, 3], [[1], [2], [3]]),
    "any elements": ([2, 3], [[1, 2], [0, -3], [1, 0]]),
    "any rows": ([4, 3, 2], [[[2], [0]], [[-1], [2]]]),
}


@pytest.mark.parametrize("name", GATHERED)
def test_gather_nd_by_constants(name: str) -> None:
    dims, index = GATHERED[name]
    b = ModelBuilder()
    y = b.add("GatherND", b.add("Relu", b.input("x", dims)), b.constant(index, np.int64))
    found = check(b.output(b.add("Neg", y)).model())
    assert ("gather" in ops(found)) == name.startswith("any")


def test_shape_arithmetic_is_computed_by_the_module() -> None:
    b = ModelBuilder()
    x = b.input("x", ["n", "s", 4])
    extents = b.add("Shape", x)
    rows = b.add("Mul", *(b.add("Gather", extents, b.constant(i, np.int64)) for i in (0, 1)))
    flat = b.add("Unsqueeze", rows, b.constant([0], np.int64))
    shape = b.add("Concat", flat, b.constant([4], np.int64), axis=0)
    y = b.add("Relu", b.add("Reshape", x, shape))
    b.output(shape, dtype=np.int64)
    check(b.output(y).model(), n=3, s=5)


def test_input_straight_to_output() -> None:
    b = ModelBuilder()
    x = b.input("x", [2, 3])
    b.output(b.add("Identity", x))
    check(b.output(b.add("Relu", x)).model())


@pytest.mark.parametrize("build", [onnx_models.convnet, onnx_models.attention_block])
def test_models(build: Any) -> None:
    check(build())


def test_models_dynamic() -> None:
    check(onnx_models.convnet(batch="n", size="h"), n=2, h=18, h2=14)
    check(onnx_models.attention_block(batch="n", length="s"), n=2, s=7)


def test_unsupported_operator_splits_the_model() -> None:
    b = ModelBuilder()
    x = b.input("x", [1, 4, 6, 6])
    y = b.add("Relu", b.add("Conv", x, b.weights("w0", (4, 4, 1, 1))))
    y = b.add("CumSum", y, b.constant(2, np.int64))
    y = b.add("Relu", b.add("Conv", y, b.weights("w1", (4, 4, 1, 1))))
    found = covered(b.output(y).model())
    assert len(found.partitions) == 2
    assert [r.subject for r in found.rejections] == ["n2_CumSum"]
    assert found.flops_share == 1.0


def test_partitions_deep_in_a_dynamic_model_get_symbols_of_their_own() -> None:
    """The second partition only sees floor((h - 1) / 2) + 1 and 2 w, not h and w."""
    b = ModelBuilder()
    x = b.input("x", [1, 4, "h", "w"])
    y = b.add("Conv", x, b.weights("w0", (4, 4, 3, 3)), pads=[1] * 4, strides=[2, 1])
    y = b.add("CumSum", b.add("Concat", y, y, axis=3), b.constant(2, np.int64))
    y = b.add("Conv", y, b.weights("w1", (4, 4, 3, 3)), pads=[1] * 4)
    found = covered(b.output(b.add("Relu", y)).model(), h=9, w=6)
    assert len(found.programs) == 2
    assert found.flops_share == 1.0
    second = found.programs[1]
    assert second.used_symbols() <= second.bound_symbols()
    assert [found.sizes[s] for s in second.symbols()] == [5, 12]


@pytest.mark.parametrize("mode", ["reflect", "edge"])
@pytest.mark.parametrize(
    ("shape", "pads"),
    [
        ([1, 40], [0, 7, 0, 39]),
        ([2, 3, 5, 6], [0, 0, 2, 3, 0, 0, 4, 1]),
        ([2, 3, 4], [1, 0, 3, 1, 2, 0]),
    ],
)
def test_mirrored_borders(mode: str, shape: list[int], pads: list[int]) -> None:
    b = ModelBuilder(opset=13)
    padded = b.add("Pad", b.add("Neg", b.input("x", shape)), b.constant(pads, np.int64), mode=mode)
    check(b.output(b.add("Tanh", padded)).model())


def test_mirrors_of_what_is_not_known_are_left() -> None:
    b = ModelBuilder(opset=13)
    padded = b.add("Pad", b.input("x", [1, "L"]), b.constant([0, 3, 0, 3], np.int64), mode="reflect")
    found = covered(b.output(b.add("Tanh", padded)).model(), L=9)
    assert any("run time" in r.reason for r in found.rejections)


def test_edges_of_run_time_extents() -> None:
    b = ModelBuilder(opset=13)
    padded = b.add("Pad", b.input("x", [1, "L"]), b.constant([0, 3, 0, 2], np.int64), mode="edge")
    check(b.output(b.add("Tanh", padded)).model(), L=9)
