"""The pipeline: ONNX file in, artifact out. Data moves down this page and never back up."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import onnx

from bolt import source as sources
from bolt.compiled import CompiledModel, compile_partitions
from bolt.ep.artifact import Artifact
from bolt.ep.folder import check_free
from bolt.ep.package import context_node
from bolt.ep.trial import Trial, run_trial
from bolt.errors import ArtifactError, KernelError, ModelError, RuntimeMissing, VerifyError
from bolt.graph.conventions import shared
from bolt.graph.cover import Cover, Supports, cover
from bolt.graph.float8 import kept_wide
from bolt.graph.load import load
from bolt.graph.outline import CanonicalLeft, outline
from bolt.graph.pipeline import optimize as run_passes
from bolt.graph.quantization import QUANTIZED
from bolt.graph.samples import feed, sample
from bolt.graph.shapes import infer
from bolt.ops.spec import Spec
from bolt.options import Options
from bolt.program import Step
from bolt.report import Event, Progress, Rejection, silent
from bolt.search.candidates import supports
from bolt.source import Source
from bolt.target import Target, by_name, runs_here
from bolt.types import EIGHT_BIT_FLOATS

LOG = logging.getLogger(__name__)

SLOWER = 0.99
"""Below this measured ratio against stock ONNX Runtime the model is handed back unchanged."""


def optimize(
    source: str | Path | bytes | onnx.ModelProto,
    options: Options,
    progress: Progress = silent,
    *,
    output: Path | None = None,
    everything: bool = False,
) -> Artifact:
    """The artifact of a model.

    Args:
        source: path of an ONNX file, its bytes, or the model.
        options: what the user asked for.
        progress: told how far each stage is.
        output: folder to write; None leaves the artifact in the cache.
        everything: take every node a kernel exists for, however little it pays (tests).

    Raises:
        BoltError: see `bolt.errors`; nothing is left behind half-written.
    """
    if output is not None:
        check_free(output.absolute())  # not after minutes of tuning
    with tempfile.TemporaryDirectory(prefix="bolt-") as folder:
        given = sources.read(source, Path(folder))
        targets = tuple(by_name(name) for name in options.targets)
        shared(targets, options.precision)  # what the targets can't do is told before any work
        key = sources.artifact_key(given, targets, options, everything=everything)
        home = options.cache_root / "artifacts" / key / f"{given.name}.bolt"
        artifact = _cached(home)
        if artifact is None:
            made = _make(given, targets, options, progress, everything=everything)
            made, trial = _tried(made, targets, options, progress, Path(folder))
            artifact = made.write(home, trial)
    return artifact.save(output) if output is not None else artifact


def _cached(home: Path) -> Artifact | None:
    """The artifact made earlier from the same input, if it is still whole."""
    try:
        artifact = Artifact.load(home)
        artifact.verify()
    except ArtifactError:
        return None
    return artifact


def _make(
    given: Source, targets: Sequence[Target], options: Options, progress: Progress, *, everything: bool
) -> CompiledModel:
    """Compile with canonical operators; without them where one would be left to ONNX Runtime.

    What no kernel computes right when it is tried is left to ONNX Runtime, too.
    """
    canonical, refused = True, dict[str, Rejection]()
    while True:
        try:
            return _compile(
                given, targets, options, progress, everything=everything, canonical=canonical, refused=refused
            )
        except CanonicalLeft:
            canonical = False
        except KernelError as error:
            if error.key in refused:
                raise
            LOG.warning("%s; left to ONNX Runtime", error)
            refused[error.key] = Rejection(stage="measure", subject="kernels", reason=str(error))


def _compile(
    given: Source,
    targets: Sequence[Target],
    options: Options,
    progress: Progress,
    *,
    everything: bool,
    canonical: bool,
    refused: Mapping[str, Rejection],
) -> CompiledModel:
    progress(Event(stage="load", detail=given.name))
    model = load(given.path)
    stored = sum(1 for _ in model.graph)
    progress(Event(stage="graph", detail=f"{stored} nodes"))
    rules = shared(targets, options.precision)
    run_passes(
        model,
        canonical=canonical,
        device=rules.is_device,
        int8=rules.has_int8,
        float8=rules.has_float8,
    )
    nodes = sum(1 for _ in model.graph)
    shapes = infer(model)
    sizes = sample(model, shapes, dict(options.shapes))
    covered = cover(
        model, shapes, sizes, _supported_on(targets, refused), conventions=rules, everything=everything
    )

    @cache  # the check below, the draft and the package are mostly of the same partitions
    def outlined(names: frozenset[str]) -> onnx.ModelProto:
        # Where bolt takes nothing, ONNX Runtime gets the model exactly as it came.
        kept = [p for p in covered.partitions if p.name in names]
        return outline(model, kept, context_node) if kept else onnx.load(given.path)

    outlined(frozenset(p.name for p in covered.partitions))  # fails before minutes of tuning, if it does
    modules = compile_partitions(covered, targets, options, progress)
    feeds = feed(model, shapes, sizes) if covered.partitions else {}
    return CompiledModel(
        source=given,
        outlined=outlined,
        partitions=modules.partitions,
        rows=modules.rows,
        rejections=(*covered.rejections, *kept_wide(model), *modules.rejections, *_untried(targets)),
        feeds=feeds,
        tools=sources.tools(targets, options),
        nodes=nodes,
        notes={
            "targets": [t.name for t in targets],
            "precision": _quantized_as(covered) or options.precision,
            "threads": options.thread_count,
            "device": sources.measured_on(targets, options),
            "sizes": sizes,
            "inputs": {name: list(array.shape) for name, array in feeds.items()},
            "stored_nodes": stored,
            "flops_share": covered.flops_share,
            **modules.notes,
        },
    )


def _quantized_as(covered: Cover) -> str:
    """What some of the model is computed in as it says: "int8", "fp8" (8-bit floats), or "" for none."""
    nodes = (node for part in covered.partitions for node in part.nodes)
    if not any(node.op_type in QUANTIZED for node in nodes):
        return ""
    specs = (s.spec for program in covered.programs for s in program.steps if isinstance(s, Step))
    is_float = any(o.dtype in EIGHT_BIT_FLOATS for spec in specs for o in spec.operands)
    return "fp8" if is_float else "int8"


def _supported_on(targets: Sequence[Target], refused: Mapping[str, Rejection]) -> Supports:
    """A spec must have a kernel on every target, and not be among those of these keys."""

    def check(spec: Spec) -> Rejection | None:
        if refused and spec.key in refused:
            return refused[spec.key]
        return next((r for t in targets if (r := supports(spec, t)) is not None), None)

    return check


def _untried(targets: Sequence[Target]) -> list[Rejection]:
    """A line for each target whose code this machine can't run."""
    said = "this machine can't run it: kernels were not timed, results not compared with ONNX Runtime"
    return [Rejection(stage="verify", subject=t.name, reason=said) for t in targets if not runs_here(t)]


def _tried(
    made: CompiledModel, targets: Sequence[Target], options: Options, progress: Progress, folder: Path
) -> tuple[CompiledModel, Trial | None]:
    """Run a draft against ONNX Runtime; what is wrong or slower is left to it."""
    if not made.partitions or not any(runs_here(t) for t in targets) or not (options.verify or options.ab):
        return made, None
    if sources.ort_version() is None:
        raise RuntimeMissing(
            "onnxruntime is needed to verify the result; pip install onnxruntime, "
            "or pass verify=False and ab=False"
        )
    progress(Event(stage="verify", detail="against ONNX Runtime"))
    made, trial = _attempt(made, options, folder / "draft.bolt")
    if not _is_slower(trial):
        return made, trial
    assert trial is not None
    said = f"stock ONNX Runtime is faster on this machine: bolt reaches {trial.speedup:.2f}x"
    if made.light():
        progress(Event(stage="verify", detail="without its small parts"))
        smaller, again = _without_light_parts(made, options, folder / "smaller.bolt", said)
        if again is not None and not _is_slower(again):
            return smaller, again
    return made.left_to_ort(_reason("choose", said)), trial


def _attempt(made: CompiledModel, options: Options, draft: Path) -> tuple[CompiledModel, Trial | None]:
    """One trial run; a model that fails it is left to ONNX Runtime."""
    written = made.write(draft, None)
    try:
        trial = run_trial(
            written.path, made.source.path, made.feeds, threads=options.thread_count, timed=options.ab,
            precision=made.notes["precision"],
        )  # fmt: skip
    except VerifyError as error:
        return made.left_to_ort(_reason("verify", str(error))), None
    if trial.failures:
        return made.left_to_ort(_reason("verify", "; ".join(trial.failures))), trial
    return made, trial


def _is_slower(trial: Trial | None) -> bool:
    return trial is not None and trial.speedup is not None and trial.speedup < SLOWER


def _without_light_parts(
    made: CompiledModel, options: Options, draft: Path, said: str
) -> tuple[CompiledModel, Trial | None]:
    """A trial without the partitions that mostly cost border crossings; no trial where that can't be."""
    try:
        return _attempt(made.without(made.light(), _reason("choose", said)), options, draft)
    except ModelError:  # a part holds operators that only bolt has
        return made, None


def _reason(stage: str, text: str) -> Rejection:
    return Rejection(stage=stage, subject="", reason=text)
