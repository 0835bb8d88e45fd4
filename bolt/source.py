"""The model as the user gave it, and the key of everything an artifact made from it depends on."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import onnx

from bolt.ep.library import bolt_version
from bolt.errors import ModelError
from bolt.ops.spec import canonical
from bolt.options import Options
from bolt.search.device import device
from bolt.target import Target
from bolt.templates import ROOT
from bolt.toolchain import host
from bolt.toolchain.cache import make_key

_CODE = (".py", ".cc", ".h", ".jinja", ".map")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An ONNX model on disk.

    Attributes:
        name: for people and file names.
        path: a file ONNX Runtime can load; in a temporary folder when the model came as bytes.
        sha256: of the file and of the files its tensors lie in.
    """

    name: str
    path: Path
    sha256: str


def read(source: str | Path | bytes | onnx.ModelProto, folder: Path) -> Source:
    """The model behind any spelling of the public API; bytes are written to `folder`.

    Raises:
        ModelError: there is no such file.
    """
    if isinstance(source, (str, Path)):
        path = Path(source).absolute()
        if not path.is_file():
            raise ModelError(f"there is no model {str(source)!r}; give the path of an .onnx file")
        return Source(name=path.stem, path=path, sha256=_sha256(path))
    data = source if isinstance(source, bytes) else source.SerializeToString()
    path = folder / "model.onnx"
    path.write_bytes(data)
    return Source(name="model", path=path, sha256=hashlib.sha256(data).hexdigest())


def _sha256(path: Path) -> str:
    digest = hashlib.sha256(path.read_bytes())
    for name in sorted(_tensor_files(path)):
        if (path.parent / name).is_file():
            digest.update((path.parent / name).read_bytes())
    return digest.hexdigest()


def _tensor_files(path: Path) -> set[str]:
    """Names of the external data files; none when the model can't be read, which loading reports properly."""
    try:
        proto = onnx.load(path, load_external_data=False)
    except Exception:  # protobuf's parse errors have no common base
        return set()
    entries = (e for t in proto.graph.initializer for e in t.external_data)
    return {e.value for e in entries if e.key == "location"}


def artifact_key(source: Source, targets: Sequence[Target], options: Options, *, everything: bool) -> str:
    """The key of the artifact: equal keys mean equal bytes, given equal tuning records."""
    return make_key(
        what="artifact",
        source=source.sha256,
        name=source.name,
        targets=[t.name for t in targets],
        options=canonical(replace(options, cache=None, jobs=0, targets=("auto",))),
        everything=everything,
        tools=dict(tools(targets, options)),
        device=measured_on(targets, options),
        code=_code_sha256(),
    )


@cache
def _code_sha256() -> str:
    """sha256 of bolt's own Python, C++ and template files."""
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for root in (package, ROOT, ROOT.parent / "graph"):
        for path in sorted(root.rglob("*")):
            if path.suffix in _CODE:
                digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def tools(targets: Sequence[Target], options: Options) -> Mapping[str, str]:
    """Versions of what takes part in making an artifact."""
    compilers = {f"compiler {t.name}": _compiler(t, options).description for t in targets}
    return {**compilers, "bolt": bolt_version(), "onnxruntime": ort_version() or "not installed"}


def measured_on(targets: Sequence[Target], options: Options) -> str:
    """The devices whose times decided, for a person and for the key."""
    found = (device(target, options, _compiler(target, options)).name for target in targets)
    return ", ".join(dict.fromkeys(found))


def _compiler(target: Target, options: Options) -> host.Compiler:
    return host.for_target(target, options.compiler, device=options.nvcc, cutlass=options.cutlass)


def ort_version() -> str | None:
    """Version of the installed ONNX Runtime, whichever build it is."""
    for name in ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None
