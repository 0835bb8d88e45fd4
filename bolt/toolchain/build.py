"""Sources -> objects -> shared libraries, in parallel, through the cache."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from bolt.errors import CompileError
from bolt.kernels.family import Candidate, Source
from bolt.options import cores
from bolt.report import Event, Progress, silent
from bolt.target import Target
from bolt.toolchain import nvcc, reuse
from bolt.toolchain.batch import Batch, batches, singles
from bolt.toolchain.cache import Store, file_sha256, make_key
from bolt.toolchain.compile import compile_object, resources
from bolt.toolchain.host import LINK_FLAGS, Compiler, link_command
from bolt.toolchain.memory import UNLIMITED, Gate, available_bytes
from bolt.toolchain.resources import Resources, together
from bolt.toolchain.run import run


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary:
    """A compiled source.

    Attributes:
        name: the source's name.
        path: the object, inside the cache; other sources may be in it too.
        sha256: of the object's bytes.
        resources: what its CUDA kernels occupy.
    """

    name: str
    path: Path
    sha256: str
    resources: Resources


Built = dict[str, Binary | CompileError]
"""By the source's name."""


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
    batched: bool = False,
) -> Iterator[Binary | CompileError]:
    """Compiles each source and yields the results in the order of `sources`.

    A source that does not compile yields its error and does not stop the others.

    Args:
        jobs: compiler processes at a time; 0 chooses by cores and free memory.
        batched: compile CUDA sources several at a time; their binaries then share objects.
    """
    work = batches(sources) if batched else singles(sources)
    gate, stop = Gate(available_bytes() if not jobs else UNLIMITED), threading.Event()
    with ThreadPoolExecutor(max_workers=jobs or cores()) as pool:
        ordered = sorted(work, key=lambda batch: -batch.bytes)  # the longest first: the short ones fill up
        futures = [pool.submit(_compiled, b, gate, stop, target, compiler, cache) for b in ordered]
        try:
            _report(futures, ordered, progress)
            built = {name: result for future in futures for name, result in future.result().items()}
        finally:
            stop.set()  # an interrupt does not wait a minute for compilers whose work is lost
            pool.shutdown(wait=True, cancel_futures=True)
    yield from (built[source.name] for source in sources)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A compiled candidate.

    Attributes:
        objects: what it is linked from; others may share some.
        resources: what its CUDA kernels occupy.
    """

    objects: tuple[Path, ...]
    resources: Resources


class Builder:
    """Compiles candidates: what several of them need is compiled once, as long as the builder lives.

    CUDA sources are compiled in batches. A new builder makes them of what it is given alone, so that equal
    candidates give equal bytes, and no source is in two of its objects. One that takes what earlier builders
    compiled saves most of the work; linking its objects needs `reuse.DUPLICATES`.

    Args:
        jobs: compiler processes at a time; 0 chooses by cores and free memory.
        reused: take sources from any batch of the cache.
    """

    def __init__(
        self, target: Target, *, compiler: Compiler, cache: Store, jobs: int = 0, reused: bool = False
    ) -> None:
        self._target, self._compiler, self._cache, self._jobs = target, compiler, cache, jobs
        self._reused = reused
        self._built: Built = {}
        self._needed: dict[Candidate, tuple[Source, ...]] = {}

    def build(
        self, candidates: Sequence[Candidate], progress: Progress = silent
    ) -> list[Kernel | CompileError]:
        """The candidates' objects, in order."""
        sources = self.missing(candidates)
        made = build(
            sources, self._target, compiler=self._compiler, cache=self._cache, jobs=self._jobs,
            progress=progress, batched=True,
        )  # fmt: skip
        self._built.update(zip((source.name for source in sources), made, strict=True))
        if self._reused:
            self._remember(sources)
        return [self._kernel(self._sources(c)) for c in candidates]

    def missing(self, candidates: Sequence[Candidate]) -> list[Source]:
        """What has to be compiled for these candidates."""
        needed = {s.name: s for c in candidates for s in self._sources(c)}
        left = [source for name, source in needed.items() if name not in self._built]
        return [source for source in left if not self._recalled(source)]

    def _sources(self, candidate: Candidate) -> tuple[Source, ...]:
        if candidate not in self._needed:
            self._needed[candidate] = (candidate.source(), *candidate.units())
        return self._needed[candidate]

    def _recalled(self, source: Source) -> bool:
        """Whether an earlier batch holds the source."""
        if not self._reused or source.language != "cuda":
            return False
        found = reuse.recall(source, self._target, self._compiler, self._cache)
        if found is not None:
            self._built[source.name] = _binary(source.name, *found)
        return found is not None

    def _remember(self, sources: Sequence[Source]) -> None:
        together_in: dict[Path, list[Source]] = {}
        for source in sources:
            if source.language == "cuda" and isinstance(made := self._built[source.name], Binary):
                together_in.setdefault(made.path, []).append(source)
        for path, batch in together_in.items():
            if len(batch) > 1:
                reuse.remember(batch, path, self._target, self._compiler, self._cache)

    def _kernel(self, sources: Sequence[Source]) -> Kernel | CompileError:
        binaries = []
        for result in (self._built[source.name] for source in sources):
            if isinstance(result, CompileError):
                return result
            binaries.append(result)
        return Kernel(
            objects=tuple(distinct((b.path,) for b in binaries)),
            resources=together(b.resources for b in binaries),
        )


def _report(futures: Sequence[Future[Built]], work: Sequence[Batch], progress: Progress) -> None:
    sources = {future: batch.sources for future, batch in zip(futures, work, strict=True)}
    pending, total, done = set(futures), sum(len(batch.sources) for batch in work), 0
    while pending:
        finished, pending = wait(pending, return_when=FIRST_COMPLETED)
        done += sum(len(sources[future]) for future in finished)
        detail = sources[next(iter(finished))][0].name
        progress(Event(stage="build", done=done, total=total, detail=detail))


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


def _compiled(
    batch: Batch, gate: Gate, stop: threading.Event, target: Target, compiler: Compiler, cache: Store
) -> Built:
    """The results of a batch; one that does not compile is split to see which source is at fault."""
    try:
        with gate.taken(batch.bytes):
            path = compile_object(batch.source, target, compiler=compiler, cache=cache, stop=stop)
    except CompileError as error:
        if len(batch.sources) == 1:
            return {batch.sources[0].name: error}
        parts = [_compiled(part, gate, stop, target, compiler, cache) for part in batch.alone]
        return {name: result for part in parts for name, result in part.items()}
    names = [source.name for source in batch.sources]
    return {name: _binary(name, path, names) for name in names}


def _binary(name: str, path: Path, names: Sequence[str]) -> Binary:
    """A source in an object that was compiled from the sources `names`."""
    return Binary(name=name, path=path, sha256=file_sha256(path), resources=resources(path).of(name, names))


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
    device = compiler.device
    runtime = {"runtime": device.runtime_sha256} if device else {}
    flags = [*(nvcc.LINK_FLAGS if device else ()), *extra, *(nvcc.LINK_LIBRARIES if device else ())]
    key = make_key(
        what="library",
        compiler=compiler.identity,
        flags=[*LINK_FLAGS, *flags],
        exports=list(exports),
        objects=[file_sha256(path) for path in objects],
        **runtime,
    )
    if entry := cache.get(key):
        return entry / "library.so"
    with cache.workspace() as folder:
        script = _version_script(folder, exports)
        found = [f"-L{device.libraries}"] if device else []
        command = link_command(compiler, objects, "library.so", exports=script, extra=[*found, *flags])
        run(command, cwd=folder)
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
