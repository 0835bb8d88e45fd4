"""What the user asked for. The only module that reads the environment."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bolt.errors import BoltError

PRECISIONS = ("fp32", "tf32", "fp16", "bf16")
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}

Shapes = tuple[tuple[str, tuple[int, ...]], ...]


class OptionError(BoltError):
    """An option's value can't be used."""

    exit_code = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Everything that steers `bolt.optimize`.

    Attributes:
        targets: names of target rows, best first; "auto" detects the CPU's, "cuda" the GPU's.
        budget_s: seconds of building and timing kernels; 0 takes the analytic pick, `math.inf` tries all.
        precision: arithmetic that may be used. "fp32" stays within the fp32 tolerance. On GPUs also "tf32"
            (products rounded to 11 bits), and "fp16" or "bf16" (weights, and values inside partitions, are
            kept in 16 bits; sums and all other arithmetic stay fp32). "bf16" also on CPUs that multiply
            such numbers (x86-avx512-bf16).
        threads: threads that kernels are tuned for; 0 means all cores the process may use.
        shapes: sample sizes for what the model leaves open: (input name, its dims) or (symbol, (size,)).
            Tuning uses them; other sizes still run.
        compiler: path or name of the C++ compiler; None looks for one.
        nvcc: path or name of the CUDA compiler; None looks for one (CUDA targets only).
        cutlass: folder of a CUTLASS checkout; None takes the installed wheel's headers.
        verify: compare the result with ONNX Runtime before handing it over.
        ab: time against ONNX Runtime and leave to it what it runs faster.
        jobs: compiler processes at a time; 0 chooses by cores and free memory.
        cache: folder of compiled kernels and records; None is `cache_dir()`.
    """

    targets: tuple[str, ...] = ("auto",)
    budget_s: float = 300.0
    precision: str = "fp32"
    threads: int = 0
    shapes: Shapes = ()
    compiler: str | None = None
    nvcc: str | None = None
    cutlass: str | None = None
    verify: bool = True
    ab: bool = True
    jobs: int = 0
    cache: Path | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise OptionError(f"unknown precision {self.precision!r}; choose one of {', '.join(PRECISIONS)}")
        if self.threads < 0 or self.jobs < 0:
            raise OptionError(f"threads ({self.threads}) and jobs ({self.jobs}) can't be negative")

    @property
    def cache_root(self) -> Path:
        """The cache folder in use."""
        return self.cache or cache_dir()

    @property
    def thread_count(self) -> int:
        """`threads` with 0 resolved to the cores this process may use."""
        return self.threads or cores()


def make(
    *,
    target: str | Sequence[str] = "auto",
    budget: str | float = "5m",
    threads: int | None = None,
    shapes: Mapping[str, Sequence[int] | int] | None = None,
    cache: str | Path | None = None,
    **rest: object,
) -> Options:
    """`Options` from the spellings of the public API; `rest` are fields of `Options` as they are."""
    targets = (target,) if isinstance(target, str) else tuple(target)
    if not targets:
        raise OptionError("no target; give at least one, or auto")
    return Options(
        targets=tuple(name for t in targets for name in t.split(",")),
        budget_s=parse_budget(budget),
        threads=threads or 0,
        shapes=_shapes((shapes or {}).items()),
        cache=Path(cache) if cache else None,
        **rest,  # type: ignore[arg-type]
    )


def parse_budget(text: str | float) -> float:
    """Seconds of a time budget: "0", "30s", "5m", "1.5h", "unlimited" or a number of seconds.

    Raises:
        OptionError: the text is none of these.
    """
    if isinstance(text, (int, float)):
        text = f"{text}"
    if text.strip().lower() in ("unlimited", "inf"):
        return math.inf
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*", text.lower())
    if not match:
        raise OptionError(f"budget {text!r} is no time; write 0, 30s, 5m, 1h or unlimited")
    return float(match[1]) * _UNITS[match[2]]


def parse_shapes(texts: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """{"x": (1, 3, 224, 224)} from ["x=1,3,224,224"].

    Raises:
        OptionError: a text is no `name=int,int,...`.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, _, dims = text.rpartition("=")
        if not name or not re.fullmatch(r"\d+([,x]\d+)*", dims):
            raise OptionError(f"shape {text!r} can't be read; write input=1,3,224,224 or symbol=8")
        shapes[name] = tuple(int(d) for d in re.split("[,x]", dims))
    return shapes


def _shapes(items: Iterable[tuple[str, Sequence[int] | int]]) -> Shapes:
    pairs = (
        (name, (dims,) if isinstance(dims, int) else tuple(int(d) for d in dims)) for name, dims in items
    )
    shapes = tuple(sorted(pairs))
    for name, dims in shapes:
        if min(dims, default=1) < 1:
            raise OptionError(f"shape {name}={dims} has a size below 1; give a typical one")
    return shapes


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cache_dir() -> Path:
    """The folder of compiled kernels, the EP library and records: $BOLT_CACHE_DIR, else the user's cache."""
    override = os.environ.get("BOLT_CACHE_DIR")
    if override:
        return Path(override).absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "bolt"


def compiler_preference() -> str | None:
    """The compiler named by $BOLT_CXX, else by $CXX, else None."""
    return os.environ.get("BOLT_CXX") or os.environ.get("CXX") or None


def nvcc_preference() -> str | None:
    """The CUDA compiler named by $BOLT_NVCC, or None."""
    return os.environ.get("BOLT_NVCC") or None


def cutlass_preference() -> str | None:
    """The CUTLASS checkout named by $BOLT_CUTLASS, or None."""
    return os.environ.get("BOLT_CUTLASS") or None


def cuda_home() -> str | None:
    """The CUDA toolkit named by $CUDA_HOME or $CUDA_PATH, or None."""
    return os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH") or None


def child_environment(**changes: str) -> dict[str, str]:
    """The environment for a child process, with `changes`."""
    return {**os.environ, **changes}
