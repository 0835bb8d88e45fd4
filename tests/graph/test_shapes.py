"""Symbolic extents and integer contents, checked against what ORT computes for concrete inputs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper
from onnx_models import ModelBuilder, attention_block, convnet, feeds, run

from bolt import dims
from bolt.graph.load import load
from bolt.graph.partition import partition
from bolt.graph.shapes import Shapes, infer, rebase
from bolt.report import Rejection
from bolt.types import F32, S64


def bind(model: ir.Model, shapes: Shapes, inputs: Mapping[str, np.ndarray]) -> dict[str, int]:
    bindings = {}
    for value in model.graph.inputs:
        for d, extent in zip(shapes.dims(value), inputs[value.name].shape, strict=True):
            if not isinstance(d, int):
                bindings[str(d)] = extent
    return bindings


def number(element, bindings: Mapping[str, int]) -> float:
    if isinstance(element, int):
        return float(element)
    return float(element.subs({s: bindings[s.name] for s in element.free_symbols}))


def check(proto: onnx.ModelProto, *, complete: bool = True, **named: int) -> Shapes:
    """Every known extent and content is what ORT computes; with `complete`, all extents are known."""
    model = load(proto)
    shapes = infer(model)
    everything = ir.to_proto(model)
    existing = {o.name for o in everything.graph.output}
    values = {v.name: v for n in model.graph for v in n.outputs if v.name}
    for output in everything.graph.output:
        output.type.tensor_type.elem_type = int(shapes.onnx_dtype(values[output.name]))
    for name, value in values.items():
        dtype = shapes.onnx_dtype(value)
        if name not in existing and dtype is not None:
            everything.graph.output.append(helper.make_tensor_value_info(name, int(dtype), None))
    inputs = feeds(proto, **named)
    results = run(everything, inputs)
    bindings = bind(model, shapes, inputs)
    for name, result in results.items():
        value = values[name]
        known = shapes.dims(value)
        assert known is not None or not complete, f"{name}: extents unknown"
        if known is not None and not set(dims.symbols(known)) - set(bindings):
            assert tuple(dims.evaluate(d, bindings) for d in known) == np.shape(result), name
        if shapes.dtype(value) is not None:
            assert shapes.dtype(value).np == np.asarray(result).dtype, name
        content = shapes.content(value)
        if content is not None:
            assert content.shape == np.shape(result)
            numbers = [number(e, bindings) for e in content.reshape(-1)]
            np.testing.assert_array_equal(numbers, np.asarray(result, np.float64).reshape(-1), err_msg=name)
    assert not shapes.introduced or not complete
    return shapes


SIZES = ({"N": 1, "C": 3, "H": 8, "W": 9}, {"N": 3, "C": 5, "H": 17, "W": 12})


def one(op_type, *shape, constants=(), opset=17, dtype=np.float32, outputs=1, **attributes):
    """A model of one node; constants are (array, dtype) for the further inputs."""
    b = ModelBuilder(opset=opset)
    x = b.input("x", list(shape), dtype)
    extra = ["" if c is None else b.constant(*c) for c in constants]
    out = b.add(op_type, x, *extra, outputs=outputs, **attributes)
    for name in [out] if isinstance(out, str) else out:
        b.output(name, None, dtype)
    return b


I64, F = np.int64, np.float32
IMAGE = ("N", 3, "H", "W")


def weights(*shape):
    return (np.random.default_rng(1).uniform(-1, 1, shape), F)


SPATIAL = {
    "conv": one("Conv", *IMAGE, constants=[weights(4, 3, 3, 3)]),
    "conv_pad": one("Conv", *IMAGE, constants=[weights(4, 3, 3, 5)], pads=[1, 2, 0, 1]),
    "conv_stride": one("Conv", *IMAGE, constants=[weights(4, 3, 3, 3)], strides=[2, 3], pads=[1] * 4),
    "conv_dilated": one("Conv", *IMAGE, constants=[weights(4, 3, 3, 2)], dilations=[2, 3], strides=[2, 1]),
    "conv_same_upper": one(
        "Conv", *IMAGE, constants=[weights(4, 3, 3, 3)], auto_pad="SAME_UPPER", strides=[2, 2]
    ),
    "conv_same_lower": one("Conv", *IMAGE, constants=[weights(4, 3, 2, 2)], auto_pad="SAME_LOWER"),
    "conv_valid": one("Conv", *IMAGE, constants=[weights(4, 3, 3, 3)], auto_pad="VALID", strides=[2, 2]),
    "conv_1d": one("Conv", "N", 3, "W", constants=[weights(4, 3, 3)], strides=[2]),
    "conv_3d": one("Conv", "N", 2, 4, "H", "W", constants=[weights(4, 2, 2, 2, 2)]),
    "conv_group": one("Conv", "N", 4, "H", "W", constants=[weights(8, 1, 3, 3)], group=4),
    "transposed": one("ConvTranspose", *IMAGE, constants=[weights(3, 4, 2, 2)], strides=[2, 2]),
    "transposed_pad": one(
        "ConvTranspose",
        *IMAGE,
        constants=[weights(3, 4, 3, 3)],
        strides=[2, 2],
        pads=[1, 1, 1, 1],
        output_padding=[1, 1],
    ),
    "transposed_same": one(
        "ConvTranspose", *IMAGE, constants=[weights(3, 4, 3, 3)], strides=[2, 2], auto_pad="SAME_UPPER"
    ),
    "transposed_group": one("ConvTranspose", "N", 4, "H", "W", constants=[weights(4, 3, 2, 2)], group=2),
    "transposed_dilated": one("ConvTranspose", *IMAGE, constants=[weights(3, 4, 3, 3)], dilations=[2, 1]),
    "transposed_shape": one(
        "ConvTranspose", "N", 3, 5, 5, constants=[weights(3, 4, 3, 3)], strides=[2, 2], output_shape=[10, 12]
    ),
    "max_pool": one("MaxPool", *IMAGE, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1]),
    "max_pool_ceil": one("MaxPool", *IMAGE, kernel_shape=[2, 3], strides=[2, 2], ceil_mode=1),
    "max_pool_ceil_pad": one(
        "MaxPool", *IMAGE, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4, ceil_mode=1
    ),
    "max_pool_ceil_gap": one("MaxPool", *IMAGE, kernel_shape=[1, 1], strides=[2, 3], ceil_mode=1),
    "max_pool_dilated": one(
        "MaxPool", *IMAGE, kernel_shape=[2, 2], dilations=[2, 3], ceil_mode=1, strides=[3, 2]
    ),
    "max_pool_indices": one("MaxPool", *IMAGE, kernel_shape=[2, 2], outputs=1),
    "average_pool": one("AveragePool", *IMAGE, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
    "average_pool_same": one(
        "AveragePool", *IMAGE, kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"
    ),
    "average_pool_ceil": one(
        "AveragePool", *IMAGE, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, opset=19
    ),
    "global_average": one("GlobalAveragePool", *IMAGE),
    "global_max": one("GlobalMaxPool", "N", 3, "W"),
    "lp_pool": one("LpPool", *IMAGE, kernel_shape=[2, 2], strides=[2, 2]),
    "resize_scales": one("Resize", *IMAGE, constants=[None, ([1, 1, 2, 1.5], F)]),
    "resize_sizes": one("Resize", 1, 3, "H", "W", constants=[None, None, ([1, 3, 7, 9], I64)]),
    "resize_axes": one("Resize", *IMAGE, constants=[None, ([2, 0.5], F)], axes=[2, 3], opset=18),
    "resize_odd_scale": one("Resize", "N", 3, 10, 30, constants=[None, ([1, 1, 0.3, 1.7], F)]),
    "resize_10": one("Resize", *IMAGE, constants=[([1, 1, 2, 2], F)], opset=10),
    "upsample_7": one("Upsample", *IMAGE, scales=[1.0, 1.0, 2.0, 3.0], opset=7),
    "upsample_9": one("Upsample", *IMAGE, constants=[([1, 1, 2, 2], F)], opset=9),
    "depth_to_space": one("DepthToSpace", "N", 8, "H", "W", blocksize=2),
    "space_to_depth": one("SpaceToDepth", "N", 3, 6, 8, blocksize=2),
    "instance_norm": one("InstanceNormalization", *IMAGE, constants=[weights(3), weights(3)]),
    "lrn": one("LRN", *IMAGE, size=3),
}

LAYOUT = {
    "reshape": one("Reshape", "N", 4, "H", "W", constants=[([0, -1], I64)]),
    "reshape_static": one("Reshape", "N", 4, 6, constants=[([-1, 8], I64)]),
    "reshape_split": one("Reshape", "N", "H", 12, constants=[([0, 0, 3, 4], I64)]),
    "reshape_join": one("Reshape", 2, 6, constants=[([3, 4], I64)]),
    "flatten": one("Flatten", "N", 4, "H", 2),
    "flatten_0": one("Flatten", "N", 4, axis=0),
    "flatten_negative": one("Flatten", "N", 4, "H", axis=-1),
    "transpose": one("Transpose", "N", 4, "H", perm=[2, 0, 1]),
    "transpose_default": one("Transpose", "N", 4, "H"),
    "squeeze_11": one("Squeeze", "N", 1, "H", 1, axes=[1, -1], opset=11),
    "squeeze_13": one("Squeeze", "N", 1, "H", 1, constants=[([1, -1], I64)]),
    "squeeze_all": one("Squeeze", 1, 3, 1),
    "unsqueeze_11": one("Unsqueeze", "N", "H", axes=[0, 3], opset=11),
    "unsqueeze_13": one("Unsqueeze", "N", "H", constants=[([-1, 1], I64)]),
    "split_equal": one("Split", "N", 6, outputs=3, axis=1, opset=13),
    "split_attribute": one("Split", "N", 6, outputs=2, axis=-1, split=[2, 4], opset=11),
    "split_input": one("Split", "N", 6, outputs=2, axis=1, constants=[([1, 5], I64)]),
    "split_18": one("Split", "N", 7, outputs=3, axis=1, num_outputs=3, opset=18),
    "slice_9": one("Slice", "N", 6, "H", axes=[1, 2], starts=[1, -3], ends=[5, 100], opset=9),
    "slice_no_axes_9": one("Slice", 4, 6, starts=[1, 2], ends=[-1, 9], opset=9),
    "slice": one("Slice", "N", 6, "H", constants=[([1, 2], I64), ([-1, 2**62], I64), ([1, 2], I64)]),
    "slice_steps": one("Slice", "N", "H", constants=[([1], I64), ([2**31 - 1], I64), ([1], I64), ([3], I64)]),
    "slice_reverse": one(
        "Slice", "N", "H", constants=[([-1], I64), ([-(2**63)], I64), ([1], I64), ([-1], I64)]
    ),
    "slice_reverse_static": one("Slice", "N", 9, constants=[([7], I64), ([1], I64), ([1], I64), ([-2], I64)]),
    "slice_last": one("Slice", "N", "H", constants=[([-1], I64), ([2**63 - 1], I64), ([1], I64)]),
    "slice_empty": one("Slice", "N", 6, constants=[([4], I64), ([2], I64), ([1], I64)]),
    "slice_far": one("Slice", "N", "H", constants=[([-100], I64), ([5], I64), ([1], I64)]),
    "slice_beyond": one("Slice", "N", 6, constants=[([2], I64), ([50], I64), ([1], I64)]),
    "expand": one("Expand", "N", 1, 4, constants=[([2, 1, 3, 1], I64)]),
    "tile": one("Tile", "N", 4, constants=[([2, 3], I64)]),
    "gather": one("Gather", "N", 6, constants=[([[0, -1, 2]], I64)], axis=1),
    "gather_scalar": one("Gather", "N", 6, constants=[(2, I64)], axis=-1),
    "gather_elements": one("GatherElements", 3, 6, constants=[([[0, 1], [1, 2]], I64)], axis=1),
    "gather_nd": one("GatherND", 3, 6, "H", constants=[([[0, 1], [1, 2]], I64)]),
    "pad_2": one("Pad", "N", 4, pads=[0, 1, 0, 2], opset=7),
    "pad_11": one("Pad", "N", 4, "H", constants=[([0, 1, 2, 0, 2, 3], I64)]),
    "pad_axes": one("Pad", "N", 4, "H", constants=[([1, 2], I64), None, ([-1], I64)], opset=18),
    "pad_negative": one("Pad", "N", 4, constants=[([0, -1, 0, -2], I64)]),
    "one_hot": one("OneHot", "N", "H", dtype=np.int64, constants=[(5, I64), ([0, 1], I64)], axis=1),
    "trilu": one("Trilu", "H", "W"),
    "eye_like": one("EyeLike", "H", "W"),
    "cumsum": one("CumSum", "N", "H", constants=[(1, I64)]),
    "scatter": one("ScatterElements", 3, 4, constants=[([[0, 1]], I64), ([[1, 2]], F)], axis=0),
}

MATH = {
    "matmul": one("MatMul", "N", "H", 4, constants=[weights(4, 5)]),
    "matmul_vector": one("MatMul", "N", 4, constants=[weights(4)]),
    "matmul_batch": one("MatMul", "N", 1, "H", 4, constants=[weights(3, 4, 2)]),
    "gemm": one("Gemm", "N", 4, constants=[weights(4, 5), weights(5)]),
    "gemm_transposed": one("Gemm", 4, "N", constants=[weights(5, 4)], transA=1, transB=1),
    "mean_attribute": one("ReduceMean", "N", 4, "H", axes=[1, -1], keepdims=0, opset=13),
    "mean_input": one("ReduceMean", "N", 4, "H", constants=[([-2], I64)], opset=18),
    "mean_all": one("ReduceMean", "N", 4, keepdims=0),
    "mean_noop": one("ReduceMean", "N", 4, noop_with_empty_axes=1, opset=18),
    "sum_13": one("ReduceSum", "N", 4, constants=[([1], I64)]),
    "sum_11": one("ReduceSum", "N", 4, axes=[1], opset=11),
    "max": one("ReduceMax", "N", 4, axes=[0]),
    "l2": one("ReduceL2", "N", 4, axes=[1], keepdims=0),
    "argmax": one("ArgMax", "N", 4, "H", axis=-1, keepdims=0),
    "top_k": one("TopK", "N", 6, constants=[([3], I64)], outputs=2),
    "top_k_1": one("TopK", "N", 6, constants=[([2], I64)], axis=1, outputs=2, opset=10),
    "softmax": one("Softmax", "N", 4),
    "layer_norm": one("LayerNormalization", "N", "H", 4, constants=[weights(4), weights(4)]),
    "batch_norm": one("BatchNormalization", "N", 3, "H", constants=[weights(3)] * 3 + [([1, 2, 3], F)]),
    "clip_6": one("Clip", "N", 4, min=0.0, max=6.0, opset=7),
    "clip_11": one("Clip", "N", 4, constants=[None, (6, F)]),
    "prelu": one("PRelu", "N", 4, constants=[weights(4)]),
    "add_broadcast": one("Add", "N", 1, 4, constants=[weights(3, 1)]),
    "where": one("Where", "N", 4, dtype=np.bool_, constants=[weights(3, 1, 1), weights(4)]),
    "cast": one("Cast", "N", 4, to=TensorProto.INT32),
    "dropout": one("Dropout", "N", 4),
    "einsum": one("Einsum", "N", "H", 4, constants=[weights(4, 5)], equation="nhk,kj->nhj"),
    "einsum_implicit": one("Einsum", "H", 4, constants=[weights(4, 5)], equation="ij,jk"),
    "lstm": one(
        "LSTM", "H", "N", 4, constants=[weights(1, 12, 4), weights(1, 12, 3)], hidden_size=3, outputs=3
    ),
    "gru_two_ways": one(
        "GRU",
        "H",
        "N",
        4,
        constants=[weights(2, 9, 4), weights(2, 9, 3)],
        hidden_size=3,
        outputs=2,
        direction="bidirectional",
    ),
    "quantize": one("QuantizeLinear", "N", 4, constants=[(0.1, F), (3, np.uint8)]),
}

CASES = {**SPATIAL, **LAYOUT, **MATH}


@pytest.mark.parametrize("sizes", SIZES, ids=("small", "odd"))
@pytest.mark.parametrize("name", CASES)
def test_operator_matches_ort(name, sizes):
    check(CASES[name].model(), **sizes)


def shape_arithmetic(build) -> onnx.ModelProto:
    """x and the extents of x, of which `build` makes a shape to reshape or expand to."""
    b = ModelBuilder()
    x = b.input("x", ["N", "C", "H", "W"])
    return b.output(build(b, x, b.add("Shape", x)), None).model()


def c(b, value, dtype=I64):
    return b.constant(value, dtype)


def at(b, shape, index):
    return b.add("Gather", shape, c(b, index))


def flatten_spatial(b, x, s):
    return b.add("Reshape", x, b.add("Concat", at(b, s, [0]), at(b, s, [1]), c(b, [-1]), axis=0))


def product_of_slice(b, x, s):
    area = b.add("ReduceProd", b.add("Slice", s, c(b, [2]), c(b, [4])), keepdims=1)
    return b.add("Reshape", x, b.add("Concat", c(b, [-1]), area, axis=0))


def half_size(b, x, s):
    half = b.add("Div", b.add("Slice", s, c(b, [2]), c(b, [4])), c(b, 2))
    return b.add("Resize", x, "", "", b.add("Concat", b.add("Slice", s, c(b, [0]), c(b, [2])), half, axis=0))


def torch_interpolate(b, x, s):
    doubled = b.add("Mul", b.add("Cast", b.add("Slice", s, c(b, [2]), c(b, [4])), to=1), c(b, 2.5, F))
    size = b.add("Cast", b.add("Floor", doubled), to=TensorProto.INT64)
    return b.add("Resize", x, "", "", b.add("Concat", b.add("Slice", s, c(b, [0]), c(b, [2])), size, axis=0))


def expand_minus_one(b, x, s):
    wanted = b.add("Concat", at(b, s, [0]), c(b, [-1]), at(b, s, [2]), c(b, [-1]), axis=0)
    ones = b.add("ConstantOfShape", b.add("Shape", wanted))
    ones = b.add("Cast", ones, to=TensorProto.INT64)
    ones = b.add("Add", ones, c(b, 1))
    chosen = b.add("Where", b.add("Equal", wanted, c(b, -1)), ones, wanted)
    return b.add("Expand", b.add("ReduceMean", x, axes=[0, 2]), chosen)


def positions(b, x, s):
    steps = b.add("Range", c(b, 0), b.add("Squeeze", at(b, s, [2])), c(b, 1))
    return b.add("Add", b.add("Reshape", steps, c(b, [1, 1, -1, 1])), b.add("Cast", x, to=TensorProto.INT64))


def cached_positions(b, x, s):
    table = b.constant(np.arange(64)[None], np.int64)
    return b.add("Slice", table, c(b, [0]), b.add("Unsqueeze", at(b, s, 2), c(b, [0])), c(b, [1]))


def crop_to_even(b, x, s):
    rows = at(b, s, [2])
    even = b.add("Sub", rows, b.add("Mod", rows, c(b, 2)))
    return b.add("Slice", x, c(b, [0]), even, c(b, [2]))


def pad_to_multiple(b, x, s):
    missing = b.add("Mod", b.add("Sub", c(b, 8), b.add("Mod", at(b, s, [3]), c(b, 8))), c(b, 8))
    return b.add("Pad", x, b.add("Concat", c(b, [0] * 7), missing, axis=0))


def min_max(b, x, s):
    n = b.add("Max", b.add("Min", at(b, s, [2]), c(b, [10])), c(b, [2]))
    return b.add("Slice", x, c(b, [0]), n, c(b, [2]))


def split_shape(b, x, s):
    parts = b.add("Split", s, outputs=4, axis=0)
    return b.add("Reshape", x, b.add("Concat", b.add("Mul", parts[0], parts[1]), parts[2], parts[3], axis=0))


def zeros_like_state(b, x, s):
    extents = b.add("Concat", c(b, [2]), b.add("Unsqueeze", at(b, s, 0), c(b, [0])), c(b, [5]), axis=0)
    return b.add("ConstantOfShape", extents)


def sized(b, x, s):
    return b.add("Reshape", x, b.add("Reshape", b.add("Size", x), c(b, [1])))


def tiled(b, x, s):
    ones = b.add("Concat", c(b, [1, 1]), at(b, s, [2]), c(b, [2]), axis=0)
    return b.add("Tile", b.add("ReduceMean", x, axes=[2]), ones)


ARITHMETIC = [
    flatten_spatial,
    product_of_slice,
    half_size,
    torch_interpolate,
    expand_minus_one,
    positions,
    cached_positions,
    crop_to_even,
    pad_to_multiple,
    min_max,
    split_shape,
    zeros_like_state,
    sized,
    tiled,
]


@pytest.mark.parametrize("sizes", SIZES, ids=("small", "odd"))
@pytest.mark.parametrize("build", ARITHMETIC)
def test_shape_arithmetic_matches_ort(build, sizes):
    check(shape_arithmetic(build), **sizes)


@pytest.mark.parametrize("sizes", ({"N": 1, "L": 5}, {"N": 4, "L": 7}))
def test_attention_block_is_complete(sizes):
    check(attention_block(batch="N", length="L"), **sizes)


@pytest.mark.parametrize("sizes", ({"N": 1, "S": 16, "S2": 16}, {"N": 2, "S": 23, "S2": 9}))
def test_convnet_is_complete(sizes):
    check(convnet(batch="N", size="S"), **sizes)


def names(*shapes):
    """Dims of inputs of these shapes."""
    b = ModelBuilder()
    for index, shape in enumerate(shapes):
        b.output(b.add("Relu", b.input(f"in.{index}", shape)), shape)
    model = load(b.model())
    found = infer(model)
    return [tuple(map(str, found.dims(v))) for v in model.graph.inputs]


def test_named_dims_are_shared_between_inputs():
    assert names(["batch", 4], ["batch", "length"]) == [("batch", "4"), ("batch", "length")]


def test_names_become_c_identifiers():
    assert names(["batch size", "x.1", "1st"]) == [("batch_size", "x_1", "d1st")]


def test_names_that_differ_only_in_spelling_stay_apart():
    assert names(["a.b"], ["a_b"], ["a.b"]) == [("a_b",), ("a_b_2",), ("a_b",)]


@pytest.mark.parametrize("name", ["?", "", "None", "unk", None])
def test_unnamed_dims_are_separate_symbols(name):
    assert names([name, 3, name], [name]) == [("in_0_0", "3", "in_0_2"), ("in_1_0",)]


def test_name_used_twice_by_one_input_is_no_equality():
    assert names(["dynamic_axes", "dynamic_axes"], ["dynamic_axes"]) == [("in_0_0", "in_0_1"), ("in_1_0",)]


def test_negative_extent_is_dynamic():
    proto = ModelBuilder()
    x = proto.input("x", [1, 4])
    model = proto.output(proto.add("Relu", x), None).model()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    loaded = load(model)
    assert str(infer(loaded).dims(loaded.graph.outputs[0])) == "(x_0, 4)"


def two_inputs(op_type, first, second):
    b = ModelBuilder()
    out = b.add(op_type, b.input("x", first), b.input("y", second))
    model = load(b.output(out, None).model())
    return model, infer(model)


def test_unrelated_names_may_broadcast_either_way():
    model, shapes = two_inputs("Add", ["a", 4], ["b", 4])
    (value,) = model.graph.outputs
    assert dims.evaluate(shapes.dims(value)[0], {"a": 1, "b": 5}) == 5
    assert dims.evaluate(shapes.dims(value)[0], {"a": 5, "b": 1}) == 5
    assert not shapes.assumptions


def test_derived_extents_that_meet_are_an_assumption():
    """A U-Net's skip connection: half of H, doubled, meets H."""
    b = ModelBuilder()
    x = b.input("x", ["N", 3, "H", 8])
    down = b.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    up = b.add("Resize", down, "", b.constant([1, 1, 2, 2], F))
    model = load(b.output(b.add("Add", x, up), None).model())
    shapes = infer(model)
    assert [str(d) for d in shapes.dims(model.graph.outputs[0])] == ["N", "3", "H", "8"]
    ((left, right),) = shapes.assumptions[model.graph.outputs[0].producer()]
    assert {dims.evaluate(left, {"H": 6}), dims.evaluate(right, {"H": 6})} == {6}
    assert dims.evaluate(left, {"H": 7}) != dims.evaluate(right, {"H": 7})


def test_reshape_to_a_static_shape_assumes_the_batch():
    b = ModelBuilder()
    model = load(b.output(b.add("Reshape", b.input("x", ["N", 6]), b.constant([1, 6], I64)), None).model())
    shapes = infer(model)
    ((left, right),) = shapes.assumptions[model.graph[0]]
    assert dims.evaluate(left, {"N": 1}) == dims.evaluate(right, {"N": 1})
    assert dims.evaluate(left, {"N": 2}) != dims.evaluate(right, {"N": 2})


def test_contradicting_static_dims_are_not_guessed():
    b = ModelBuilder()
    x = b.input("x", [4])
    model = load(b.output(b.add("Relu", x), [4]).model())
    node = ir.node("Add", [x_value := model.graph.inputs[0], ir.Value(name="y", shape=ir.Shape([5]))])
    assert x_value is node.inputs[0]
    model.graph.append(node)
    assert infer(model).dims(node.outputs[0]) is None


def test_data_dependent_extents_are_introduced_symbols():
    b = ModelBuilder()
    found = b.add("NonZero", b.input("x", ["N", 4]))
    model = load(b.output(b.add("Transpose", found, perm=[1, 0]), None, np.int64).model())
    shapes = infer(model)
    rows, rank = shapes.dims(model.graph.outputs[0])
    assert rank == 2 and shapes.introduced[model.graph[0]] == (str(rows),)
    assert shapes.dtype(model.graph.outputs[0]) is S64


def test_stated_static_shape_of_a_custom_operator_is_used():
    b = ModelBuilder()
    y = b.add("Mystery", b.input("x", ["N", 4]), domain="custom")
    proto = b.output(b.add("Relu", y), None).model()
    proto.graph.value_info.append(helper.make_tensor_value_info(y, TensorProto.FLOAT, ["N", 7]))
    model = load(proto)
    shapes = infer(model)
    batch, width = shapes.dims(model.graph.outputs[0])
    assert width == 7 and str(batch) != "N"
    assert shapes.dtype(model.graph.outputs[0]) is F32


def test_unknown_operator_leaves_extents_unknown():
    b = ModelBuilder()
    model = load(b.output(b.add("Relu", b.add("Mystery", b.input("x", [4]), domain="custom")), None).model())
    shapes = infer(model)
    assert shapes.dims(model.graph.outputs[0]) is None
    assert shapes.dtype(model.graph[0].outputs[0]) is None


def test_types_bolt_does_not_compute_with_have_no_row():
    b = ModelBuilder()
    model = load(b.output(b.add("Relu", b.input("x", [4], np.float64)), [4], np.float64).model())
    shapes = infer(model)
    assert shapes.dtype(model.graph.outputs[0]) is None
    assert shapes.onnx_dtype(model.graph.outputs[0]) == ir.DataType.DOUBLE


def second_partition(build):
    model = load(build)
    shapes = infer(model)

    def supported(node):
        return Rejection(stage="partition", subject="", reason="") if node.op_type == "Erf" else None

    part = partition(model, supported)[0][-1]
    return model, shapes, part, rebase(shapes, part.nodes, part.inputs, model.opset_imports)


def test_rebase_gives_a_subgraph_symbols_of_its_own_inputs():
    b = ModelBuilder()
    x = b.input("x", ["N", 3, "H", 8])
    y = b.add("Erf", b.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]))
    y = b.add("MaxPool", b.add("Relu", y), kernel_shape=[2, 2], strides=[2, 2])
    _, shapes, part, local = second_partition(b.output(y, None).model())
    (entry,) = part.inputs
    assert not shapes.dims(entry)[2].is_Symbol
    assert local.dims(entry)[2].is_Symbol and local.dims(entry)[3] == 4
    got = [dims.evaluate(d, {"N": 2, str(local.dims(entry)[2]): 9}) for d in local.dims(part.outputs[0])]
    assert got == [2, 3, 4, 2]
    assert local.origins == {"N": shapes.dims(entry)[0], str(local.dims(entry)[2]): shapes.dims(entry)[2]}


def test_rebase_rewrites_contents_in_the_new_symbols():
    """The target of a Reshape is computed outside, from an extent that only shows halved inside."""
    b = ModelBuilder()
    x = b.input("x", ["N", 3, "H"])
    half = b.add("MaxPool", x, kernel_shape=[2], strides=[2])
    rows = b.add("Gather", b.add("Shape", half), b.constant([2], I64))
    target = b.add("Concat", rows, b.constant([-1], I64), axis=0)
    y = b.add("Reshape", b.add("Relu", b.add("Erf", half)), target)
    model = load(b.output(y, None).model())
    shapes = infer(model)
    inside = [n for n in model.graph if n.op_type in ("Relu", "Reshape")]
    local = rebase(shapes, inside, [inside[0].inputs[0], inside[1].inputs[1]], model.opset_imports)
    entry, out = local.dims(inside[0].inputs[0]), local.dims(model.graph.outputs[0])
    assert out[0] == entry[2] and entry[2].is_Symbol
    assert dims.evaluate(out[1], {"N": 2, str(entry[2]): 5}) == 6


def test_rebase_keeps_shapes_that_need_no_new_symbols():
    b = ModelBuilder()
    y = b.add("Relu", b.add("Erf", b.input("x", ["N", 3])))
    _, shapes, _, local = second_partition(b.output(y, None).model())
    assert local is shapes
