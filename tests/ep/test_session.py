"""Artifacts run through ONNX Runtime give the right results, alone, twice, threaded and concurrently."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from ep import toy
from onnx import TensorProto, helper

from bolt.ep import package
from bolt.ep.artifact import Artifact
from bolt.errors import ArtifactError

TOY = toy.Toy()


def rows(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, toy.K)).astype(np.float32)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return toy.artifact(tmp_path_factory.mktemp("artifact") / "toy.bolt", TOY, toy.Toy(scale=3.0))


def expected(x: np.ndarray) -> np.ndarray:
    """x -> p0 -> Neg -> p1 -> Neg -> Neg, as in `toy.model`."""
    return toy.Toy(scale=3.0).expected(-TOY.expected(x))


@pytest.mark.parametrize("threads", [None, 1, 2])
@pytest.mark.parametrize("n", [0, 1, 2, 5, 300])
def test_results_for_every_batch(artifact: Artifact, threads: int | None, n: int) -> None:
    x = rows(n)
    for _ in range(3):
        np.testing.assert_allclose(
            artifact.session(threads).run(None, {"x": x})[0], expected(x), rtol=1e-6, atol=1e-5
        )


def test_one_session_grows_and_shrinks(artifact: Artifact) -> None:
    session = artifact.session()
    for i, n in enumerate((4, 4000, 4, 0, 70000, 1)):
        x = rows(n, i)
        np.testing.assert_allclose(session.run(None, {"x": x})[0], expected(x), rtol=1e-6, atol=1e-5)


def test_concurrent_runs_of_one_session(artifact: Artifact) -> None:
    session = artifact.session(threads=2)

    def work(seed: int) -> None:
        for i in range(25):
            x = rows(1 + (seed * 7 + i * 13) % 200, seed)
            if len(x) != 13:
                np.testing.assert_allclose(session.run(None, {"x": x})[0], expected(x), rtol=1e-6, atol=1e-5)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))


def test_two_sessions_and_two_artifacts(artifact: Artifact, tmp_path: Path) -> None:
    other = toy.artifact(tmp_path / "other.bolt", toy.Toy(scale=-1.0))
    sessions = [artifact.session(), other.session(), artifact.session()]
    x = rows(6)
    results = [s.run(None, {"x": x})[0] for s in sessions]
    np.testing.assert_array_equal(results[0], results[2])
    np.testing.assert_allclose(results[1], toy.Toy(scale=-1.0).expected(x), rtol=1e-6, atol=1e-5)


def test_partition_runs_on_our_provider_alone(tmp_path: Path) -> None:
    artifact = toy.artifact(tmp_path / "alone.bolt", TOY, graph=toy.only_partition())
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    x = rows(3)
    session = artifact.session(session_options=options)
    np.testing.assert_allclose(session.run(None, {"x": x})[0], TOY.expected(x), rtol=1e-6)


def test_no_partition_runs_on_stock_runtime(tmp_path: Path) -> None:
    artifact = package.write(
        tmp_path / "stock.bolt",
        name="stock",
        model=toy.model(()),
        partitions=[],
        source_sha256="0" * 64,
        report={},
        tools={},
    )
    x = rows(2)
    np.testing.assert_array_equal(artifact.session().run(None, {"x": x})[0], -x)
    assert artifact.partitions == artifact.targets == ()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("told", [True, False])
def test_module_is_told_the_number_of_threads(tmp_path: Path, threads: int, told: bool) -> None:
    """The number comes with the option, or else is found out from ONNX Runtime's pool."""
    odd = toy.Toy(report_threads=True)
    artifact = toy.artifact(tmp_path / "t.bolt", odd, graph=toy.only_partition())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    ep_options = {} if told else {"intra_op_num_threads": "0"}
    session = artifact.session(session_options=options, ep_options=ep_options)
    seen = [session.run(None, {"x": rows(2)})[0][0, 0] for _ in range(4)]
    assert max(seen) <= threads and (seen[-1] == threads or not told)


def test_error_of_the_module_reaches_the_caller_and_the_next_run_works(artifact: Artifact) -> None:
    session = artifact.session()
    with pytest.raises(Exception, match="the toy fears 13 rows"):
        session.run(None, {"x": rows(13)})
    np.testing.assert_allclose(session.run(None, {"x": rows(2)})[0], expected(rows(2)), rtol=1e-6, atol=1e-5)


def test_dims_that_do_not_fit(tmp_path: Path) -> None:
    """The module wants 37 columns; the model was edited to let any through."""
    graph = toy.only_partition()
    for value in (graph.graph.input[0], graph.graph.output[0]):
        value.type.tensor_type.shape.dim[1].Clear()
    session = toy.artifact(tmp_path / "a.bolt", TOY, graph=graph).session()
    with pytest.raises(
        Exception, match=r'input "x" of partition "p0" has .* dims \[2, 5\].* dims \[\?, 37\]'
    ):
        session.run(None, {"x": np.zeros((2, 5), np.float32)})


def test_output_that_does_not_exist(tmp_path: Path) -> None:
    artifact = toy.artifact(tmp_path / "a.bolt", toy.Toy(output_index=7))
    with pytest.raises(Exception, match="asked for an output that it does not have"):
        artifact.session().run(None, {"x": rows(1)})


@pytest.mark.parametrize("used", ["y", "z", "yz", "zy"])
def test_outputs_that_nobody_reads(tmp_path: Path, used: str) -> None:
    """ONNX Runtime takes them off the node; the module still writes them."""
    graph = toy.only_partition()
    graph.graph.node[0].output.append("z")
    del graph.graph.output[:]
    dims = ["N", toy.K]
    graph.graph.output.extend(helper.make_tensor_value_info(n, TensorProto.FLOAT, dims) for n in used)
    unused = set("yz") - set(used)
    graph.graph.value_info.extend(helper.make_tensor_value_info(n, TensorProto.FLOAT, dims) for n in unused)
    artifact = toy.artifact(tmp_path / "two.bolt", toy.Toy(outputs=2), graph=graph)
    session = artifact.session()
    for x in (rows(3), rows(0), rows(5000)):
        y = TOY.expected(x)
        for result, name in zip(session.run(None, {"x": x}), used, strict=True):
            np.testing.assert_allclose(result, y if name == "y" else -y, rtol=1e-6, atol=1e-5)


def test_output_without_a_type_is_refused_when_writing(tmp_path: Path) -> None:
    graph = toy.model(("p0",))
    del graph.graph.value_info[:]
    with pytest.raises(ArtifactError, match=r"partition p0 has no element type.*p0"):
        toy.artifact(tmp_path / "t.bolt", TOY, graph=graph)


def test_partition_inside_a_subgraph(tmp_path: Path) -> None:
    """An EPContext node in a branch of If, fed by the outer graph."""
    model = toy.branches()
    onnx.checker.check_model(model)
    session = toy.artifact(tmp_path / "if.bolt", TOY, graph=model).session()
    x = rows(3)
    np.testing.assert_allclose(
        session.run(None, {"x": x, "c": np.array(True)})[0], TOY.expected(x), rtol=1e-6
    )
    np.testing.assert_array_equal(session.run(None, {"x": x, "c": np.array(False)})[0], -x)


def test_branches_that_run_at_the_same_time(tmp_path: Path) -> None:
    """Parallel execution of a graph: two partitions of one run share the session's workspaces."""
    value = helper.make_tensor_value_info
    dims = ["N", toy.K]
    nodes = [
        package.context_node("p0", ["x"], ["a"]),
        package.context_node("p1", ["x"], ["b"]),
        helper.make_node("Sub", ["a", "b"], ["y"]),
    ]
    infos = [value(n, TensorProto.FLOAT, dims) for n in "ab"]
    io = [value(n, TensorProto.FLOAT, dims) for n in "xy"]
    graph = helper.make_graph(nodes, "g", io[:1], io[1:], value_info=infos)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    artifact = toy.artifact(tmp_path / "b.bolt", TOY, toy.Toy(scale=3.0), graph=model)
    options = onnxruntime.SessionOptions()
    options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
    options.inter_op_num_threads = 2
    session = artifact.session(threads=2, session_options=options)
    for n in range(1, 60, 7):
        x = rows(n, n)
        np.testing.assert_allclose(session.run(None, {"x": x})[0], -x, rtol=1e-4, atol=1e-4)


def test_options_used_for_two_sessions(artifact: Artifact) -> None:
    options = onnxruntime.SessionOptions()
    x = rows(2)
    for _ in range(2):
        session = artifact.session(session_options=options)
        np.testing.assert_allclose(session.run(None, {"x": x})[0], expected(x), rtol=1e-6, atol=1e-5)


def test_outputs_bound_by_the_caller(artifact: Artifact) -> None:
    session, x = artifact.session(), rows(4)
    y = np.empty_like(x)
    binding = session.io_binding()
    binding.bind_cpu_input("x", x)
    binding.bind_output("y", "cpu", 0, np.float32, y.shape, y.ctypes.data)
    session.run_with_iobinding(binding)
    np.testing.assert_allclose(y, expected(x), rtol=1e-6, atol=1e-5)


def test_registered_again_after_it_was_unregistered(artifact: Artifact) -> None:
    """What a host does that does not know bolt's Python package; in a child, as registrations are global."""
    code = """
import sys, numpy as np, onnxruntime as ort
for _ in range(3):
    ort.register_execution_provider_library("any name", sys.argv[1])
    devices = [d for d in ort.get_ep_devices() if d.ep_name == "BoltExecutionProvider"]
    options = ort.SessionOptions()
    options.add_provider_for_devices(devices, {})
    session = ort.InferenceSession(sys.argv[2], options)
    session.run(None, {"x": np.ones((5, 37), np.float32)})
    del session, options, devices
    ort.unregister_execution_provider_library("any name")
print("done")
"""
    command = [sys.executable, "-P", "-c", code, str(artifact.library_path), str(artifact.model_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_a_compiled_model_is_not_compiled_again(artifact: Artifact, tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("ep.context_enable", "1")
    options.add_session_config_entry("ep.context_file_path", str(tmp_path / "again.onnx"))
    with pytest.raises(Exception, match="the model is compiled already"):
        artifact.session(session_options=options)


def test_copies_of_the_library_in_one_process(artifact: Artifact, tmp_path: Path) -> None:
    """The program registered the library itself, and another artifact brings another build of it."""
    code = """
import sys, numpy as np, onnxruntime as ort
from bolt.ep.artifact import Artifact
ort.register_execution_provider_library("zz", sys.argv[1] + "/libbolt_ep.so")
ort.register_execution_provider_library("aa", sys.argv[1] + "/libbolt_ep.so")
results = [Artifact.load(p).session().run(None, {"x": np.ones((5, 37), np.float32)}) for p in sys.argv[1:]]
assert all(np.array_equal(results[0], r) for r in results)
print("done")
"""
    other = artifact.save(tmp_path / "other.bolt")
    data = other.library_path.read_bytes() + b"\0"  # bytes after the end of an ELF file do no harm
    other.library_path.write_bytes(data)
    entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    manifest = dict(other.manifest)
    manifest["files"] = manifest["files"] | {"libbolt_ep.so": entry}
    (other.path / "manifest.json").write_text(json.dumps(manifest))
    command = [sys.executable, "-P", "-c", code, str(artifact.path), str(other.path), str(artifact.path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
