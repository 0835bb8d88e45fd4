"""The C++ compiler of this machine: which one, its identity, and the commands it is given."""

from __future__ import annotations

import importlib.util
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from bolt.errors import ToolchainError
from bolt.options import compiler_preference
from bolt.target import CPU_TARGETS, Target
from bolt.templates import ROOT
from bolt.toolchain import nvcc
from bolt.toolchain.nvcc import Nvcc

INCLUDE = ROOT / "include"

OLDEST = {"gcc": 11, "clang": 12, "zig": 12}
"""Major versions from which -march=x86-64-v3/v4 are known (of clang inside zig)."""

SPELLING = {
    "gcc": {},
    "clang": {"-fmax-errors=3": "-ferror-limit=3"},
    "zig": {
        "-fmax-errors=3": "-ferror-limit=3",
        "-march=x86-64": "-march=x86_64",
        "-march=x86-64-v3": "-march=x86_64_v3",
        "-march=x86-64-v4": "-march=x86_64_v4",
        "-march=armv8-a": "-mcpu=generic",
    },
}
"""Flags that a compiler spells differently from gcc."""

COMPILE_FLAGS = (
    "-std=c++17",
    "-O3",
    "-fPIC",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-exceptions",
    "-fno-rtti",
    "-fvisibility=hidden",
    "-Wall",
    "-Wno-psabi",  # vectors wider than the target's registers are only passed to inlined functions
    "-Wno-unknown-pragmas",  # clang reads "#pragma GCC unroll" of the kernels as unknown
    "-fmax-errors=3",
)

LINK_FLAGS = (
    "-shared",
    "-fPIC",
    "-static-libgcc",
    "-Wl,--as-needed",  # drops libstdc++, which no kernel uses
    "-Wl,--build-id=none",
    "-Wl,--hash-style=gnu",
    "-Wl,-z,relro,-z,now",
    "-Wl,-z,noexecstack",
    "-Wl,-s",  # no names of source files inside: equal objects give equal bytes
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiler:
    """A usable C++ compiler driver.

    Attributes:
        argv: the command that starts it.
        kind: "gcc", "clang" or "zig" (the package ziglang, which brings clang along).
        version: (major, minor, patch).
        identity: first line of its version text and its target triple; part of every cache key.
        arch: machine architecture it compiles for, as `platform.machine()` spells it.
        device: the CUDA compiler beside it, for CUDA targets.
    """

    argv: tuple[str, ...]
    kind: str
    version: tuple[int, ...]
    identity: str
    arch: str
    device: Nvcc | None = None

    @property
    def path(self) -> str:
        """The program it starts."""
        return self.argv[0]

    @property
    def description(self) -> str:
        """Itself and the CUDA compiler and headers beside it, for a person."""
        device = self.device
        if device is None:
            return self.identity
        cutlass = f"CUTLASS {device.cutlass.version}" if device.cutlass else "no CUTLASS"
        return f"{device.identity}, {cutlass}, {self.identity}"


def find_compiler(preferred: str | None = None, *, arch: str | None = None) -> Compiler:
    """The compiler to use: `preferred`, else $BOLT_CXX or $CXX, else the first usable one found.

    Args:
        preferred: a program name, a path, or a command with arguments.
        arch: architecture to compile for; None is this machine's.

    Raises:
        ToolchainError: there is none, or the preferred one can't be used.
    """
    arch = arch or platform.machine()
    asked = preferred or (compiler_preference() if arch == platform.machine() else None)
    if asked:
        return _preferred(asked, arch)
    reasons = []
    for argv in _known(arch):
        found = probe(argv)
        if isinstance(found, Compiler) and found.arch == arch:
            return found
        reasons.append(found if isinstance(found, str) else f"{argv[0]} compiles for {found.arch}")
    tried = "; ".join(reasons) or ", ".join(f"no {name}" for name in (*_names(arch), "package ziglang"))
    raise ToolchainError(f"no C++ compiler for {arch} was found ({tried}). {_advice(arch)}")


def _preferred(asked: str, arch: str) -> Compiler:
    found = probe(tuple(shlex.split(asked)))
    if isinstance(found, str):
        raise ToolchainError(f"the compiler {asked!r} can't be used: {found}. {_advice(arch)}")
    if found.arch != arch:
        raise ToolchainError(f"the compiler {asked!r} compiles for {found.arch}, not for {arch}")
    return found


def _advice(arch: str) -> str:
    if arch != platform.machine():
        package = f"g++-{arch.replace('_', '-')}-linux-gnu"
        return f"Install a cross compiler: the package {package}, or `pip install ziglang`"
    return "Install g++ 11 or newer (package g++), clang 12 or newer, or `pip install ziglang`"


def _names(arch: str) -> tuple[str, ...]:
    return ("g++", "clang++") if arch == platform.machine() else (f"{arch}-linux-gnu-g++",)


def _known(arch: str) -> Iterator[tuple[str, ...]]:
    yield from ((path,) for name in _names(arch) if (path := shutil.which(name)))
    if importlib.util.find_spec("ziglang"):
        cross = () if arch == platform.machine() else ("-target", f"{arch}-linux-gnu")
        yield (sys.executable, "-m", "ziglang", "c++", *cross)


@cache
def probe(argv: tuple[str, ...]) -> Compiler | str:
    """The compiler started by `argv`, or why it can't be used."""
    if not shutil.which(argv[0]):
        return f"there is no program {argv[0]!r}"
    try:
        text, triple = _ask(argv, "--version"), _ask(argv, "-dumpmachine")
    except (OSError, subprocess.SubprocessError) as error:
        return f"{shlex.join(argv)} --version fails ({error})"
    kind = "zig" if "ziglang" in argv else "clang" if "clang" in text else "gcc"
    version = _version(_ask(argv, "-dumpversion") if kind == "gcc" else text)
    if version < (OLDEST[kind],):
        return f"{argv[0]} is {kind} {'.'.join(map(str, version))}; bolt needs {OLDEST[kind]} or newer"
    first = text.splitlines()[0]
    return Compiler(
        argv=argv, kind=kind, version=version, identity=f"{first} [{triple}]", arch=triple.split("-")[0]
    )


def _ask(argv: Sequence[str], flag: str) -> str:
    done = subprocess.run([*argv, flag], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout.strip()


def _version(text: str) -> tuple[int, ...]:
    match = re.search(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?", text)
    return tuple(int(part) for part in match.groups() if part) if match else (0,)


def for_target(
    target: Target,
    preferred: str | None = None,
    *,
    device: str | Path | None = None,
    cutlass: str | Path | None = None,
) -> Compiler:
    """The compiler for `target`: the preferred one on its own architecture, else a cross compiler.

    Args:
        device: for a CUDA target, the CUDA compiler (see `nvcc.find`).
        cutlass: for a CUDA target, the CUTLASS checkout.

    Raises:
        ToolchainError: there is none.
    """
    if target.is_cuda:
        return _with_device(find_compiler(preferred), nvcc.find(device, cutlass))
    native = target.arch == platform.machine()
    return find_compiler(preferred if native else None, arch=target.arch)


def _with_device(compiler: Compiler, device: Nvcc) -> Compiler:
    if compiler.kind == "zig":
        raise ToolchainError("nvcc can't use zig for the host code of CUDA kernels. Install g++ or clang")
    return replace(compiler, device=device)


def portable() -> Target:
    """The target every machine of this architecture runs."""
    return [target for target in CPU_TARGETS if target.arch == platform.machine()][-1]


def kernel_flags(compiler: Compiler, target: Target) -> tuple[str, ...]:
    """Flags that may change the object of a kernel or module, in order; all of them are in its cache key.

    Of a CUDA target, what runs on the host is compiled for any machine; the module decides what it exports.
    """
    row = portable() if target.is_cuda else target
    visible = ("-fvisibility=default",) if target.is_cuda else ()
    flags = (*COMPILE_FLAGS, f"-DBOLT_VL={row.vector_lanes}", *row.flags, *visible)
    return tuple(SPELLING[compiler.kind].get(flag, flag) for flag in flags)


def compile_command(
    compiler: Compiler, target: Target, source: Path | str, out: Path | str, *, extra: Sequence[str] = ()
) -> list[str]:
    """The command that compiles one C++ file into an object.

    Give names relative to the working directory: then no path of this machine gets into the object.
    """
    include = ("-I", str(INCLUDE), f"-ffile-prefix-map={INCLUDE}=include")
    return [
        *compiler.argv,
        *kernel_flags(compiler, target),
        *include,
        *extra,
        "-c",
        str(source),
        "-o",
        str(out),
    ]


def link_command(
    compiler: Compiler,
    objects: Sequence[Path | str],
    out: Path | str,
    *,
    exports: Path | str | None = None,
    extra: Sequence[str] = (),
) -> list[str]:
    """The command that links objects into a shared library.

    Args:
        exports: a linker version script, or None to export what the sources mark visible.
        extra: further flags (`-pthread`, ...).
    """
    script = [f"-Wl,--version-script={exports}"] if exports else []
    return [*compiler.argv, *LINK_FLAGS, *script, *map(str, objects), *extra, "-lm", "-o", str(out)]
