"""The artifact: a folder that holds a model, its compiled modules and all it needs to run.

    <name>.bolt/
        model.onnx       what ONNX Runtime loads; one EPContext node per partition
        libbolt_ep.so    the execution provider, for the architecture of the first target;
                         libbolt_ep.<arch>.so for each further one
        modules/*.so     the compiled partitions, named by their sha256
        weights.bin      packed weights of all modules, mapped into memory where they run
        manifest.json    what is in the folder; read by the execution provider
        report.json      why everything is as it is

manifest.json, schema 1:

    schema         1
    bolt           version of bolt that wrote it
    module_abi     BOLT_MODULE_ABI_VERSION of its modules
    name           name of the model
    source_sha256  sha256 of the ONNX file it was made from
    tools          {tool: version}
    files          {relative path: {bytes, sha256}}, all files but manifest.json
    libraries      {architecture: relative path} of the execution provider
    partitions     {name: {variants: [variant, ...]}}, the best variant first
    variant        {target, arch, features, module: {path, sha256},
                    weights: null or {path, offset, bytes, sha256}}
                   `features` are the CPU flags it needs, as /proc/cpuinfo spells them.
                   For a GPU `arch` is "cuda", `features` are the compute capabilities it runs on ("sm80", one
                   of them is enough), and `machine` is the architecture of the CPU beside the GPU

Schema and reader (bolt/ep/src/manifest.cc) change together.
"""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from bolt.ep import machine
from bolt.ep.folder import MANIFEST, staged
from bolt.errors import ArtifactError
from bolt.toolchain.cache import file_sha256

if TYPE_CHECKING:
    import onnxruntime

SCHEMA = 1
MODULE_ABI = 1
MODEL = "model.onnx"
REPORT = "report.json"
LIBRARY = "libbolt_ep.so"
WEIGHTS = "weights.bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A package on disk.

    Attributes:
        path: its folder, absolute.
        manifest: the content of manifest.json (see the module's text).
    """

    path: Path
    manifest: Mapping[str, Any]

    @classmethod
    def load(cls, path: str | Path) -> Artifact:
        """Reads the artifact in the folder `path`; files other than the manifest are not looked at.

        Raises:
            ArtifactError: there is none, or its manifest can't be used.
        """
        folder = Path(path).absolute()
        return cls(path=folder, manifest=_checked(_read_json(folder / MANIFEST), folder))

    @property
    def model_path(self) -> Path:
        """The model to give to ONNX Runtime."""
        return self.path / MODEL

    @property
    def library_path(self) -> Path:
        """The execution provider library to register with ONNX Runtime on this machine."""
        return self.path / self.libraries.get(platform.machine(), LIBRARY)

    @property
    def libraries(self) -> Mapping[str, str]:
        """{architecture: name of the execution provider library for it}; empty without partitions."""
        return dict(self.manifest.get("libraries", {}))

    @property
    def partitions(self) -> tuple[str, ...]:
        """Names of the compiled partitions; empty when everything was left to ONNX Runtime."""
        return tuple(self.manifest["partitions"])

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the targets it carries variants for, best first."""
        return tuple(dict.fromkeys(v["target"] for v in self._variants()))

    @property
    def is_for_gpu(self) -> bool:
        """Whether its partitions run on a GPU."""
        return any(machine.is_for_gpu(v) for v in self._variants())

    def runs_on(self, capability: str) -> bool:
        """Whether a GPU of this compute capability ("sm80") runs all its partitions."""
        partitions = self.manifest["partitions"].values()
        return all(
            any(machine.is_for_gpu(v) and capability in v["features"] for v in p["variants"])
            for p in partitions
        )

    @property
    def can_run_here(self) -> bool:
        """Whether this machine has what its partitions need."""
        return not self.obstacle

    @property
    def obstacle(self) -> str:
        """Why it can't run on this machine; "" when it can."""
        return machine.obstacle(self.libraries, self.manifest["partitions"].values())

    def _variants(self) -> Iterator[Mapping[str, Any]]:
        return (v for p in self.manifest["partitions"].values() for v in p["variants"])

    @property
    def report(self) -> dict[str, Any]:
        """The content of report.json.

        Raises:
            ArtifactError: it is missing or damaged.
        """
        return _read_json(self.path / REPORT)

    def verify(self) -> None:
        """Checks size and sha256 of every file.

        Raises:
            ArtifactError: a file is missing, damaged, or was changed.
        """
        for name, entry in self.manifest["files"].items():
            verify_file(self.path / name, entry)

    def save(self, directory: str | Path) -> Artifact:
        """Copies the artifact to `directory`, whole or not at all, and returns the copy.

        Raises:
            ArtifactError: this artifact is damaged, or the folder can't be written.
        """
        destination = Path(directory).absolute()
        with staged(destination) as folder:
            for name in (MANIFEST, *self.manifest["files"]):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(_existing(self.path / name), folder / name)
            Artifact.load(folder).verify()
        return Artifact.load(destination)

    def session(
        self, threads: int | None = None, session_options: onnxruntime.SessionOptions | None = None, **kw: Any
    ) -> onnxruntime.InferenceSession:
        """An ONNX Runtime session that runs this artifact.

        Args:
            threads: threads of the session; None is ONNX Runtime's choice (or that of `session_options`).
            session_options: options to build on; bolt's provider is added to them.
            **kw: further arguments of `onnxruntime.InferenceSession`.

        Raises:
            RuntimeMissing: onnxruntime is not installed or older than 1.23 (1.24.4 for a GPU).
            ArtifactError: the library is missing, damaged, or was changed, or there is no GPU it is for.
        """
        from bolt.ep.session import create

        return create(self, threads=threads, session_options=session_options, **kw)


def verify_file(path: Path, entry: Mapping[str, Any]) -> None:
    """Checks a file against its manifest entry {bytes, sha256}.

    Raises:
        ArtifactError: it is missing, damaged, or was changed.
    """
    size = _existing(path).stat().st_size
    if size != entry["bytes"] or file_sha256(path) != entry["sha256"]:
        raise ArtifactError(
            f"{path} is damaged or was changed ({size} bytes, {entry['bytes']} expected); "
            "copy the artifact again or run `bolt optimize` again"
        )


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ArtifactError(f"{path} is missing; copy the artifact again or run `bolt optimize` again")
    return path


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ArtifactError(f"{path.parent} is not an artifact: it has no {path.name}") from error
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} can't be read ({error}); copy the artifact again") from error
    if not isinstance(content, dict):
        raise ArtifactError(f"{path} is not a JSON object; copy the artifact again")
    return content


def _checked(manifest: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The manifest after its own fields and paths were checked; it may come from anywhere."""
    schema = manifest.get("schema")
    if schema != SCHEMA:
        raise ArtifactError(
            f"{folder / MANIFEST} has schema {schema!r}, this bolt reads {SCHEMA}; "
            "run `bolt optimize` again, or use the version of bolt that wrote it"
        )
    try:
        files = {str(name): (entry["bytes"], entry["sha256"]) for name, entry in manifest["files"].items()}
        for partition in manifest["partitions"].values():
            _ = [(v["target"], v["arch"], v["features"]) for v in partition["variants"]]
        libraries = [str(name) for name in manifest.get("libraries", {}).values()]
    except (KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"{folder / MANIFEST} is incomplete ({error!r}); copy the artifact again"
        ) from error
    for name in (*files, *libraries):
        if not is_inside(name):
            raise ArtifactError(
                f"{folder / MANIFEST} names the file {name!r}, which is not inside the artifact"
            )
    return manifest


def is_inside(name: str) -> bool:
    """Whether a path of a manifest is relative and stays below the artifact's folder."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts
