"""The engines that run whole models on a GPU, as rows like those of `bolt.bench.engines`.

Inputs and outputs of all of them stay in GPU memory, and a call ends when its work is done. bolt's and ONNX
Runtime's inputs are fp32, as the ONNX file says; torch's are fp16.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import random_models
from bolt.bench.engines import Bind, Call, Engine, Feeds, Opening
from bolt.ep.artifact import Artifact
from bolt.ep.session import load_runtime
from bolt.report import Rejection

_NVIDIA = 0x10DE


def _waited(run: Callable[[], Any]) -> Callable[[], None]:
    torch = importlib.import_module("torch")

    def call() -> None:
        run()
        torch.cuda.synchronize()

    return call


def _model_name(opening: Opening) -> str:
    """ "resnet50" of .../resnet50-32.onnx."""
    return opening.model.stem.rpartition("-")[0]


def _open_bolt(opening: Opening) -> Bind:
    session = Artifact.load(opening.artifact).session(ep_options={"cuda_graph": "1"})
    return lambda feeds: _bound(session, feeds, ("gpu", 0, _NVIDIA))


def _open_ort_cuda(opening: Opening) -> Bind:
    ort = load_runtime()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    providers = [("CUDAExecutionProvider", {"enable_cuda_graph": "1", "prefer_nhwc": "1"})]
    session = ort.InferenceSession(opening.model, options, providers=providers)
    return lambda feeds: _bound(session, feeds, ("cuda", 0))


def _bound(session: Any, feeds: Feeds, place: tuple[Any, ...]) -> Call:
    """A call on values that stay where they are."""
    value, binding = load_runtime().OrtValue, session.io_binding()
    kept = [value.ortvalue_from_numpy(np.ascontiguousarray(array), *place) for array in feeds.values()]
    for name, one in zip(feeds, kept, strict=True):
        binding.bind_ortvalue_input(name, one)
    session.run_with_iobinding(_with_outputs(session, feeds, binding, place, kept))
    found = [one for one in kept[len(feeds) :]]
    run = _waited(lambda: session.run_with_iobinding(binding))

    def call() -> list[np.ndarray]:
        run()
        return found

    return call


def _with_outputs(session: Any, feeds: Feeds, binding: Any, place: tuple[Any, ...], kept: list[Any]) -> Any:
    """Binds memory for every output, whose sizes the file states."""
    value = load_runtime().OrtValue
    for output in session.get_outputs():
        assert all(isinstance(d, int) for d in output.shape), f"{output.name} has open dims {output.shape}"
        one = value.ortvalue_from_shape_and_type(output.shape, np.float32, *place)
        binding.bind_ortvalue_output(output.name, one)
        kept.append(one)
    return binding


def _open_eager(opening: Opening) -> Bind:
    return _torch_bind(_module(opening))


def _open_compile(opening: Opening) -> Bind:
    torch = importlib.import_module("torch")
    return _torch_bind(torch.compile(_module(opening), mode="max-autotune"))


def _module(opening: Opening) -> Any:
    torch = importlib.import_module("torch")
    torch.backends.cudnn.benchmark = True
    made = random_models.module(_model_name(opening)).half().cuda()
    return made.to(memory_format=torch.channels_last)


def _torch_bind(module: Any) -> Bind:
    torch = importlib.import_module("torch")

    def bind(feeds: Feeds) -> Call:
        inputs = [_tensor(torch, array) for array in feeds.values()]
        found: list[Any] = [None]

        def run() -> None:
            with torch.inference_mode():
                found[0] = module(*inputs)

        waited = _waited(run)

        def call() -> list[np.ndarray]:
            waited()
            return found

        return call

    return bind


def _tensor(torch: Any, array: np.ndarray) -> Any:
    made = torch.from_numpy(array).cuda()
    if made.is_floating_point():
        made = made.half()
    return made.contiguous(memory_format=torch.channels_last) if made.dim() == 4 else made


def arrays(found: list[Any]) -> list[np.ndarray]:
    """What a call gave, in host memory."""
    return [one.float().cpu().numpy() if hasattr(one, "cpu") else one.numpy() for one in found]


BOLT = Engine(
    name="bolt", title="bolt", imports=("bolt", "onnxruntime", "torch"), install="onnxruntime torch",
    open=_open_bolt,
)  # fmt: skip
EAGER = Engine(name="eager", title="PyTorch eager", imports=("torch",), install="torch", open=_open_eager)
COMPILE = Engine(
    name="compile", title="torch.compile", imports=("torch", "triton"), install="torch", open=_open_compile
)
ORT_CUDA = Engine(
    name="ort_cuda", title="ONNX Runtime CUDA", imports=("onnxruntime",), install="onnxruntime-gpu",
    open=_open_ort_cuda,
)  # fmt: skip

ENGINES = (BOLT, EAGER, COMPILE, ORT_CUDA)
PEERS = tuple(engine.name for engine in ENGINES[1:])


def missing(engine: Engine) -> Rejection | None:
    """Why an engine can't be used here, or None."""
    reason = engine.missing()
    if reason is not None or engine is not ORT_CUDA:
        return reason
    if "CUDAExecutionProvider" in load_runtime().get_available_providers():
        return None
    said = "this onnxruntime has no CUDA provider (pip install onnxruntime-gpu)"
    return Rejection(stage="bench", subject=engine.name, reason=said)


def reference(model: Path, feeds: Feeds) -> list[np.ndarray]:
    """ONNX Runtime's CPU provider without optimizations."""
    from bolt.bench.engines import stock_session

    found: list[np.ndarray] = stock_session(model, 0, optimized=False).run(None, dict(feeds))
    return found
