"""Single kernels on a GPU: bolt's best by search against cuBLASLt and cuDNN through torch."""

from __future__ import annotations

import ctypes
import importlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import gpu_peers
from benchmarks.gpu_result import Row
from benchmarks.gpu_timing import contest, sets_for
from benchmarks.workloads import CONVOLUTIONS, EPILOGUES, PRODUCTS, Convolution, Product
from bolt import verify
from bolt.bench.result import Measured
from bolt.epilogue import IDENTITY, Builder, Epilogue
from bolt.errors import BoltError
from bolt.ops.conv import ConvSpec
from bolt.ops.gemm import GemmSpec
from bolt.ops.spec import Operand, Spec
from bolt.options import Options
from bolt.report import Progress, silent
from bolt.search.choose import Choice, Problem, select
from bolt.target import Target
from bolt.toolchain import build
from bolt.toolchain.host import for_target
from bolt.types import F16, F32

_ALIGNED = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A row that is measured.

    Attributes:
        problem: the workload.
        epilogue: a row of `EPILOGUES`.
        spec: what bolt is asked for.
    """

    problem: Product | Convolution
    epilogue: str
    spec: Spec

    @property
    def kind(self) -> str:
        return self.spec.op + ("" if self.epilogue == "none" else " fused")

    @property
    def name(self) -> str:
        return self.problem.name


def cases() -> list[Case]:
    """All rows of the workloads."""
    problems: tuple[Product | Convolution, ...] = (*PRODUCTS, *CONVOLUTIONS)
    return [
        Case(problem=problem, epilogue=epilogue, spec=_SPECS[type(problem)](problem, epilogue))
        for problem in problems
        for epilogue in problem.epilogues
    ]


def _dense(*dims: int) -> Operand:
    return replace(Operand.dense(F16, dims), alignment=_ALIGNED)


def _finished(epilogue: str, out: Operand) -> tuple[Epilogue, tuple[Operand, ...]]:
    if epilogue == "none":
        return IDENTITY, ()
    b = Builder()
    value = b.op("add", b.acc(), b.input(0))
    for op in EPILOGUES[epilogue]:
        value = b.op(op, value)
    strides = (*[0] * (len(out.dims) - 1), 1)
    return b.finish(value), (Operand(dtype=F32, dims=out.dims, strides=strides, alignment=_ALIGNED),)


def product_spec(problem: Product, epilogue: str) -> GemmSpec:
    """The spec of a matrix product."""
    out = _dense(1, 1, problem.m, problem.n)
    expression, extras = _finished(epilogue, out)
    operands = (out, _dense(1, 1, problem.m, problem.k), _dense(1, 1, problem.k, problem.n), *extras)
    return GemmSpec(operands=operands, epilogue=expression, constants=(2,))


def convolution_spec(problem: Convolution, epilogue: str) -> ConvSpec:
    """The spec of a convolution."""
    out_size = (problem.size - 1) // problem.stride + 1
    out = _dense(problem.batch, out_size, out_size, problem.channels)
    expression, extras = _finished(epilogue, out)
    x = _dense(problem.batch, problem.size, problem.size, problem.channels)
    weights = Operand.dense(F16, (problem.channels, problem.channels, 3, 3))
    return ConvSpec(
        operands=(out, x, weights, *extras), epilogue=expression, constants=(2,), pad=(1, 1), pad_end=(1, 1),
        stride=(problem.stride, problem.stride), has_halo=False,
    )  # fmt: skip


_SPECS: Any = {Product: product_spec, Convolution: convolution_spec}


def choose(
    wanted: Sequence[Case], target: Target, budget_s: float, progress: Progress = silent, *, jobs: int = 0
) -> dict[str, Choice]:
    """bolt's kernel for each case, compiled; by search within the budget."""
    options = Options(targets=(target.name,), budget_s=budget_s, precision="fp16", jobs=jobs)
    return select([Problem(spec=case.spec) for case in wanted], target, options, progress)


def measure(wanted: Sequence[Case], chosen: dict[str, Choice], deadline: float) -> Iterator[Row]:
    """A row for each case, as they are done; no case is begun after the deadline."""
    for case in wanted:
        if time.monotonic() > deadline:
            return
        empty = Row(kind=case.kind, name=case.name, case=case.epilogue)
        try:
            yield _measured(case, chosen[case.spec.key], empty)
        except (BoltError, RuntimeError) as error:  # torch's and CUDA's are RuntimeErrors
            yield replace(empty, problem=f"{type(error).__name__}: {str(error)[:400]}")
            _require_context(case)


def _require_context(case: Case) -> None:
    """After an illegal access every call of this process fails."""
    torch = importlib.import_module("torch")
    try:
        torch.cuda.synchronize()
    except RuntimeError as error:
        raise GpuLost(
            f"the GPU can't be used after {case.name} {case.epilogue}; run the rest again"
        ) from error


class GpuLost(BoltError):
    """A kernel took the process's CUDA context with it."""

    exit_code = 6


@dataclass(slots=True)
class Kernel:
    """bolt's launcher on torch's memory."""

    function: Any
    operands: list[list[Any]]
    pointers: list[Any]
    scratch: Any
    torch: Any

    def __call__(self, index: int) -> None:
        stream = self.torch.cuda.current_stream().cuda_stream
        code = self.function(self.pointers[index], None, self.scratch.data_ptr(), stream)
        if code:
            raise RuntimeError(f"bolt's kernel failed to launch with code {code}")


def _measured(case: Case, choice: Choice, empty: Row) -> Row:
    data = gpu_peers.data(case.problem, sets_for(case.spec.bytes()))
    peers = gpu_peers.peers(case.problem, case.epilogue, data)
    bolt = _kernel(choice, data)
    engines: dict[str, gpu_peers.Peer] = {"bolt": gpu_peers.Peer(bolt, lambda: bolt.operands[0][0]), **peers}
    errors = _errors(case, engines, data)
    if reason := _wrong(case, errors["bolt"]):
        found = {name: Measured(error=errors[name], problem=reason * (name == "bolt")) for name in engines}
        return replace(empty, engines=found)
    samples = contest({name: engine.enqueue for name, engine in engines.items()}, len(data.sets))
    found = {name: Measured(error=errors[name], timing=samples.timing(name)) for name in engines}
    us, gpu = samples.timing("bolt").median_ms * 1e3, choice.candidate.target.gpu
    assert gpu is not None
    return replace(
        empty,
        engines=found,
        ratios={name: samples.ratio("bolt", name) for name in peers},
        kernel=f"{choice.candidate.family.name} {choice.candidate.config}",
        tensor_share=case.spec.flops() / us * 1e6 / gpu.tensor_flops,
        memory_share=case.spec.bytes() / us * 1e6 / gpu.bandwidth,
    )


def _errors(case: Case, engines: Mapping[str, gpu_peers.Peer], data: gpu_peers.Data) -> dict[str, float]:
    """How far each engine is from float64; the peers may approximate activations, and are timed anyway."""
    want, found = gpu_peers.reference(case.problem, case.epilogue, data), {}
    for name, engine in engines.items():
        engine.enqueue(0)
        found[name] = gpu_peers.error(engine.output(), want)
    return found


def _wrong(case: Case, error: float) -> str:
    """Why bolt's result can't be accepted ("" when it can)."""
    terms = case.spec.flops() // (2 * math.prod(d or 1 for d in case.spec.out.dims))
    limit = verify.tolerance(F16, terms)
    return "" if error <= limit else f"off by {error:.1e} of the range, allowed is {limit:.1e}"


def _kernel(choice: Choice, data: gpu_peers.Data) -> Kernel:
    """The chosen kernel with its constants packed and an output of its own for each set."""
    torch, candidate = importlib.import_module("torch"), choice.candidate
    function = ctypes.CDLL(str(library(choice)))[candidate.name]
    function.restype = ctypes.c_int
    function.argtypes = [ctypes.c_void_p] * 4
    spec, family = candidate.spec, candidate.family
    weights = data.constant.float().cpu().numpy().reshape(spec.operands[2].dims)
    packed = family.pack(spec, candidate.config, candidate.target, {2: weights})[2]
    as_bytes = torch.from_numpy(np.ascontiguousarray(packed).view(np.uint8)).cuda()
    out_dims = tuple(spec.out.dims)
    sets = [
        [torch.empty(out_dims, dtype=torch.float16, device="cuda"), one.x, as_bytes.clone()]
        + ([data.bias] if len(spec.operands) > 3 else [])
        for one in data.sets
    ]
    pointers = [(ctypes.c_void_p * len(s))(*(t.data_ptr() for t in s)) for s in sets]
    size = family.scratch_bytes(spec, candidate.config, candidate.target)
    scratch = torch.empty(max(1, size), dtype=torch.uint8, device="cuda")
    return Kernel(function, sets, pointers, scratch, torch)


def library(choice: Choice) -> Path:
    """The kernel that was chosen, linked."""
    target = choice.candidate.target
    store = build.store(Options(targets=(target.name,)).cache_root)
    return build.link(choice.objects, compiler=for_target(target), cache=store)
