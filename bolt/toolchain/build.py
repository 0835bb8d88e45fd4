"""Sources -> objects -> shared libraries, in parallel, through the cache."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cache as memoize
from pathlib import Path

from bolt.errors import CompileError
from bolt.kernels.family import Source
from bolt.options import cores
from bolt.report import Event, Progress, silent
from bolt.target import Target
from bolt.toolchain.cache import Store, file_sha256, make_key
from bolt.toolchain.host import (
    INCLUDE,
    LINK_FLAGS,
    Compiler,
    compile_command,
    kernel_flags,
    link_command,
)
from bolt.toolchain.run import run

_BYTES_PER_JOB = 512 << 20
"""Memory a compiler process may need for one kernel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary:
    """A compiled source.

    Attributes:
        name: the source's name.
        path: the object, inside the cache.
        sha256: of the object's bytes.
    """

    name: str
    path: Path
    sha256: str


def store(root: Path) -> Store:
    """The store of objects and libraries below a cache folder."""
    return Store(root / "objects")


def build(
    sources: Sequence[Source],
    target: Target,
    *,
    compiler: Compiler,
    cache: Store,
    jobs: int = 0,
    progress: Progress = silent,
) -> Iterator[Binary | CompileError]:
    """Compiles each source and yields the results in the order of `sources`.

    A source that does not compile yields its error and does not stop the others.
    """
    with ThreadPoolExecutor(max_workers=jobs or default_jobs()) as pool:
        futures = [pool.submit(_compiled, s, target, compiler, cache) for s in sources]
        try:
            _report(futures, sources, progress)
            yield from (future.result() for future in futures)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _report(
    futures: Sequence[Future[Binary | CompileError]], sources: Sequence[Source], progress: Progress
) -> None:
    names, pending = {f: s.name for f, s in zip(futures, sources, strict=True)}, set(futures)
    while pending:
        done, pending = wait(pending, return_when=FIRST_COMPLETED)
        detail = names[next(iter(done))]
        progress(Event(stage="build", done=len(futures) - len(pending), total=len(futures), detail=detail))


def build_objects(
    sources: Sequence[Source],
    target: Target,
    *,
    compiler: Compiler,
    cache: Store,
    jobs: int = 0,
    progress: Progress = silent,
) -> dict[str, Path]:
    """The object of each source, by the source's name.

    Raises:
        CompileError: one of them does not compile.
    """
    objects = {}
    for built in build(sources, target, compiler=compiler, cache=cache, jobs=jobs, progress=progress):
        if isinstance(built, CompileError):
            raise built
        objects[built.name] = built.path
    return objects


def _compiled(source: Source, target: Target, compiler: Compiler, cache: Store) -> Binary | CompileError:
    try:
        path = compile_object(source, target, compiler=compiler, cache=cache)
    except CompileError as error:
        return error
    return Binary(name=source.name, path=path, sha256=file_sha256(path))


def object_key(source: Source, target: Target, compiler: Compiler, extra: Sequence[str] = ()) -> str:
    """The cache key of a source's object: everything that can change its bytes."""
    return make_key(
        what="object",
        compiler=compiler.identity,
        flags=[*kernel_flags(compiler, target), *extra],
        headers=headers_sha256(),
        source=source.text,
    )


def compile_object(
    source: Source, target: Target, *, compiler: Compiler, cache: Store, extra: Sequence[str] = ()
) -> Path:
    """The object of one source, from the cache or compiled.

    Raises:
        CompileError: it does not compile; the message names a copy of the source.
    """
    key = object_key(source, target, compiler, extra)
    if entry := cache.get(key):
        return entry / "kernel.o"
    with cache.workspace() as folder:
        (folder / "kernel.cc").write_text(source.text)
        command = compile_command(compiler, target, "kernel.cc", "kernel.o", extra=extra)
        try:
            run(command, cwd=folder, kept=_failed(cache, source, key))
        except CompileError:
            _keep(cache, source, key)
            raise
        return cache.put(key, {"kernel.o": folder / "kernel.o"}) / "kernel.o"


def _failed(cache: Store, source: Source, key: str) -> Path:
    return cache.root.parent / "failed" / f"{source.name[:80]}_{key[:12]}.cc"


def _keep(cache: Store, source: Source, key: str) -> None:
    path = _failed(cache, source, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source.text)


def link(
    objects: Sequence[Path],
    *,
    compiler: Compiler,
    cache: Store,
    exports: Sequence[str] = (),
    extra: Sequence[str] = (),
) -> Path:
    """The shared library of `objects` (in their order), inside the cache.

    Args:
        exports: symbols to export; empty exports everything the sources mark visible.
        extra: further linker flags.

    Raises:
        CompileError: an object is damaged or a symbol is missing.
    """
    key = make_key(
        what="library",
        compiler=compiler.identity,
        flags=[*LINK_FLAGS, *extra],
        exports=list(exports),
        objects=[file_sha256(path) for path in objects],
    )
    if entry := cache.get(key):
        return entry / "library.so"
    with cache.workspace() as folder:
        script = _version_script(folder, exports)
        run(link_command(compiler, objects, "library.so", exports=script, extra=extra), cwd=folder)
        return cache.put(key, {"library.so": folder / "library.so"}) / "library.so"


def distinct(objects: Iterable[Sequence[Path]]) -> list[Path]:
    """The objects of several kernels in order, each once."""
    return list(dict.fromkeys(path for paths in objects for path in paths))


def _version_script(folder: Path, exports: Sequence[str]) -> str | None:
    if not exports:
        return None
    (folder / "exports.map").write_text(f"{{ global: {'; '.join(exports)}; local: *; }};\n")
    return "exports.map"


def library(
    source: Source, target: Target, *, compiler: Compiler, cache: Store, extra: Sequence[str] = ()
) -> Path:
    """One source as a shared library."""
    compiled = compile_object(source, target, compiler=compiler, cache=cache, extra=extra)
    return link([compiled], compiler=compiler, cache=cache, extra=extra)


@memoize
def headers_sha256() -> dict[str, str]:
    """sha256 of every header a kernel may include."""
    paths = sorted(p for p in INCLUDE.rglob("*") if p.is_file())
    return {p.relative_to(INCLUDE).as_posix(): file_sha256(p) for p in paths}


def default_jobs() -> int:
    """Compiler processes at a time: one per core, fewer when memory is short."""
    return max(1, min(cores(), _available_bytes() // _BYTES_PER_JOB))


def _available_bytes() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 1 << 40
    sizes = [int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")]
    return sizes[0] if sizes else 1 << 40
