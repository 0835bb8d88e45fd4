"""The execution provider library: built once per machine, then found in the cache."""

from __future__ import annotations

import fcntl
import platform
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path

from bolt.options import cache_dir, cores
from bolt.toolchain.build import store
from bolt.toolchain.cache import Store, file_sha256, make_key
from bolt.toolchain.host import INCLUDE, Compiler, find_compiler
from bolt.toolchain.run import run

EP_NAME = "BoltExecutionProvider"
FILE_NAME = "libbolt_ep.so"
SOURCE = Path(__file__).parent / "src"
_ABI_HEADER = INCLUDE / "bolt" / "module_abi.h"

COMPILE_FLAGS = (
    "-std=c++20",
    "-O2",
    "-Wall",
    "-fPIC",
    "-fvisibility=hidden",
    "-ffunction-sections",
    "-fstack-protector-strong",
    "-D_FORTIFY_SOURCE=2",
)
LINK_FLAGS = (
    "-shared",
    "-static-libstdc++",  # the library runs next to any libstdc++, and with none
    "-static-libgcc",
    "-pthread",
    "-Wl,--version-script=exports.map",
    "-Wl,--gc-sections",
    "-Wl,--build-id=none",
    "-Wl,--hash-style=gnu",
    "-Wl,-z,relro,-z,now,-z,defs,-z,noexecstack",
    "-Wl,-z,nodelete",  # unloading while a thread runs a destructor of ours would crash the process
    "-Wl,-s",
)


def get_ep_name() -> str:
    """The name of bolt's execution provider."""
    return EP_NAME


def get_ep_names() -> list[str]:
    """The names of all execution providers in the library."""
    return [EP_NAME]


def get_library_path() -> str:
    """The absolute path of the execution provider library; builds it when this machine has none yet.

    Raises:
        ToolchainError: it has to be built and there is no compiler, or the cache can't be written.
    """
    return str(library_for(platform.machine()))


def library_for(arch: str) -> Path:
    """The library for machines of architecture `arch`, cross-compiled where this is not one.

    Raises:
        ToolchainError: it has to be built and there is no compiler, or the cache can't be written.
    """
    return build(find_compiler(arch=arch), store(cache_dir()))


def build(compiler: Compiler, store: Store) -> Path:
    """The library built by `compiler`, from the cache when it is there."""
    key = make_key(
        kind="ep library",
        sources={p.name: file_sha256(p) for p in (*_sources("*"), _ABI_HEADER)},
        compiler=compiler.identity,
        flags=[*_compile_flags(), *LINK_FLAGS],
    )
    entry = store.get(key)
    if entry is None:
        with _locked(store.root):
            entry = store.get(key) or _build(compiler, store, key)
    return entry / FILE_NAME


def _build(compiler: Compiler, store: Store, key: str) -> Path:
    """Compiles every source, links, and puts the library into the store."""
    with store.workspace() as folder:
        for path in _sources("*"):
            (folder / path.name).symlink_to(path)

        def compile_one(source: Path) -> str:
            out = source.with_suffix(".o").name
            include = ("-I.", f"-I{INCLUDE}", f"-ffile-prefix-map={INCLUDE}=include")
            command = [*compiler.argv, *_compile_flags(), *include, "-c", source.name, "-o", out]
            run(command, cwd=folder, kept=source)
            return out

        with ThreadPoolExecutor(cores()) as pool:
            objects = list(pool.map(compile_one, _sources("*.cc")))
        run([*compiler.argv, *LINK_FLAGS, *objects, "-o", FILE_NAME], cwd=folder)
        return store.put(key, {FILE_NAME: folder / FILE_NAME})


def _compile_flags() -> tuple[str, ...]:
    return (*COMPILE_FLAGS, f'-DBOLT_VERSION="{bolt_version()}"')


def _sources(pattern: str) -> list[Path]:
    return sorted(p for p in SOURCE.glob(pattern) if p.suffix in (".cc", ".h", ".map"))


@cache
def bolt_version() -> str:
    """The version of the installed bolt package."""
    return version("bolt-ep")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One builder at a time on this machine; the others then find the result in the cache."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "ep.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
