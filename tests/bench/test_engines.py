"""Engines: what each gets, and what is said about how it was set up."""

import importlib

import numpy as np
import onnx
import pytest

from bolt.bench import engine_openvino, engine_ort
from bolt.bench.engine_ort import DEFAULT, TRIED, Setting, open_best
from bolt.bench.engine_torch import input_names, open_eager
from bolt.bench.engine_tvm import open_tvm
from bolt.bench.engines import ENGINES
from bolt.bench.opening import PRECISIONS, Noted, Opening, note_of
from bolt.demo.jobs import generated_model
from bolt.errors import ModelError
from bolt.timing import Protocol

X = {"x": np.linspace(0, 1, 6, dtype=np.float32).reshape(1, 6)}


@pytest.fixture
def opening(tmp_path):
    """A model with a weight that older files also list as an input."""
    make = onnx.helper.make_tensor_value_info
    nodes = [
        onnx.helper.make_node("Add", ["x", "w"], ["sum"]),
        onnx.helper.make_node("Softmax", ["sum"], ["y"]),
    ]
    weight = onnx.numpy_helper.from_array(np.ones(6, np.float32), "w")
    inputs = [make("x", onnx.TensorProto.FLOAT, [1, 6]), make("w", onnx.TensorProto.FLOAT, [6])]
    outputs = [make("y", onnx.TensorProto.FLOAT, [1, 6])]
    graph = onnx.helper.make_graph(nodes, "g", inputs, outputs, [weight])
    path = tmp_path / "m.onnx"
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return Opening(model=path, artifact=path, threads=1)


def test_the_best_settings_are_found_and_named(opening, monkeypatch):
    monkeypatch.setattr(engine_ort, "_TRIAL", Protocol(rounds=2, burst_s=0.001, warm_s=0.0, least_rounds=1))
    call = open_best(opening)(X)
    np.testing.assert_allclose(call()[0].sum(), 1.0, rtol=1e-6)
    assert note_of(call)


def test_a_setting_has_to_win_to_be_kept(opening, monkeypatch):
    """With fixed speeds: denormals as zero helps by itself, no arena does not."""
    speeds = {"": 2.0, "denormals as zero": 1.0, "denormals as zero, no arena": 1.0}

    def call(opening, model, setting, feeds):
        if setting.name not in speeds:
            raise RuntimeError("not with this model")
        return Noted(lambda: [np.float32(speeds[setting.name])], setting.name)

    class Timed:
        def __init__(self, calls):
            self.calls = calls

        def ratio(self, name, over):
            median = float(self.calls[over]()[0] / self.calls[name]()[0])
            return type("Ratio", (), {"median": median})

    monkeypatch.setattr(engine_ort, "_call", call)
    monkeypatch.setattr(engine_ort, "interleave", lambda calls, protocol: Timed(calls))
    kept, best = engine_ort._champion(opening, None, TRIED[1:], X)
    assert kept.name == best.note == "denormals as zero"


def test_settings_are_combined():
    first = DEFAULT.with_(Setting(name="a", level="ORT_ENABLE_BASIC", entries={"k": "1"}))
    both = first.with_(Setting(name="b", entries={"l": "2"}, arena=False))
    assert both == Setting(
        name="a, b", level="ORT_ENABLE_BASIC", entries={"k": "1", "l": "2"}, arena=False, rewritten=False
    )


def test_openvino_has_settings_for_every_precision():
    assert set(engine_openvino._PRECISION) == set(PRECISIONS)


def test_weights_are_no_inputs(opening):
    assert input_names(opening.model) == ["x"]


@pytest.mark.parametrize(("open_", "precision"), [(open_eager, "int8"), (open_tvm, "bf16")])
def test_an_engine_says_which_precision_it_does_not_have(opening, open_, precision):
    if open_ is open_eager:
        pytest.importorskip("torch")
    other = Opening(model=opening.model, artifact=opening.artifact, threads=1, precision=precision)
    with pytest.raises(ModelError):
        open_(other)


@pytest.mark.parametrize("engine", ENGINES[1:], ids=lambda e: e.name)
def test_every_engine_that_is_installed_computes_the_model(engine, tmp_path, monkeypatch):
    if engine.missing() is not None:
        pytest.skip(engine.missing().reason)
    monkeypatch.setattr(engine_ort, "_TRIAL", Protocol(rounds=2, burst_s=0.001, warm_s=0.0, least_rounds=1))
    path = tmp_path / "m.onnx"
    onnx.save(generated_model(), path)
    shape = [d.dim_value for d in onnx.load(path).graph.input[0].type.tensor_type.shape.dim]
    feeds = {onnx.load(path).graph.input[0].name: np.ones(shape, np.float32)}
    given = Opening(model=path, artifact=path, threads=1)
    want = importlib.import_module("bolt.bench.engines").stock_session(path, 1, optimized=False)
    found = engine.open(given)(feeds)()
    for got, wanted in zip(found, want.run(None, feeds), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-4)
