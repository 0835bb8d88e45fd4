"""Models that contradict themselves are refused, and odd ones are left to ONNX Runtime: found by fuzzing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import ModelBuilder, attention_block, convnet

from bolt import dims, driver
from bolt.compiled import Modules
from bolt.errors import ModelError
from bolt.graph.cover import Cover
from bolt.graph.load import load
from bolt.options import make


class Stopped(Exception):
    """Carries what was lowered out of the driver."""


@pytest.fixture
def lowered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[onnx.ModelProto], Cover]:
    """The driver up to and including lowering."""

    def stop(covered: Cover, *_: object) -> Modules:
        raise Stopped(covered)

    def run(model: onnx.ModelProto) -> Cover:
        asked = make(budget="0", threads=1, cache=tmp_path, verify=False, ab=False)
        with pytest.raises(Stopped) as caught:
            driver.optimize(model, asked)
        covered: Cover = caught.value.args[0]
        return covered

    monkeypatch.setattr(driver, "compile_partitions", stop)
    return run


def tensor(model: onnx.ModelProto, name: str) -> TensorProto:
    return next(t for t in model.graph.initializer if t.name == name)


def replace(model: onnx.ModelProto, name: str, array: np.ndarray) -> None:
    tensor(model, name).CopyFrom(numpy_helper.from_array(array, name))


def test_weights_that_do_not_fit_their_input() -> None:
    model = convnet()
    replace(model, "w2", np.zeros((10, 9), np.float32))
    with pytest.raises(ModelError, match="contradicts itself"):
        load(model)


def test_types_that_do_not_fit() -> None:
    model = convnet()
    replace(model, "w0", np.zeros((8, 3, 3, 3), np.int64))
    with pytest.raises(ModelError, match="contradicts itself"):
        load(model)


def test_what_a_model_states_about_its_results_is_not_judged() -> None:
    model = convnet()
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("softmax9", TensorProto.FLOAT, [7, 7, 7]))
    model.graph.value_info.append(helper.make_tensor_value_info("relu2", TensorProto.FLOAT, [3]))
    assert len(load(model).graph) == len(model.graph.node)


def test_text_that_is_no_text() -> None:
    data = convnet().SerializeToString().replace(b"globalave", b"global\xff\xfe\xfd")
    with pytest.raises(ModelError, match="no text"):
        load(data)


def test_metadata_in_another_encoding_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """ORT runs such models."""
    model = convnet()
    helper.set_model_props(model, {"author": "Xx", "licence": "free"})
    loaded = load(model.SerializeToString().replace(b"Xx", b"\xcd\xf5"))
    assert dict(loaded.metadata_props) == {"licence": "free"}
    assert "author" in caplog.text


@pytest.mark.parametrize("dtype", [TensorProto.COMPLEX64, TensorProto.UINT4, TensorProto.DOUBLE])
def test_constant_nodes_of_the_wrong_size(dtype: int) -> None:
    b = ModelBuilder()
    content = numpy_helper.from_array(np.ones(4, np.float32))
    content.data_type = dtype
    b.output(b.add("Shape", b.add("Constant", value=content)), [1], np.int64)
    with pytest.raises(ModelError):
        load(b.model())


def test_channels_that_do_not_fit_stay_with_ort(lowered: Callable[[onnx.ModelProto], Cover]) -> None:
    """ORT compares them only when it runs."""
    model = convnet()
    replace(model, "w1", np.zeros((8, 9, 3, 3), np.float32))
    assert any("do not fit the channels" in r.reason for r in lowered(model).rejections)


def test_a_bias_of_another_shape_stays_with_ort(lowered: Callable[[onnx.ModelProto], Cover]) -> None:
    """ONNX does not check the bias of a Conv, ORT reads what it finds there."""
    model = convnet()
    replace(model, "b0", np.zeros((4, 1, 1), np.float32))
    assert any("one number per channel" in r.reason for r in lowered(model).rejections)


def test_limits_that_are_no_scalars_stay_with_ort(lowered: Callable[[onnx.ModelProto], Cover]) -> None:
    """ONNX does not check the dims of Clip's limits."""
    b = ModelBuilder()
    x = b.input("x", [2, 3])
    model = b.output(b.add("Clip", x, b.constant(np.zeros((4, 5)), np.float32))).model()
    assert any("Clip" in r.reason for r in lowered(model).rejections)


def test_statistics_of_another_size_stay_with_ort(lowered: Callable[[onnx.ModelProto], Cover]) -> None:
    """Before opset 9 ONNX does not compare the sizes."""
    model = convnet(opset=7)
    replace(model, "bn2", np.ones(5, np.float32))
    assert any(r.subject == "n1_BatchNormalization" for r in lowered(model).rejections)


def test_canonical_operators_that_no_partition_takes(lowered: Callable[[onnx.ModelProto], Cover]) -> None:
    """Without a shape the Gelu can't be compiled, and ORT does not know bolt's spelling of it."""
    model = attention_block()
    model.graph.input[0].type.tensor_type.ClearField("shape")
    assert all("ai.bolt" not in r.reason for r in lowered(model).rejections)


def test_long_chains(lowered: Callable[[onnx.ModelProto], Cover]) -> None:
    """Nothing recurses from node to node."""
    b = ModelBuilder()
    y = b.input("x", ["n", 8])
    for i in range(600):
        y = b.add(("Relu", "Neg")[i % 2], y)
    assert lowered(b.output(y).model()).flops_share == 1.0


def test_pads_for_other_dims_stay_with_ort(lowered: Callable[[onnx.ModelProto], Cover]) -> None:
    """Where kernel_shape is stated, ONNX does not look at the weights."""
    model = convnet()
    model.graph.node[3].attribute.append(helper.make_attribute("kernel_shape", [3, 3]))
    replace(model, "w1", np.zeros(8, np.float32))
    assert any("n3_Conv" == r.subject for r in lowered(model).rejections)


def test_an_input_too_large_to_try(tmp_path: Path) -> None:
    b = ModelBuilder()
    y = b.input("x", [1 << 40])
    for op_type in ("Relu", "Neg", "Abs", "Exp"):
        y = b.add(op_type, y)
    asked = make(budget="0", threads=1, cache=tmp_path, verify=False, ab=False)
    with pytest.raises(ModelError, match="--shape"):
        driver.optimize(b.output(y).model(), asked)


def test_quotients_that_are_numbers() -> None:
    n = dims.symbol("n")
    assert dims.floordiv(n, dims.mul(n, 7)) == 0
    assert dims.floordiv(dims.mul(n, 7), dims.mul(n, 2)) == 3
