"""What a generated `run` says differently on a CPU and on a GPU."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Protocol

from bolt.kernels.family import Source
from bolt.target import Target
from bolt.templates import ROOT
from bolt.types import DType


class Dialect(Protocol):
    """The words of one kind of device.

    Attributes:
        header: what the generated text includes.
        alignment: bytes; where temporaries and constants start.
        align: C++ function that rounds a size up to `alignment`.
        areas: how many areas of scratch `infer` and `run` count.
        opening: lines of `run` before it asks for its workspace.
        in_place: whether a kernel may write its result over an epilogue input.
    """

    header: str
    alignment: int
    align: str
    areas: tuple[str, str]
    opening: tuple[str, ...]
    in_place: bool

    def declare(self, kernel: str) -> str:
        """The declaration of a kernel's function."""

    def call(self, kernel: str, parallel: str) -> str:
        """The statement that runs a kernel; `p`, `d` and `scratch` are at hand."""

    def ints(self, dtype: DType, address: str, values: Sequence[str]) -> list[str]:
        """Statements that write known integers."""

    def check(self, pointer: str, what: str) -> list[str]:
        """Statements that refuse the caller's memory where kernels could not use it."""

    def sources(self, *, ints: bool) -> tuple[Source, ...]:
        """Further sources of a module; `ints`: that writes known integers."""


class _Host:
    """Kernels are called, in as many shares as there are threads."""

    header = "bolt/module.h"
    alignment = 64
    align = "bolt_align"
    areas = ("bolt_max(threads, 1)", "threads")
    opening: tuple[str, ...] = ("const int64_t threads = bolt_max(context->threads, 1);",)
    in_place = True

    def declare(self, kernel: str) -> str:
        return f"void {kernel}(void* const*, const int64_t*, void*, int64_t, int64_t);"

    def call(self, kernel: str, parallel: str) -> str:
        return f"bolt_call(context, {kernel}, p, d, scratch, size.scratch, {parallel});"

    def ints(self, dtype: DType, address: str, values: Sequence[str]) -> list[str]:
        pointer = f"{dtype.cxx}*"
        lines = [f"{pointer} const o = reinterpret_cast<{pointer}>({address});"]
        return lines + [f"o[{i}] = {value};" for i, value in enumerate(values)]

    def check(self, pointer: str, what: str) -> list[str]:
        return []

    def sources(self, *, ints: bool) -> tuple[Source, ...]:
        return ()


class _Device:
    """Kernels are put on a stream; each has the scratch to itself until the next one runs."""

    header = "bolt/module_cuda.h"
    alignment = 256
    align = "bolt_align_device"
    areas = ("bolt_areas(threads)", "1")
    opening: tuple[str, ...] = ()
    in_place = False

    def declare(self, kernel: str) -> str:
        return f"BoltLaunch {kernel};"

    def call(self, kernel: str, parallel: str) -> str:
        arguments = f"{kernel}, {json.dumps(kernel)}, p, d, scratch, error, error_bytes"
        return f"if (bolt_launch(context, {arguments}) != 0) return 1;"

    def ints(self, dtype: DType, address: str, values: Sequence[str]) -> list[str]:
        lines = [f"const int64_t v[] = {{{', '.join(values)}}};"]
        arguments = f"{address}, {dtype.size_bytes}, v, {len(values)}, error, error_bytes"
        return [*lines, f"if (bolt_put_ints(context, {arguments}) != 0) return 1;"]

    def check(self, pointer: str, what: str) -> list[str]:
        said = json.dumps(f"{what} is not aligned to 16 bytes; give memory as an allocator returns it")
        return [f"if (bolt_misaligned({pointer})) return bolt_fail(error, error_bytes, {said});"]

    def sources(self, *, ints: bool) -> tuple[Source, ...]:
        if not ints:
            return ()
        return (Source(name="bolt_write_ints", text=(ROOT / "cuda_ints.cu").read_text(), language="cuda"),)


HOST: Dialect = _Host()
DEVICE: Dialect = _Device()


def dialect(target: Target) -> Dialect:
    """The dialect of a target."""
    return DEVICE if target.is_cuda else HOST
