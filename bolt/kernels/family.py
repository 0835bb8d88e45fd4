"""The kernel-family contract: one Python module here, one template of the same stem in `templates/`.

A rendered kernel is one C++ translation unit that defines exactly one function with C linkage:

    void NAME(void* const* p, const int64_t* d, void* scratch, int64_t part, int64_t parts);

`p` has one pointer per operand of the spec, in order (to element (0, ..., 0) of the view; a packed
constant is passed as `pack` returned it). `d` holds the run-time dims and strides, in the order of
`spec.dynamic()`. The call does share `part` of `parts` equal shares of the work; the shares are
independent of each other, may run in any order or at the same time, and together compute everything.
`scratch` is a 64-byte-aligned buffer of `scratch_bytes` that no other share uses.

On CUDA the function enqueues the work on a stream and returns without waiting:

    int NAME(void* const* p, const int64_t* d, void* scratch, CUstream_st* stream);

`p` and `scratch` (16-byte aligned, `scratch_bytes`, one for the whole call) are device memory. It returns 0,
or a code that `templates/include/bolt/cuda/launch.h` explains. It may launch several kernels, allocates
nothing, never synchronizes, and can be captured into a CUDA graph. `d` and the static dims are known on the
host, so the device code it launches need not depend on sizes: a `DeviceFamily` can put that code into
`units` that many specs share, compiled once.

Operands say how numbers are stored; kernels compute in fp32 (products also in what their operands are). A
store into a 16-bit float rounds to nearest even; into an 8-bit integer it saturates, too, except that
pointwise kernels cut toward zero, for they also are ONNX's Cast.

A kernel neither reads nor writes outside its operands' dims, `spec.halo()` aside. It may assume that all
dims are >= 1 and that pointers are aligned to their element size only, or to `Operand.alignment` where
stated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from bolt.ops.spec import Spec, canonical
from bolt.report import Rejection
from bolt.target import Target

Config = Any
"""A frozen dataclass of a family: HOW. Its fields are plain ints, strings, bools and tuples of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A rendered translation unit.

    Attributes:
        name: the C symbol it defines.
        text: C++ source.
        language: "cxx" (host compiler) or "cuda" (nvcc).
    """

    name: str
    text: str
    language: str = "cxx"


class Family(Protocol):
    """One way to compute some specs.

    Attributes:
        name: unique; that of its module.
        op: `Spec.op` of what it computes; it is asked about no other specs.
    """

    name: str
    op: str

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        """None when this family computes `spec` on `target`, else why not.

        Whatever is supported compiles and is right: anything else is a bug here.
        """

    def configs(self, spec: Spec, target: Target) -> Sequence[Config]:
        """Legal configurations, in a deterministic order; never empty for a supported spec."""

    def estimate(self, spec: Spec, config: Config, target: Target) -> float:
        """Relative cost (lower is better) by an analytic model; ranks configs without running them."""

    def render(self, spec: Spec, config: Config, target: Target, name: str) -> str:
        """The C++ source of the kernel called `name`."""

    def pack(
        self, spec: Spec, config: Config, target: Target, constants: Mapping[int, np.ndarray]
    ) -> dict[int, np.ndarray]:
        """What `p` receives for the constant operands: {operand: packed 1-D array}.

        Args:
            constants: the operands named in `spec.constants`, with the dims of the operand.
        """

    def scratch_bytes(self, spec: Spec, config: Config, target: Target) -> int:
        """Bytes of scratch one share needs (0 for none)."""


@runtime_checkable
class DeviceFamily(Family, Protocol):
    """A family of a CUDA target.

    Attributes:
        language: of what `render` returns: "cuda" when it holds device code, "cxx" for a launcher of `units`.
    """

    language: str

    def units(self, spec: Spec, config: Config, target: Target) -> tuple[Source, ...]:
        """Further sources (language "cuda") that define what the rendered function calls.

        Their names and texts depend on dtypes, layouts, alignments, the epilogue and the config, never on
        sizes, so that equal ones are compiled once. In a text, as in a "cuda" source, the includes come first
        and no macro is defined: `bolt.toolchain.batch` compiles several as one.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A spec, a family and one of its configs."""

    spec: Spec
    family: Family
    config: Config
    target: Target

    @property
    def key(self) -> str:
        import hashlib

        text = "|".join((self.family.name, self.target.name, canonical(self.spec), canonical(self.config)))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def name(self) -> str:
        """The C symbol: readable, unique by the key's first digits."""
        return f"bolt_{self.family.name}_{self.spec.op}_{self.key[:12]}"

    def source(self) -> Source:
        """What defines `name`."""
        family = self.family
        language = family.language if isinstance(family, DeviceFamily) else "cxx"
        text = family.render(self.spec, self.config, self.target, self.name)
        return Source(name=self.name, text=text, language=language)

    def units(self) -> tuple[Source, ...]:
        """What `source` calls; shared between candidates."""
        family = self.family
        return family.units(self.spec, self.config, self.target) if isinstance(family, DeviceFamily) else ()


def argument_names(spec: Spec) -> list[dict[str, list[str]]]:
    """How a template spells each operand's dims and strides: a literal, or `d[i]` when run-time.

    Returns:
        One {"dims": [...], "strides": [...]} per operand.
    """
    spelled = [
        {"dims": [str(v) for v in o.dims], "strides": [str(v) for v in o.strides]} for o in spec.operands
    ]
    for index, slot in enumerate(spec.dynamic()):
        spelled[slot.operand][slot.what][slot.axis] = f"d[{index}]"
    return spelled
