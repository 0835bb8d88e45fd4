"""The kernels of cuBLASLt and cuDNN, as torch calls them, and the data that all engines share."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.gpu_timing import Enqueue
from benchmarks.workloads import EPILOGUES, Convolution, Product

_SEED = 0


@dataclass(slots=True)
class Set:
    """One set of operands.

    Attributes:
        x: activations as bolt takes them: (m, k), or channels-last (n, h, w, c).
        weights: as torch likes them best: (n, k), or (k, c, r, s) in channels-last memory.
    """

    x: Any
    weights: Any


@dataclass(slots=True)
class Data:
    """What the engines compute with, on the GPU.

    Attributes:
        sets: different activations, and copies of the weights.
        constant: the weights as bolt's spec has them: (k, n), or (k, c, r, s).
        bias: fp32 numbers that fp16 can hold.
        bias_half: the same as fp16.
    """

    sets: list[Set]
    constant: Any
    bias: Any
    bias_half: Any


@dataclass(slots=True)
class Peer:
    """A library's way to compute a case."""

    enqueue: Enqueue
    output: Callable[[], Any]


def data(problem: Product | Convolution, sets: int) -> Data:
    """Seeded random data: activations near 1, weights that keep results near 1."""
    torch = importlib.import_module("torch")
    generator = torch.Generator(device="cuda").manual_seed(_SEED)

    def normal(*shape: int) -> Any:
        return torch.randn(*shape, generator=generator, device="cuda").half()

    x_shape, w_shape, terms = _shapes(problem)
    constant = (normal(*w_shape).float() / math.sqrt(terms)).half()
    liked = constant.t() if isinstance(problem, Product) else constant
    order = torch.contiguous_format if isinstance(problem, Product) else torch.channels_last
    made = [Set(normal(*x_shape), liked.clone(memory_format=order)) for _ in range(sets)]
    bias = normal(problem.n if isinstance(problem, Product) else problem.channels)
    return Data(made, constant, bias.float(), bias)


def _shapes(problem: Product | Convolution) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """Dims of activations and weights, and products in a sum."""
    if isinstance(problem, Product):
        return (problem.m, problem.k), (problem.k, problem.n), problem.k
    c, size = problem.channels, problem.size
    return (problem.batch, size, size, c), (c, c, 3, 3), c * 9


def _activation(torch: Any, name: str) -> Any:
    functional = torch.nn.functional
    return {
        "relu": torch.relu, "gelu": functional.gelu, "hard_swish": functional.hardswish,
        "softplus": functional.softplus,
    }[name]  # fmt: skip


def _activated(torch: Any, epilogue: str, value: Any) -> Any:
    for name in EPILOGUES[epilogue]:
        value = _activation(torch, name)(value)
    return value


def reference(problem: Product | Convolution, epilogue: str, data: Data) -> Any:
    """The result for the first set in float64, in the order of bolt's output."""
    torch = importlib.import_module("torch")
    x, weights = data.sets[0].x.double(), data.constant.double()
    if isinstance(problem, Product):
        found = x @ weights
    else:
        found = torch.nn.functional.conv2d(x.permute(0, 3, 1, 2), weights, stride=problem.stride, padding=1)
        found = found.permute(0, 2, 3, 1)
    return _activated(torch, epilogue, found + data.bias.double() if EPILOGUES[epilogue] else found)


def error(got: Any, want: Any) -> float:
    """Largest difference relative to the range; NaN is infinitely wrong."""
    worst = float((got.double().reshape(want.shape) - want).abs().max() / want.abs().max())
    return worst if math.isfinite(worst) else math.inf


Call = Callable[[Set], Any]


def peers(problem: Product | Convolution, epilogue: str, data: Data) -> dict[str, Peer]:
    """The libraries' ways, by name; "unfused" runs the activation as a kernel of its own."""
    torch = importlib.import_module("torch")
    torch.backends.cudnn.benchmark = True
    of = _product_calls if isinstance(problem, Product) else _convolution_calls
    calls = of(torch, problem, epilogue, data)  # type: ignore[arg-type]
    return {name: _peer(call, data, isinstance(problem, Convolution)) for name, call in calls.items()}


def _peer(call: Call, data: Data, is_image: bool) -> Peer:
    kept: list[Any] = [None] * len(data.sets)

    def enqueue(index: int) -> None:
        kept[index] = call(data.sets[index])

    return Peer(enqueue, lambda: kept[0].permute(0, 2, 3, 1) if is_image else kept[0])


def _product_calls(torch: Any, problem: Product, epilogue: str, data: Data) -> Mapping[str, Call]:
    if epilogue == "none":
        return {"cublaslt": lambda s: torch.mm(s.x, s.weights.t())}
    calls: dict[str, Call] = {}
    if epilogue in ("bias_relu", "bias_gelu"):
        is_gelu = epilogue == "bias_gelu"
        calls["cublaslt"] = lambda s: torch._addmm_activation(
            data.bias_half, s.x, s.weights.t(), use_gelu=is_gelu
        )
    calls["unfused"] = lambda s: _activated(torch, epilogue, torch.addmm(data.bias_half, s.x, s.weights.t()))
    return calls


def _convolution_calls(torch: Any, problem: Convolution, epilogue: str, data: Data) -> Mapping[str, Call]:
    stride, conv = problem.stride, torch.nn.functional.conv2d

    def image(one: Set) -> Any:
        return one.x.permute(0, 3, 1, 2)

    if epilogue == "none":
        return {"cudnn": lambda s: conv(image(s), s.weights, stride=stride, padding=1)}
    calls: dict[str, Call] = {}
    if epilogue == "bias_relu":
        calls["cudnn"] = lambda s: torch.cudnn_convolution_relu(
            image(s), s.weights, data.bias_half, [stride] * 2, [1, 1], [1, 1], 1
        )
    calls["unfused"] = lambda s: _activated(
        torch, epilogue, conv(image(s), s.weights, data.bias_half, stride=stride, padding=1)
    )
    return calls
