"""Every family compiled by clang, for the best target of this machine."""

from __future__ import annotations

import pytest
from kernels.samples import SAMPLES

from bolt.target import detect
from bolt.toolchain.host import Compiler, probe

CLANG = probe(("clang++",))

pytestmark = pytest.mark.skipif(not isinstance(CLANG, Compiler), reason=str(CLANG))


@pytest.fixture(autouse=True)
def _clang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "clang++")


@pytest.mark.parametrize("name", SAMPLES)
def test_sample(name: str) -> None:
    SAMPLES[name].check(detect())
