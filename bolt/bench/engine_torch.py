"""PyTorch: eager and compiled."""

from __future__ import annotations

import importlib
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from bolt.bench.opening import Bind, Call, Feeds, Opening
from bolt.errors import ModelError


def open_eager(opening: Opening) -> Bind:
    """The module as it is."""
    module = _module(opening)
    return lambda feeds: _call(module, opening, feeds)


def open_compiled(opening: Opening) -> Bind:
    """The module through `torch.compile`, weights frozen; it compiles when inputs are bound."""
    torch = importlib.import_module("torch")
    config: Any = importlib.import_module("torch._inductor.config")
    config.freezing = True
    module = torch.compile(_module(opening))
    return lambda feeds: _call(module, opening, feeds)


def _module(opening: Opening) -> Any:
    torch = importlib.import_module("torch")
    torch.set_num_threads(opening.threads)
    if opening.precision == "int8":
        raise ModelError("PyTorch runs no quantized ONNX model")
    program = opening.model.with_suffix(".pt2")
    if program.exists():  # what the ONNX file was exported from
        return torch.export.load(program).module()
    return importlib.import_module("onnx2torch").convert(str(opening.model)).eval()


def _call(module: Any, opening: Opening, feeds: Feeds) -> Call:
    torch = importlib.import_module("torch")
    tensors = [torch.from_numpy(np.array(feeds[name])) for name in input_names(opening.model)]

    def run() -> Any:
        with torch.inference_mode(), _arithmetic(torch, opening.precision):
            return module(*tensors)

    def call() -> list[np.ndarray]:
        found = run()
        outputs = found if isinstance(found, (tuple, list)) else (found,)
        return [
            output.float().numpy() if output.is_floating_point() else output.numpy() for output in outputs
        ]

    return call


def _arithmetic(torch: Any, precision: str) -> AbstractContextManager[Any]:
    if precision == "bf16":
        return torch.autocast("cpu", torch.bfloat16)  # type: ignore[no-any-return]
    return nullcontext()


def input_names(model: Path) -> list[str]:
    """The model's inputs in order, without those that are weights."""
    graph = onnx.load(model, load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    return [value.name for value in graph.input if value.name not in weights]
