"""Trained models through bolt and its peers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import onnx

from benchmarks.feeds import feeds
from benchmarks.workloads import Workload
from bolt.bench.machine import facts
from bolt.bench.packages import PackageError, fetch, models_dir
from bolt.bench.result import Result, Row
from bolt.bench.run import Case, Plan, describe, label, measure_model
from bolt.report import Event, Progress, silent


def measure(workloads: Sequence[Workload], plan: Plan, progress: Progress = silent) -> Result:
    """All cases of all workloads; a model that can't be fetched is a row that says so."""
    engines, missing = plan.engines()
    machine = facts(engines)
    found: list[Row] = []
    for done, workload in enumerate(workloads):
        progress(Event(stage="models", done=done, total=len(workloads), detail=workload.name))
        found += _measured(workload, plan, progress)
    return Result(machine=machine, options=describe(plan), missing=missing, rows=tuple(found))


def _measured(workload: Workload, plan: Plan, progress: Progress) -> tuple[Row, ...]:
    inputs = [feeds(workload, index) for index in range(len(workload.cases))]
    cases = [Case(label=label(given), feeds=given) for given in inputs]
    try:
        path = model_path(workload, progress)
    except PackageError as error:
        failed = Row(model=workload.name, case="", threads=0, problem=str(error))
        return tuple(replace(failed, case=case.label, threads=t) for case in cases for t in plan.threads)
    return measure_model(workload.name, path, cases, plan, progress)


def model_path(workload: Workload, progress: Progress = silent) -> Path:
    """The workload's ONNX file, fetched and, where the table says so, changed.

    Raises:
        PackageError: it can't be fetched.
    """
    original = fetch((workload.member,), progress=progress)[workload.member]
    if not workload.fixed and not workload.exposed:
        return original
    model = changed(onnx.load(original), workload)
    place = models_dir() / "changed" / f"{workload.name}.onnx"
    place.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, place)
    return place


def changed(model: onnx.ModelProto, workload: Workload) -> onnx.ModelProto:
    """`model` with the workload's fixed dims and exposed values."""
    for name in workload.exposed:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    for value in model.graph.input:
        if value.name in workload.fixed:
            element, dims = value.type.tensor_type.elem_type, workload.fixed[value.name]
            value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, element, dims))
    if workload.fixed:
        # The file's other shapes belong to the old dims.
        del model.graph.value_info[:]
        for output in model.graph.output:
            output.type.tensor_type.ClearField("shape")
    return model
