"""One kernel per spec: the analytic pick, or what measured clearly faster."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bolt.errors import CompileError, KernelError, TargetError
from bolt.kernels.family import Candidate, Family
from bolt.ops.spec import Spec
from bolt.options import Options
from bolt.report import Event, Progress, Rejection, silent
from bolt.search.budget import FIRST, Clock, Schedule, expected_us
from bolt.search.candidates import Enumerated, describe, enumerate_candidates
from bolt.search.measure import COMPILE, SPILLS, Measurement
from bolt.search.operands import constant_bytes
from bolt.search.records import Records
from bolt.search.sharing import shared
from bolt.search.tune import Bench, Group
from bolt.target import Target
from bolt.toolchain.build import Kernel
from bolt.toolchain.resources import Resources

LOG = logging.getLogger(__name__)

MARGIN = 0.03
"""A candidate replaces the analytic pick only when it is faster by more than this: less is noise."""
MOST_SPILLING = 3
"""Picks that write registers to memory, which nobody timed, before the best estimate ships all the same."""
_FIRST_GUESS_S = 0.3
_AHEAD_S, _AHEAD_SHARE = 60.0, 0.5
"""Seconds, and share of the time that is left, for compiling kernels ahead."""
_MOST_REJECTIONS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A spec as a model uses it.

    Attributes:
        spec: what to compute.
        ints: sample values of its run-time dims and strides.
        weight: calls per run of the model.
    """

    spec: Spec
    ints: tuple[int, ...] = ()
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The kernel that ships for a spec.

    Attributes:
        candidate: spec, family and config.
        objects: its objects inside the cache; choices may share some. Those of a CPU are the bytes that were
            measured. CUDA code was measured in other batches: its machine code is the same.
        resources: what its CUDA kernels occupy.
        measurement: its time, None for an analytic pick without one.
        rejected: the other candidates and families, with reasons.
        considered: how many candidates there were.
        measured: how many of them were timed.
        reason: why this one, one sentence.
    """

    candidate: Candidate
    objects: tuple[Path, ...]
    resources: Resources
    measurement: Measurement | None
    rejected: tuple[Rejection, ...]
    considered: int
    measured: int
    reason: str


def select(
    problems: Sequence[Problem],
    target: Target,
    options: Options,
    progress: Progress = silent,
    *,
    families: Sequence[Family] | None = None,
) -> dict[str, Choice]:
    """Chooses a kernel for each distinct spec and compiles it.

    Measurements on record are used whatever the budget; `options.budget_s` limits how much is added to them.
    What was measured before an interrupt is kept.

    Args:
        problems: equal specs are tuned once, for the heaviest of their sizes.
        progress: is told of stage "tune" in seconds and of stage "build" in kernels.
        families: other families than `bolt.kernels.families(target)`.

    Returns:
        A choice for the key of each spec.

    Raises:
        TargetError: no family computes one of the specs.
        CompileError: no candidate of a spec compiles.
    """
    heaviest = _heaviest(problems)
    found = [_enumerated(problem, target, families) for problem in heaviest]
    found = shared(found) if target.is_cuda else found
    groups = [
        Group(p.spec, p.ints, list(f.candidates), list(f.rejections))
        for p, f in zip(heaviest, found, strict=True)
    ]
    with Records.below(options.cache_root) as records:
        with Bench(target, options, records, constant_bytes=_constant_bytes(problems)) as bench:
            for group in groups:
                bench.recall(group)
            if options.budget_s > 0 and bench.device.start is not None:
                _tune(groups, heaviest, bench, options, progress)
            return _chosen(groups, bench, progress)


def _heaviest(problems: Sequence[Problem]) -> list[Problem]:
    """For each spec the problem that takes most of the time."""
    by_key: dict[str, list[Problem]] = {}
    for problem in problems:
        by_key.setdefault(problem.spec.key, []).append(problem)
    return [max(same, key=_expected) for same in by_key.values()]


def _expected(problem: Problem) -> float:
    return problem.weight * expected_us(problem.spec.bind(problem.ints))


def _enumerated(problem: Problem, target: Target, families: Sequence[Family] | None) -> Enumerated:
    found = enumerate_candidates(problem.spec, target, ints=problem.ints, families=families)
    if not found.candidates:
        reasons = "; ".join(f"{r.subject}: {r.reason}" for r in found.rejections)
        raise TargetError(
            f"no kernel family computes {describe(problem.spec)} on {target.name} ({reasons}); "
            "leave it to ONNX Runtime"
        )
    return found


def _constant_bytes(problems: Sequence[Problem]) -> int:
    """Of all a run of the model reads."""
    return int(sum(p.weight * constant_bytes(p.spec) for p in problems))


def _tune(
    groups: Sequence[Group], problems: Sequence[Problem], bench: Bench, options: Options, progress: Progress
) -> None:
    """Measures pieces of work until the budget or the work is at its end."""
    clock, measured, measuring_s = Clock(options.budget_s), 0, 0.0
    schedule = Schedule([_expected(p) for p in problems], [len(g.pending) for g in groups])
    while piece := schedule.next():
        group, count = groups[piece.index], piece.stop - piece.start
        each_s = measuring_s / measured if measured else _FIRST_GUESS_S
        if clock.left_s < each_s * count + bench.compile_s(group.pending[:count]):
            return
        total = min(options.budget_s, clock.spent_s + each_s * (schedule.left + count))
        progress(Event(stage="tune", done=clock.spent_s, total=total, detail=describe(group.spec)))
        likely = [groups[i] for i in schedule.promising()]
        _compile_ahead(group.pending[:count], likely, bench, clock, progress)
        start_s = clock.spent_s
        if not bench.measure(group, count):
            schedule.fruitless(piece.index)
        measured, measuring_s = measured + count, measuring_s + clock.spent_s - start_s
    progress(Event(stage="tune", done=clock.spent_s, total=clock.spent_s, detail="all candidates measured"))


def _compile_ahead(
    wanted: Sequence[Candidate], others: Sequence[Group], bench: Bench, clock: Clock, progress: Progress
) -> None:
    """Compiles what will be measured next, and with it what is likely to follow, if it has to compile at all.

    A CUDA compiler spends its time on headers: many kernels at once cost little more than a few.
    """
    if not bench.compile_s(wanted):
        return
    allowed_s = min(_AHEAD_S, _AHEAD_SHARE * clock.left_s)
    for group in others:
        more = [*wanted, *group.pending[:FIRST]]
        if bench.compile_s(more) > allowed_s:
            break
        wanted = more
    bench.prepare(wanted, progress)


def _chosen(groups: Sequence[Group], bench: Bench, progress: Progress) -> dict[str, Choice]:
    """The picks of all groups, compiled together; a pick that does not compile makes room for the next.

    So does one that spills where nothing was timed: no estimate knows of that. What is compiled with what
    depends on the picks alone, not on what the search compiled before.
    """
    picks: dict[str, tuple[Group, Candidate, Kernel]] = {}
    spilling: dict[str, tuple[Group, Candidate, Kernel]] = {}
    builder = bench.builder()
    while open_ := [g for g in groups if g.spec.key not in picks]:
        wanted = [(g, _pick(g)) for g in open_]
        built = builder.build([candidate for _, candidate in wanted], progress)
        for (group, candidate), result in zip(wanted, built, strict=True):
            if isinstance(result, CompileError):
                LOG.warning("a kernel that was said to be supported does not compile: %s", result)
                group.results[candidate] = Measurement(status=COMPILE, reason=str(result))
                group.last_error = result
            elif result.resources.spill_bytes and candidate not in group.results:
                spilling.setdefault(group.spec.key, (group, candidate, result))
                reason = f"it spills {result.resources.spill_bytes} bytes of registers, and nothing was timed"
                group.results[candidate] = Measurement(status=SPILLS, reason=reason)
            else:
                picks[group.spec.key] = group, candidate, result
        picks |= {key: first for key, first in spilling.items() if key not in picks and _ends(first[0])}
    for group, candidate, _ in picks.values():
        if group.failed(candidate):  # all that were tried spill
            del group.results[candidate]
    return {key: _choice(*pick, bench) for key, pick in picks.items()}


def _ends(group: Group) -> bool:
    """Whether no other candidate is worth compiling than those that spill."""
    count = sum(m.status == SPILLS for m in group.results.values())
    return count >= MOST_SPILLING or all(group.failed(c) for c in group.candidates)


def _pick(group: Group) -> Candidate:
    """The analytic pick unless something else measured clearly faster."""
    analytic = next((c for c in group.candidates if not group.failed(c)), None)
    if analytic is None:
        message = f"every kernel for {describe(group.spec)} failed: {_failures(group)[0].reason}"
        raise group.last_error or KernelError(message, group.spec.key)
    best = group.best
    if best is None:
        return analytic
    known = group.results.get(analytic)
    return best if known is None or clearly_faster(group.results[best], known) else analytic


def clearly_faster(new: Measurement, old: Measurement) -> bool:
    """Whether the difference of two timings is more than noise; on a busy machine that takes more."""
    margin = max(MARGIN, (new.spread + old.spread) / 4)
    return new.median_us < old.median_us * (1 - margin) and new.min_us < old.min_us


def _choice(group: Group, candidate: Candidate, built: Kernel, bench: Bench) -> Choice:
    timed = [c for c, m in group.results.items() if m.ok]
    return Choice(
        candidate=candidate,
        objects=built.objects,
        resources=built.resources,
        measurement=group.results.get(candidate),
        rejected=(*group.rejections, *_failures(group), *_losers(group, candidate)),
        considered=len(group.candidates),
        measured=len(timed),
        reason=_reason(group, candidate, bench),
    )


def _reason(group: Group, candidate: Candidate, bench: Bench) -> str:
    if candidate not in group.results:
        obstacle = bench.device.obstacle
        return "best estimate; nothing was timed" + (f": {obstacle}" if obstacle else "")
    us, analytic = group.results[candidate].median_us, group.results.get(group.candidates[0])
    if candidate is group.candidates[0]:
        return f"best estimate, and nothing timed was clearly faster ({us:.1f} us)"
    if analytic is None or not analytic.ok:
        return f"fastest of those timed ({us:.1f} us); the best estimate failed"
    return f"fastest: {us:.1f} us, the best estimate takes {analytic.median_us:.1f} us"


def _failures(group: Group) -> list[Rejection]:
    return [
        Rejection(stage="measure", subject=c.name, reason=f"{m.status}: {m.reason}")
        for c, m in group.results.items()
        if not m.ok
    ]


def _losers(group: Group, chosen: Candidate) -> list[Rejection]:
    """The fastest losers each, all others in one line."""
    ordered = sorted((m.median_us, c.name) for c, m in group.results.items() if m.ok and c is not chosen)
    lines = [
        Rejection(stage="choose", subject=name, reason=f"{us:.1f} us")
        for us, name in ordered[:_MOST_REJECTIONS]
    ]
    rest = len(ordered) - len(lines)
    if rest:
        lines.append(Rejection(stage="choose", subject=chosen.spec.op, reason=f"{rest} more were slower"))
    if group.pending:
        reason = f"{len(group.pending)} candidates with worse estimates were not timed"
        lines.append(Rejection(stage="choose", subject=chosen.spec.op, reason=reason))
    return lines
