"""ONNX Runtime sessions for artifacts, on every ONNX Runtime from 1.23, on GPUs from 1.24.4."""

from __future__ import annotations

import importlib
import platform
import threading
import weakref
from types import ModuleType
from typing import TYPE_CHECKING, Any

from bolt.ep import machine
from bolt.ep.artifact import Artifact, verify_file
from bolt.ep.library import EP_NAME
from bolt.errors import ArtifactError, RuntimeMissing

if TYPE_CHECKING:
    import onnxruntime

OLDEST = (1, 23)
OLDEST_FOR_GPU = (1, 24, 4)
_ADVICE = "install it with: pip install -U 'onnxruntime>=1.23'"
_DEVICE_ID = "cuda_device_id"
"""Metadata of a device: the number CUDA gives the GPU."""
_ELSEWHERE = "run it there, or run `bolt optimize` with a target of this machine"
_REGISTRATION = threading.Lock()
_DEVICES: dict[str, tuple[Any, ...]] = {}
"""Devices of the libraries registered in this process, by the library's sha256."""
_EQUIPPED: weakref.WeakSet[Any] = weakref.WeakSet()
"""Session options that have bolt's provider: ONNX Runtime takes each provider once."""


def create(
    artifact: Artifact,
    *,
    threads: int | None = None,
    session_options: onnxruntime.SessionOptions | None = None,
    ep_options: dict[str, str] | None = None,
    **kw: Any,
) -> onnxruntime.InferenceSession:
    """A session that runs `artifact` (see `Artifact.session`).

    Args:
        ep_options: options of bolt's provider, without their prefix `ep.boltexecutionprovider.`; `device_id`
            chooses a GPU, otherwise the first is taken that the artifact has a variant for.
        **kw: further arguments of `onnxruntime.InferenceSession`; `path_or_bytes` replaces the model's path.

    Raises:
        RuntimeMissing: onnxruntime is not installed or too old.
        ArtifactError: the library is missing, damaged, was changed, or is for other machines only.
    """
    ort = load_runtime()
    options = session_options or _quiet_options(ort)
    if threads is not None:
        options.intra_op_num_threads = threads
    model = kw.pop("path_or_bytes", artifact.model_path)
    if not artifact.partitions:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"], **kw)
    # By devices, because 1.23 and 1.24 do not know the names of plugins in `providers=`. Without fallback,
    # which would hide the provider's error behind the CPU provider's, that can't run the model.
    if options not in _EQUIPPED:
        given = _ep_options(options) | (ep_options or {})
        options.add_provider_for_devices([_device(artifact, given.get("device_id"))], given)
        _EQUIPPED.add(options)
    return ort.InferenceSession(model, options, **({"enable_fallback": 0} | kw))


def _quiet_options(ort: ModuleType) -> onnxruntime.SessionOptions:
    """Options without ONNX Runtime's warning about nodes left to it, which the report explains."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return options


def load_runtime() -> ModuleType:
    """The module onnxruntime.

    Raises:
        RuntimeMissing: it is not installed, or too old for plugin execution providers.
    """
    try:
        ort = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise RuntimeMissing(f"onnxruntime can't be imported ({error}); {_ADVICE}") from error
    version = str(getattr(ort, "__version__", "0"))
    if _numbers(version)[:2] < OLDEST or not hasattr(ort, "register_execution_provider_library"):
        raise RuntimeMissing(f"onnxruntime {version} has no plugin execution providers; {_ADVICE}")
    return ort


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3] if part.isdigit())


def _ep_options(options: onnxruntime.SessionOptions) -> dict[str, str]:
    """The number of threads where the session fixes it; otherwise the provider asks the pool itself."""
    threads = options.intra_op_num_threads
    own_pool = getattr(options, "use_per_session_threads", True)
    return {"intra_op_num_threads": str(threads)} if threads > 0 and own_pool else {}


def _device(artifact: Artifact, device_id: str | None) -> Any:
    """The device that an artifact's session is for."""
    if not artifact.is_for_gpu:
        return next(d for d in _devices(artifact) if _DEVICE_ID not in d.ep_metadata)
    version = str(load_runtime().__version__)
    if _numbers(version) < OLDEST_FOR_GPU:
        raise RuntimeMissing(
            f"onnxruntime {version} has not all that a GPU needs; "
            "install it with: pip install -U 'onnxruntime>=1.24.4'"
        )
    if artifact.obstacle:
        raise ArtifactError(f"{artifact.path} can't run here: {artifact.obstacle}; {_ELSEWHERE}")
    gpus = [d for d in _devices(artifact) if _DEVICE_ID in d.ep_metadata]
    if device_id is not None:
        return _gpu(gpus, device_id)
    fitting = (d for name, d in zip(machine.capabilities()[0], gpus, strict=True) if artifact.runs_on(name))
    return next(fitting, gpus[0])


def _gpu(gpus: list[Any], device_id: str) -> Any:
    for device in gpus:
        if device.ep_metadata[_DEVICE_ID] == device_id:
            return device
    known = ", ".join(d.ep_metadata[_DEVICE_ID] for d in gpus)
    raise ArtifactError(f"there is no GPU {device_id} here (CUDA's numbers: {known})")


def _devices(artifact: Artifact) -> list[Any]:
    """bolt's devices by the artifact's own library, registered once per process for equal libraries."""
    if artifact.libraries and platform.machine() not in artifact.libraries:
        raise ArtifactError(
            f"{artifact.path} is for {', '.join(artifact.libraries)}, this machine is {platform.machine()}; "
            f"{_ELSEWHERE}"
        )
    entry = artifact.manifest["files"].get(artifact.library_path.name, {"bytes": 0, "sha256": ""})
    verify_file(artifact.library_path, entry)
    with _REGISTRATION:
        if entry["sha256"] not in _DEVICES:
            _DEVICES[entry["sha256"]] = _register(entry["sha256"], str(artifact.library_path))
        return list(_DEVICES[entry["sha256"]])


def _register(sha256: str, path: str) -> tuple[Any, ...]:
    """Registers a library with ONNX Runtime; its devices."""
    ort = load_runtime()
    # The program may have registered a copy of the library itself, and 1.23 does not tell where a device is
    # from. The device objects stay the same while they are held, so the ones to take are those that appear.
    before = ort.get_ep_devices()
    ort.register_execution_provider_library(f"bolt-{sha256[:16]}", path)
    appeared = (d for d in ort.get_ep_devices() if not any(d is other for other in before))
    return tuple(d for d in appeared if d.ep_name == EP_NAME)
