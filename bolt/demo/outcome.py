"""Running a job with stock ONNX Runtime and with bolt: are they equal, and how fast is each?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from bolt.bench.engines import BOLT, ORT, Opening, stock_session
from bolt.demo.jobs import Job
from bolt.ep.artifact import Artifact
from bolt.report import Event, Progress
from bolt.timing import Call, Protocol, Samples, interleave
from bolt.verify import MODEL_TOLERANCE, compare_model

_PROTOCOL = Protocol(rounds=12, burst_s=0.15, warm_calls=1, limit_s=12.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What both engines said.

    Attributes:
        answers: engine -> a line per call.
        failures: sentences about outputs that are wrong.
        errors: engine -> largest error relative to an output's range.
        samples: their times.
    """

    answers: Mapping[str, tuple[str, ...]]
    failures: tuple[str, ...]
    errors: Mapping[str, float]
    samples: Samples

    @property
    def agree(self) -> bool:
        """Whether outputs are within the tolerance and mean the same."""
        return not self.failures and self.answers["bolt"] == self.answers["ort"]


def compare(job: Job, artifact: Artifact, threads: int, progress: Progress) -> Outcome:
    """Runs `job` on both engines, checks the outputs against the unoptimized reference, and times them."""
    progress(Event(stage="check", detail=f"{len(job.feeds)} inputs"))
    opening = Opening(model=job.model, artifact=artifact.path, threads=threads)
    opened = {engine.name: engine.open(opening) for engine in (ORT, BOLT)}
    bound = {name: [bind(feed) for feed in job.feeds] for name, bind in opened.items()}
    outputs = {name: [call() for call in calls] for name, calls in bound.items()}
    checked = _checked(job, outputs)
    progress(Event(stage="time", detail="interleaved"))
    samples = interleave({name: _all(calls) for name, calls in bound.items()}, _PROTOCOL)
    answers = {name: tuple(job.answer(found) for found in calls) for name, calls in outputs.items()}
    return Outcome(
        answers=answers,
        failures=checked["bolt"].failures,
        errors={name: c.error for name, c in checked.items()},
        samples=samples,
    )


def _all(calls: Sequence[Call]) -> Call:
    return lambda: [call() for call in calls]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checked:
    """An engine's outputs against the reference."""

    failures: tuple[str, ...]
    error: float


def _checked(job: Job, outputs: Mapping[str, Sequence[Sequence[np.ndarray]]]) -> dict[str, _Checked]:
    """Every engine's outputs (one list per call) against ONNX Runtime without optimizations."""
    session = stock_session(job.model, 1, optimized=False)
    reference = [session.run(None, dict(feed)) for feed in job.feeds]
    names = [output.name for output in session.get_outputs()]
    return {engine: _compared(names, found, reference) for engine, found in outputs.items()}


def _compared(
    names: Sequence[str], outputs: Sequence[Sequence[np.ndarray]], reference: Sequence[Sequence[np.ndarray]]
) -> _Checked:
    verdicts = [
        (f"call {index}, output {name!r}", compare_model(np.asarray(got), np.asarray(want)))
        for index, (found, wanted) in enumerate(zip(outputs, reference, strict=True))
        for name, got, want in zip(names, found, wanted, strict=True)
    ]
    return _Checked(
        failures=tuple(f"{what}: {verdict.reason}" for what, verdict in verdicts if not verdict.ok),
        error=max(verdict.max_rel_to_range for _, verdict in verdicts),
    )


def describe(job: Job, artifact: Artifact, outcome: Outcome, threads: int) -> str:
    """The printout."""
    rows = [
        ("model", job.about),
        ("input", job.input_about),
        *((name, line) for name, line in _answer_rows(outcome)),
        ("results", _agreement(outcome)),
        ("coverage", _coverage(artifact)),
        ("speed", _speed(job, outcome, threads)),
        ("artifact", str(artifact.path)),
    ]
    return "\n".join(f"{name:<9} {line}" for name, line in rows)


def _answer_rows(outcome: Outcome) -> list[tuple[str, str]]:
    rows = []
    for ort, bolt in zip(outcome.answers["ort"], outcome.answers["bolt"], strict=True):
        rows += [("ort", ort), ("bolt", bolt + ("" if ort == bolt else "   <- differs"))]
    return rows


def _agreement(outcome: Outcome) -> str:
    bolt, ort = outcome.errors["bolt"], outcome.errors["ort"]
    limits = f"ONNX Runtime's own {ort:.1e}, allowed {MODEL_TOLERANCE['fp32']:.0e}"
    error = f"max error {bolt:.1e} of the output's range ({limits})"
    verdict = "equal" if outcome.agree else "NOT EQUAL"
    return "; ".join([verdict, error, *outcome.failures[:3]])


def _coverage(artifact: Artifact) -> str:
    report = artifact.report
    count = len(report["partitions"])
    if not count:
        reasons = [
            r["reason"] for r in report["rejections"] if r["stage"] in ("choose", "verify", "partition")
        ]
        return f"left to ONNX Runtime: {reasons[-1] if reasons else 'see `bolt explain`'}"
    taken = sum(len(p["nodes"]) for p in report["partitions"])
    rest = sum(node.op_type != "EPContext" for node in onnx.load(artifact.model_path).graph.node)
    share = report["notes"]["flops_share"]
    return (
        f"bolt runs {taken} of {taken + rest} nodes in {_count(count, 'partition')}, {share:.1%} of the FLOPs"
    )


def _speed(job: Job, outcome: Outcome, threads: int) -> str:
    ratio = outcome.samples.ratio("bolt", "ort")
    ort, bolt = outcome.samples.timing("ort"), outcome.samples.timing("bolt")
    return (
        f"{ratio.median:.2f}x ({ratio.low:.2f}-{ratio.high:.2f}): ONNX Runtime {ort.median_ms:.2f} ms, "
        f"bolt {bolt.median_ms:.2f} ms a {job.unit} (median; fastest {ort.min_ms:.2f} and "
        f"{bolt.min_ms:.2f}), {_count(threads, 'thread')}, one interleaved run"
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
