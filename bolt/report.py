"""Why each region and candidate was, or was not, taken; and how far a long run has come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """An expected "no", as a value.

    Attributes:
        stage: the pipeline stage that said no (`partition`, `supports`, `candidates`, `measure`, `choose`).
        subject: what it was about (a node's name, a kernel's name).
        reason: one sentence for a person.
    """

    stage: str
    subject: str
    reason: str

    def __bool__(self) -> bool:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """How far a stage has come.

    Attributes:
        stage: name of the stage (`load`, `build`, `measure`, `verify`, ...).
        done: units finished, out of `total` (0 when the total is not known).
        detail: what is being worked on, a few words.
    """

    stage: str
    done: float = 0
    total: float = 0
    detail: str = ""


Progress = Callable[[Event], None]


def silent(event: Event) -> None:
    """A `Progress` that shows nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCode:
    """What is known about a kernel of a CUDA target without running it.

    Attributes:
        estimate_us: its time on the target's typical device, by the analytic model.
        registers: of one thread.
        spill_bytes: of registers written to memory and read back.
        shared_bytes: static shared memory of a block.
        is_cutlass: whether it is an instance of CUTLASS.
    """

    estimate_us: float
    registers: int
    spill_bytes: int
    shared_bytes: int
    is_cutlass: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One distinct kernel of a partition.

    Attributes:
        name: its C symbol.
        op: what it computes (`conv`, `gemm`, ...).
        shape: its operands, for a person.
        family: who generated it.
        config: how, as plain JSON.
        uses: calls per run.
        median_us: its measured time, None when it was not measured.
        candidates: how many were considered.
        measured: how many were timed.
        reason: why it was chosen, one sentence.
        device: None on a CPU.
    """

    name: str
    op: str
    shape: str
    family: str
    config: Any
    uses: int = 1
    median_us: float | None = None
    candidates: int = 1
    measured: int = 0
    reason: str = ""
    device: DeviceCode | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One call of a run, in the order of the module's step names.

    Attributes:
        op: what it computes.
        family: who generated its kernel ("" when there is none).
        flops: floating-point operations at the sample sizes.
        bytes: that it has to move at least once, at the sample sizes.
        multiplies: type of what its products multiply ("" when it has none).
        mnk: rows and columns of a convolution's or GEMM's output, and products in each sum.
    """

    op: str
    family: str = ""
    flops: int = 0
    bytes: int = 0
    multiplies: str = ""
    mnk: tuple[int, int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainRow:
    """Kernels that run together, a few rows at a time, so that what they hand on stays in cache.

    Attributes:
        nodes: names of the ONNX nodes they cover.
        kernels: how many.
        rows: of the last one's output that are computed at a time.
        ratio: measured time relative to that of the kernels one after the other.
    """

    nodes: tuple[str, ...]
    kernels: int
    rows: int
    ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """A part of the model that bolt runs.

    Attributes:
        name: the partition's name in the artifact.
        nodes: names of the ONNX nodes it replaces.
        kernels: its distinct kernels.
        steps: what a run does, in order.
        chains: which of its kernels run together.
        bolt_ms: its measured time, None when not measured.
        ort_ms: ONNX Runtime's time for the same, None when not measured.
    """

    name: str
    nodes: tuple[str, ...]
    kernels: tuple[Kernel, ...] = ()
    steps: tuple[Step, ...] = ()
    chains: tuple[ChainRow, ...] = ()
    bolt_ms: float | None = None
    ort_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What became of a model.

    Attributes:
        model: its name.
        nodes: how many nodes it has after the graph passes.
        partitions: what bolt took.
        rejections: what it did not take, and which candidates lost or failed, with reasons.
        bolt_ms: time of one whole run as it ships, None when not measured.
        ort_ms: ONNX Runtime's time for one whole run, None when not measured.
        notes: further facts by name (threads, target, error against the reference, stage times ...).
    """

    model: str
    nodes: int = 0
    partitions: tuple[Partition, ...] = ()
    rejections: tuple[Rejection, ...] = ()
    bolt_ms: float | None = None
    ort_ms: float | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; `bolt explain` prints it."""
        return {"schema": SCHEMA, **asdict(self)}
