"""Runs in a child process that sees pretended GPUs: scenarios of the execution provider on a GPU.

    python gpu_child.py <scenario>[,<scenario>...] <artifact> [argument ...]

With whatever onnxruntime that process imports. A failed assertion, a crash or an error is the parent's to
see.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from bolt.ep.artifact import Artifact
from bolt.verify import compare_model

K = 37
W = np.arange(K, dtype=np.float32)
NVIDIA = 0x10DE
NEWEST = tuple(int(part) for part in ort.__version__.split(".")[:2])


@cache
def driver() -> ctypes.CDLL:
    """The pretended driver."""
    library = ctypes.CDLL("libcuda.so.1")
    library.fake_cuda_counter.restype = ctypes.c_long
    return library


def count(name: str) -> int:
    """What the driver has counted so far."""
    return int(driver().fake_cuda_counter(name.encode()))


@contextmanager
def counted(**expected: int) -> Iterator[None]:
    """Inside, these counters grow by exactly so much."""
    before = {name: count(name) for name in expected}
    yield
    grown = {name: count(name) - before[name] for name in expected}
    assert grown == expected, f"counted {grown}, expected {expected}"


def rows(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, K)).astype(np.float32)


def one(x: np.ndarray, scale: float = 2.0) -> np.ndarray:
    """What a toy computes."""
    return x * np.float32(scale) + W


def chain(x: np.ndarray) -> np.ndarray:
    """x -> p0 -> Neg -> p1 -> Neg -> Neg with scales 2 and 3, as `toy.model` has it."""
    return one(-one(x), 3.0)


def close(got: np.ndarray, want: np.ndarray) -> None:
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-5)


def on_gpu(x: np.ndarray, ordinal: int = 0) -> Any:
    return ort.OrtValue.ortvalue_from_numpy(x, "gpu", ordinal, NVIDIA)


def empty_on_gpu(shape: tuple[int, ...], ordinal: int = 0) -> Any:
    return ort.OrtValue.ortvalue_from_shape_and_type(list(shape), np.float32, "gpu", ordinal, NVIDIA)


def bound(session: Any, x: Any, y: Any) -> Any:
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", x)
    binding.bind_ortvalue_output("y", y)
    return binding


def our_devices() -> list[Any]:
    return [d for d in ort.get_ep_devices() if d.ep_name == "BoltExecutionProvider"]


def results(artifact: Artifact) -> None:
    """Partitions with CPU nodes between them: every value crosses over and back."""
    session = artifact.session()
    for n in (0, 1, 3, 500, 2, 70000, 1):
        close(session.run(None, {"x": rows(n, n)})[0], chain(rows(n, n)))
    assert session.get_providers() == ["BoltExecutionProvider", "CPUExecutionProvider"]
    with counted(h2d=2, d2h=2, launches=4, allocations=0, errors=0):
        session.run(None, {"x": rows(1)})


def error_then_result(artifact: Artifact) -> None:
    session = artifact.session()
    fails(lambda: session.run(None, {"x": rows(13)}), "the toy fears 13 rows")
    close(session.run(None, {"x": rows(2)})[0], chain(rows(2)))


def broken_kernel(artifact: Artifact) -> None:
    """A kernel fails while it executes: this run says so, and the next ones, for the device is lost."""
    session = artifact.session()
    close(session.run(None, {"x": rows(2)})[0], chain(rows(2)))
    for n in (14, 2):
        fails(partial(session.run, None, {"x": rows(n)}), "CUDA_ERROR_ILLEGAL_ADDRESS")


def concurrent(artifact: Artifact) -> None:
    sessions = [artifact.session(), artifact.session()]

    def work(i: int) -> None:
        n = 20 + i % 50
        close(sessions[i % 2].run(None, {"x": rows(n, i)})[0], chain(rows(n, i)))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(120)))


def shared_weights(artifact: Artifact) -> None:
    """Two sessions of a process upload the weights once, and the last one frees them."""
    before = count("live_bytes")
    with counted(h2d=1):
        sessions = [artifact.session(), artifact.session()]
    for session in sessions:
        close(session.run(None, {"x": rows(2)})[0], one(rows(2)))
    del session, sessions
    gc.collect()
    assert count("live_bytes") == before, count("live_bytes")
    assert count("live_streams") == 0, count("live_streams")
    assert count("live_events") == 0, count("live_events")


def binding(artifact: Artifact) -> None:
    """Tensors that are on the GPU already are used where they lie."""
    session = artifact.session()
    x, y = on_gpu(rows(4)), empty_on_gpu((4, K))
    io = bound(session, x, y)
    with counted(h2d=0, d2h=0, d2d=0, launches=2, errors=0):
        session.run_with_iobinding(io)
    close(y.numpy(), one(rows(4)))
    with counted(h2d=0, d2h=0, d2d=0, allocations=0, device_waits=0):
        session.run_with_iobinding(io)
    z = empty_on_gpu((4, K))
    if NEWEST >= (1, 24):
        with counted(d2d=1):
            ort.copy_tensors([y], [z])
        close(z.numpy(), one(rows(4)))
    del io, x, y, z


def asynchronous(artifact: Artifact) -> None:
    """Without synchronization, a run returns with its work still to do."""
    session = artifact.session()
    x, y = on_gpu(rows(4)), empty_on_gpu((4, K))
    options = ort.RunOptions()
    options.add_run_config_entry("disable_synchronize_execution_providers", "1")
    io = bound(session, x, y)
    with counted(stream_waits=0, event_waits=0, device_waits=0, launches=2):
        session.run_with_iobinding(io, options)
    with counted(launches=2):
        session.run_with_iobinding(io)
    close(y.numpy(), one(rows(4)))
    del io, x, y


def given_stream(artifact: Artifact) -> None:
    """A stream that the caller makes."""
    session = artifact.session()
    (device,) = our_devices()
    stream = device.create_sync_stream()
    assert stream.get_handle() != 0
    source, x, y = ort.OrtValue.ortvalue_from_numpy(rows(3)), empty_on_gpu((3, K)), rows(3, 1)
    target = ort.OrtValue.ortvalue_from_numpy(y)
    with counted(h2d=1, stream_waits=0, event_waits=0):
        ort.copy_tensors([source], [x], stream)
    ort.copy_tensors([x], [target], stream)
    np.testing.assert_array_equal(target.numpy(), rows(3))
    close(session.run(None, {"x": rows(3)})[0], one(rows(3)))
    del stream, x


def dropped(artifact: Artifact, used: str) -> None:
    """Of the outputs y and z = -y only some are read."""
    session = artifact.session()
    for n in (3, 0, 5000):
        for got, name in zip(session.run(None, {"x": rows(n)}), used, strict=True):
            close(got, one(rows(n)) if name == "y" else -one(rows(n)))


def branches(artifact: Artifact) -> None:
    """A partition in a branch of If, and the CPU in the other."""
    session = artifact.session()
    for _ in range(3):
        close(session.run(None, {"x": rows(3), "c": np.array(True)})[0], one(rows(3)))
        np.testing.assert_array_equal(session.run(None, {"x": rows(3), "c": np.array(False)})[0], -rows(3))


def both_kinds(artifact: Artifact, cpu_model: str, library: str) -> None:
    """The library without a package offers the GPUs and the CPU; each is for packages of its kind."""
    ort.register_execution_provider_library("both", library)
    cpu, gpu = our_devices()
    assert "cuda_device_id" in gpu.ep_metadata and "cuda_device_id" not in cpu.ep_metadata
    close(session_for(str(artifact.model_path), gpu).run(None, {"x": rows(3)})[0], one(rows(3)))
    close(session_for(cpu_model, cpu).run(None, {"x": rows(3)})[0], one(rows(3)))
    close(session_for(cpu_model, cpu, gpu).run(None, {"x": rows(3)})[0], one(rows(3)))
    fails(partial(session_for, cpu_model, gpu), "is for the CPU, the session is for GPU 0", "OrtEpDevice")
    fails(partial(session_for, str(artifact.model_path), cpu), "made for the CPU", "OrtEpDevice of a GPU")
    fails(partial(session_for, cpu_model, cpu, cuda_graph="1"), "cuda_graph is for sessions on a GPU")
    fails(partial(session_for, cpu_model, cpu, device_id="0"), "device_id is 0", "cuda_device_id=0")


def all_devices(artifact: Artifact, cpu_model: str, library: str) -> None:
    """Before 1.27 a session takes no devices of both kinds: that library offers the CPU only."""
    ort.register_execution_provider_library("both", library)
    close(session_for(cpu_model, *our_devices()).run(None, {"x": rows(3)})[0], one(rows(3)))
    gpu_model = str(artifact.model_path)
    fails(partial(session_for, gpu_model, *our_devices()), "register the libbolt_ep.so beside the model")


def session_for(model: str, *chosen: Any, **options: str) -> Any:
    made = ort.SessionOptions()
    made.log_severity_level = 4
    made.add_provider_for_devices(list(chosen), options)
    return ort.InferenceSession(model, made, enable_fallback=0)


def hardware(artifact: Artifact) -> None:
    """A GPU that ONNX Runtime found itself is the one it found; the other is described by the provider."""
    ort.register_execution_provider_library("any name", str(artifact.library_path))
    assert count("contexts") == 0, "a GPU was started that nobody asked for"
    found, described = (device.device for device in our_devices())
    assert (found.device_id, described.device_id) == (0x2330, 0)
    assert found.metadata["card_idx"] == "0" and "card_idx" not in described.metadata
    for device, address in ((found, "0000:0a:00.0"), (described, "0000:0b:00.0")):
        assert device.type == ort.OrtHardwareDeviceType.GPU and device.vendor_id == NVIDIA
        assert device.metadata["pci_bus_id"] == address


def several_at_once(artifact: Artifact) -> None:
    """A session that is given all devices is for the first, or since 1.27 for the one that is asked for."""
    artifact.session()
    first, second = our_devices()
    model = str(artifact.model_path)
    if NEWEST < (1, 27):
        fails(partial(session_for, model, first, second, device_id="1"), "")
        return
    for ordinal in (0, 1):
        runs_on(session_for(model, first, second, device_id=str(ordinal)), ordinal)


def by_name(artifact: Artifact) -> None:
    """Providers by name, since 1.25: ONNX Runtime itself takes the device that `device_id` says."""
    ort.register_execution_provider_library("any name", str(artifact.library_path))
    for ordinal in (0, 1):
        chosen = ("BoltExecutionProvider", {"device_id": str(ordinal)})
        runs_on(ort.InferenceSession(artifact.model_path, providers=[chosen], enable_fallback=0), ordinal)


def runs_on(session: Any, ordinal: int) -> None:
    """Values of that GPU are used where they lie."""
    x, y = on_gpu(rows(3), ordinal), empty_on_gpu((3, K), ordinal)
    with counted(h2d=0, d2h=0, d2d=0, errors=0):
        session.run_with_iobinding(bound(session, x, y))
    close(y.numpy(), one(rows(3)))


def _plain_run(artifact: Artifact, values: str, precision: str) -> tuple[Any, Any, Any]:
    """Inputs, wanted and computed outputs of generated kernels."""
    saved = np.load(values)
    feeds = {name.removeprefix("in:"): saved[name] for name in saved.files if name.startswith("in:")}
    wanted = {name.removeprefix("out:"): saved[name] for name in saved.files if name.startswith("out:")}
    session = artifact.session()
    got = session.run(list(wanted), feeds)
    for name, value in zip(wanted, got, strict=True):
        compare_model(value, wanted[name], precision=precision).require(name)
    return feeds, wanted, got


def generated_parts(artifact: Artifact, values: str, precision: str) -> None:
    """Modules of generated kernels with nodes of the CPU between them."""
    _plain_run(artifact, values, precision)


def generated(artifact: Artifact, values: str, precision: str) -> None:
    """A module of generated kernels: a plain run, and a run that is captured and replayed."""
    feeds, wanted, got = _plain_run(artifact, values, precision)
    if NEWEST < (1, 26):
        return
    captured = artifact.session(ep_options={"cuda_graph": "1"})
    outputs = {name: empty_on_gpu(value.shape) for name, value in wanted.items()}
    inputs = {name: on_gpu(value) for name, value in feeds.items()}
    io = captured.io_binding()
    for name, value in inputs.items():
        io.bind_ortvalue_input(name, value)
    for name, value in outputs.items():
        io.bind_ortvalue_output(name, value)
    captured.run_with_iobinding(io)
    with counted(graph_launches=1, graphs=0, launches=0, errors=0):
        captured.run_with_iobinding(io)
    for name, value in zip(wanted, got, strict=True):
        np.testing.assert_array_equal(outputs[name].numpy(), value)
    del io, inputs, outputs


def graph(artifact: Artifact) -> None:
    """One launch replays a run; new input values are read from the same memory."""
    session = artifact.session(ep_options={"cuda_graph": "1"})
    x, y = on_gpu(rows(4)), empty_on_gpu((4, K))
    io = bound(session, x, y)
    session.run_with_iobinding(io)
    close(y.numpy(), one(rows(4)))
    assert count("graphs") == 1
    for seed in range(1, 4):
        x.update_inplace(rows(4, seed))
        with counted(launches=0, graph_launches=1, graphs=0, allocations=0, errors=0):
            session.run_with_iobinding(io)
        close(y.numpy(), one(rows(4, seed)))
    other_ids(session)
    del io, x, y


def other_ids(session: Any) -> None:
    """Another shape is another graph; id -1 is not captured."""
    x, y = on_gpu(rows(9)), empty_on_gpu((9, K))
    io = bound(session, x, y)
    options = ort.RunOptions()
    options.add_run_config_entry("gpu_graph_id", "7")
    for graphs in (1, 0):
        with counted(graphs=graphs):
            session.run_with_iobinding(io, options)
        close(y.numpy(), one(rows(9)))
    plain = ort.RunOptions()
    plain.add_run_config_entry("gpu_graph_id", "-1")
    x.update_inplace(rows(9, 5))
    with counted(graphs=0, graph_launches=0, launches=2):
        session.run_with_iobinding(io, plain)
    close(y.numpy(), one(rows(9, 5)))


def graph_memory(artifact: Artifact) -> None:
    """What a captured run worked in is not handed to others while the graph lives."""
    session = artifact.session(ep_options={"cuda_graph": "1"})
    other = artifact.session()
    x, y = on_gpu(rows(4)), empty_on_gpu((4, K))
    io = bound(session, x, y)
    session.run_with_iobinding(io)
    # The other session's tensors must not lie in the graph's workspace, which every replay overwrites.
    kept = [(rows(4, i), empty_on_gpu((4, K))) for i in range(8)]
    for value, out in kept:
        other.run_with_iobinding(bound(other, on_gpu(value), out))
    for _ in range(3):
        session.run_with_iobinding(io)
    for value, out in kept:
        close(out.numpy(), one(value))
    close(y.numpy(), one(rows(4)))
    del io, x, y, out, kept


def graph_failure(artifact: Artifact) -> None:
    """A run that fails while it is captured is reported, and the session goes on."""
    session = artifact.session(ep_options={"cuda_graph": "1"})
    x, y = on_gpu(rows(13)), empty_on_gpu((13, K))
    io = bound(session, x, y)
    fails(partial(session.run_with_iobinding, io), "the toy fears 13 rows")
    x, y = on_gpu(rows(4)), empty_on_gpu((4, K))
    io = bound(session, x, y)
    session.run_with_iobinding(io)
    close(y.numpy(), one(rows(4)))
    del io, x, y


def memory(artifact: Artifact) -> None:
    """The device runs out of memory, says so, and goes on when there is some again."""
    session = artifact.session()
    close(session.run(None, {"x": rows(8)})[0], one(rows(8)))
    fails(lambda: session.run(None, {"x": rows(200000)}), "llocat")
    close(session.run(None, {"x": rows(5000)})[0], one(rows(5000)))


def devices(artifact: Artifact, *expected: str) -> None:
    """One device per GPU; a session is for the one asked for, or the first that fits."""
    assert Artifact.load(artifact.path).can_run_here
    session = artifact.session()
    found = [d.ep_metadata["cuda_compute_capability"] for d in our_devices()]
    assert found == list(expected), found
    assert [d.ep_metadata["cuda_device_id"] for d in our_devices()] == [str(i) for i in range(len(found))]
    close(session.run(None, {"x": rows(3)})[0], one(rows(3)))
    fits = [i for i, sm in enumerate(found) if sm in ("8.0", "8.6")]
    for ordinal in fits:
        runs_on(artifact.session(ep_options={"device_id": str(ordinal)}), ordinal)
    for ordinal in set(range(len(found))) - set(fits):
        wrong = partial(artifact.session, ep_options={"device_id": str(ordinal)})
        wanted = "is for compute capability 8.0, 8.6, 8.7 and 8.9"
        fails(wrong, wanted, f"GPU {ordinal}", "bolt optimize --target")


def refused(artifact: Artifact, *words: str) -> None:
    """No session, and the error says why."""
    assert not artifact.can_run_here or ort.__version__ < "1.24.4"
    fails(artifact.session, *words)


def refused_raw(artifact: Artifact, *words: str) -> None:
    """The provider alone says why, too."""
    fails(lambda: raw_session(artifact), *words)


def fails(action: Callable[[], object], *words: str) -> None:
    """The action raises an error with these words in it."""
    try:
        action()
    except Exception as error:
        missing = [word for word in words if word not in str(error)]
        assert not missing, f"{missing} not in: {error}"
        return
    raise AssertionError("nothing was raised")


def raw_session(artifact: Artifact) -> Any:
    """A session as a program makes it that does not know bolt's Python package: with all devices it finds."""
    ort.register_execution_provider_library("any name", str(artifact.library_path))
    made = ort.SessionOptions()
    made.log_severity_level = 4
    made.add_provider_for_devices(our_devices(), {})
    return ort.InferenceSession(artifact.model_path, made)


def raw(artifact: Artifact) -> None:
    """Registered, used, and unregistered again by such a program."""
    for _ in range(2):
        session = raw_session(artifact)
        close(session.run(None, {"x": rows(3)})[0], one(rows(3)))
        x = on_gpu(rows(2))
        np.testing.assert_array_equal(x.numpy(), rows(2))
        del session, x
        gc.collect()
        ort.unregister_execution_provider_library("any name")
    assert count("live_bytes") == 0 and count("live_streams") == 0, count("live_bytes")


def wrong_options(artifact: Artifact) -> None:
    for options, word in (
        ({"device_id": "7"}, "there is no GPU 7 here"),
        ({"device_id": "x"}, "there is no GPU x here"),
        ({"cuda_graph": "maybe"}, "it must be 0 or 1"),
        ({"gpu": "1"}, "there is no option ep.boltexecutionprovider.gpu"),
    ):
        fails(partial(artifact.session, ep_options=options), word)


def graph_unbound(artifact: Artifact) -> None:
    """Values in host memory would be those of the captured run for ever."""
    session = artifact.session(ep_options={"cuda_graph": "1"})
    fails(partial(session.run, None, {"x": rows(4)}), "I/O binding", "cuda_graph")
    x, y = on_gpu(rows(4)), empty_on_gpu((4, K))
    session.run_with_iobinding(bound(session, x, y))
    close(y.numpy(), one(rows(4)))


def graph_terminated(artifact: Artifact) -> None:
    """A run that the caller ends leaves no graph behind."""
    session = artifact.session(ep_options={"cuda_graph": "1"})
    x, y = on_gpu(rows(4)), empty_on_gpu((4, K))
    ended = ort.RunOptions()
    ended.terminate = True
    fails(partial(session.run_with_iobinding, bound(session, x, y), ended), "terminate")
    for _ in range(2):
        session.run_with_iobinding(bound(session, x, y))
        close(y.numpy(), one(rows(4)))
    assert count("graph_launches") >= 2


def graph_refused(artifact: Artifact) -> None:
    """ONNX Runtime before 1.26 has no graphs."""
    fails(partial(artifact.session, ep_options={"cuda_graph": "1"}), "needs ONNX Runtime 1.26")


def cpu_package(artifact: Artifact) -> None:
    """A package for the CPU offers no GPU, and does not even start the driver."""
    session = artifact.session()
    assert len(our_devices()) == 1
    close(session.run(None, {"x": rows(3)})[0], one(rows(3)))
    assert driver().cuDeviceGetCount(ctypes.byref(ctypes.c_int())) == 3, "the driver was started"


SCENARIOS = (
    results, error_then_result, broken_kernel, concurrent, shared_weights, binding, asynchronous,
    given_stream, graph, graph_memory, graph_failure, memory, devices, refused, refused_raw, raw,
    wrong_options, graph_refused, graph_unbound, graph_terminated, cpu_package, generated, generated_parts,
    dropped, branches, both_kinds, all_devices, several_at_once, hardware, by_name,
)  # fmt: skip


if __name__ == "__main__":
    known: dict[str, Callable[..., None]] = {function.__name__: function for function in SCENARIOS}
    for name in sys.argv[1].split(","):
        known[name](Artifact.load(Path(sys.argv[2])), *sys.argv[3:])
        gc.collect()
    print("done")
