"""The memory plan: what may share memory, and what may not."""

from __future__ import annotations

import numpy as np
from lowered import covered
from onnx_models import ModelBuilder

from bolt.module.plan import Weights, plan
from bolt.program import Step


def chain(length: int, *, keep_all: bool = False) -> object:
    b = ModelBuilder()
    y = b.input("x", [1, 4, 8, 8])
    kept = []
    for i in range(length):
        y = b.add("Conv", y, b.weights(f"w{i}", (4, 4, 3, 3)), pads=[1] * 4)
        kept.append(y)
    if keep_all:
        y = b.add("Relu", kept[0])
        for k in kept[1:]:
            y = b.add("Add", y, k)
    return b.output(y).model()


def test_a_chain_needs_two_slots_however_long() -> None:
    (program,) = covered(chain(6)).programs
    assert len(plan(program, {}).slots) == 2


def test_values_alive_at_the_same_time_never_share() -> None:
    (program,) = covered(chain(5, keep_all=True)).programs
    found = plan(program, {})
    touched: dict[str, list[int]] = {}
    for index, step in enumerate(program.steps):
        assert isinstance(step, Step)
        for view in step.views:
            if view.buffer.kind == "temp":
                touched.setdefault(view.buffer.name, []).append(index)
    spans = [(min(t), max(t), found.slot_of[n]) for n, t in touched.items()]
    for i, (first, last, slot) in enumerate(spans):
        for other_first, other_last, other in spans[i + 1 :]:
            if slot == other:
                assert last <= other_first or other_last <= first


def test_bytes_cover_the_largest_tenant() -> None:
    (program,) = covered(chain(3)).programs
    found = plan(program, {})
    largest = max(int(v.buffer.elements) for s in program.steps for v in s.views if v.buffer.kind == "temp")
    assert found.bytes({}, 64) >= 4 * largest


def test_weights_are_aligned_and_equal_ones_stored_once() -> None:
    weights = Weights(64)
    first = weights.add(np.arange(3, dtype=np.float32))
    second = weights.add(np.arange(5, dtype=np.float32))
    assert weights.add(np.arange(3, dtype=np.float32)) == first
    assert (first, second) == (0, 64)
    np.testing.assert_array_equal(weights.blob()[64:84].view(np.float32), np.arange(5, dtype=np.float32))
