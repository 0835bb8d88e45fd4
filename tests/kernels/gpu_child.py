"""The child process of `real_gpu`: launches kernels on the device it is started for.

Each line of stdin is a request {"library", "symbol", "memory", "blocks", "pointers", "scratch", "ints",
"launches"}. The blocks of the memory file are copied to the device, each to an allocation of its own, and
back after the last launch; {} is the answer. What fails ends the process with a line on stderr.
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any

import numpy as np

from bolt.search.cuda_worker import Gpu
from bolt.search.worker import reply_pipe


def serve(gpu: Gpu, request: dict[str, Any]) -> None:
    """One request."""
    file = np.memmap(request["memory"], np.uint8, "r+")
    blocks = [file[offset : offset + size] for offset, size in request["blocks"]]
    places = [gpu.allocate(block.size) for block in blocks]
    for place, block in zip(places, blocks, strict=True):
        gpu.upload(place, np.array(block))
    addresses = [places[block] + start for block, start in request["pointers"]]
    block, start = request["scratch"]
    _launch(gpu, request, addresses, places[block] + start)
    for place, block in zip(places, blocks, strict=True):
        gpu.download(place, block)
    gpu.release()


def _launch(gpu: Gpu, request: dict[str, Any], addresses: list[int], scratch: int) -> None:
    function = ctypes.CDLL(request["library"])[request["symbol"]]
    function.restype = ctypes.c_int
    function.argtypes = [ctypes.c_void_p] * 4
    ints = request["ints"]
    pointers = (ctypes.c_void_p * len(addresses))(*addresses)
    dims = (ctypes.c_int64 * max(1, len(ints)))(*ints)
    for _ in range(request["launches"]):
        code = function(pointers, dims, scratch, gpu.stream)
        if code:
            kind = "cudaError_t" if code > 0 else "cutlass::Status"
            raise RuntimeError(f"the launcher returned {kind} {abs(code)}")
        gpu.synchronize()


def main() -> None:
    """Serves the parent process."""
    replies = reply_pipe()
    gpu = Gpu(int(sys.argv[1]))
    for line in sys.stdin:
        serve(gpu, json.loads(line))
        replies.write("{}\n")
        replies.flush()


if __name__ == "__main__":
    main()
