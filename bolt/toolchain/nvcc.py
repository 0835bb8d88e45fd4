"""The CUDA compiler of this machine: where it and the CUTLASS headers are, and the commands it is given."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bolt.errors import ToolchainError
from bolt.options import cuda_home, cutlass_preference, nvcc_preference
from bolt.target import Target
from bolt.templates import ROOT

INCLUDE = ROOT / "include"
OLDEST = (12, 4)
ADVICE = (
    "Install the compiler and the headers with `pip install 'bolt-ep[cuda]'`, or name an nvcc with BOLT_NVCC"
)

COMPILE_FLAGS = (
    "-O3",
    "-DNDEBUG",  # asserts are calls in device code: ptxas then serializes wgmma (C7510) and spills
    "-std=c++17",
    "-Xcompiler=-fPIC",
    "--expt-relaxed-constexpr",
    "-w",
    "-Xptxas=-v",
)

LINK_FLAGS = (
    "-static-libstdc++",
    "-Wl,--exclude-libs,ALL",  # each library keeps its own CUDA runtime to itself
    "-Wl,-z,defs",  # a unit that is missing is found here, not where the model runs
)
LINK_LIBRARIES = ("-lcudart_static", "-lrt", "-ldl", "-lpthread")
"""The driver is not among them: the runtime opens it when it is first used."""

PERFORMANCE_WARNING = "(C75"
"""Of ptxas: it gave up on something the kernel's speed depends on, such as overlapping wgmma instructions."""

ENVIRONMENT = {"NVCC_PREPEND_FLAGS": "", "NVCC_APPEND_FLAGS": ""}
"""Flags from outside would not be in the cache's keys."""

EXAMPLES = ("41_fused_multi_head_attention", "45_dual_gemm", "88_hopper_fmha")
"""Of CUTLASS, whose kernels units are made of."""

_SYSTEM = Path("/usr/local/cuda")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cutlass:
    """The CUTLASS headers.

    Attributes:
        root: folder that holds `include` and `tools/util/include`.
        version: "4.2.0".
    """

    root: Path
    version: str

    @property
    def include(self) -> tuple[Path, ...]:
        """Its include folders; kernels of attention and of dual GEMMs are among its examples."""
        examples = (self.root / "examples" / name for name in EXAMPLES)
        return self.root / "include", self.root / "tools" / "util" / "include", *examples

    @property
    def identity(self) -> str:
        """Version and contents."""
        return f"{self.version} {_tree_sha256(self.include)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Nvcc:
    """A usable CUDA compiler.

    Attributes:
        path: the program.
        version: (13, 0, 88).
        identity: its version text; part of every cache key.
        include: include folders of the CUDA runtime.
        libraries: folder with libcudart_static.a.
        cutlass: the CUTLASS headers, or None where there are none.
    """

    path: Path
    version: tuple[int, ...]
    identity: str
    include: tuple[Path, ...]
    libraries: Path
    cutlass: Cutlass | None

    @property
    def headers_sha256(self) -> str:
        """Of the CUDA runtime's headers."""
        return _tree_sha256(self.include)

    @property
    def runtime_sha256(self) -> str:
        """Of the CUDA runtime that modules are linked with."""
        return _tree_sha256((self.libraries / "libcudart_static.a",))


def find(preferred: str | Path | None = None, cutlass: str | Path | None = None) -> Nvcc:
    """The CUDA compiler to use.

    Args:
        preferred: path or name of an nvcc; None takes $BOLT_NVCC, else the one of the installed wheels, else
            $CUDA_HOME's, PATH's or /usr/local/cuda's.
        cutlass: folder of a CUTLASS checkout; None takes $BOLT_CUTLASS, else the installed wheel's headers.

    Raises:
        ToolchainError: there is none, or the preferred one can't be used.
    """
    headers = find_cutlass(cutlass)
    if asked := preferred or nvcc_preference():
        program = shutil.which(str(asked))
        found = probe(Path(program), headers) if program else f"there is no program {str(asked)!r}"
        if isinstance(found, str):
            raise ToolchainError(f"the CUDA compiler {str(asked)!r} can't be used: {found}. {ADVICE}")
        return found
    reasons = []
    for path in _known():
        found = probe(path, headers)
        if isinstance(found, Nvcc):
            return found
        reasons.append(f"{path}: {found}")
    tried = "; ".join(reasons) or f"no wheel, none on PATH, none in {_SYSTEM}"
    raise ToolchainError(f"no CUDA compiler was found ({tried}). {ADVICE}")


def find_cutlass(preferred: str | Path | None = None) -> Cutlass | None:
    """The CUTLASS headers; None when they are not installed.

    Raises:
        ToolchainError: the preferred folder holds none.
    """
    asked = preferred or cutlass_preference()
    if not asked:
        package = importlib.util.find_spec("cutlass_library")
        if package is None or package.origin is None:
            return None
        return _cutlass(Path(package.origin).parent / "source")
    found = _cutlass(Path(asked).absolute())
    if found is None:
        raise ToolchainError(f"{asked} holds no CUTLASS: there is no include/cutlass/version.h below it")
    return found


def _cutlass(root: Path) -> Cutlass | None:
    try:
        text = (root / "include" / "cutlass" / "version.h").read_text()
    except OSError:
        return None
    parts = [re.search(rf"#define CUTLASS_{part} (\d+)", text) for part in ("MAJOR", "MINOR", "PATCH")]
    return Cutlass(root=root, version=".".join(match[1] if match else "?" for match in parts))


def _known() -> Iterator[Path]:
    yield from _wheels()
    folders = [Path(home) / "bin" for home in (cuda_home(),) if home]
    found = (shutil.which("nvcc", path=str(folder)) for folder in folders)
    candidates = (*found, shutil.which("nvcc"), shutil.which("nvcc", path=str(_SYSTEM / "bin")))
    yield from (Path(path) for path in candidates if path)


def _wheels() -> Iterator[Path]:
    """The compilers that pip installed, newest first."""
    package = importlib.util.find_spec("nvidia")
    places = package.submodule_search_locations if package else None
    for place in places or ():
        yield from sorted(Path(place).glob("cu*/bin/nvcc"), reverse=True)


@cache
def probe(path: Path, cutlass: Cutlass | None) -> Nvcc | str:
    """The compiler at `path`, or why it can't be used."""
    try:
        text = _ask(path, "--version").strip()
        steps = _ask(path, "-dryrun", "-c", "none.cu")
    except (OSError, subprocess.SubprocessError) as error:
        return f"it does not start ({error})"
    version, top = re.search(r"V(\d+)\.(\d+)\.(\d+)", text), re.search(r"^#\$ TOP=(.+)$", steps, re.MULTILINE)
    if not version or not top:
        return "it does not answer as nvcc does"
    number = tuple(int(part) for part in version.groups())
    if number < OLDEST:
        return f"it is version {'.'.join(version.groups())}; bolt needs {'.'.join(map(str, OLDEST))} or newer"
    root = Path(top[1]).resolve()
    libraries = next((p.parent for p in _runtimes(root) if p.is_file()), None)
    include = root / "include"
    if libraries is None or not (include / "cuda_runtime.h").is_file():
        return f"the CUDA runtime (cuda_runtime.h, libcudart_static.a) is missing below {root}"
    return Nvcc(
        path=path,
        version=number,
        identity=f"nvcc {'.'.join(version.groups())} [{text.splitlines()[-1]}]",
        include=(include,),
        libraries=libraries,
        cutlass=cutlass,
    )


def _runtimes(root: Path) -> Iterator[Path]:
    """Where toolkits and wheels keep the static CUDA runtime."""
    yield from (root / folder / "libcudart_static.a" for folder in ("lib64", "lib"))
    yield from sorted(root.glob("targets/*-linux/lib/libcudart_static.a"))


def _ask(path: Path, *flags: str) -> str:
    """What it says; -dryrun speaks on stderr."""
    done = subprocess.run([path, *flags], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout + done.stderr


def uses_cutlass(text: str) -> bool:
    """Whether a source may include CUTLASS headers."""
    return "cutlass" in text


def kernel_flags(target: Target) -> tuple[str, ...]:
    """Flags that may change an object, in order; all of them are in its cache key."""
    return (*COMPILE_FLAGS, *target.flags)


def compile_command(
    nvcc: Nvcc, host: str, target: Target, source: Path | str, out: Path | str, *, extra: Sequence[str] = ()
) -> list[str]:
    """The command that compiles one CUDA file into an object.

    Args:
        host: the C++ compiler nvcc hands the host code to.
    """
    headers = nvcc.cutlass.include if nvcc.cutlass else ()
    include = [f"-I{path}" for path in (*headers, INCLUDE)]
    flags = (*kernel_flags(target), *include, *extra)
    return [str(nvcc.path), "-ccbin", host, *flags, "-c", str(source), "-o", str(out)]


@cache
def _tree_sha256(roots: tuple[Path, ...]) -> str:
    """sha256 over names and bytes of all files below the roots (CUTLASS: 27 MB, 0.06 s)."""
    digest = hashlib.sha256()
    for root in roots:
        for path in sorted(root.rglob("*")) if root.is_dir() else (root,):
            if path.is_file():
                digest.update(f"{path.relative_to(root).as_posix()}\0{path.stat().st_size}\0".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()
