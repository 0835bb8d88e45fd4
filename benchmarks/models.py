"""Models through bolt and its peers, one after the other, into a file that grows."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.subjects import Subject
from bolt.bench.child import coverage
from bolt.bench.machine import facts
from bolt.bench.result import Result, Row, load
from bolt.bench.run import Plan, describe, failed, measure_model, prepared
from bolt.ep.artifact import Artifact
from bolt.errors import BoltError, ModelError
from bolt.report import Event, Progress, silent

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One subject with one number of threads."""

    subject: Subject
    threads: int

    @property
    def name(self) -> str:
        return f"{self.subject.name} {self.threads}T"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conduct:
    """How a run goes.

    Attributes:
        out: file that is extended after every job; None keeps all in memory.
        again: measure what the file already has.
        prepare: only make models and packages, measure nothing.
        limit_s: no job is begun later than this.
        say: told a line about every job.
        progress: told how far the running job is.
    """

    out: Path | None = None
    again: bool = False
    prepare: bool = False
    limit_s: float = float("inf")
    say: Say = lambda line: None
    progress: Progress = silent


def measure(subjects: Sequence[Subject], plan: Plan, conduct: Conduct = Conduct()) -> Result:
    """All cases of all subjects; what can't be fetched, made or run is a row that says so.

    Raises:
        ModelError: the file holds rows of another machine.
    """
    result = _begun(plan, conduct.out)
    if conduct.out and not conduct.prepare:
        result.save(conduct.out)  # a file that can't be written is told now
    jobs = [Job(subject=s, threads=t) for s in subjects for t in plan.threads]
    todo = [job for job in jobs if conduct.again or conduct.prepare or not _has(result, job, plan)]
    if len(todo) < len(jobs):
        conduct.say(f"{len(jobs) - len(todo)} of {len(jobs)} are in the file already (--again measures them)")
    begin = time.monotonic()
    for done, job in enumerate(todo):
        spent = time.monotonic() - begin
        if spent > conduct.limit_s:
            conduct.say(f"time is up: {len(todo) - done} of {len(todo)} left; the same command goes on")
            break
        conduct.progress(Event(stage="models", done=done, total=len(todo), detail=job.name))
        rows = _done(job, replace(plan, threads=(job.threads,)), conduct)
        result = result.with_rows(rows)
        if conduct.out and not conduct.prepare:
            result.save(conduct.out)
        left = (time.monotonic() - begin) / (done + 1) * (len(todo) - done - 1)
        conduct.say(f"[{done + 1}/{len(todo)}] {_outcome(job, rows)}; about {left / 60:.0f} min left")
    return result


def _begun(plan: Plan, out: Path | None) -> Result:
    """The result so far, with the machine and the options of this run."""
    engines, missing = plan.engines()
    empty = Result(machine=facts(engines), options=describe(plan), missing=missing, rows=())
    if out is None or not out.exists():
        return empty
    before = load(out)
    if before.machine["cpu"] != empty.machine["cpu"] or before.machine["cores"] != empty.machine["cores"]:
        where = f"{before.machine['cpu']} ({before.machine['cores']} cores)"
        raise ModelError(f"{out} was measured on {where}; give another --out")
    return replace(empty, rows=before.rows)


def _has(result: Result, job: Job, plan: Plan) -> bool:
    """Whether every case is in the result, right, and with all engines that can be used."""
    engines = {engine.name for engine in plan.engines()[0]}
    rows = {row.key: row for row in result.rows}
    keys = [row.key for row in failed(job.subject.name, job.subject.cases(), job.threads, plan, "")]
    return all(key in rows and not rows[key].wrong and engines <= rows[key].engines.keys() for key in keys)


def _done(job: Job, plan: Plan, conduct: Conduct) -> Sequence[Row]:
    """Rows of a job; none when it was only prepared."""
    cases = job.subject.cases()
    try:
        path = job.subject.path(conduct.progress)
        if conduct.prepare:
            artifact = prepared(path, cases[0], plan, job.threads, conduct.progress)
            conduct.say(f"{job.name}: {_covered(artifact)}")
            return ()
        return measure_model(job.subject.name, path, cases, plan, conduct.progress)
    except BoltError as error:
        return failed(job.subject.name, cases, job.threads, plan, str(error))
    except Exception as error:  # a mistake of bolt's on one model must not end the run over all others
        return failed(job.subject.name, cases, job.threads, plan, f"internal error: {error!r:.300}")


def _covered(artifact: Artifact) -> str:
    """What bolt runs of a model, in a line."""
    found = coverage(artifact)
    return f"bolt runs {found.nodes} nodes in {found.partitions} partitions, {found.left} are left"


def _outcome(job: Job, rows: Sequence[Row]) -> str:
    """What became of a job, in a line."""
    wrong = next((row.wrong for row in rows if row.wrong), "")
    if wrong or not rows:
        return f"{job.name}: {wrong or 'prepared'}"
    ratios = ", ".join(f"{ratio.median:.2f}x {peer}" for peer, ratio in rows[0].ratios.items())
    return f"{job.name}: {ratios or 'bolt alone'}"
