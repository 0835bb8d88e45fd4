"""Chains stay where measuring says so; what was measured is remembered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import chained
import numpy as np
import pytest
from lowered import covered
from onnx_models import ModelBuilder

from bolt.chain import Chain
from bolt.errors import VerifyError
from bolt.graph.chains import Found, apply
from bolt.module.compile import Compiled
from bolt.options import Options
from bolt.program import Program
from bolt.report import silent
from bolt.search import chain_worker, chains, operands
from bolt.search.chains import Contest
from bolt.target import SM80
from bolt.toolchain import host

TARGET = host.portable()


def two_blocks() -> Any:
    b = ModelBuilder()
    y = b.input("x", [1, 4, 12, 8])
    for i in range(2):
        y = chained.conv(b, y, f"wide{i}", (16, 4, 1, 1))
        y = chained.conv(b, y, f"narrow{i}", (4, 16, 3, 3), pads=[1] * 4)
        y = b.add("MaxPool", y, kernel_shape=[3, 3], pads=[1] * 4)  # no link: it knows borders by itself
    return b.output(y).model()


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> tuple[Program, tuple[Found, ...]]:
    (program,) = covered(two_blocks()).programs
    found = chained.find(program, monkeypatch)
    assert len(found) == 2
    return program, found


class Machine:
    """Stands for the compiler and the child process: tells each chain's time as it is told."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.asked = 0
        self.answers: list[Any] = []
        monkeypatch.setattr(chains, "_asked", self._answer)

    def contest(self) -> Contest:
        options = Options(cache=self.folder, threads=1)
        return Contest(target=TARGET, options=options, sizes={}, compile=self._compile, progress=silent)

    def _compile(self, program: Program, chosen: Mapping[str, Any]) -> Compiled:
        path = (
            self.folder
            / f"{len(program.steps)}-{[type(s).__name__ for s in program.steps].count('Chain')}.so"
        )
        path.write_text(path.name)
        return Compiled(path=path, weights=np.zeros(4, np.uint8), text="")

    def _answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self.asked += 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        groups = [row["groups"] for row in request["modules"]]
        assert len(groups[0]) == len(groups[1]) == len(answer) - 1
        return {"wrong": "", "us": [[[100.0] * len(answer)] * 3, [[100.0 * a for a in answer]] * 3]}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def chain_count(program: Program) -> int:
    return sum(isinstance(step, Chain) for step in program.steps)


def settle(machine: Machine, program: tuple[Program, Sequence[Found]], *answers: Any) -> chains.Chained:
    machine.answers = list(answers)
    return machine.contest()._settle(*program, {})


def test_all_that_pay_stay(machine: Machine, program: Any) -> None:
    made = settle(machine, program, (0.9, 0.8, 0.95))
    assert chain_count(made.program) == 2
    assert [row.ratio for row in made.rows] == [0.9, 0.8]
    assert [row.kernels for row in made.rows] == [3, 2]  # the input's copy is the first of them
    assert not made.rejections


def test_one_that_is_slower_goes_and_the_rest_is_timed_again(machine: Machine, program: Any) -> None:
    made = settle(machine, program, (1.2, 0.8, 1.0), (0.8, 0.97))
    assert machine.asked == 2
    assert chain_count(made.program) == 1
    assert made.program == apply(program[0], program[1][1:])
    (rejection,) = made.rejections
    assert rejection.reason == "1.20x the time of its steps one by one"


def test_all_stay_where_that_is_best_for_a_whole_run(machine: Machine, program: Any) -> None:
    made = settle(machine, program, (1.01, 0.8, 0.85), (0.8, 0.9))
    assert chain_count(made.program) == 2
    assert [row.ratio for row in made.rows] == [1.01, 0.8]
    assert not made.rejections


def test_none_stays_when_the_whole_run_gains_nothing(machine: Machine, program: Any) -> None:
    made = settle(machine, program, (0.9, 0.9, 1.01))
    assert made.program is program[0]
    assert {r.reason for r in made.rejections} == {"no gain for a whole run"}


def test_noise_is_no_gain(machine: Machine, program: Any) -> None:
    made = settle(machine, program, (0.995, 1.0, 0.9))
    assert made.program is program[0]
    assert len(made.rejections) == 2


def test_a_crash_leaves_the_steps_as_they_were(machine: Machine, program: Any) -> None:
    made = settle(machine, program, VerifyError("it ended with status -11"))
    assert made.program is program[0]
    assert "status -11" in made.rejections[0].reason


def test_a_measurement_is_remembered(machine: Machine, program: Any) -> None:
    first = settle(machine, program, (1.2, 0.8, 1.0), (0.8, 0.97))
    again = settle(machine, program)
    assert again == first
    assert machine.asked == 2


def test_a_failed_measurement_is_not_remembered(machine: Machine, program: Any) -> None:
    settle(machine, program, VerifyError("busy"))
    assert chain_count(settle(machine, program, (0.9, 0.9, 0.9)).program) == 2


@pytest.mark.parametrize("options", [Options(ab=False), Options(budget_s=0)])
def test_without_measuring_there_are_no_chains(options: Options) -> None:
    assert not chains.worth_finding(TARGET, options)
    assert chains.worth_finding(TARGET, Options())
    assert not chains.worth_finding(SM80, Options())


def test_a_chain_s_kernels_are_problems_of_the_strip_s_size(program: Any) -> None:
    changed = apply(*program)
    rows = {p.ints[0] for p in chains.problems([changed], {}) if p.spec.op == "conv" and p.ints}
    assert rows == {s.strip for s in changed.steps if isinstance(s, Chain)}
    assert len(chains.problems([program[0], changed], {})) > len(chains.problems([program[0]], {}))


@pytest.mark.parametrize("build", [chained.inverted, chained.plain_convs, chained.patches])
def test_a_strip_is_measured_with_the_rows_it_reads(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (program,) = covered(build()).programs
    changed = apply(program, chained.find(program, monkeypatch))
    for problem in chains.problems([changed], {}):
        spec = problem.spec.bind(problem.ints)
        assert operands.make(spec).reference.shape == spec.out.dims


def test_modules_are_compared_and_timed_in_groups(
    tmp_path: Path, program: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real child, in this process: with real kernels and real modules."""
    from module.test_chains import compiled

    plain, found = program
    short = [replace(f, chain=replace(f.chain, strip=3)) for f in found]
    modules = compiled([plain, apply(plain, short)], tmp_path)
    monkeypatch.setattr(chain_worker, "TIME_S", 0.0)
    monkeypatch.setattr(chain_worker, "ROUNDS", (2, 2))
    monkeypatch.setattr(chains, "_asked", chain_worker.serve)
    contest = Contest(
        target=TARGET, options=Options(cache=tmp_path, threads=1), sizes={}, progress=silent,
        compile=lambda program, chosen: modules[chain_count(program) > 0],
    )  # fmt: skip
    verdict = contest._verdict(plain, short, {})
    assert not verdict.wrong
    assert len(verdict.ratios) == 2
    assert all(ratio > 0 for ratio in (*verdict.ratios, verdict.whole))


def test_results_that_differ_are_told() -> None:
    class Fake:
        def __init__(self, value: float) -> None:
            self.value = value

        def run(self, inputs: object, *, threads: int) -> list[np.ndarray]:
            return [np.full(3, self.value, np.float32)]

    assert chain_worker._disagreement([Fake(1), Fake(1.0001)], [], 1, "fp32") == ""  # type: ignore[list-item]
    assert chain_worker._disagreement([Fake(1), Fake(1.5)], [], 1, "fp32")  # type: ignore[list-item]
