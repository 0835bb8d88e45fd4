"""Where the time of a run goes: every step of an artifact's modules, timed outside ONNX Runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from bolt.bench.bandwidth import Curve, at
from bolt.ep.artifact import Artifact
from bolt.module import load as modules
from bolt.options import cache_dir
from bolt.target import TARGETS, runs_here
from bolt.types import F32

_ROUNDS = (3, 20)
_PROFILE_US = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One step of a run.

    Attributes:
        partition: whose step it is.
        name: what it computes, by the names of the model's nodes.
        family: who generated its kernel.
        us: its time: the shortest of a few runs.
        flops: its arithmetic operations, None when the sizes differ from those compiled for.
        bytes: what it has to move at least once, None as above.
        roof_us: what it would take if it did nothing but arithmetic at the machine's measured peak, or
            nothing but read these bytes at the measured speed for so many, whichever is longer.
        peak_gflops: the machine's measured peak of products like its own; None when it has none.
        mnk: rows and columns of a convolution's or GEMM's output, and products in each sum; None as above.
    """

    partition: str
    name: str
    family: str
    us: float
    flops: int | None
    bytes: int | None = None
    roof_us: float | None = None
    peak_gflops: float | None = None
    mnk: tuple[int, int, int] | None = None

    @property
    def of_peak(self) -> float | None:
        """Share of the peak; above 1 as below."""
        return self.gflops / self.peak_gflops if self.gflops and self.peak_gflops else None

    @property
    def of_roof(self) -> float | None:
        """Share of the roofline; above 1 where an algorithm needs fewer products than are counted."""
        return self.roof_us / self.us if self.roof_us and self.us else None

    @property
    def gflops(self) -> float | None:
        """GFLOP/s."""
        return self.flops / self.us * 1e-3 if self.flops and self.us else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the machine can do with the threads of a run.

    Attributes:
        peaks: GFLOP/s of products, by the name of the type they multiply. That of "f32" limits all other
            arithmetic, too.
        curve: GB/s by bytes.
    """

    peaks: Mapping[str, float]
    curve: Curve

    def peak(self, multiplies: str) -> float:
        """GFLOP/s of a step with such products, or with none ("")."""
        return self.peaks.get(multiplies) or self.peaks[F32.name]

    def roof_us(self, flops: int, bytes_: int, multiplies: str) -> float:
        """The shortest time for so much work."""
        return round(max(flops / self.peak(multiplies), bytes_ / at(self.curve, bytes_)) * 1e-3, 3)


def layers(
    artifact: Artifact, feeds: Mapping[str, np.ndarray], limits: Limits, *, threads: int, run_us: float
) -> tuple[Layer, ...]:
    """The steps of all partitions for these inputs, in order.

    What they compute is known for inputs of the sizes that the model was compiled for only.

    Args:
        limits: of the machine.
        threads: to run with.
        run_us: about how long a run takes; long ones are repeated less often.
    """
    least, most = _ROUNDS
    rounds = min(most, max(least, round(_PROFILE_US / run_us)))
    found: list[Layer] = []
    shapes = {name: list(array.shape) for name, array in feeds.items()}
    known = artifact.report["partitions"] if shapes == artifact.report["notes"]["inputs"] else ()
    steps = {row["name"]: row["steps"] for row in known}
    for name, arrays in _partition_inputs(artifact, feeds).items():
        with _module(artifact, name) as module:
            timed = module.profile(arrays, threads=threads, rounds=rounds)
        found += _layers(name, timed, steps.get(name, ()), limits)
    return tuple(found)


def _layers(
    partition: str,
    timed: Sequence[tuple[str, float]],
    steps: Sequence[Mapping[str, Any]],
    limits: Limits,
) -> list[Layer]:
    known = list(steps) if len(steps) == len(timed) else [{}] * len(timed)
    return [_layer(partition, name, us, step, limits) for (name, us), step in zip(timed, known, strict=True)]


def _layer(partition: str, name: str, us: float, step: Mapping[str, Any], limits: Limits) -> Layer:
    found = Layer(partition=partition, name=name, family=step.get("family", ""), us=round(us, 2), flops=None)
    if not step:
        return found
    multiplies, mnk = step.get("multiplies", ""), step.get("mnk")
    return replace(
        found, flops=step["flops"], bytes=step["bytes"],
        roof_us=limits.roof_us(step["flops"], step["bytes"], multiplies),
        peak_gflops=limits.peak(multiplies) if multiplies else None, mnk=tuple(mnk) if mnk else None,
    )  # fmt: skip


def _variant(artifact: Artifact, partition: str) -> Mapping[str, Any]:
    """The partition's variant that runs here, as the provider would take it."""
    runnable = {target.name for target in TARGETS if runs_here(target)}
    variants = artifact.manifest["partitions"][partition]["variants"]
    return next(v for v in variants if v["target"] in runnable)


def _module(artifact: Artifact, partition: str) -> modules.Module:
    variant = _variant(artifact, partition)
    weights = None
    if place := variant["weights"]:
        weights = np.fromfile(
            artifact.path / place["path"], np.uint8, count=place["bytes"], offset=place["offset"]
        )
    return modules.load(artifact.path / variant["module"]["path"], weights, cache_root=cache_dir())


def _partition_inputs(artifact: Artifact, feeds: Mapping[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
    """What each partition is given in a run: the model is run with those values as further outputs."""
    model = onnx.load(artifact.model_path, load_external_data=False)
    nodes = {node.name: node for node in model.graph.node if node.op_type == "EPContext"}
    wanted = sorted({name for node in nodes.values() for name in node.input} - set(feeds))
    values = dict(feeds)
    if wanted:
        types = _input_types(artifact, nodes)
        values |= _tapped(artifact, model, {name: types[name] for name in wanted}, feeds)
    return {name: [values[i] for i in node.input] for name, node in nodes.items()}


def _tapped(
    artifact: Artifact, model: onnx.ModelProto, types: Mapping[str, int], feeds: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Inner values of a run, by name."""
    present = {output.name for output in model.graph.output}
    for name in types.keys() - present:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, types[name], None))
    with tempfile.TemporaryDirectory(prefix="bolt-layers-") as folder:
        copy = artifact.save(Path(folder) / "copy.bolt")
        tapped = copy.path / "tapped.onnx"
        onnx.save(model, tapped)
        found = copy.session(threads=1, path_or_bytes=str(tapped)).run(list(types), dict(feeds))
    return dict(zip(types, found, strict=True))


def _input_types(artifact: Artifact, nodes: Mapping[str, onnx.NodeProto]) -> dict[str, int]:
    """ONNX type of each partition input by name."""
    types: dict[str, int] = {}
    for partition, node in nodes.items():
        with _module(artifact, partition) as module:
            types |= {name: v.dtype.onnx for name, v in zip(node.input, module.inputs, strict=True)}
    return types
