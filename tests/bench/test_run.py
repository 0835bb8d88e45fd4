"""A benchmark of a generated model, in a child process as the real ones are."""

import numpy as np
import onnx
import pytest

from bolt.bench import bench, peak, run
from bolt.bench.child import _checked
from bolt.bench.engines import EngineError, by_name, usable
from bolt.bench.opening import is_quantized
from bolt.bench.peak import peak_gflops
from bolt.bench.run import Case, Plan, label, measure_model, sample_case
from bolt.child import ask
from bolt.demo.jobs import generated_model
from bolt.errors import ModelError, TargetError
from bolt.options import OptionError
from bolt.target import CPU_TARGETS, TARGETS, detect, runs_here
from bolt.timing import Protocol
from bolt.types import BF16, F32, S8

SHORT = Protocol(rounds=2, burst_s=0.002, warm_s=0.0, least_rounds=1, limit_s=1.0)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("BOLT_CACHE_DIR", str(folder))
        yield folder


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    place = tmp_path_factory.mktemp("model") / "generated.onnx"
    onnx.save(generated_model(), place)
    return place


@pytest.fixture(scope="module")
def found(cache, path):
    return bench(path, ("ort", "openvino", "torch"), threads=1, budget=0, protocol=SHORT)


def test_a_model_is_measured_end_to_end(found):
    (row,) = found.rows
    assert row.problem == "" and row.key == ("generated", "1x3x96x96", 1, "fp32")
    assert row.engines["bolt"].error < 1e-4 and row.engines["ort"].error < 1e-4
    assert row.engines["bolt"].timing.runs >= 2
    assert row.ratios["ort"].median > 0


def test_the_machine_is_described(found):
    assert found.machine["versions"].keys() >= {"bolt", "python", "compiler", "ONNX Runtime"}
    assert found.machine["target"] == detect().name
    assert found.rows[0].peak_gflops > 1


def test_peers_that_are_not_installed_are_listed(found):
    for engine in map(by_name, ("openvino", "torch")):
        taken_part = engine.name in found.rows[0].engines
        assert taken_part == (engine.missing() is None)
        assert taken_part or "not installed" in found.missing[engine.name]


def test_every_step_is_timed_when_bolt_runs_the_model(found):
    (row,) = found.rows
    if row.coverage.partitions:
        assert row.coverage.flops_share == pytest.approx(1.0)
        assert any("stem" in layer.name and layer.gflops for layer in row.layers)
    else:
        assert row.layers == ()


def test_a_model_that_cant_be_read_is_a_row_for_each_case(cache, tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no model")
    case = Case(label="1", feeds={"x": np.zeros(1, np.float32)})
    rows = measure_model("broken", path, (case, case), Plan(threads=(1,), budget=0, protocol=SHORT))
    assert len(rows) == 2
    assert all("broken" in row.problem for row in rows)


def test_unknown_engines_are_refused():
    with pytest.raises(EngineError, match="choose from ort, ort_best, openvino, torch"):
        by_name("tensorrt")


def test_an_engine_is_used_once_however_often_it_is_named():
    present, _ = usable(("bolt", "ort", "ort"))
    assert [engine.name for engine in present] == ["bolt", "ort"]


def test_wrong_failing_and_short_engines_are_not_timed():
    reference = [np.ones(3, np.float32)]
    right, call = _checked(lambda feeds: lambda: [np.ones(3, np.float32)], {}, reference)
    assert call is not None and right.error == 0.0 and right.problem == ""
    wrong, call = _checked(lambda feeds: lambda: [np.full(3, 1.5, np.float32)], {}, reference)
    assert call is None and wrong.problem.startswith("wrong") and wrong.error == pytest.approx(0.5)
    short, call = _checked(lambda feeds: list, {}, reference)
    assert call is None and "0 outputs instead of 1" in short.problem
    unloaded, call = _checked("can't load the model: x", {}, reference)
    assert call is None and unloaded.problem == "can't load the model: x"

    def fail():
        raise RuntimeError("no kernel\nmore")

    failed, call = _checked(lambda feeds: fail, {}, reference)
    assert call is None and failed.problem == "fails: no kernel"


def test_sizes_of_all_inputs_are_in_the_label():
    assert label({"a": np.zeros((1, 2)), "b": np.zeros(()), "c": np.zeros(7)}) == "1x2 scalar 7"


@pytest.mark.parametrize("target", [t for t in TARGETS if runs_here(t)], ids=lambda t: t.name)
@pytest.mark.parametrize("dtype", [F32, BF16, S8], ids=str)
def test_the_speed_limit_is_a_plausible_number(cache, target, dtype):
    """Between one flop every ten cycles of 1 GHz and eight vectors of multiply-adds every cycle of 8 GHz."""
    if not {F32: True, BF16: target.has_bf16, S8: target.has_vnni}[dtype]:
        with pytest.raises(TargetError, match=f"no products of {dtype}"):
            peak_gflops(target, 1, dtype=dtype, cache_root=cache)
        return
    most = target.vector_lanes * 4 // dtype.size_bytes * 2 * 8 * 8
    assert 0.1 < peak_gflops(target, 1, dtype=dtype, cache_root=cache) < most


@pytest.mark.parametrize("target", CPU_TARGETS, ids=lambda t: t.name)
def test_the_speed_limit_fits_into_registers_and_hides_latency(target):
    """Two pipes of four cycles need eight sums; two more registers hold what is multiplied."""
    assert 8 <= peak._accumulators(target) <= target.vector_registers - 2


def test_a_target_below_the_machine_s_is_measured_as_a_kind_of_its_own(cache, path, monkeypatch):
    lowest = [t for t in CPU_TARGETS if runs_here(t)][-1]
    monkeypatch.setitem(run._KEPT_TO, lowest.name, {"ONEDNN_MAX_CPU_ISA": "SSE41"})
    asked = []
    monkeypatch.setattr(run.child, "ask", lambda *a, **k: asked.append(k.get("environment")) or ask(*a, **k))
    plan = Plan(threads=(1,), budget=0, protocol=SHORT, target=lowest.name)
    (found,) = measure_model("generated", path, (sample_case(path),), plan)
    assert found.problem == "" and found.kind == f"fp32 {lowest.name}"
    assert found.coverage.partitions, "it is not asked whether ONNX Runtime is faster"
    assert asked[-1]["ONEDNN_MAX_CPU_ISA"] == "SSE41"


def quantized(path):
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [3])],
        [onnx.helper.make_tensor_value_info("q", onnx.TensorProto.UINT8, [3])],
    )
    onnx.save(onnx.helper.make_model(graph), path)
    return path


def test_a_quantized_model_is_known_by_its_operators(path, tmp_path):
    assert is_quantized(quantized(tmp_path / "q.onnx")) and not is_quantized(path)
    with pytest.raises(ModelError, match=r"missing\.onnx"):
        is_quantized(tmp_path / "missing.onnx")


def test_int8_is_for_quantized_models(cache, path):
    case = Case(label="1", feeds={"x": np.zeros(1, np.float32)})
    (row,) = measure_model("m", path, (case,), Plan(threads=(1,), precision="int8"))
    assert "is not quantized" in row.problem and row.precision == "int8"


def test_unknown_precisions_are_refused(path):
    with pytest.raises(OptionError, match="choose one of fp32, bf16, int8"):
        bench(path, precision="fp8")


def test_a_peer_is_excused_where_rounding_is_the_point():
    reference = [np.ones(3, np.float32)]
    off, call = _checked(
        lambda feeds: lambda: [np.full(3, 1.5, np.float32)], {}, reference, "bf16", excused=True
    )
    assert call is not None and off.problem.startswith("wrong") and off.error == pytest.approx(0.5)
