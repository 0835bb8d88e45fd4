"""The engines that can be timed: bolt and its peers, one row each."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bolt.ep.artifact import Artifact
from bolt.ep.session import load_runtime
from bolt.errors import BoltError, ModelError
from bolt.report import Rejection

Feeds = Mapping[str, np.ndarray]
Call = Callable[[], list[np.ndarray]]
Bind = Callable[[Feeds], Call]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What an engine is opened with.

    Attributes:
        model: the ONNX file.
        artifact: what bolt made of it.
        threads: threads to use.
    """

    model: Path
    artifact: Path
    threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One engine.

    Attributes:
        name: the spelling users give.
        title: for tables.
        imports: modules it needs.
        install: what to install for them.
        open: loads the model; the result binds inputs and gives a call that returns the outputs in order.
    """

    name: str
    title: str
    imports: tuple[str, ...]
    install: str
    open: Callable[[Opening], Bind]

    def missing(self) -> Rejection | None:
        """Why the engine can't be used here, or None."""
        absent = [name for name in self.imports if importlib.util.find_spec(name) is None]
        if not absent:
            return None
        reason = f"{', '.join(absent)} not installed (pip install {self.install})"
        return Rejection(stage="bench", subject=self.name, reason=reason)

    def version(self) -> str:
        """Version of what it runs on, without importing it: a broken installation must not end a run here."""
        packages = importlib.metadata.packages_distributions().get(self.imports[0], ())
        return importlib.metadata.version(packages[0]) if packages else "unknown"


def _open_bolt(opening: Opening) -> Bind:
    return _bound(Artifact.load(opening.artifact).session(threads=opening.threads))


def _open_ort(opening: Opening) -> Bind:
    return _bound(stock_session(opening.model, opening.threads))


def stock_session(model: Path, threads: int, *, optimized: bool = True) -> Any:
    """ONNX Runtime's own CPU provider; without its optimizations it is the reference for results.

    Raises:
        ModelError: it can't load the model.
    """
    ort = load_runtime()
    levels = ort.GraphOptimizationLevel
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimized else levels.ORT_DISABLE_ALL
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exception classes have no common base
        raise ModelError(f"ONNX Runtime can't load {model}: {error}") from error


def _bound(session: Any) -> Bind:
    return lambda feeds: lambda: session.run(None, feeds)


def _open_openvino(opening: Opening) -> Bind:
    openvino = importlib.import_module("openvino")
    settings = {
        "INFERENCE_NUM_THREADS": opening.threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = openvino.Core().compile_model(str(opening.model), "CPU", settings)
    request = compiled.create_infer_request()

    def bind(feeds: Feeds) -> Call:
        def call() -> list[np.ndarray]:
            found = request.infer(dict(feeds), share_inputs=True, share_outputs=True)
            return [found[output] for output in compiled.outputs]

        return call

    return bind


def _open_torch(opening: Opening) -> Bind:
    torch, onnx2torch = importlib.import_module("torch"), importlib.import_module("onnx2torch")
    torch.set_num_threads(opening.threads)
    names = [node.name for node in stock_session(opening.model, 1, optimized=False).get_inputs()]
    module = onnx2torch.convert(str(opening.model)).eval()

    def bind(feeds: Feeds) -> Call:
        tensors = [torch.from_numpy(np.array(feeds[name])) for name in names]

        def call() -> list[np.ndarray]:
            with torch.inference_mode():
                found = module(*tensors)
            outputs = found if isinstance(found, (tuple, list)) else (found,)
            return [output.numpy() for output in outputs]

        return call

    return bind


BOLT = Engine(
    name="bolt", title="bolt", imports=("bolt", "onnxruntime"), install="onnxruntime", open=_open_bolt
)
ORT = Engine(
    name="ort", title="ONNX Runtime", imports=("onnxruntime",), install="onnxruntime", open=_open_ort
)
OPENVINO = Engine(
    name="openvino", title="OpenVINO", imports=("openvino",), install="openvino", open=_open_openvino
)
TORCH = Engine(
    name="torch",
    title="PyTorch",
    imports=("torch", "onnx2torch"),
    install="torch torchvision onnx2torch",
    open=_open_torch,
)

ENGINES = (BOLT, ORT, OPENVINO, TORCH)
PEERS = tuple(engine.name for engine in ENGINES[1:])


class EngineError(BoltError):
    """There is no engine of that name."""

    exit_code = 2


def by_name(name: str) -> Engine:
    """The engine called `name`.

    Raises:
        EngineError: there is none.
    """
    for engine in ENGINES:
        if engine.name == name:
            return engine
    raise EngineError(f"unknown engine {name!r}; choose from {', '.join(PEERS)}")


def usable(names: Sequence[str]) -> tuple[tuple[Engine, ...], tuple[Rejection, ...]]:
    """The named engines that are installed, and why the others are not used."""
    named = tuple(by_name(name) for name in dict.fromkeys(names))
    reasons = {engine.name: engine.missing() for engine in named}
    present = tuple(engine for engine in named if reasons[engine.name] is None)
    return present, tuple(r for r in reasons.values() if r is not None)
