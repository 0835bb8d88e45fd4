"""Kernels written in PTX, for the tests of the emulator: no CUDA compiler is needed to run them."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
from cuda import emulator
from kernels.cuda_harness import device

from bolt.target import SM90A

HEADER = ".version 9.0\n.target sm_90a\n.address_size 64\n"

REGISTERS = {
    **{f"{k}{n}": f"b{n}" for k in "bus" for n in (16, 32, 64)},
    **{"f32": "f32", "f64": "f64", "f16": "b16", "bf16": "b16", "f16x2": "b32", "bf16x2": "b32"},
}
BYTES = {"f16": 2, "bf16": 2, "f16x2": 4, "bf16x2": 4}


def size(kind: str) -> int:
    """Bytes of a PTX type."""
    return BYTES.get(kind) or int(kind[1:]) // 8


def elementwise(name: str, out: str, inputs: Sequence[str], body: str) -> str:
    """A kernel of out[i] = body(in0[i], in1[i], ...); `body` names the registers %d, %a, %b, %c."""
    params = ", ".join(f".param .u64 p{i}" for i in range(len(inputs) + 1))
    lines = [f".visible .entry {name}({params})", "{", ".reg .b64 %q<20>; .reg .b32 %i; .reg .pred %p<4>;"]
    lines.append(f".reg .{REGISTERS[out]} %d;")
    lines += [f".reg .{REGISTERS[k]} %{n};" for n, k in zip("abc", inputs, strict=False)]
    lines.append("mov.u32 %i, %tid.x;")
    for number, (register, kind) in enumerate(zip("abc", inputs, strict=False)):
        lines += _address(number, f"p{number + 1}", size(kind))
        lines.append(f"ld.global.{REGISTERS[kind]} %{register}, [%q{number}];")
    lines += [body, *_address(9, "p0", size(out)), f"st.global.{REGISTERS[out]} [%q9], %d;", "ret;", "}"]
    return "\n".join(lines)


def _address(number: int, param: str, bytes_: int) -> list[str]:
    return [
        f"ld.param.u64 %q{number}, [{param}];",
        f"mad.wide.u32 %q{number}, %i, {bytes_}, %q{number};",
    ]


def load(text: str) -> None:
    """Makes the kernels of a PTX text (without its header) known."""
    emulator.driver()
    emulator.load(emulator.link([(emulator.translated(HEADER + text),)]))


class Launcher:
    """Runs kernels by name on arrays; an array is copied to the device and back."""

    def __init__(self) -> None:
        self.gpu = device(SM90A)

    def __call__(
        self,
        name: str,
        *arguments: np.ndarray | int,
        grid: tuple[int, int, int] = (1, 1, 1),
        block: tuple[int, int, int] = (32, 1, 1),
        shared: int = 0,
    ) -> None:
        self.gpu.select()
        with ExitStack() as stack:
            places = [
                stack.enter_context(self.gpu.memory(a)) if isinstance(a, np.ndarray) else a for a in arguments
            ]
            values = [ctypes.c_uint64(p) for p in places]
            pointers = (ctypes.c_void_p * len(values))(*[ctypes.addressof(v) for v in values])
            dims = [(ctypes.c_uint32 * 3)(*d) for d in (grid, block)]
            size_ = ctypes.c_size_t(shared)
            self.gpu.do("fake_cuda_kernel", name.encode(), *dims, pointers, size_, self.gpu.stream)
            self.gpu.wait()
            for array, place in zip(arguments, places, strict=True):
                if isinstance(array, np.ndarray):
                    self.gpu.read(place, array)
