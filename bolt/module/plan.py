"""Memory plan of a program: which temporaries share memory, and where the constants lie.

Temporaries get *slots* by liveness: a buffer takes over the slot that was freed last (its lines are still
in cache) unless another fits far better. A slot is as large as its largest tenant, and slots lie one after
the other, so that with symbolic dims every offset is a sum of maxima the module evaluates once per run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bolt import dims as D
from bolt.dims import Dim
from bolt.program import AnyStep, Buffer, IntsStep, Program, Step, View


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Where every temporary lies.

    Attributes:
        slots: for each slot, the sizes in bytes of its tenants (the slot is as large as the largest).
        slot_of: buffer name -> slot number.
    """

    slots: tuple[tuple[Dim, ...], ...]
    slot_of: Mapping[str, int]

    def bytes(self, sample: Mapping[str, int], alignment: int) -> int:
        """Size of all slots at the sample dims."""
        return sum(align(max(D.evaluate(s, sample) for s in sizes), alignment) for sizes in self.slots)


def align(size: int, alignment: int) -> int:
    """`size` rounded up."""
    return -(-size // alignment) * alignment


def step_views(step: AnyStep) -> tuple[View, ...]:
    return (step.view,) if isinstance(step, IntsStep) else step.views


def plan(program: Program, sample: Mapping[str, int], *, in_place: bool = True) -> Plan:
    """Assign a slot to every temporary of `program`.

    Args:
        sample: typical dims; decide which sizes fit each other.
        in_place: let a result take the place of an epilogue input that nothing reads afterwards.
    """
    first, last, buffers = _lifetimes(program)
    slots: list[list[Dim]] = []
    sizes: list[int] = []
    free: list[int] = []
    slot_of: dict[str, int] = {}
    for index, step in enumerate(program.steps):
        for name in (n for n, at in first.items() if at == index):
            heir = None
            if in_place and isinstance(step, Step):
                heir = _in_place(step, name, last, index, buffers)
            need = buffers[name].elements
            byte_size = D.mul(need, buffers[name].dtype.size_bytes)
            size = D.evaluate(byte_size, sample)
            if heir is not None:
                slot = slot_of[heir]
                last[heir] = -1  # its memory lives on under another name
            elif free:
                slot = _best_slot(free, sizes, size)
                free.remove(slot)
            else:
                slot = len(slots)
                slots.append([])
                sizes.append(0)
            if byte_size not in slots[slot]:
                slots[slot].append(byte_size)
            sizes[slot] = max(sizes[slot], size)
            slot_of[name] = slot
        for name in (n for n, at in last.items() if at == index):
            free.append(slot_of[name])
    return Plan(slots=tuple(tuple(s) for s in slots), slot_of=slot_of)


def _lifetimes(program: Program) -> tuple[dict[str, int], dict[str, int], dict[str, Buffer]]:
    """First and last step that touches each temporary."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    buffers: dict[str, Buffer] = {}
    for index, step in enumerate(program.steps):
        for view in step_views(step):
            if view.buffer.kind == "temp":
                first.setdefault(view.buffer.name, index)
                last[view.buffer.name] = index
                buffers[view.buffer.name] = view.buffer
    return first, last, buffers


def _best_slot(free: Sequence[int], sizes: Sequence[int], size: int) -> int:
    """The slot freed last, unless it is more than twice too large or too small and another fits better."""
    for slot in reversed(free):
        if size <= sizes[slot] <= 2 * size:
            return slot
    fitting = [s for s in free if sizes[s] >= size]
    if fitting:
        return min(fitting, key=lambda s: sizes[s])
    return max(free, key=lambda s: sizes[s])


def _in_place(
    step: Step, name: str, last: Mapping[str, int], index: int, buffers: Mapping[str, Buffer]
) -> str | None:
    """An epilogue input that dies in this step and covers exactly the memory of the new output `name`."""
    out = step.views[0]
    if out.buffer.name != name or step.spec.op not in ("conv", "gemm", "pointwise"):
        return None
    anchors = {v.buffer.name for v in step.views[1 : step.spec.extra_base]}
    for view in step.views[step.spec.extra_base :]:
        same = view.buffer.kind == "temp" and view.dtype is out.dtype
        if not same or last.get(view.buffer.name) != index or view.buffer.name in anchors:
            continue
        if view.strides == out.strides and D.equal(view.offset, out.offset) and _alone(step, view):
            if D.equal(view.buffer.elements, buffers[name].elements):
                return view.buffer.name
    return None


def _alone(step: Step, view: View) -> bool:
    """Whether the step reads this buffer through this view only."""
    return all(v == view for v in step.views if v.buffer.name == view.buffer.name)


class Weights:
    """The module's constants, laid out one after the other; equal contents are stored once.

    Args:
        alignment: bytes at whose multiples each of them starts.
    """

    def __init__(self, alignment: int) -> None:
        self.alignment = alignment
        self.chunks: list[bytes] = []
        self.size = 0
        self._offsets: dict[str, int] = {}

    def add(self, array: np.ndarray) -> int:
        """The byte offset of `array`."""
        data = np.ascontiguousarray(array).tobytes()
        digest = hashlib.sha256(data).hexdigest()
        if digest not in self._offsets:
            self._offsets[digest] = self.size
            padding = align(len(data), self.alignment) - len(data)
            self.chunks += [data, b"\0" * padding]
            self.size += len(data) + padding
        return self._offsets[digest]

    def blob(self) -> np.ndarray:
        """All constants as one array of bytes."""
        return np.frombuffer(b"".join(self.chunks), np.uint8)
