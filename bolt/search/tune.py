"""Measuring the candidates of a spec, a few at a time, through the records."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np

from bolt.errors import CompileError
from bolt.kernels.family import Candidate, Source
from bolt.ops.spec import Spec
from bolt.options import Options, cores
from bolt.report import Progress, Rejection
from bolt.search import operands
from bolt.search.candidates import nearest
from bolt.search.device import device
from bolt.search.measure import COMPILE, Measurement, Trial, Worker, measure
from bolt.search.operands import Operands
from bolt.search.records import Key, Records
from bolt.target import Target
from bolt.toolchain import build
from bolt.toolchain.batch import seconds
from bolt.toolchain.compile import candidate_key
from bolt.toolchain.host import for_target
from bolt.toolchain.reuse import DUPLICATES

_KEPT_OPERANDS = 3
_DRIFT = (0.5, 2.0)


@dataclass(slots=True)
class Group:
    """A spec and what is known about its candidates.

    Attributes:
        spec: may have run-time dims; `ints` are the sizes it is measured with.
        candidates: best estimate first.
        rejections: why families or candidates do not take part.
        pending: candidates without a result, in the order in which they will be measured.
        results: by candidate.
        objects: what a kernel is linked from, by candidate.
        bodies: code seen so far, without the kernel's name; equal code is measured once.
        last_error: of the compiler.
    """

    spec: Spec
    ints: tuple[int, ...]
    candidates: list[Candidate]
    rejections: list[Rejection]
    pending: list[Candidate] = field(default_factory=list)
    results: dict[Candidate, Measurement] = field(default_factory=dict)
    objects: dict[Candidate, tuple[Path, ...]] = field(default_factory=dict)
    bodies: dict[str, Candidate] = field(default_factory=dict)
    last_error: CompileError | None = None

    @property
    def best(self) -> Candidate | None:
        """The fastest candidate timed so far."""
        timed = [c for c in self.candidates if c in self.results and self.results[c].ok]
        return min(timed, key=lambda c: self.results[c].median_us, default=None)

    def failed(self, candidate: Candidate) -> bool:
        """Whether it was tried and can't be used."""
        return candidate in self.results and not self.results[candidate].ok

    def is_new(self, candidate: Candidate, source: Source) -> bool:
        """Notes a candidate's code; False, with a rejection, when another one has the same."""
        body = source.text.replace(source.name, "kernel")
        first = self.bodies.setdefault(body, candidate)
        if first is not candidate:
            reason = f"same code as {first.name}"
            self.rejections.append(Rejection(stage="candidates", subject=candidate.name, reason=reason))
        return first is candidate


class Bench:
    """Compiles and measures candidates on this machine.

    Args:
        target: what to compile for.
        options: threads, compiler, jobs and cache folder.
        records: where measurements are looked up and kept.
        constant_bytes: of the model's constants, to keep those of a spec as cold as they are in the model.
    """

    def __init__(self, target: Target, options: Options, records: Records, *, constant_bytes: int) -> None:
        self.target, self.options, self.records = target, options, records
        self.compiler = for_target(target, options.compiler, device=options.nvcc, cutlass=options.cutlass)
        self.cache = build.store(options.cache_root)
        self.device = device(target, options, self.compiler)
        self.rotate_bytes = self.device.rotate_bytes(constant_bytes)
        self._builder = self.builder(reused=True)
        self._worker: Worker | None = None
        self._operands: OrderedDict[str, Operands] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._worker:
            self._worker.__exit__()

    def recall(self, group: Group) -> None:
        """Takes over what is on record; the other candidates become pending."""
        for candidate in group.candidates:
            known = None
            if self.records.knows(candidate.key):
                known = self.records.get(self._key(candidate, group.ints))
            if known:
                group.results[candidate] = known
            else:
                group.pending.append(candidate)

    def measure(self, group: Group, count: int) -> bool:
        """Measures the next `count` pending candidates, the best so far beside them.

        Returns:
            Whether one of them is the new best.
        """
        before = group.best
        new, group.pending = group.pending[:count], group.pending[count:]
        new = [c for c in new if group.is_new(c, c.source())]
        for candidate, result in zip(new, self._builder.build(new), strict=True):
            if isinstance(result, CompileError):
                group.last_error = result
                self._keep(group, candidate, Measurement(status=COMPILE, reason=str(result)))
            else:
                group.objects[candidate] = result.objects
        self._run(group, new, before)
        if group.best:
            group.pending = nearest(group.best, group.pending)
        return group.best is not before

    def compile_s(self, candidates: Sequence[Candidate]) -> float:
        """Seconds that compiling what these CUDA candidates need would take on all cores, roughly."""
        if not self.target.is_cuda:
            return 0.0  # no matter beside measuring
        return seconds(self._builder.missing(candidates)) / (self.options.jobs or cores())

    def prepare(self, candidates: Sequence[Candidate], progress: Progress) -> None:
        """Compiles candidates together that will be measured later; one that fails is told then."""
        self._builder.build(candidates, progress)

    def builder(self, *, reused: bool = False) -> build.Builder:
        """A compiler of candidates."""
        return build.Builder(
            self.target, compiler=self.compiler, cache=self.cache, jobs=self.options.jobs, reused=reused
        )

    def _run(self, group: Group, new: Sequence[Candidate], incumbent: Candidate | None) -> None:
        """Runs the new candidates that compiled; the incumbent runs along to tell the clock's drift."""
        ready = [c for c in new if c in group.objects]
        if not ready:
            return
        known = group.results.get(incumbent) if incumbent else None
        if incumbent and known:
            self._object(group, incumbent)
            ready = [incumbent, *ready]
        found = self._measured(group, ready)
        drift = 1.0
        if incumbent and known and found[0].ok:
            drift = min(max(known.median_us / found[0].median_us, _DRIFT[0]), _DRIFT[1])
        for candidate, result in zip(ready, found, strict=True):
            if candidate is not incumbent:
                adjusted = replace(result, median_us=result.median_us * drift, min_us=result.min_us * drift)
                self._keep(group, candidate, adjusted)

    def _measured(self, group: Group, candidates: Sequence[Candidate]) -> list[Measurement]:
        data = self._data(group)
        trials = [Trial(candidate=c, packed=_packed(c, data)) for c in candidates]
        objects = build.distinct(group.objects[c] for c in candidates)
        extra = (DUPLICATES,) if self.target.is_cuda else ()
        library = build.link(objects, compiler=self.compiler, cache=self.cache, extra=extra)
        return measure(
            self._running(), library, trials, data, ints=group.ints, threads=self.device.threads,
            rotate_bytes=self.rotate_bytes,
        )  # fmt: skip

    def _object(self, group: Group, candidate: Candidate) -> None:
        """Makes sure that a recalled candidate's objects are in the cache."""
        if candidate not in group.objects:
            (built,) = self._builder.build([candidate])
            if isinstance(built, CompileError):
                raise built
            group.objects[candidate] = built.objects

    def _running(self) -> Worker:
        if self._worker is None:
            assert self.device.start is not None, "nothing can be measured on a device that is not here"
            self._worker = self.device.start()
        return self._worker

    def _data(self, group: Group) -> Operands:
        """The group's operands; only the last few are kept, they can be large."""
        key = group.spec.key
        if key not in self._operands:
            self._operands[key] = operands.make(group.spec.bind(group.ints))
        self._operands.move_to_end(key)
        while len(self._operands) > _KEPT_OPERANDS:
            self._operands.popitem(last=False)
        return self._operands[key]

    def _keep(self, group: Group, candidate: Candidate, result: Measurement) -> None:
        group.results[candidate] = result
        self.records.put(self._key(candidate, group.ints), result)

    def _key(self, candidate: Candidate, ints: tuple[int, ...]) -> Key:
        return Key(
            candidate=candidate.key, object=candidate_key(candidate, self.compiler), device=self.device.name,
            threads=self.device.threads, dims=ints, rotate_bytes=self.rotate_bytes,
        )  # fmt: skip


def _packed(candidate: Candidate, data: Operands) -> dict[int, np.ndarray]:
    return candidate.family.pack(candidate.spec, candidate.config, candidate.target, data.constants)
