"""The child process that runs CUDA kernels, with the protocol of `bolt.search.worker`.

Started as `python -m bolt.search.cuda_worker ORDINAL`. Operands live in device memory. A kernel is timed
inside a CUDA graph of many calls, so that not the launches but the kernels follow each other as closely as
they can. The calls use copies of the constants in turn, so that these are as cold as in the model, while the
other operands are as warm as what the kernel before has just written. A launch that fails, or memory that a
kernel must not touch, ends this process with the driver's word for it: its CUDA context is of no use then.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from bolt.gpu import call
from bolt.search.worker import BURST_US, MAX_COPIES, race, reply_pipe, serve

_ALIGNMENT = 256
_MOST_CALLS = 200
_FIRST_CALLS = 4
_ROTATED_CALLS = 16
"""A burst uses at least this many copies of the constants, however slow the kernel is."""
_WAKE_S = 0.05
"""A GPU that was idle takes about this long to raise its clocks."""
_GARBAGE = 0xFF
"""Fills scratch memory before a check: no kernel may expect zeros there. As floats these are NaN."""


class Gpu:
    """A device, its primary context and one stream; owns what it allocates.

    Everything goes through the stream: the driver's plain copies and fills may still be under way when they
    return, and a non-blocking stream does not wait for them.
    """

    def __init__(self, ordinal: int) -> None:
        from cuda.bindings import driver

        self._driver = driver
        self._do("cuInit", 0)
        device = self._do("cuDeviceGet", ordinal)
        self._do("cuCtxSetCurrent", self._do("cuDevicePrimaryCtxRetain", device))
        self._stream = self._do("cuStreamCreate", int(driver.CUstream_flags.CU_STREAM_NON_BLOCKING))
        self._events = [self._do("cuEventCreate", 0) for _ in range(2)]
        self._allocated: list[Any] = []
        self._graphs: list[Any] = []

    def _do(self, function: str, *arguments: Any) -> Any:
        return call(self._driver, getattr(self._driver, function), *arguments)

    @property
    def stream(self) -> int:
        """As launchers take it."""
        return int(self._stream)

    def allocate(self, size: int) -> int:
        """Address of new device memory."""
        self._allocated.append(self._do("cuMemAlloc", max(size, 1)))
        return int(self._allocated[-1])

    def release(self) -> None:
        """Frees all memory and graphs."""
        self.synchronize()
        for graph in self._graphs:
            self._do("cuGraphExecDestroy", graph)
        for pointer in self._allocated:
            self._do("cuMemFree", pointer)
        self._graphs.clear()
        self._allocated.clear()

    def upload(self, address: int, data: np.ndarray) -> None:
        """Copies bytes to the device."""
        if data.nbytes:
            self._do("cuMemcpyHtoDAsync", address, data.ctypes.data, data.nbytes, self._stream)
            self.synchronize()

    def download(self, address: int, data: np.ndarray) -> None:
        """Copies bytes from the device."""
        if data.nbytes:
            self._do("cuMemcpyDtoHAsync", data.ctypes.data, address, data.nbytes, self._stream)
            self.synchronize()

    def fill(self, address: int, value: int, size: int) -> None:
        """Sets every byte."""
        if size:
            self._do("cuMemsetD8Async", address, value, size, self._stream)

    def synchronize(self) -> None:
        """Waits; tells what went wrong on the device meanwhile."""
        self._do("cuStreamSynchronize", self._stream)

    def graph(self, enqueue: Callable[[], None]) -> Any:
        """What `enqueue` puts on the stream, as a graph that can be launched."""
        local = self._driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._do("cuStreamBeginCapture", self._stream, local)
        enqueue()
        graph = self._do("cuStreamEndCapture", self._stream)
        self._graphs.append(self._do("cuGraphInstantiate", graph, 0))
        self._do("cuGraphDestroy", graph)
        return self._graphs[-1]

    def elapsed_us(self, graph: Any) -> float:
        """Time of one launch of a graph."""
        start, stop = self._events
        self._do("cuEventRecord", start, self._stream)
        self._do("cuGraphLaunch", graph, self._stream)
        self._do("cuEventRecord", stop, self._stream)
        self._do("cuEventSynchronize", stop)
        return float(self._do("cuEventElapsedTime", start, stop)) * 1e3


@dataclass(slots=True)
class Kernel:
    """A loaded launcher with the operand pointers of each copy of its constants."""

    symbol: str
    function: Any
    pointers: list[Any]
    scratch: int
    scratch_bytes: int
    next: int = 0


@dataclass(slots=True)
class Arena:
    """An operand's memory on the device.

    Attributes:
        base: address of the memory.
        first: address of element (0, ..., 0).
    """

    base: int
    first: int


@dataclass(slots=True)
class Memory:
    """The parent's file, and what was copied from it to the device."""

    gpu: Gpu
    file: np.ndarray
    copies: dict[tuple[int, int], list[int]] = field(default_factory=dict)

    def arena(self, offset: int, size: int, start: int) -> Arena:
        """An operand whose first element is aligned as well as any allocation."""
        pad = -start % _ALIGNMENT
        base = self.gpu.allocate(size + pad) + pad
        self.gpu.upload(base, self.file[offset : offset + size])
        return Arena(base, base + start)

    def copied(self, place: tuple[int, int], count: int) -> list[int]:
        """Addresses of at least `count` copies of packed constants; equal packing is shared."""
        known = self.copies.setdefault(place, [])
        while len(known) < count:
            known.append(self.arena(*place, 0).base)
        return known


class Session:
    """The kernels and operands of one load request."""

    def __init__(self, gpu: Gpu, request: dict[str, Any]) -> None:
        gpu.release()
        self.gpu = gpu
        self.memory = Memory(gpu, np.memmap(request["memory"], np.uint8, "r+"))
        self.places = [tuple(row) for row in request["operands"]]
        self.arenas = [self.memory.arena(*place) for place in self.places]
        ints = request["ints"]
        self.ints = (ctypes.c_int64 * max(1, len(ints)))(*ints)
        library = ctypes.CDLL(request["library"])
        self.kernels = [self._kernel(library, row, request["rotate_bytes"]) for row in request["kernels"]]

    def _kernel(self, library: ctypes.CDLL, row: dict[str, Any], rotate_bytes: int) -> Kernel:
        packed = {int(index): tuple(place) for index, place in row["packed"].items()}
        total = sum(size for _, size in packed.values())
        sets = max(1, min(MAX_COPIES, rotate_bytes // total)) if total else 1
        constants = {index: self.memory.copied(place, sets) for index, place in packed.items()}
        pointers = [self._pointers({i: copies[n] for i, copies in constants.items()}) for n in range(sets)]
        function, size = library[row["symbol"]], row["scratch_bytes"]
        function.restype = ctypes.c_int
        function.argtypes = [ctypes.c_void_p] * 4
        return Kernel(row["symbol"], function, pointers, self.gpu.allocate(size), size)

    def _pointers(self, constants: dict[int, int]) -> Any:
        addresses = [constants.get(i, arena.first) for i, arena in enumerate(self.arenas)]
        return (ctypes.c_void_p * len(addresses))(*addresses)

    def check(self, index: int) -> None:
        """Runs a kernel once on a fresh output and hands the output's memory back."""
        (offset, size, _), kernel, output = self.places[0], self.kernels[index], self.arenas[0].base
        place = self.memory.file[offset : offset + size]
        fresh, result = place.copy(), np.empty(size, np.uint8)
        self.gpu.upload(output, fresh)
        self.gpu.fill(kernel.scratch, _GARBAGE, kernel.scratch_bytes)
        self._enqueue(kernel, 1)
        self.gpu.synchronize()
        self.gpu.download(output, result)
        self.gpu.upload(output, fresh)
        place[:] = result

    def time(self, indices: Sequence[int], limit_s: float) -> list[list[float]]:
        """Microseconds of a call of each kernel, a sample per burst of calls."""
        deadline = time.monotonic() + limit_s
        bursts = [self._burst(self.kernels[i]) for i in indices]
        awake = time.monotonic() + _WAKE_S
        while time.monotonic() < awake:
            bursts[0]()
        return race(bursts, deadline)

    def _burst(self, kernel: Kernel) -> Callable[[], list[float]]:
        """Calls that take about BURST_US together, found while warming up."""
        self._enqueue(kernel, 1)  # loads the code, which must not happen while a graph is captured
        self.gpu.synchronize()
        self._sample(kernel, _FIRST_CALLS)()
        us = self._sample(kernel, _FIRST_CALLS)()[0]
        fitting = min(_MOST_CALLS, int(BURST_US / max(us, 0.1)))
        return self._sample(kernel, max(1, fitting, min(len(kernel.pointers), _ROTATED_CALLS)))

    def _sample(self, kernel: Kernel, calls: int) -> Callable[[], list[float]]:
        graph = self.gpu.graph(partial(self._enqueue, kernel, calls))
        self.gpu.elapsed_us(graph)  # the first launch uploads the graph
        return lambda: [self.gpu.elapsed_us(graph) / calls]

    def _enqueue(self, kernel: Kernel, calls: int) -> None:
        """Launches, with the copies of the constants in turn."""
        for _ in range(calls):
            pointers = kernel.pointers[kernel.next]
            code = kernel.function(pointers, self.ints, kernel.scratch, self.gpu.stream)
            if code:
                kind = "cudaError_t" if code > 0 else "cutlass::Status"
                raise RuntimeError(f"{kernel.symbol} failed to launch: {kind} {abs(code)}")
            kernel.next = (kernel.next + 1) % len(kernel.pointers)


def main() -> None:
    """Serves the parent process."""
    replies = reply_pipe()
    gpu = Gpu(int(sys.argv[1]))
    serve(partial(Session, gpu), sys.stdin, replies)


if __name__ == "__main__":
    main()
