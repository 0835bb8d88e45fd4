"""CUDA without a GPU: sources are compiled to PTX, translated to C++ (`translate.py`) and run by the machine
of machine.h, below a pretended driver and runtime (driver.cc, runtime.cc: one library, `libcuda.so.1`).

    objects = [emulator.compile_source(source, target) for source in (launcher, *units)]
    library = ctypes.CDLL(str(emulator.link(objects)))

Everything is cached by content in the folder of tests/emulation.py.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import emulation
from cuda import ptx, translate

from bolt.errors import ToolchainError
from bolt.kernels.family import Source
from bolt.target import Target, cpu_flags
from bolt.templates import ROOT
from bolt.toolchain import nvcc
from bolt.toolchain.host import find_compiler

HERE = Path(__file__).parent
SONAME = "libcuda.so.1"
_LIBRARY_SOURCES = (
    *("driver.cc", "runtime.cc", "tensormap.cc", "machine.cc", "collectives.cc", "matrix.cc"),
    *("mbarrier.cc", "copies.cc", "wgmma.cc"),
)
_LIBRARY_FLAGS = (
    "-std=c++17",
    "-O2",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-fPIC",
    "-march=x86-64-v3",
    "-ffp-contract=off",
)
_TRANSLATED_FLAGS = (
    *("-std=c++17", "-O1", "-w", "-fPIC", "-march=x86-64-v3"),
    *(
        "-ffp-contract=off",
        "-fno-math-errno",
        "-fwrapv",
        "-fno-strict-aliasing",
        "-fno-semantic-interposition",
    ),
)
_CUDA_FLAGS = (
    "-O3",
    "-DNDEBUG",
    "-std=c++17",
    "-Xcompiler=-fPIC,-O0",
    "--expt-relaxed-constexpr",
    "-w",
    "--compress-mode=none",
)
_INCLUDED = re.compile(r'#\s*include\s*[<"](bolt/[^">]+)[">]')


def obstacle() -> str:
    """Why CUDA sources can't be emulated on this machine; "" when they can."""
    try:
        nvcc.find()
    except ToolchainError as error:
        return str(error)
    return obstacle_to_ptx()


def obstacle_to_ptx() -> str:
    """Why PTX can't be emulated on this machine; "" when it can."""
    supported = find_compiler().arch == "x86_64" and {"avx2", "fma", "f16c", "bmi2"} <= cpu_flags()
    return "" if supported else "the emulator needs an x86-64 CPU with AVX2, FMA and F16C"


@functools.cache
def library() -> Path:
    """The pretended driver and runtime; its file name is its SONAME."""
    texts = [(HERE / name).read_text() for name in (*_LIBRARY_SOURCES, *_headers())]
    folder = emulation.CACHE / _key(*texts, *_LIBRARY_FLAGS, _cxx_identity())
    if (folder / SONAME).exists():
        return folder / SONAME
    with _new_folder(folder) as work:
        objects = [work / f"{name}.o" for name in _LIBRARY_SOURCES]
        for name, out in zip(_LIBRARY_SOURCES, objects, strict=True):
            _run([*_cxx(), *_LIBRARY_FLAGS, "-c", str(HERE / name), "-o", str(out)])
        shared = ("-shared", f"-Wl,-soname,{SONAME}", "-o", str(work / SONAME))
        _run([*_cxx(), *shared, *map(str, objects), "-ldl", "-lm"])
    return folder / SONAME


def _headers() -> list[str]:
    return sorted(p.name for p in HERE.glob("*.h"))


def compile_source(source: Source, target: Target) -> tuple[Path, ...]:
    """The objects of one source: host code, and its translated kernels if it is CUDA."""
    if source.language == "cxx":
        return (_host_object(source.text),)
    return _device_objects(source.text, target)


def link(objects: Iterable[Sequence[Path]]) -> Path:
    """A shared library of the objects of several sources, on the pretended runtime."""
    files = list(dict.fromkeys(path for group in objects for path in group))
    folder = emulation.CACHE / _key(*map(str, files), str(library()))
    if not (folder / "kernels.so").exists():
        with _new_folder(folder) as work:
            flags = (
                "-shared",
                "-Wl,-z,now",
                f"-Wl,-rpath,{library().parent}",
                "-o",
                str(work / "kernels.so"),
            )
            _run([*_cxx(), *flags, *map(str, files), str(library())])
    return folder / "kernels.so"


@functools.cache
def _host_object(text: str) -> Path:
    flags = ["-std=c++17", "-O1", "-fPIC", "-Wall", "-Wextra", "-Werror", "-c", f"-I{ROOT / 'include'}"]
    return emulation.compiled(text, [*_cxx(), *flags], headers=_own_headers(text) + _cxx_identity())


@functools.cache
def _device_objects(text: str, target: Target) -> tuple[Path, ...]:
    device = nvcc.find()
    arch = target.name.removeprefix("sm")
    flags = (*_CUDA_FLAGS, "-gencode", f"arch=compute_{arch},code=compute_{arch}")
    cutlass = device.cutlass.identity if device.cutlass and nvcc.uses_cutlass(text) else ""
    key = _key(
        text, _own_headers(text), device.identity, device.headers_sha256, cutlass, *flags, _cxx_identity()
    )
    folder = emulation.CACHE / key
    if not (folder / "host.o").exists():
        with _new_folder(folder) as work:
            (work / "kernel.cu").write_text(text)
            include = (*(device.cutlass.include if device.cutlass else ()), ROOT / "include")
            includes = [f"-I{path}" for path in include]
            keep = ("--keep", f"--keep-dir={work}", "-c", "kernel.cu", "-o", "host.o")
            _run([str(device.path), "-ccbin", _cxx()[0], *flags, *includes, *keep], folder=work)
            made = {"kernel.cu", "kernel.ptx", "host.o"}
            for path in work.iterdir():
                if path.name not in made:
                    path.unlink()
    return folder / "host.o", translated((folder / "kernel.ptx").read_text())


def translated(text: str) -> Path:
    """The object of the kernels of a PTX file."""
    return _translated(translate.translate(ptx.parse(text)))


@functools.cache
def _translated(text: str) -> Path:
    headers = "".join(
        (HERE / name).read_text() for name in ("machine.h", "arith.h", "hopper.h", "addresses.h")
    )
    asked = [*_cxx(), *_TRANSLATED_FLAGS, "-c", f"-I{HERE}"]
    return emulation.compiled(text, asked, headers=headers + _cxx_identity())


@functools.cache
def load(path: Path) -> ctypes.CDLL:
    """A linked library, opened in this process."""
    driver()
    return ctypes.CDLL(str(path))


@functools.cache
def driver() -> ctypes.CDLL:
    """The pretended driver and runtime, opened in this process."""
    opened = ctypes.CDLL(str(library()), mode=ctypes.RTLD_GLOBAL)
    opened.fake_cuda_message.restype = ctypes.c_char_p
    return opened


def _own_headers(text: str) -> str:
    """The text of all headers of templates/include that `text` includes."""
    seen: dict[str, str] = {}
    waiting = _INCLUDED.findall(text)
    while waiting:
        name = waiting.pop()
        path = ROOT / "include" / name
        if name not in seen and path.exists():
            seen[name] = path.read_text()
            waiting += _INCLUDED.findall(seen[name])
            beside = re.findall(r'#\s*include\s*"([^"/]+)"', seen[name])
            waiting += [str(Path(name).parent / b) for b in beside]
    return "".join(f"{name}\0{seen[name]}" for name in sorted(seen))


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _cxx() -> list[str]:
    return list(find_compiler().argv)


def _cxx_identity() -> str:
    return find_compiler().identity


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that takes its final name when the block ends well."""
    folder.parent.mkdir(exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        yield work
        with suppress(OSError):  # another process was faster
            work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _run(command: Sequence[str], *, folder: Path | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, f"{' '.join(command)}\n{(done.stdout + done.stderr)[-4000:]}"
