"""Writing an artifact: model, modules, weights, library, manifest and report in one folder."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx

from bolt.ep.artifact import LIBRARY, MODEL, MODULE_ABI, REPORT, SCHEMA, WEIGHTS, Artifact
from bolt.ep.context import context_node, context_nodes, partition_of, untyped_outputs
from bolt.ep.folder import MANIFEST, staged
from bolt.ep.library import EP_NAME, bolt_version, library_for
from bolt.errors import ArtifactError
from bolt.target import Target, by_name
from bolt.toolchain.cache import file_sha256

__all__ = ["Partition", "Variant", "context_node", "write"]

ALIGNMENT = 4096
"""Each module's weights start on a page, so that they can be mapped on their own."""

PROTOBUF_LIMIT_BYTES = (1 << 31) - (1 << 20)
"""A model near 2 GiB can't be one protobuf; its tensors then go to a file of their own."""

_TENSORS = "model.data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A partition compiled for one target.

    Attributes:
        target: name of the target row.
        module_path: the module's shared library.
        weights: its packed weights; None when it has none.
    """

    target: str
    module_path: Path
    weights: bytes | np.ndarray | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """A partition with its variants, the best first."""

    name: str
    variants: tuple[Variant, ...]


def write(
    directory: str | Path,
    *,
    name: str,
    model: onnx.ModelProto,
    partitions: Sequence[Partition],
    source_sha256: str,
    report: Mapping[str, Any],
    tools: Mapping[str, str],
) -> Artifact:
    """Writes the artifact folder `directory`: whole or not at all, equal input giving equal bytes.

    Args:
        directory: the folder to create; an artifact already there is replaced.
        name: name of the model.
        model: the model with an EPContext node (`context_node`) in place of each partition.
        partitions: what the nodes stand for.
        source_sha256: of the ONNX file the model was made from.
        report: content of report.json.
        tools: versions of what took part.

    Raises:
        ArtifactError: nodes and partitions do not match, or the folder can't be written.
    """
    _check_nodes(model, partitions)
    destination = Path(directory).absolute()
    with staged(destination) as folder:
        _write_model(folder, model, partitions)
        (folder / REPORT).write_bytes(_json_bytes(report))
        listed = _write_partitions(folder, partitions)
        libraries = _write_libraries(folder, partitions)
        manifest = {
            "schema": SCHEMA,
            "bolt": bolt_version(),
            "module_abi": MODULE_ABI,
            "name": name,
            "source_sha256": source_sha256,
            "tools": dict(tools),
            "files": _file_entries(folder),
            "libraries": libraries,
            "partitions": listed,
        }
        (folder / MANIFEST).write_bytes(_json_bytes(manifest))
    return Artifact.load(destination)


def _check_nodes(model: onnx.ModelProto, partitions: Sequence[Partition]) -> None:
    """Nodes and partitions belong together, and ONNX Runtime will take the nodes."""
    nodes = list(context_nodes(model.graph))
    in_model, given = sorted(partition_of(node) for node, _ in nodes), sorted(p.name for p in partitions)
    if in_model != given:
        raise ArtifactError(f"the model has EPContext nodes for {in_model}, the partitions are {given}")
    for node, graph in nodes:
        if untyped := untyped_outputs(node, graph):
            raise ArtifactError(
                f"partition {partition_of(node)} has no element type in value_info for: {', '.join(untyped)}"
            )
    if empty := [p.name for p in partitions if not p.variants]:
        raise ArtifactError(f"partitions without a variant: {', '.join(empty)}")


def _write_model(folder: Path, model: onnx.ModelProto, partitions: Sequence[Partition]) -> None:
    """Writes model.onnx, with its tensors beside it when it is too large for one protobuf."""
    path = folder / MODEL
    if model.ByteSize() > PROTOBUF_LIMIT_BYTES:
        copy = onnx.ModelProto()  # save_model moves the tensors out of the model it is given
        copy.CopyFrom(model)
        onnx.save_model(copy, path, save_as_external_data=True, location=_TENSORS)
    else:
        path.write_bytes(model.SerializeToString(deterministic=True))
    if partitions:
        with path.open("ab") as file:
            file.write(_compatibility(partitions).SerializeToString(deterministic=True))


def _compatibility(partitions: Sequence[Partition]) -> onnx.ModelProto:
    """The metadata by which ONNX Runtime asks whether a model suits a machine (src/compatibility.h).

    A protobuf that is appended to another one is merged into it.
    """
    targets = {v.target: _arch_and_features(by_name(v.target)) for p in partitions for v in p.variants}
    rows = [f"{name}:{arch}:{','.join(features)}" for name, (arch, features) in targets.items()]
    text = ";".join(("bolt", f"schema={SCHEMA}", f"module_abi={MODULE_ABI}", *rows))
    entry = onnx.StringStringEntryProto(key=f"ep_compatibility_info.{EP_NAME}", value=text)
    return onnx.ModelProto(metadata_props=[entry])


def _arch_and_features(target: Target) -> tuple[str, list[str]]:
    if target.gpu is None:
        return target.arch, list(target.requires)
    return target.arch, [f"sm{capability}" for capability in (target.gpu.sm, *target.gpu.also)]


def _machine(target: Target) -> str:
    """Architecture of the CPU that loads a module: a GPU's host code is compiled for this machine."""
    return platform.machine() if target.is_cuda else target.arch


def _write_libraries(folder: Path, partitions: Sequence[Partition]) -> dict[str, str]:
    """Copies the provider for each architecture; {architecture: file}. The first has the plain name."""
    arches = dict.fromkeys(_machine(by_name(v.target)) for p in partitions for v in p.variants)
    names = {arch: f"libbolt_ep.{arch}.so" if i else LIBRARY for i, arch in enumerate(arches)}
    for arch, name in names.items():
        shutil.copyfile(library_for(arch), folder / name)
    return names


def _write_partitions(folder: Path, partitions: Sequence[Partition]) -> dict[str, Any]:
    """Writes modules and weights; returns the manifest's `partitions`."""
    if not partitions:
        return {}
    (folder / "modules").mkdir()
    with (folder / WEIGHTS).open("wb") as file:
        weights = _WeightsFile(file)
        listed = {p.name: {"variants": list(_write_variants(folder, p, weights))} for p in partitions}
    if not weights.slices:
        (folder / WEIGHTS).unlink()
    return listed


def _write_variants(folder: Path, partition: Partition, weights: _WeightsFile) -> Iterator[dict[str, Any]]:
    for variant in partition.variants:
        target = by_name(variant.target)
        arch, features = _arch_and_features(target)
        yield {
            "target": variant.target,
            "arch": arch,
            "features": features,
            **({"machine": _machine(target)} if target.is_cuda else {}),
            "module": _write_module(folder, variant.module_path),
            "weights": weights.add(variant.weights),
        }


def _write_module(folder: Path, source: Path) -> dict[str, Any]:
    sha256 = file_sha256(source)
    name = f"modules/{sha256[:16]}.so"
    shutil.copyfile(source, folder / name)
    return {"path": name, "sha256": sha256}


class _WeightsFile:
    """weights.bin while it is written; equal slices are stored once."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.slices: dict[str, dict[str, Any]] = {}

    def add(self, weights: bytes | np.ndarray | None) -> dict[str, Any] | None:
        """Appends a slice on a page boundary; returns its manifest entry."""
        data = _bytes_of(weights)
        if not data:
            return None
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 not in self.slices:
            self._file.write(bytes(-self._file.tell() % ALIGNMENT))
            offset = self._file.tell()
            self._file.write(data)
            self.slices[sha256] = {"path": WEIGHTS, "offset": offset, "bytes": len(data), "sha256": sha256}
        return self.slices[sha256]


def _bytes_of(weights: bytes | np.ndarray | None) -> bytes | memoryview:
    if weights is None:
        return b""
    if isinstance(weights, bytes):
        return weights
    return np.ascontiguousarray(weights).reshape(-1).view(np.uint8).data


def _file_entries(folder: Path) -> dict[str, Any]:
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    return {
        p.relative_to(folder).as_posix(): {"bytes": p.stat().st_size, "sha256": file_sha256(p)} for p in paths
    }


def _json_bytes(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()
