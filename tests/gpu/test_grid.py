"""Every family and arithmetic of README's table on this machine's GPU: right, for every one of its configs.

`pytest -m gpu tests/gpu/test_grid.py --grid FILE` writes into the table where it ran.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from kernels import real_gpu
from kernels.cuda_harness import check
from kernels.device_samples import ARITHMETIC, FAMILIES, Arithmetic, sample

from bolt import gpu
from bolt.bench import support
from bolt.kernels.family import DeviceFamily
from bolt.ops.spec import Spec
from bolt.search.candidates import enumerate_candidates

pytestmark = pytest.mark.gpu

MOST = 6
"""Configs of a family that run: the best estimates, for the others differ in numbers of the same code."""

EXACT = frozenset({"gemm", "conv", "conv_transpose", "copy", "fill", "gather"})
"""Operators whose samples have no rounding but the last one, where operands are small integers."""

CASES = [
    pytest.param(family, arithmetic, id=f"{name}-{arithmetic.name}")
    for name, family in FAMILIES.items()
    for arithmetic in ARITHMETIC
    if (found := sample(family, arithmetic)) and family.supports(found.spec, real_gpu.target()) is None
]


@pytest.fixture(scope="module")
def ran(request: pytest.FixtureRequest) -> Iterator[list[tuple[str, str]]]:
    """(family, arithmetic) of what was right; written into the table where asked."""
    found: list[tuple[str, str]] = []
    yield found
    path = request.config.getoption("--grid")
    if path and found and not real_gpu.COMPILES_ONLY:
        write_table(Path(path), found)


def write_table(path: Path, found: list[tuple[str, str]]) -> None:
    """Adds device and date to the cells that are known."""
    name = real_gpu.target().name
    where = f"{gpu.query().devices[0].name}, {datetime.date.today():%Y-%m-%d}"
    known = support.read(path) if path.exists() else []
    cells = {(c.family, c.arithmetic): c for c in known if c.target == name}
    empty = (support.Cell(family=f, target=name, arithmetic=a, compiled=True) for f, a in found)
    support.write(
        path, [replace(cells.get((c.family, c.arithmetic), c), compiled=True, ran_on=where) for c in empty]
    )


def configs(family: DeviceFamily, spec: Spec) -> list[object]:
    """The analytic pick first."""
    found = enumerate_candidates(spec, real_gpu.target(), families=[family]).candidates
    return [c.config for c in found[:MOST]]


@pytest.mark.parametrize("family,arithmetic", CASES)
def test_right_on_this_gpu(family: DeviceFamily, arithmetic: Arithmetic, ran: list[tuple[str, str]]) -> None:
    found = sample(family, arithmetic)
    assert found is not None
    for config in configs(family, found.spec):
        for exact in (True, False) if found.spec.op in EXACT else (False,):
            check(family, found.spec, real_gpu.target(), config=config, values=found.values, exact=exact)
    ran.append((family.name, arithmetic.name))
