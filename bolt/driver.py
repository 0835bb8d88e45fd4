"""The pipeline: ONNX file in, artifact out. Data moves down this page and never back up."""

from __future__ import annotations

import hashlib
import importlib.metadata
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from bolt import graph, report
from bolt.ep import package
from bolt.ep.artifact import Artifact
from bolt.ep.library import bolt_version
from bolt.ep.trial import Trial, run_trial
from bolt.errors import ArtifactError, ModelError, RuntimeMissing, VerifyError
from bolt.graph.cover import Cover, cover
from bolt.graph.load import load
from bolt.graph.outline import outline
from bolt.graph.pipeline import optimize as run_passes
from bolt.graph.samples import feed, sample
from bolt.graph.shapes import Shapes, infer
from bolt.module.compile import Compiled, compile_module
from bolt.ops.spec import canonical
from bolt.options import Options
from bolt.program import Program, Step
from bolt.report import Event, Progress, Rejection, Report, silent
from bolt.search import choose
from bolt.search.candidates import describe, supports
from bolt.search.records import device_name
from bolt.target import Target, by_name, runs_here
from bolt.toolchain import host
from bolt.toolchain.build import store
from bolt.toolchain.cache import make_key

SLOWER = 0.99
"""Below this measured ratio against stock ONNX Runtime the model is handed back unchanged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The model as given.

    Attributes:
        name: for people and file names.
        path: a file ONNX Runtime can load; in a temporary folder when the model came as bytes.
        sha256: of the file.
    """

    name: str
    path: Path
    sha256: str


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
    with tempfile.TemporaryDirectory(prefix="bolt-") as folder:
        given = _source(source, Path(folder))
        targets = tuple(by_name(name) for name in options.targets)
        home = options.cache_root / "artifacts" / _key(given, targets, options, everything)
        artifact = _cached(home) or _build(given, targets, options, progress, home, Path(folder), everything)
    return artifact.save(output) if output is not None else artifact


def _source(source: str | Path | bytes | onnx.ModelProto, folder: Path) -> Source:
    if isinstance(source, (str, Path)):
        path = Path(source)
        if not path.is_file():
            raise ModelError(f"there is no model {str(path)!r}; give the path of an .onnx file")
        return Source(name=path.stem, path=path, sha256=_files_sha256(path))
    data = source if isinstance(source, bytes) else source.SerializeToString()
    path = folder / "model.onnx"
    path.write_bytes(data)
    return Source(name="model", path=path, sha256=hashlib.sha256(data).hexdigest())


def _files_sha256(path: Path) -> str:
    """sha256 of the model and of the files its tensors lie in."""
    digest = hashlib.sha256(path.read_bytes())
    try:
        proto = onnx.load(path, load_external_data=False)
    except Exception:  # protobuf raises various types; loading the model gives the proper error
        return digest.hexdigest()
    names = {
        entry.value
        for tensor in proto.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    for name in sorted(names):
        file = path.parent / name
        if file.is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _key(given: Source, targets: Sequence[Target], options: Options, everything: bool) -> str:
    """Everything an artifact depends on."""
    return make_key(
        what="artifact",
        source=given.sha256,
        name=given.name,
        targets=[t.name for t in targets],
        options=canonical(replace(options, cache=None, jobs=0, targets=())),
        everything=everything,
        tools=_tools(targets, options),
        device=device_name(),
        code=_code_sha256(),
    )


def _code_sha256() -> str:
    """sha256 of bolt's own Python, C++ and template files."""
    roots = (Path(__file__).parent, Path(graph.__file__).parent, Path(_templates_root()))
    digest = hashlib.sha256()
    for root in roots:
        for path in sorted(root.rglob("*")):
            if path.suffix in (".py", ".cc", ".h", ".jinja", ".map"):
                digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def _templates_root() -> Path:
    from bolt.templates import ROOT

    return ROOT


def _tools(targets: Sequence[Target], options: Options) -> dict[str, str]:
    tools = {
        f"compiler {t.name}": host.for_target(t, options.compiler).identity for t in targets
    }
    tools["bolt"] = bolt_version()
    tools["onnxruntime"] = _ort_version() or "not installed"
    return tools


def _ort_version() -> str | None:
    for name in ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _cached(home: Path) -> Artifact | None:
    """The artifact made earlier from the same input, if it is still whole."""
    try:
        artifact = Artifact.load(home)
        artifact.verify()
    except ArtifactError:
        return None
    return artifact


def _build(
    given: Source,
    targets: Sequence[Target],
    options: Options,
    progress: Progress,
    home: Path,
    folder: Path,
    everything: bool,
) -> Artifact:
    """Make the artifact; leave to ONNX Runtime what fails its trial or runs slower."""
    started = time.monotonic()
    try:
        made = _compiled(given, targets, options, progress, everything, canonical_ops=True)
    except ModelError as error:
        if "ai.bolt" not in str(error):
            raise
        made = _compiled(given, targets, options, progress, everything, canonical_ops=False)
    verdict, trial = None, None
    if made.cover.partitions:
        draft = made.write(folder / "draft.bolt", None)
        verdict, trial = _tried(draft, made, given, targets, options, progress)
    final = made if verdict is None else made.without(verdict)
    final.notes["seconds"] = round(time.monotonic() - started, 1)
    home.parent.mkdir(parents=True, exist_ok=True)
    return final.write(home, trial)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A compiled model before it is packaged."""

    given: Source
    original: onnx.ModelProto | None
    model: onnx.ModelProto
    cover: Cover
    partitions: tuple[package.Partition, ...]
    kernels: Mapping[str, tuple[report.Kernel, ...]]
    rejections: tuple[Rejection, ...]
    feeds: Mapping[str, Any]
    nodes: int
    tools: Mapping[str, str]
    notes: dict[str, Any]

    def without(self, reason: Rejection) -> Made:
        """The same model, left to ONNX Runtime as a whole."""
        proto = onnx.load(self.given.path)
        dropped = tuple(
            Rejection(stage=reason.stage, subject=p.name, reason=reason.reason) for p in self.cover.partitions
        )
        empty = Cover(partitions=(), programs=(), rejections=(), flops_share=0.0)
        return replace(
            self, model=proto, cover=empty, partitions=(), rejections=(*self.rejections, *dropped)
        )

    def write(self, directory: Path, trial: Trial | None) -> Artifact:
        """Package it."""
        parts = tuple(
            report.Partition(
                name=p.name, nodes=tuple(n.name or n.op_type for n in p.nodes), kernels=self.kernels[p.name]
            )
            for p in self.cover.partitions
        )
        notes = {**self.notes, "flops_share": self.cover.flops_share}
        if trial is not None:
            notes |= {"errors": dict(trial.errors), "ort": dict(trial.ort_ms), "bolt": dict(trial.bolt_ms)}
        told = Report(
            model=self.given.name,
            nodes=self.nodes,
            partitions=parts,
            rejections=self.rejections,
            bolt_ms=trial.bolt_ms.get("median") if trial else None,
            ort_ms=trial.ort_ms.get("median") if trial else None,
            notes=notes,
        )
        return package.write(
            directory,
            name=self.given.name,
            model=self.model,
            partitions=self.partitions,
            source_sha256=self.given.sha256,
            report=told.to_dict(),
            tools=self.tools,
        )


def _compiled(
    given: Source,
    targets: Sequence[Target],
    options: Options,
    progress: Progress,
    everything: bool,
    canonical_ops: bool,
) -> Made:
    progress(Event(stage="load", detail=given.name))
    model = load(given.path)
    nodes = sum(1 for _ in model.graph)
    progress(Event(stage="graph", detail=f"{nodes} nodes"))
    run_passes(model, canonical=canonical_ops)
    shapes = infer(model)
    sizes = sample(model, shapes, dict(options.shapes))
    covered = cover(model, shapes, sizes, _supports(targets), everything=everything)
    proto = outline(model, covered.partitions, package.context_node)
    variants, kernels, rejections = _variants(covered, sizes, targets, options, progress)
    return Made(
        given=given,
        original=None,
        model=proto,
        cover=covered,
        partitions=variants,
        kernels=kernels,
        rejections=(*covered.rejections, *rejections),
        feeds=feed(model, shapes, sizes) if covered.partitions else {},
        nodes=nodes,
        tools=_tools(targets, options),
        notes={
            "targets": [t.name for t in targets],
            "threads": options.thread_count,
            "device": device_name(),
            "sample": sizes,
        },
    )


def _supports(targets: Sequence[Target]) -> Any:
    """A spec must have a kernel on every target."""

    def check(spec: Any) -> Rejection | None:
        return next((r for r in (supports(spec, t) for t in targets) if r is not None), None)

    return check


def _variants(
    covered: Cover,
    sizes: Mapping[str, int],
    targets: Sequence[Target],
    options: Options,
    progress: Progress,
) -> tuple[tuple[package.Partition, ...], dict[str, tuple[report.Kernel, ...]], tuple[Rejection, ...]]:
    """Choose kernels and compile every partition for every target."""
    variants: dict[str, list[package.Variant]] = {p.name: [] for p in covered.partitions}
    kernels: dict[str, tuple[report.Kernel, ...]] = {}
    rejections: list[Rejection] = []
    for target in targets:
        problems = _problems(covered.programs, sizes)
        chosen = choose.select(problems, target, options, progress)
        rejections += [r for c in chosen.values() for r in c.rejected]
        objects = {key: (c.candidate, c.object_path) for key, c in chosen.items()}
        for part, program in zip(covered.partitions, covered.programs, strict=True):
            progress(Event(stage="module", detail=f"{part.name} for {target.name}"))
            built = _module(program, objects, target, sizes, options)
            variants[part.name].append(
                package.Variant(target=target.name, module_path=built.path, weights=built.weights)
            )
            kernels.setdefault(part.name, _kernel_rows(program, chosen, sizes))
    packaged = tuple(package.Partition(name=n, variants=tuple(v)) for n, v in variants.items())
    return packaged, kernels, tuple(rejections)


def _module(
    program: Program, objects: Any, target: Target, sizes: Mapping[str, int], options: Options
) -> Compiled:
    compiler = host.for_target(target, options.compiler)
    return compile_module(program, objects, target, sizes, compiler=compiler, cache=store(options.cache_root))


def _problems(programs: Sequence[Program], sizes: Mapping[str, int]) -> list[choose.Problem]:
    """One problem per distinct spec, weighted by how often a run calls it."""
    steps = [s for p in programs for s in p.steps if isinstance(s, Step)]
    calls = Counter(s.spec.key for s in steps)
    first = {s.spec.key: s for s in reversed(steps)}
    return [
        choose.Problem(spec=s.spec, ints=_ints(s, sizes), weight=calls[key]) for key, s in first.items()
    ]


def _ints(step: Step, sizes: Mapping[str, int]) -> tuple[int, ...]:
    from bolt import dims

    return tuple(dims.evaluate(i, sizes) for i in step.ints())


def _kernel_rows(
    program: Program, chosen: Mapping[str, choose.Choice], sizes: Mapping[str, int]
) -> tuple[report.Kernel, ...]:
    steps = [s for s in program.steps if isinstance(s, Step)]
    calls = Counter(s.spec.key for s in steps)
    rows = []
    for step in {s.spec.key: s for s in reversed(steps)}.values():
        choice = chosen[step.spec.key]
        measured = choice.measurement
        rows.append(
            report.Kernel(
                name=choice.candidate.name,
                op=step.spec.op,
                shape=describe(step.bound(sizes)),
                family=choice.candidate.family.name,
                config=choice.candidate.config,
                uses=calls[step.spec.key],
                median_us=measured.median_us if measured else None,
            )
        )
    return tuple(rows)


def _tried(
    draft: Artifact,
    made: Made,
    given: Source,
    targets: Sequence[Target],
    options: Options,
    progress: Progress,
) -> tuple[Rejection | None, Trial | None]:
    """Run the draft against ONNX Runtime: (why not to ship it, what was found)."""
    if not any(runs_here(t) for t in targets) or not (options.verify or options.ab):
        return None, None
    if _ort_version() is None:
        raise RuntimeMissing(
            "onnxruntime is needed to verify the result; pip install onnxruntime, or pass verify=False, ab=False"
        )
    progress(Event(stage="verify", detail="against ONNX Runtime"))
    try:
        trial = run_trial(
            draft.path, given.path, made.feeds, threads=options.thread_count, timed=options.ab
        )
    except VerifyError as error:
        return Rejection(stage="verify", subject=given.name, reason=str(error)), None
    if trial.failures:
        return Rejection(stage="verify", subject=given.name, reason="; ".join(trial.failures)), trial
    if trial.speedup is not None and trial.speedup < SLOWER:
        reason = f"stock ONNX Runtime is faster on this machine ({trial.speedup:.2f}x); left to it as a whole"
        return Rejection(stage="choose", subject=given.name, reason=reason), trial
    return None, trial
