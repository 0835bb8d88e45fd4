"""Modules with chains do what the same modules without them do, whatever the strips and threads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import chained
import numpy as np
import onnx_models
import pytest
from lowered import covered

from bolt.chain import Chain, all_specs
from bolt.graph import chains
from bolt.kernels.family import Candidate
from bolt.module.compile import Compiled, compile_module
from bolt.module.load import load
from bolt.program import Program
from bolt.search.candidates import enumerate_candidates
from bolt.toolchain import build, host

THREADS = (1, 2, 3, 5)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


TARGET = host.portable()


def compiled(programs: Sequence[Program], cache: Path, **sizes: int) -> list[Compiled]:
    """Modules of programs, with the kernels that look best."""
    compiler, store = host.find_compiler(), build.store(cache)
    specs = {spec.key: spec for program in programs for spec in all_specs(program)}
    best = [enumerate_candidates(spec, TARGET).candidates[0] for spec in specs.values()]
    binaries = list(build.build([c.source() for c in best], TARGET, compiler=compiler, cache=store))
    chosen: dict[str, tuple[Candidate, tuple[Path, ...]]] = {}
    for candidate, binary in zip(best, binaries, strict=True):
        assert isinstance(binary, build.Binary), binary
        chosen[candidate.spec.key] = candidate, (binary.path,)
    return [compile_module(p, chosen, TARGET, sizes, compiler=compiler, cache=store) for p in programs]


def with_strips(program: Program, found: Sequence[chains.Found], height: int) -> Program:
    return chains.apply(program, [replace(f, chain=replace(f.chain, strip=height)) for f in found])


@pytest.mark.parametrize(
    ("model", "heights"),
    [
        (lambda: chained.inverted(1, 11, 7), (1, 2, 100)),
        (lambda: chained.inverted(3, 7, 6, stride=2, kernel=5), (1, 3)),
        (lambda: chained.plain_convs(2), (1, 2)),
        (lambda: chained.mlp(), (1, 7)),
        (lambda: chained.gated(), (2,)),
    ],
    ids=["mobile", "stride 2, batch", "windows", "mlp", "gated"],
)
def test_chains_change_nothing(
    model: Any, heights: Sequence[int], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = model()
    (program,) = covered(graph).programs
    found = chained.find(program, monkeypatch)
    assert found
    first, *others = compiled([program, *(with_strips(program, found, h) for h in heights)], cache)
    inputs = list(onnx_models.feeds(graph).values())
    want = list(onnx_models.run(graph, onnx_models.feeds(graph)).values())
    with load(first.path, first.weights, cache_root=cache) as module:
        plain = module.run(inputs)
    np.testing.assert_allclose(plain[0], want[0], rtol=1e-4, atol=1e-4)
    for built in others:
        assert "bolt_chain(" in built.text
        with load(built.path, built.weights, cache_root=cache) as module:
            for threads in THREADS:
                for _ in range(2):  # the second run finds the first one's rows in its buffers
                    np.testing.assert_array_equal(module.run(inputs, threads=threads), plain)


def test_a_run_counts_a_chain_as_one_step(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = chained.inverted(1, 11, 7)
    (program,) = covered(graph).programs
    changed = chains.apply(program, chained.find(program, monkeypatch))
    (built,) = compiled([changed], cache)
    with load(built.path, built.weights, cache_root=cache) as module:
        names = [name for name, _ in module.profile(list(onnx_models.feeds(graph).values()))]
    assert len(names) == len(changed.steps)
    assert [n.startswith("chain of") for n in names] == [isinstance(s, Chain) for s in changed.steps]


def test_modules_without_chains_do_not_mention_them(cache: Path) -> None:
    (program,) = covered(chained.mlp()).programs
    (built,) = compiled([program], cache)
    assert "chain" not in built.text


def test_a_chain_is_rendered_the_same_twice(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = []
    for _ in range(2):
        (program,) = covered(chained.gated()).programs
        (built,) = compiled([chains.apply(program, chained.find(program, monkeypatch))], cache)
        texts.append(built.text)
    assert texts[0] == texts[1]


def test_a_batch_known_at_run_time(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = chained.inverted("n", 6, 5)
    (program,) = covered(graph, n=2).programs
    changed = with_strips(program, chained.find(program, monkeypatch, n=2), 4)
    plain, built = compiled([program, changed], cache, n=2)
    with (
        load(plain.path, plain.weights, cache_root=cache) as reference,
        load(built.path, built.weights, cache_root=cache) as module,
    ):
        for n in (1, 3):
            inputs = list(onnx_models.feeds(graph, n=n).values())
            for threads in THREADS:
                np.testing.assert_array_equal(module.run(inputs, threads=threads), reference.run(inputs))
