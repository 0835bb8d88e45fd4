"""Which steps make a chain, and that strips compute what whole images do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import chained
import numpy as np
import onnx_models
import program_interpreter
import pytest
from lowered import covered
from module import twins

from bolt.chain import Chain
from bolt.graph import chains
from bolt.module.plan import plan
from bolt.program import Program

MODELS = {
    "mobile": chained.inverted,
    "odd strips": lambda: chained.inverted(height=17, width=5),
    "stride 2": lambda: chained.inverted(stride=2),
    "dilation": lambda: chained.inverted(kernel=3, dilation=2),
    "large window": lambda: chained.inverted(height=9, kernel=7),
    "batch": lambda: chained.inverted(3, 7, 5, stride=2),
    "windows of many sizes": chained.plain_convs,
    "windows, batch": lambda: chained.plain_convs(2, 12, 7),
    "windows without borders": chained.patches,
    "mlp": chained.mlp,
    "gated": chained.gated,
}


def programs(model: Any) -> list[Program]:
    return list(covered(model).programs)


def chains_of(program: Program) -> list[Chain]:
    return [s for s in program.steps if isinstance(s, Chain)]


def same(program: Program, inputs: Any, found: Any, **sizes: int) -> None:
    """Whole images, strips, and strips with shared memory give the same."""
    want = program_interpreter.run(program, inputs)
    changed = chains.apply(program, found)
    for memory in (None, plan(changed, sizes)):
        for got, expected in zip(program_interpreter.run(changed, inputs, memory), want, strict=True):
            # Whole images are rounded to fp32 between steps, the interpreter's strips are not.
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", MODELS)
def test_strips_of_every_height_give_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = MODELS[name]()
    (program,) = programs(model)
    found = chained.find(program, monkeypatch)
    assert found
    inputs = list(onnx_models.feeds(model).values())
    for height in (1, 2, 3, 5, 100):
        same(program, inputs, [replace(f, chain=replace(f.chain, strip=height)) for f in found])


@pytest.mark.parametrize(
    "build", [twins.mobilenet_v2, twins.efficientnet, twins.densenet, twins.resnet, twins.vgg]
)
def test_twins_of_well_known_models(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build()
    values = onnx_models.feeds(model)
    for program in programs(model):
        found = chained.find(program, monkeypatch)
        assert found
        same(program, [values[v.name] for v in program.inputs], found)


def test_a_chain_takes_the_place_of_its_steps_and_of_the_clearing_of_borders(monkeypatch: Any) -> None:
    (program,) = programs(chained.inverted())
    changed = chains.apply(program, chained.find(program, monkeypatch))
    chain = chains_of(changed)[-1]
    assert [link.spec.op for link in chain.links] == ["conv"] * 3
    assert chain.nodes[-1].endswith("Add")
    names = {v.buffer.name for step in changed.steps if step is not chain for v in step.views}
    inside = {link.step.views[0].buffer.name for link in chain.links[:-1]}
    assert not names & inside
    assert not inside & set(plan(changed, {}).slot_of)


def test_the_estimate_leaves_small_images_alone() -> None:
    (program,) = programs(chained.inverted())
    assert chains.find(program, 1 << 20, 1, {}) == ()


def test_a_vector_has_no_rows(monkeypatch: Any) -> None:
    (program,) = programs(chained.mlp(rows=1))
    assert chained.find(program, monkeypatch) == ()


def test_an_image_that_two_steps_read_stays_in_memory(monkeypatch: Any) -> None:
    (program,) = programs(chained.gated())
    for found in chained.find(program, monkeypatch):
        for link in found.chain.links[:-1]:
            name = link.step.views[0].buffer.name
            readers = [s for s in program.steps for v in s.views[1:] if v.buffer.name == name]
            assert len(readers) == 1


@pytest.mark.parametrize(("dims", "count"), [(["n", 4, 8, 8], 1), ([1, 4, "h", 8], 0), ([1, 4, 8, "w"], 0)])
def test_only_the_batch_may_be_known_at_run_time(dims: list[Any], count: int, monkeypatch: Any) -> None:
    b = onnx_models.ModelBuilder()
    y = b.input("x", dims)
    for name in "ab":
        y = chained.conv(b, y, name, (4, 4, 3, 3), pads=[1] * 4)
    sizes = {d: 8 for d in dims if isinstance(d, str)}
    (program,) = covered(b.output(y).model(), **sizes).programs
    assert len(chained.find(program, monkeypatch, **sizes)) == count


@pytest.mark.parametrize("build", [chained.inverted, chained.plain_convs, chained.gated])
def test_a_batch_known_at_run_time(build: Any, monkeypatch: Any) -> None:
    model = build("n")
    (program,) = covered(model, n=3).programs
    found = chained.find(program, monkeypatch, n=3)
    assert found
    for n in (1, 3):
        same(program, list(onnx_models.feeds(model, n=n).values()), found, n=n)


def test_strips_shrink_with_the_cache(monkeypatch: Any) -> None:
    (program,) = programs(chained.inverted(height=64))
    large = chained.find(program, monkeypatch, l2_bytes=1 << 20)[-1]
    small = chained.find(program, monkeypatch, l2_bytes=16 << 10)[-1]
    assert small.chain.strip < large.chain.strip == 64
    assert small.chain.offsets(64)[-1] < 16 << 10


def test_nothing_fits_a_cache_that_the_weights_fill(monkeypatch: Any) -> None:
    (program,) = programs(chained.mlp())
    assert chained.find(program, monkeypatch, l2_bytes=1 << 10) == ()


def test_the_border_of_a_kept_image_is_its_readers(monkeypatch: Any) -> None:
    (program,) = programs(chained.inverted())
    chain = chained.find(program, monkeypatch)[-1].chain
    expand, depthwise, project = chain.links
    assert expand.kept is not None
    assert depthwise.kept is not None
    assert project.kept is None
    pixel = expand.kept.width // 9
    assert (expand.kept.lead, expand.kept.pitch) == (pixel, 11 * pixel)
    assert (depthwise.kept.lead, depthwise.kept.width) == (0, depthwise.kept.pitch)


def test_a_chain_that_nothing_cuts_saves_nothing(monkeypatch: Any) -> None:
    (program,) = programs(chained.inverted())
    assert chained.find(program, monkeypatch, l2_bytes=1 << 20, threads=1) == ()
    assert chained.find(program, monkeypatch, l2_bytes=1 << 20, threads=2)


def test_rows_that_threads_share_unevenly_cost(monkeypatch: Any) -> None:
    (program,) = programs(chained.inverted(height=14))
    chain = chained.find(program, monkeypatch)[-1].chain
    saved = [
        chains.saved_bytes(replace(chain, strip=7), chains.Setting(1 << 20, threads)) for threads in (1, 2, 3)
    ]
    monkeypatch.setattr(chains, "FLOPS_PER_BYTE", 1.0)
    lost = [
        s - chains.saved_bytes(replace(chain, strip=7), chains.Setting(1 << 20, t))
        for s, t in zip(saved, (1, 2, 3), strict=True)
    ]
    assert lost[0] == pytest.approx(0, abs=1)
    assert lost[0] < lost[1] < lost[2]
