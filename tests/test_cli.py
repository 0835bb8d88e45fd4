"""The command line, as a user sees it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper

import bolt
from bolt import cli, doctor
from bolt.bench.result import Result
from bolt.errors import CompileError
from bolt.search.measure import Measurement
from bolt.search.records import Key, Records

HEAVY = ("numpy", "onnx", "onnx_ir", "onnxruntime", "sympy", "jinja2", "rich")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BOLT_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def call(*args):
    return CliRunner().invoke(cli.cli, [str(a) for a in args], prog_name="bolt")


@pytest.fixture
def model(tmp_path):
    """y = relu(x @ w + b) with an open batch."""
    rng = np.random.default_rng(0)
    weights = {"w": rng.standard_normal((8, 16)), "b": rng.standard_normal(16)}
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "w", "b"], ["g"], name="gemm"),
            helper.make_node("Relu", ["g"], ["y"], name="relu"),
        ],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 16])],
        [onnx.numpy_helper.from_array(a.astype(np.float32), name) for name, a in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, tmp_path / "small.onnx")
    return tmp_path / "small.onnx"


@pytest.mark.parametrize("module", ["bolt", "bolt.cli"])
def test_importing_is_cheap(module):
    code = f"import sys, {module}; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_exists():
    for name in bolt.__all__:
        assert getattr(bolt, name) is not None
    assert bolt.__version__
    assert set(bolt.__all__) <= set(dir(bolt))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = bolt.nothing


def test_help_names_every_command():
    text = call("--help").output
    for name in ("optimize", "run", "explain", "doctor", "cache"):
        assert name in text
    assert call("optimize", "--help").exit_code == 0


def test_optimize_run_and_explain(model, tmp_path):
    out = tmp_path / "out.bolt"
    made = call("optimize", model, "-o", out, "--budget", "0", "--shape", "n=4", "--no-ab", "--json")
    assert made.exit_code == 0, made.output
    answer = json.loads(made.stdout)
    assert Path(answer["artifact"]) == out.absolute()
    x = np.random.default_rng(1).standard_normal((3, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    ran = call("run", out, "--input", f"x={tmp_path / 'x.npy'}", "--output", tmp_path / "y.npz", "--json")
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout)["outputs"]["y"]["dims"] == [3, 16]
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(model).graph.initializer}
    expected = np.maximum(x @ weights["w"] + weights["b"], 0)
    np.testing.assert_allclose(np.load(tmp_path / "y.npz")["y"], expected, atol=1e-5)
    assert "bolt runs" in call("explain", out).output
    assert json.loads(call("explain", out, "--json").stdout) == answer["report"]
    assert "3 runs" in call("run", out, "--repeat", 3).output


def test_bench(model, tmp_path, monkeypatch):
    seen = {}

    def measure(path, against, **options):
        seen.update(options, against=against)
        return Result(machine={}, options={}, missing={}, rows=())

    monkeypatch.setattr("bolt.bench.bench", measure)
    done = call(
        "bench", model, "--against", "ort,torch", "--threads", "1,2", "--json", "--output", tmp_path / "r"
    )
    assert done.exit_code == 0, done.output
    assert seen["against"] == ["ort", "torch"]
    assert seen["threads"] == (1, 2)
    assert json.loads(done.stdout) == json.loads((tmp_path / "r").read_text())
    assert call("bench", model, "--threads", "0").exit_code == 2


def test_a_missing_model_is_one_clear_line():
    done = call("optimize", "no.onnx")
    assert done.exit_code == 3
    assert done.stderr.startswith("error: there is no model 'no.onnx'")
    assert "Traceback" not in done.output


def test_a_damaged_model_is_one_clear_line(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"\x08\x07 no model")
    done = call("optimize", tmp_path / "bad.onnx", "--budget", "0")
    assert done.exit_code == 3, done.output
    assert done.stderr.splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--budget", "soon", "budget 'soon' is no time"),
        ("--shape", "x", "shape 'x' can't be read"),
        ("--target", "vax", "unknown target 'vax'"),
    ],
)
def test_bad_options_are_refused(model, option, value, said):
    done = call("optimize", model, option, value)
    assert done.exit_code in (2, 4)
    assert said in done.stderr


def test_a_missing_compiler_is_explained(model):
    done = call("optimize", model, "--cxx", "no-such-c++")
    assert done.exit_code == 5
    assert "Install g++" in done.stderr


def test_what_is_no_artifact_is_refused(tmp_path):
    for command in ("run", "explain"):
        done = call(command, tmp_path)
        assert done.exit_code == 7
        assert "is not an artifact" in done.stderr


def failing(error):
    def optimize(*args, **kwargs):
        raise error

    return optimize


def test_errors_have_exit_codes_and_debug_shows_tracebacks(model, monkeypatch):
    monkeypatch.setattr(bolt, "optimize", failing(CompileError("the compiler failed")))
    assert call("optimize", model).exit_code == 5
    assert isinstance(call("--debug", "optimize", model).exception, CompileError)


def test_an_interrupt_says_how_to_go_on(model, monkeypatch):
    monkeypatch.setattr(bolt, "optimize", failing(KeyboardInterrupt()))
    done = call("optimize", model)
    assert done.exit_code == 130
    assert "the same command goes on from there" in done.stderr


def test_our_own_mistakes_ask_for_a_report(model, monkeypatch):
    monkeypatch.setattr(bolt, "optimize", failing(ZeroDivisionError("oops")))
    done = call("optimize", model)
    assert done.exit_code == 70
    assert "bolt --debug" in done.stderr


def test_doctor_in_json():
    done = call("doctor", "--quick", "--json")
    found = {row["name"]: row for row in json.loads(done.stdout)}
    assert {"compiler", "targets", "onnxruntime", "gpu", "cache", "disk"} <= set(found)
    assert done.exit_code == (1 if any(row["status"] == "bad" for row in found.values()) else 0)


def test_doctor_without_a_compiler(monkeypatch):
    monkeypatch.setenv("BOLT_CXX", "no-such-c++")
    done = call("doctor", "--quick")
    assert done.exit_code == 1
    assert "bad  compiler" in done.stdout
    assert "Install g++" in done.stdout


def test_the_provider_is_loaded_in_a_child(monkeypatch):
    monkeypatch.setattr(doctor, "_LOAD", "raise SystemExit('does not fit')")
    assert doctor.examine()[-1] == doctor.Finding(name="provider", status="bad", detail="does not fit")


def test_the_cache_can_be_shown_moved_and_emptied(cache, tmp_path):
    key = Key(candidate="c", object="o", device="d", threads=1, dims=(), rotate_bytes=0)
    with Records.below(cache) as records:
        records.put(key, Measurement(status="ok", median_us=1.0, calls=3))
    shown = json.loads(call("cache", "show", "--json").stdout)
    assert {p["name"] for p in shown["parts"]} >= {"objects", "artifacts", "failed", "records"}
    assert "1 measurements" in call("cache", "export", tmp_path / "r.json").output
    assert call("cache", "clear").exit_code == 0
    with Records.below(cache) as records:
        assert records.count() == 0
    assert "1 measurements added" in call("cache", "import", tmp_path / "r.json").output
    assert call("cache", "prune", "--max-size", "1g").output == "freed 0.0 MB\n"
    assert call("cache", "prune", "--max-size", "lots").exit_code == 2
    (tmp_path / "junk.json").write_text("{")
    assert call("cache", "import", tmp_path / "junk.json").exit_code == 2
