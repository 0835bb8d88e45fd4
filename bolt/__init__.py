"""bolt: an ONNX model goes in, a package with generated, fused kernels for ONNX Runtime comes out.

    >>> import bolt
    >>> artifact = bolt.optimize("model.onnx", budget="1m")
    >>> artifact.session().run(None, {"input": x})

Everything but the exceptions is loaded on first use: importing bolt is cheap.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bolt.errors import BoltError

if TYPE_CHECKING:
    import onnx

    from bolt.ep.artifact import Artifact
    from bolt.ep.library import get_ep_name, get_ep_names, get_library_path
    from bolt.options import Options
    from bolt.report import Event, Progress, Rejection, Report
    from bolt.target import Target

__all__ = [
    "Artifact",
    "BoltError",
    "Event",
    "Options",
    "Progress",
    "Rejection",
    "Report",
    "Target",
    "get_ep_name",
    "get_ep_names",
    "get_library_path",
    "optimize",
]

_HOME = {
    "Artifact": "bolt.ep.artifact",
    "Event": "bolt.report",
    "Options": "bolt.options",
    "Progress": "bolt.report",
    "Rejection": "bolt.report",
    "Report": "bolt.report",
    "Target": "bolt.target",
    "get_ep_name": "bolt.ep.library",
    "get_ep_names": "bolt.ep.library",
    "get_library_path": "bolt.ep.library",
}


def optimize(
    model: str | Path | bytes | onnx.ModelProto,
    *,
    target: str | Sequence[str] = "auto",
    budget: str | float = "5m",
    precision: str = "fp32",
    output: str | Path | None = None,
    threads: int | None = None,
    shapes: Mapping[str, Sequence[int] | int] | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Artifact:
    """Turns an ONNX model into a package that ONNX Runtime runs through bolt's execution provider.

    Args:
        model: path of an ONNX file, its bytes, or the loaded model.
        target: name of the instruction set ("auto" takes this machine's best), or several of them.
        budget: time for trying kernels: "0" takes the analytic pick, "30s", "5m", "unlimited".
        precision: arithmetic that may be used: "fp32"; on GPUs also "tf32", "fp16", "bf16".
        output: folder to write the package to; None leaves it in the cache.
        threads: threads to tune for; None takes all cores.
        shapes: sample sizes of what the model leaves open, by input name or by symbol.
        progress: called with a `bolt.Event` now and then.
        **options: further fields of `bolt.Options` (compiler, verify, ab, jobs, cache).

    Returns:
        The package; `session()` opens it, `report` says what became of each part of the model.

    Raises:
        BoltError: one of its subclasses, saying what is wrong and what to do.
    """
    from bolt import driver
    from bolt.options import make
    from bolt.report import silent

    chosen = make(
        target=target, budget=budget, threads=threads, shapes=shapes, precision=precision, **options
    )
    destination = None if output is None else Path(output)
    return driver.optimize(model, chosen, progress or silent, output=destination)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("bolt-ep")
    if name not in _HOME:
        raise AttributeError(f"module 'bolt' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
