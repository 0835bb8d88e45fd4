"""Every family for every architecture and arithmetic it claims: compiled for real, run under the emulator.

`pytest -m slow tests/kernels/test_grid.py --grid FILE` also writes what was found, for README's table.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kernels.cuda_harness import NEEDS_EMULATOR, check
from kernels.device_samples import ARITHMETIC, FAMILIES, PROBLEMS, Arithmetic, sample
from kernels.device_units import compiled, needs_cutlass

from bolt.bench import support
from bolt.kernels.family import Candidate
from bolt.search.candidates import enumerate_candidates
from bolt.target import CUDA_TARGETS, SM80, Target

EMULATED = frozenset({"sm75", "sm80", "sm90a"})
"""Targets whose kernels also run under the emulator; sm86 and sm89 have the instructions of sm80."""


def is_emulated(family: str, target: Target) -> bool:
    """Whether a cell's kernel is run: hand-written ones have no instructions of one architecture."""
    return target.name in EMULATED and (target is SM80 or family.startswith("cutlass"))


@pytest.fixture(scope="module")
def records(request: pytest.FixtureRequest) -> Iterator[list[support.Cell]]:
    """Collects the cells of the table and writes them where asked."""
    found: list[support.Cell] = []
    yield found
    path = request.config.getoption("--grid")
    if path:
        support.write(Path(path), found)


CASES = [
    pytest.param(name, target, arithmetic, id=f"{name}-{target.name}-{arithmetic.name}")
    for name in FAMILIES
    for target in CUDA_TARGETS
    for arithmetic in ARITHMETIC
]


def pick(name: str, target: Target, arithmetic: Arithmetic) -> tuple[Candidate | None, str]:
    """The analytic pick of the family's problem, or why there is none."""
    family, found = FAMILIES[name], sample(FAMILIES[name], arithmetic)
    if found is None:
        return None, support.MEANINGLESS
    rejection = family.supports(found.spec, target)
    if rejection is not None:
        return None, rejection.reason
    return enumerate_candidates(found.spec, target, families=[family]).candidates[0], ""


def test_every_family_has_a_problem_and_claims_something() -> None:
    assert set(PROBLEMS) == set(FAMILIES)
    for name in FAMILIES:
        assert any(pick(name, t, a)[0] for t in CUDA_TARGETS for a in ARITHMETIC), name


@needs_cutlass
@NEEDS_EMULATOR
@pytest.mark.slow
@pytest.mark.parametrize("name,target,arithmetic", CASES)
def test_cell(
    name: str,
    target: Target,
    arithmetic: Arithmetic,
    tmp_path_factory: pytest.TempPathFactory,
    records: list[support.Cell],
) -> None:
    candidate, reason = pick(name, target, arithmetic)
    cell = support.Cell(family=name, target=target.name, arithmetic=arithmetic.name, reason=reason)
    if candidate is None:
        records.append(cell)
        return
    folder = tmp_path_factory.getbasetemp() / "grid"
    binaries = compiled([candidate.source(), *candidate.units()], target, folder)
    kernels = [b.resources for b in binaries if b.resources.kernels]
    registers, shared = max(r.registers for r in kernels), max(r.shared_bytes for r in kernels)
    assert target.gpu is not None and shared <= target.gpu.smem_bytes
    if is_emulated(name, target):
        found = sample(FAMILIES[name], arithmetic)
        assert found is not None
        check(FAMILIES[name], found.spec, target, config=candidate.config, values=found.values)
    records.append(
        support.Cell(
            family=name, target=target.name, arithmetic=arithmetic.name, compiled=True,
            emulated=is_emulated(name, target), registers=registers,
        )
    )  # fmt: skip
