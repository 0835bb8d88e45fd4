"""The engines that can be timed: bolt and its peers, one row each."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bolt.bench.engine_openvino import open_openvino
from bolt.bench.engine_ort import open_best, open_ort, session_call, stock_session
from bolt.bench.engine_torch import open_compiled, open_eager
from bolt.bench.engine_tvm import open_tvm
from bolt.bench.opening import Bind, Call, Feeds, Opening
from bolt.ep.artifact import Artifact
from bolt.errors import BoltError
from bolt.report import Rejection

__all__ = ["BOLT", "ENGINES", "ORT", "PEERS", "Bind", "Call", "Engine", "Feeds", "Opening", "stock_session"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One engine.

    Attributes:
        name: the spelling users give.
        title: for tables.
        imports: modules it needs.
        install: what to install for them.
        open: loads the model; the result binds inputs and gives a call that returns the outputs in order.
        about: what of it is timed, by precision where that matters.
    """

    name: str
    title: str
    imports: tuple[str, ...]
    install: str
    open: Callable[[Opening], Bind]
    about: str = ""

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
    return session_call(Artifact.load(opening.artifact).session(threads=opening.threads))


_TORCH = ("torch torchvision onnx2torch", ("torch", "onnx2torch"))

BOLT = Engine(
    name="bolt",
    title="bolt",
    about="the package that `bolt.optimize` makes, through ONNX Runtime",
    imports=("bolt", "onnxruntime"),
    install="onnxruntime",
    open=_open_bolt,
)
ORT = Engine(
    name="ort",
    title="ONNX Runtime",
    about="its CPU provider as it comes, all optimizations; fp32 also where bolt computes in bf16: it has no "
    "bf16 kernels for x86",
    imports=("onnxruntime",),
    install="onnxruntime",
    open=open_ort,
)

ENGINES = (
    BOLT,
    ORT,
    Engine(
        name="ort_best",
        title="ONNX Runtime",
        about="the fastest of its settings on these inputs: optimization levels, spinning, dynamic blocks, "
        "arena, denormals, its transformer optimizer",
        imports=("onnxruntime",),
        install="onnxruntime",
        open=open_best,
    ),
    Engine(
        name="openvino",
        title="OpenVINO",
        about="latency hint; inference precision f32 or bf16 as bolt's, its own default for quantized models",
        imports=("openvino",),
        install="openvino",
        open=open_openvino,
    ),
    Engine(
        name="torch",
        title="PyTorch",
        about="eager; the exported program beside the model, else onnx2torch's conversion; bf16 by autocast",
        imports=_TORCH[1],
        install=_TORCH[0],
        open=open_eager,
    ),
    Engine(
        name="torch_compile",
        title="PyTorch",
        about="the same through torch.compile with frozen weights",
        imports=_TORCH[1],
        install=_TORCH[0],
        open=open_compiled,
    ),
    Engine(
        name="tvm",
        title="TVM",
        about="Relax, built for this processor without tuning; fp32",
        imports=("tvm",),
        install="apache-tvm",
        open=open_tvm,
    ),
)
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
