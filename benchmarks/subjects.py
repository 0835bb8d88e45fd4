"""What is measured: a model file and the inputs it is given, wherever they come from."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx

from benchmarks import random_models
from benchmarks.feeds import feeds
from benchmarks.workloads import WORKLOADS, Quantized, Suite, Workload
from bolt.bench.packages import fetch, models_dir
from bolt.bench.run import Case, label
from bolt.report import Event, Progress, silent

_CALIBRATIONS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A model that is tuned for the first of its cases and measured with all.

    Attributes:
        name: for tables; architectures with random weights begin with "random/".
        path: gives the ONNX file; may fetch, export or quantize it first, and raises a BoltError if it can't.
        feeds: gives the inputs of each case.
    """

    name: str
    path: Callable[[Progress], Path]
    feeds: Callable[[], list[dict[str, np.ndarray]]]

    def cases(self) -> list[Case]:
        """The inputs with their labels."""
        return [Case(label=label(given), feeds=given) for given in self.feeds()]


def subjects(suite: Suite, batches: Sequence[int] = (1,)) -> list[Subject]:
    """The subjects of a suite; trained models have their own cases, the others one for each batch size."""
    rows = {workload.name: workload for workload in WORKLOADS}
    first, *more = batches
    return [
        *(random_subject(name, first) for name in suite.random),
        *(quantized_subject(row, first) for row in suite.quantized),
        *(trained_subject(rows[name]) for name in suite.trained),
        *(random_subject(name, batch) for batch in more for name in suite.random),
        *(quantized_subject(row, batch) for batch in more for row in suite.quantized),
    ]


def trained_subject(workload: Workload) -> Subject:
    """A model from a published package."""
    return Subject(
        name=workload.name,
        path=partial(model_path, workload),
        feeds=lambda: [feeds(workload, index) for index in range(len(workload.cases))],
    )


def random_subject(name: str, batch: int) -> Subject:
    """An architecture with random weights."""
    return Subject(
        name=f"random/{name}",
        path=partial(_exported, name, batch),
        feeds=lambda: [random_models.feeds(name, batch)],
    )


def quantized_subject(row: Quantized, batch: int) -> Subject:
    """An architecture with random weights, quantized."""
    return Subject(
        name=f"random/{row.name}-int8",
        path=partial(_quantized, row, batch),
        feeds=lambda: [random_models.feeds(row.name, batch)],
    )


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


def _exported(name: str, batch: int, progress: Progress = silent) -> Path:
    progress(Event(stage="export", detail=f"{name}, batch {batch}"))
    return random_models.export_apart(name, batch, models_dir() / "random")


def _quantized(row: Quantized, batch: int, progress: Progress = silent) -> Path:
    original = _exported(row.name, batch, progress)
    quantizer = importlib.import_module("benchmarks.quantized_models")  # loads ONNX Runtime's quantizer
    code = Path(quantizer.__file__ or "").read_bytes() + version("onnxruntime").encode()
    place = original.with_name(f"{original.stem}-int8-{hashlib.sha256(code).hexdigest()[:6]}.onnx")
    if place.exists():
        return place
    progress(Event(stage="quantize", detail=f"{row.name}, batch {batch}"))
    draft = place.with_name(f"draft-{place.name}")
    quantizer.quantize(original, row.kind, _calibration(row.name, batch), draft)
    draft.replace(place)
    return place


def _calibration(name: str, batch: int) -> list[dict[str, np.ndarray]]:
    """A few different inputs."""
    many = random_models.feeds(name, batch * _CALIBRATIONS)
    return [
        {key: array[i * batch : (i + 1) * batch] for key, array in many.items()} for i in range(_CALIBRATIONS)
    ]
