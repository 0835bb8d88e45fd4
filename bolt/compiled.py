"""A model whose partitions are compiled: what is left is to package it, or to hand it back unchanged."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from bolt import device_code, report
from bolt.chain import Call, Chain, calls
from bolt.ep import package
from bolt.ep.artifact import Artifact
from bolt.ep.trial import Trial
from bolt.graph.cover import Cover
from bolt.graph.partition import Partition
from bolt.module.compile import Compiled, compile_module
from bolt.ops.conv import ConvSpec
from bolt.ops.gemm import GemmSpec
from bolt.ops.spec import Spec
from bolt.options import Options
from bolt.program import AnyStep, IntsStep, Program, Step
from bolt.report import Event, Progress, Rejection, Report
from bolt.search import chains, choose
from bolt.search.candidates import describe
from bolt.source import Source
from bolt.target import Target
from bolt.toolchain import host
from bolt.toolchain.build import store

Sizes = Mapping[str, int]

LIGHT = 0.02
"""A partition with less than this share of the arithmetic is the first to go when a model runs slower."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledModel:
    """All an artifact is written from.

    Attributes:
        source: the model as given.
        outlined: what ONNX Runtime loads: one EPContext node for each partition of these names.
        partitions: their modules, for every target.
        rows: the report's line of each partition.
        rejections: what was not taken, with reasons.
        feeds: sample inputs.
        notes: further facts of the report.
        tools: versions of what took part.
        nodes: how many nodes the model has after the graph passes.
    """

    source: Source
    outlined: Callable[[frozenset[str]], onnx.ModelProto]
    partitions: tuple[package.Partition, ...]
    rows: tuple[report.Partition, ...]
    rejections: tuple[Rejection, ...]
    feeds: Mapping[str, np.ndarray]
    tools: Mapping[str, str]
    nodes: int
    notes: Mapping[str, Any] = field(default_factory=dict)

    def light(self) -> frozenset[str]:
        """Names of partitions with hardly any of the work, when others have it."""
        work = {row.name: sum(step.flops for step in row.steps) for row in self.rows}
        return frozenset(name for name, flops in work.items() if flops < LIGHT * sum(work.values()))

    def without(self, names: Collection[str], reason: Rejection) -> CompiledModel:
        """The same model with the partitions `names` left to ONNX Runtime."""
        kept = tuple(row for row in self.rows if row.name not in names)
        dropped = tuple(replace(reason, subject=row.name) for row in self.rows if row.name in names)
        before, after = (sum(step.flops for row in rows for step in row.steps) for rows in (self.rows, kept))
        share = self.notes["flops_share"] * after / before if before else 0.0
        return replace(
            self,
            partitions=tuple(p for p in self.partitions if p.name not in names),
            rows=kept,
            rejections=(*self.rejections, *dropped),
            notes={**self.notes, "flops_share": share},
        )

    def left_to_ort(self, reason: Rejection) -> CompiledModel:
        """The same model without any partition."""
        return self.without([p.name for p in self.partitions], reason)

    def write(self, directory: Path, trial: Trial | None) -> Artifact:
        """Package it into `directory`."""
        return package.write(
            directory,
            name=self.source.name,
            model=self.outlined(frozenset(p.name for p in self.partitions)),
            partitions=self.partitions,
            source_sha256=self.source.sha256,
            report=self._report(trial).to_dict(),
            tools=self.tools,
        )

    def _report(self, trial: Trial | None) -> Report:
        notes = dict(self.notes)
        if trial is not None:
            notes |= {"errors": dict(trial.errors), "ort": dict(trial.ort_ms), "bolt": dict(trial.bolt_ms)}
        return Report(
            model=self.source.name,
            nodes=self.nodes,
            partitions=self.rows,
            rejections=self.rejections,
            bolt_ms=trial.bolt_ms.get("median") if trial else None,
            ort_ms=trial.ort_ms.get("median") if trial else None,
            notes=notes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Modules:
    """The partitions' modules for all targets, and how their kernels were chosen."""

    partitions: tuple[package.Partition, ...]
    rows: tuple[report.Partition, ...]
    rejections: tuple[Rejection, ...]
    notes: Mapping[str, str]


def compile_partitions(
    covered: Cover, targets: Sequence[Target], options: Options, progress: Progress
) -> Modules:
    """Choose kernels and compile every partition for every target; the report shows the first target's."""
    variants: dict[str, list[package.Variant]] = {p.name: [] for p in covered.partitions}
    rejections: list[Rejection] = []
    rows: tuple[report.Partition, ...] = ()
    notes: dict[str, str] = {}
    sizes = covered.sizes
    for target in targets:
        contest = chains.Contest(
            target=target,
            options=options,
            sizes=sizes,
            compile=partial(_compiled, target=target, sizes=sizes, options=options),
            progress=progress,
        )
        chosen, shipped = contest.choose(covered.programs)
        # That a pooling kernel computes no convolution is no news: only what lost or failed is told.
        rejections += [r for c in chosen.values() for r in c.rejected if r.stage != "supports"]
        rejections += [r for one in shipped for r in one.rejections]
        rows = rows or tuple(
            _row(part, one, chosen, sizes) for part, one in zip(covered.partitions, shipped, strict=True)
        )
        notes = notes or device_code.notes(_steps(covered.programs), chosen, target, sizes)
        for program in (one.program for one in shipped):
            progress(Event(stage="module", detail=f"{program.name} for {target.name}"))
            built = _compiled(program, chosen, target=target, sizes=sizes, options=options)
            variant = package.Variant(target=target.name, module_path=built.path, weights=built.weights)
            variants[program.name].append(variant)
    packaged = tuple(package.Partition(name=n, variants=tuple(v)) for n, v in variants.items())
    return Modules(partitions=packaged, rows=rows, rejections=tuple(rejections), notes=notes)


def _compiled(
    program: Program,
    chosen: Mapping[str, choose.Choice],
    *,
    target: Target,
    sizes: Sizes,
    options: Options,
) -> Compiled:
    return compile_module(
        program,
        {key: (c.candidate, c.objects) for key, c in chosen.items()},
        target,
        sizes,
        compiler=host.for_target(target, options.compiler, device=options.nvcc, cutlass=options.cutlass),
        cache=store(options.cache_root),
    )


def _steps(programs: Sequence[Program]) -> list[Step]:
    return [s for p in programs for s in p.steps if isinstance(s, Step)]


def _row(
    part: Partition, shipped: chains.Chained, chosen: Mapping[str, choose.Choice], sizes: Sizes
) -> report.Partition:
    called = calls(shipped.program, sizes)
    uses = Counter(call.spec.key for call in called)
    first = {call.spec.key: call for call in reversed(called)}
    return report.Partition(
        name=part.name,
        nodes=tuple(n.name or n.op_type for n in part.nodes),
        kernels=tuple(_kernel(chosen[key], call, uses[key], sizes) for key, call in first.items()),
        steps=tuple(_step(step, chosen, sizes) for step in shipped.program.steps),
        chains=shipped.rows,
    )


def _step(step: AnyStep, chosen: Mapping[str, choose.Choice], sizes: Sizes) -> report.Step:
    if isinstance(step, IntsStep):
        return report.Step(op="ints")
    if isinstance(step, Chain):
        bound = [link.step.bound(sizes) for link in step.links]
        inside = sum(2 * replace(b, operands=b.operands[:1]).bytes() for b in bound[:-1])
        flops, bytes_ = sum(b.flops() for b in bound), sum(b.bytes() for b in bound) - inside
        return report.Step(op="chain", flops=flops, bytes=bytes_, multiplies=_multiplies(bound[0]))
    whole = step.bound(sizes)
    return report.Step(
        op=whole.op,
        family=chosen[step.spec.key].candidate.family.name,
        flops=whole.flops(),
        bytes=whole.bytes(),
        multiplies=_multiplies(whole),
        mnk=_mnk(whole),
    )


def _multiplies(spec: Spec) -> str:
    return spec.operands[1].dtype.name if spec.is_product else ""


def _mnk(spec: Spec) -> tuple[int, int, int] | None:
    if not isinstance(spec, (ConvSpec, GemmSpec)):
        return None
    *rows, n = (d or 1 for d in spec.out.dims)
    m = math.prod(rows)
    return m, n, spec.flops() // (2 * m * n)


def _config(value: Any) -> Any:
    """A config as plain JSON; what has a name of its own (a tile) also shows that."""
    if isinstance(value, (tuple, list)):
        return [_config(v) for v in value]
    if not is_dataclass(value):
        return value
    name = {"name": value.name} if hasattr(value, "name") else {}
    return {**name, **{f.name: _config(getattr(value, f.name)) for f in fields(value)}}


def _kernel(choice: choose.Choice, call: Call, uses: int, sizes: Sizes) -> report.Kernel:
    return report.Kernel(
        name=choice.candidate.name,
        op=call.spec.op,
        shape=describe(call.spec.bind(call.ints)),
        family=choice.candidate.family.name,
        config=_config(choice.candidate.config),
        uses=uses,
        median_us=choice.measurement.median_us if choice.measurement else None,
        candidates=choice.considered,
        measured=choice.measured,
        reason=choice.reason,
        device=device_code.device_code(choice, call.step, sizes),
    )
