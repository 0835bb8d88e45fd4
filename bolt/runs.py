"""Running an artifact from the command line."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bolt.ep.artifact import Artifact
from bolt.errors import ArtifactError, BoltError
from bolt.inputs import read, wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What runs gave.

    Attributes:
        outputs: by name, of the last run.
        ms: time of each run.
    """

    outputs: Mapping[str, np.ndarray]
    ms: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, without the outputs' values."""
        outputs = {name: {"dtype": str(a.dtype), "dims": a.shape} for name, a in self.outputs.items()}
        return {"outputs": outputs, "ms": self.ms, "median_ms": float(np.median(self.ms))}

    def describe(self) -> str:
        """A line per output and one about the time."""
        lines = [_line(name, array) for name, array in self.outputs.items()]
        median, least = np.median(self.ms), min(self.ms)
        return "\n".join([*lines, f"{len(self.ms)} runs, median {median:.3f} ms, fastest {least:.3f} ms"])

    def save(self, path: Path) -> None:
        """Writes the outputs as one .npz file."""
        np.savez(path, **self.outputs)  # type: ignore[arg-type]


def run_artifact(
    path: Path, texts: Sequence[str], *, shapes: Mapping[str, Sequence[int]], repeat: int, threads: int | None
) -> Done:
    """Runs the artifact at `path` on the inputs that `texts` name (see `bolt.inputs.read`).

    Random inputs have the dims of `shapes`, or else those the artifact was made with.

    Raises:
        ArtifactError: it is damaged, made for another machine, or can't run on these inputs.
        ModelError: the inputs do not fit.
    """
    artifact = Artifact.load(path)
    with _explained(path):
        session = artifact.session(threads=threads)
    tuned = artifact.report.get("notes", {}).get("inputs", {})
    feeds = read(texts, wanted(session), {**tuned, **shapes})
    ms, values = [], []
    for _ in range(repeat):
        start = time.perf_counter()
        with _explained(path):
            values = session.run(None, feeds)
        ms.append((time.perf_counter() - start) * 1e3)
    names = [output.name for output in session.get_outputs()]
    return Done(outputs=dict(zip(names, map(np.asarray, values), strict=True)), ms=tuple(ms))


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Errors of ONNX Runtime, whose classes have no common base, become one of ours."""
    try:
        yield
    except BoltError:
        raise
    except Exception as error:
        raise ArtifactError(f"ONNX Runtime refuses {path}: {error}") from error


def _line(name: str, array: np.ndarray) -> str:
    shape = "x".join(map(str, array.shape)) or "scalar"
    if not array.size or array.dtype.kind not in "fiub":
        return f"{name}: {array.dtype} {shape}"
    return (
        f"{name}: {array.dtype} {shape}, from {array.min():.6g} to {array.max():.6g}, mean {array.mean():.6g}"
    )
