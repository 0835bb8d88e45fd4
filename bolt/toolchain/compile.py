"""One source -> one object, through the cache: g++ for host code, nvcc for device code."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache as memoize
from pathlib import Path
from typing import Any

from bolt.errors import CompileError, ToolchainError
from bolt.kernels.family import Candidate, Source
from bolt.target import Target
from bolt.toolchain import host, nvcc
from bolt.toolchain.cache import Store, file_sha256, make_key
from bolt.toolchain.host import INCLUDE, Compiler
from bolt.toolchain.resources import Resources, parse
from bolt.toolchain.run import TIMEOUT_S, run

OBJECT, RESOURCES = "kernel.o", "resources.json"
_DEVICE_TIMEOUT_S = 1800.0
"""A batch of sm90a kernels takes a minute alone, much longer on a busy machine."""
_DEVICE_HEADERS = ("bolt/cuda/", "curand")
_INCLUDED = re.compile(r'#\s*include\s*[<"]([^">]+)[">]')
_TEMPORARY = re.compile(rb"tmpxft_[0-9a-f]{8}")
_UNIT_NUMBER = re.compile(rb"(_INTERNAL_|_GLOBAL__N__)[0-9a-f]{8}(?=_\d+_)")
"""What nvcc puts into the names of a file's own symbols; it is made of the temporary folder's path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Recipe:
    """How a source is compiled.

    Attributes:
        parts: everything that can change the object's bytes, for the key.
        file: name the source has in the compiler's folder.
        command: what compiles it there.
    """

    parts: Mapping[str, Any]
    file: str
    command: tuple[str, ...]
    timeout_s: float = TIMEOUT_S
    environment: Mapping[str, str] = field(default_factory=dict)


def _host_recipe(source: Source, target: Target, compiler: Compiler, extra: Sequence[str]) -> _Recipe:
    return _Recipe(
        parts={
            "compiler": compiler.identity,
            "flags": [*host.kernel_flags(compiler, target), *extra],
            "headers": headers_sha256() if target.is_cuda else _host_headers(),
        },
        file="kernel.cc",
        command=tuple(host.compile_command(compiler, target, "kernel.cc", OBJECT, extra=extra)),
    )


def _device_recipe(source: Source, target: Target, compiler: Compiler, extra: Sequence[str]) -> _Recipe:
    device = compiler.device
    assert device is not None, "take the compiler from bolt.toolchain.host.for_target"
    parts = {
        "compiler": f"{device.identity} {device.headers_sha256} / {compiler.identity}",
        "flags": [*nvcc.kernel_flags(target), *extra],
        "headers": _included(source.text),
    }
    if nvcc.uses_cutlass(source.text):
        if device.cutlass is None:
            raise ToolchainError(f"the CUTLASS headers are missing. {nvcc.ADVICE}")
        parts["cutlass"] = device.cutlass.identity
    return _Recipe(
        parts=parts,
        file="kernel.cu",
        command=tuple(nvcc.compile_command(device, compiler.path, target, "kernel.cu", OBJECT, extra=extra)),
        timeout_s=_DEVICE_TIMEOUT_S,
        environment=nvcc.ENVIRONMENT,
    )


_RECIPES = {"cxx": _host_recipe, "cuda": _device_recipe}


def object_key(source: Source, target: Target, compiler: Compiler, extra: Sequence[str] = ()) -> str:
    """The cache key of a source's object: everything that can change its bytes."""
    return _key(source, _RECIPES[source.language](source, target, compiler, extra))


def candidate_key(candidate: Candidate, compiler: Compiler) -> str:
    """The same of all that a candidate consists of."""
    sources = (candidate.source(), *candidate.units())
    keys = [object_key(source, candidate.target, compiler) for source in sources]
    return keys[0] if len(keys) == 1 else make_key(what="objects", objects=keys)


def _key(source: Source, recipe: _Recipe) -> str:
    return make_key(what="object", source=source.text, **recipe.parts)


def compile_object(
    source: Source,
    target: Target,
    *,
    compiler: Compiler,
    cache: Store,
    extra: Sequence[str] = (),
    stop: threading.Event | None = None,
) -> Path:
    """The object of one source, from the cache or compiled.

    Args:
        stop: ends the compiler when it is set (`run.Stopped` is raised).

    Raises:
        CompileError: it does not compile, or ptxas gave up its speed; the message names a copy of the source.
    """
    recipe = _RECIPES[source.language](source, target, compiler, extra)
    key = _key(source, recipe)
    if entry := cache.get(key):
        return entry / OBJECT
    with cache.workspace() as folder:
        (folder / recipe.file).write_text(source.text)
        kept = _failed(cache, source, key, recipe)
        try:
            log = run(
                recipe.command, cwd=folder, kept=kept, timeout_s=recipe.timeout_s,
                environment=recipe.environment, stop=stop,
            )  # fmt: skip
            files = _finished(source, folder, log, kept)
        except CompileError:
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(source.text)
            raise
        return cache.put(key, files) / OBJECT


def _finished(source: Source, folder: Path, log: str, kept: Path) -> dict[str, Path]:
    """What goes into the cache; of device code also what its kernels occupy."""
    files = {OBJECT: folder / OBJECT}
    if source.language == "cuda":
        _check_performance(log, kept)
        occupied = parse(log)
        files[OBJECT].write_bytes(_without_chance(files[OBJECT].read_bytes(), occupied))
        files[RESOURCES] = folder / RESOURCES
        files[RESOURCES].write_text(occupied.to_json())
    return files


def _without_chance(data: bytes, occupied: Resources) -> bytes:
    """An object without the compiler's process number and the number of the folder it worked in.

    The host code finds kernels by names that hold the latter: it stays where the device code is compressed
    and the names in there can't be changed as well.
    """
    data = _TEMPORARY.sub(b"tmpxft_00000000", data)
    numbered = [k.symbol.encode() for k in occupied.kernels if _UNIT_NUMBER.search(k.symbol.encode())]
    if all(b".nv.info." + symbol in data for symbol in numbered):
        return _UNIT_NUMBER.sub(rb"\g<1>00000000", data)
    return data


def _check_performance(log: str, kept: Path) -> None:
    said = [line for line in log.splitlines() if nvcc.PERFORMANCE_WARNING in line]
    if said:
        lines = "\n  ".join(dict.fromkeys(said))
        raise CompileError(f"ptxas could not keep a kernel fast\n  source: {kept}\n  {lines}")


def resources(path: Path) -> Resources:
    """What the kernels in an object of the cache occupy; nothing for host code."""
    beside = path.with_name(RESOURCES)
    return Resources.from_json(beside.read_text()) if beside.is_file() else Resources()


def _failed(cache: Store, source: Source, key: str, recipe: _Recipe) -> Path:
    suffix = Path(recipe.file).suffix
    return cache.root.parent / "failed" / f"{source.name[:80]}_{key[:12]}{suffix}"


@memoize
def headers_sha256() -> dict[str, str]:
    """sha256 of every header a kernel may include."""
    paths = sorted(p for p in INCLUDE.rglob("*") if p.is_file())
    return {p.relative_to(INCLUDE).as_posix(): file_sha256(p) for p in paths}


def _host_headers() -> dict[str, str]:
    known = headers_sha256().items()
    return {name: digest for name, digest in known if not name.startswith(_DEVICE_HEADERS)}


def _included(text: str) -> dict[str, str]:
    """sha256 of our own headers that a text includes, and of those that they include."""
    known, found, left = headers_sha256(), {}, _INCLUDED.findall(text)
    while left:
        name = left.pop()
        if name in known and name not in found:
            found[name] = known[name]
            left += _INCLUDED.findall((INCLUDE / name).read_text())
    return found
