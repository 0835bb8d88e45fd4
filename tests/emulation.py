"""Programs of another architecture: cross-compiled, and run by QEMU's user-mode emulation."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bolt.errors import ToolchainError
from bolt.target import Target, runs_here
from bolt.toolchain.host import INCLUDE, Compiler, find_compiler

CACHE = Path(tempfile.gettempdir()) / f"bolt-test-kernels-{os.getuid()}"
"""Compiled test code, named by the sha256 of all it was made from."""

TIME_LIMIT_S = 120


def sysroot(arch: str) -> Path:
    """Where the C library of `arch` is, as Debian's cross compilers install it."""
    return Path(f"/usr/{arch}-linux-gnu")


@functools.cache
def obstacle(target: Target) -> str:
    """Why code for `target` can't be built and run on this machine; "" when it can."""
    if runs_here(target):
        return ""
    if target.arch == platform.machine():
        return f"this CPU is no {target.name}"
    try:
        cross_compiler(target.arch)
    except ToolchainError as error:
        return str(error)
    if not shutil.which(f"qemu-{target.arch}"):
        return f"there is no qemu-{target.arch} (package qemu-user)"
    if not any(sysroot(target.arch).glob("lib/ld-linux*")):
        return f"{sysroot(target.arch)} has no C library (package g++-{target.arch}-linux-gnu)"
    return ""


def cross_compiler(arch: str) -> Compiler:
    """The compiler for `arch` that is installed together with a C library to run its programs with."""
    return find_compiler(arch=arch)


def run(arch: str, program: Path, *arguments: Path | str, root: Path | None = None) -> str:
    """What a program compiled for `arch` prints; it must succeed.

    Args:
        root: where the program finds files before it looks at those of this machine; None is `sysroot`.
    """
    emulator = () if arch == platform.machine() else (f"qemu-{arch}", "-L", str(root or sysroot(arch)))
    asked = [*emulator, str(program), *map(str, arguments)]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False)
    assert done.returncode == 0, (
        f"status {done.returncode}: {' '.join(asked)}\n{(done.stdout + done.stderr)[-2000:]}"
    )
    return done.stdout


def program(source: Path, arch: str) -> Path:
    """The program compiled from one file for `arch`."""
    flags = ("-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{INCLUDE}")
    return compiled(
        source.read_text(), [*cross_compiler(arch).argv, *flags], link=("-ldl", "-lm", "-pthread")
    )


def compiled(text: str, asked: Sequence[str], *, link: Sequence[str] = (), headers: str = "") -> Path:
    """What the compiler command `asked` makes of the translation unit `text`.

    Args:
        link: arguments after the source.
        headers: everything `text` includes that may change.
    """
    key = hashlib.sha256("\0".join((text, headers, *asked, *link)).encode()).hexdigest()
    out = CACHE / key
    if out.exists():
        return out
    CACHE.mkdir(exist_ok=True)
    source = CACHE / f"{key}.{os.getpid()}.cc"
    source.write_text(text)
    temporary = source.with_suffix(".out")
    full = [*asked, str(source), "-o", str(temporary), *link]
    done = subprocess.run(full, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(full)}\n{done.stderr[-4000:]}"
    source.unlink()
    temporary.rename(out)
    return out
