"""Models quantized for the benchmarks."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.quantized_models import quantize


@pytest.fixture
def dense(tmp_path):
    """A transposed Gemm whose weight also has a shape in the file, as an exporter writes it."""
    rng = np.random.default_rng(0)
    weight = numpy_helper.from_array(rng.standard_normal((6, 8)).astype(np.float32), "w")
    bias = numpy_helper.from_array(np.ones(6, np.float32), "b")
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)
    values = [helper.make_tensor_value_info("w", TensorProto.FLOAT, [6, 8])]
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 6])],
        [weight, bias],
        value_info=values,
    )
    path = tmp_path / "dense.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize(
    ("kind", "wanted"), [("static", "DequantizeLinear"), ("dynamic", "DynamicQuantizeLinear")]
)
def test_a_model_is_quantized_as_users_do(dense, tmp_path, kind, wanted):
    feeds = [{"x": np.linspace(-1, 1, 8, dtype=np.float32)[None]}]
    place = quantize(dense, kind, feeds, tmp_path / "q.onnx")
    graph = onnx.load(place).graph
    assert wanted in {node.op_type for node in graph.node}
    assert any(t.data_type == TensorProto.INT8 for t in graph.initializer)
