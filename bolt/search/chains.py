"""Which chains ship: the module is timed with and without them, on this machine, and those that pay stay."""

from __future__ import annotations

import json
import math
import statistics
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bolt import child
from bolt import dims as D
from bolt.chain import Chain, calls
from bolt.errors import VerifyError
from bolt.graph.chains import Found, apply, find
from bolt.module.compile import Compiled
from bolt.ops.spec import Spec
from bolt.options import Options
from bolt.program import Program
from bolt.report import ChainRow, Event, Progress, Rejection
from bolt.search.choose import Choice, Problem, select
from bolt.search.records import device_name
from bolt.target import Target, runs_here
from bolt.toolchain.build import store
from bolt.toolchain.cache import Store, file_sha256, make_key

BUDGET_SHARE = 0.25
"""Of the time for tuning, what the kernels of strips may take."""
FASTER = 0.99
"""Largest time, relative to that of its steps one by one, with which a chain stays."""
_TIMEOUT_S = 300.0
_VERDICT = "verdict.json"

Compile = Callable[[Program, Mapping[str, Choice]], Compiled]
Sizes = Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chained:
    """A program with the chains that pay.

    Attributes:
        program: what ships.
        rows: the report's line of each chain in it.
        rejections: the chains that are left out, with reasons.
    """

    program: Program
    rows: tuple[ChainRow, ...] = ()
    rejections: tuple[Rejection, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was measured.

    Attributes:
        ratios: of each chain, its time over that of its steps one by one.
        whole: the same for whole runs.
        wrong: why results can't be trusted; "" when they can.
    """

    ratios: tuple[float, ...] = ()
    whole: float = 1.0
    wrong: str = ""


def worth_finding(target: Target, options: Options) -> bool:
    """Whether chains can be measured here; none ships without that."""
    return not target.is_cuda and options.ab and options.budget_s > 0 and runs_here(target)


def problems(programs: Sequence[Program], sizes: Sizes) -> list[Problem]:
    """One problem per distinct spec and sizes, weighted by how often a run calls it."""
    counts: Counter[tuple[str, tuple[int, ...]]] = Counter()
    specs: dict[str, Spec] = {}
    for call in (call for program in programs for call in calls(program, sizes)):
        counts[call.spec.key, call.ints] += 1
        specs[call.spec.key] = call.spec
    return [Problem(spec=specs[key], ints=ints, weight=n) for (key, ints), n in counts.items()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """Chooses kernels and chains for the programs of a model.

    Attributes:
        target, options: as everywhere.
        sizes: typical values of the symbols.
        compile: makes the module of a program.
        progress: is told what happens.
    """

    target: Target
    options: Options
    sizes: Sizes
    compile: Compile
    progress: Progress

    def choose(self, programs: Sequence[Program]) -> tuple[dict[str, Choice], list[Chained]]:
        """A kernel for every spec, and each program as it ships."""
        found = [self._found(program) for program in programs]
        chained = [apply(program, chains) for program, chains in zip(programs, found, strict=True)]
        share = BUDGET_SHARE if any(found) else 0.0
        chosen = self._select(problems(programs, self.sizes), 1 - share)
        strips = [p for p in problems(chained, self.sizes) if p.spec.key not in chosen]
        if strips:
            chosen |= self._select(strips, share)
        return chosen, [self._settle(p, f, chosen) for p, f in zip(programs, found, strict=True)]

    def _found(self, program: Program) -> tuple[Found, ...]:
        if not worth_finding(self.target, self.options):
            return ()
        return find(program, self.target.l2_bytes, self.options.thread_count, self.sizes)

    def _select(self, wanted: Sequence[Problem], share: float) -> dict[str, Choice]:
        options = replace(self.options, budget_s=self.options.budget_s * share)
        return select(wanted, self.target, options, self.progress)

    def _settle(self, program: Program, found: Sequence[Found], chosen: Mapping[str, Choice]) -> Chained:
        """The program with the chains that are faster than their steps one by one, if it is faster then."""
        if not found:
            return Chained(program=program)
        self.progress(Event(stage="chains", detail=f"{len(found)} in {program.name}"))
        verdict = self._verdict(program, found, chosen)
        if verdict.wrong:
            return _without(program, found, [f"could not be compared: {verdict.wrong}"] * len(found))
        ratios, every = verdict.ratios, range(len(found))
        said = [f"{ratio:.2f}x the time of its steps one by one" for ratio in ratios]
        faster = [i for i in every if ratios[i] <= FASTER]
        if not faster:
            return _without(program, found, said)
        sets = [(verdict.whole, list(every))]
        if len(faster) < len(found):
            again = self._verdict(program, [found[i] for i in faster], chosen)
            sets += [] if again.wrong else [(again.whole, faster)]
        whole, best = min(sets)
        if whole > 1.0:
            return _without(program, found, ["no gain for a whole run"] * len(found))
        return Chained(
            program=apply(program, [found[i] for i in best]),
            rows=tuple(_row(found[i].chain, ratios[i]) for i in best),
            rejections=tuple(_rejection(found[i].chain, said[i]) for i in every if i not in best),
        )

    def _verdict(self, program: Program, found: Sequence[Found], chosen: Mapping[str, Choice]) -> Verdict:
        """The measurement of `program` with `found`, here or as it was recorded."""
        changed = apply(program, found)
        modules = [self.compile(p, chosen) for p in (program, changed)]
        kept = store(self.options.cache_root)
        key = make_key(
            what="chains",
            modules=[file_sha256(module.path) for module in modules],
            device=device_name(),
            threads=self.options.thread_count,
            sizes=sorted(self.sizes.items()),
        )
        known = kept.get(key)
        if known is not None:
            return _parsed(json.loads((known / _VERDICT).read_text()))
        chains = [i for i, step in enumerate(changed.steps) if isinstance(step, Chain)]
        groups = [[sorted(f.steps) for f in found], [[i] for i in chains]]
        verdict = self._measured(program, modules, groups)
        if not verdict.wrong:
            _keep(kept, key, verdict)
        return verdict

    def _measured(
        self, program: Program, modules: Sequence[Compiled], groups: Sequence[Sequence[Sequence[int]]]
    ) -> Verdict:
        with tempfile.TemporaryDirectory(prefix="bolt-chains-") as folder:
            request = self._request(program, modules, groups, Path(folder))
            try:
                answer = _asked(request)
            except VerifyError as error:
                return Verdict(wrong=str(error))
        if answer["wrong"]:
            return Verdict(wrong=answer["wrong"])
        plain, chained = (np.array(us) for us in answer["us"])
        *ratios, whole = (_ratio(chained[:, i], plain[:, i]) for i in range(plain.shape[1]))
        return Verdict(ratios=tuple(ratios), whole=whole)

    def _request(
        self,
        program: Program,
        modules: Sequence[Compiled],
        groups: Sequence[Sequence[Sequence[int]]],
        folder: Path,
    ) -> dict[str, Any]:
        arrays: dict[str, Any] = {f"a{i}": a for i, a in enumerate(_inputs(program, self.sizes))}
        np.savez(folder / "inputs.npz", **arrays)
        rows = []
        for i, (module, wanted) in enumerate(zip(modules, groups, strict=True)):
            weights = folder / f"weights{i}.npy"
            np.save(weights, module.weights)
            rows.append({"path": str(module.path), "weights": str(weights), "groups": wanted})
        return {
            "modules": rows,
            "inputs": str(folder / "inputs.npz"),
            "threads": self.options.thread_count,
            "precision": self.options.precision,
            "cache": str(self.options.cache_root),
            "compiler": self.options.compiler,
        }


def _inputs(program: Program, sizes: Sizes) -> list[np.ndarray]:
    """Random inputs: fp32 from the unit normal distribution, integers and booleans from {0, 1}."""
    random = np.random.default_rng(0)
    found = []
    for value in program.inputs:
        dims = tuple(D.evaluate(d, sizes) for d in value.dims)
        real = value.dtype.is_float
        array = random.standard_normal(dims) if real else random.integers(0, 2, dims)
        found.append(array.astype(value.dtype.np))
    return found


def _asked(request: Mapping[str, Any]) -> dict[str, Any]:
    """The child's answer."""
    worker = "bolt.search.chain_worker"
    answer: dict[str, Any] = child.ask(
        worker, request, what="timing chains", timeout_s=_TIMEOUT_S, error=VerifyError
    )
    return answer


def _ratio(new: np.ndarray, old: np.ndarray) -> float:
    """How long `new` takes relative to `old`; noise hits fastest and middle runs in different ways."""
    fastest, middle = new.min() / old.min(), statistics.median(new) / statistics.median(old)
    return math.sqrt(fastest * middle)


def _keep(kept: Store, key: str, verdict: Verdict) -> None:
    with kept.workspace() as folder:
        path = folder / _VERDICT
        path.write_text(json.dumps({"ratios": verdict.ratios, "whole": verdict.whole}))
        kept.put(key, {_VERDICT: path})


def _parsed(row: Mapping[str, Any]) -> Verdict:
    return Verdict(ratios=tuple(row["ratios"]), whole=row["whole"])


def _without(program: Program, found: Sequence[Found], reasons: Sequence[str]) -> Chained:
    rows = zip(found, reasons, strict=True)
    return Chained(program=program, rejections=tuple(_rejection(f.chain, reason) for f, reason in rows))


def _rejection(chain: Chain, reason: str) -> Rejection:
    return Rejection(stage="choose", subject=f"chain of {len(chain.links)} ({_span(chain)})", reason=reason)


def _row(chain: Chain, ratio: float) -> ChainRow:
    return ChainRow(nodes=chain.nodes, kernels=len(chain.links), rows=chain.strip, ratio=round(ratio, 4))


def _span(chain: Chain) -> str:
    """The first and the last of its nodes."""
    return f"{chain.nodes[0]} ... {chain.nodes[-1]}" if len(chain.nodes) > 1 else "".join(chain.nodes)
