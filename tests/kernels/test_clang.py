"""Every family compiled by clang, for every target of this machine's architecture that it can run."""

from __future__ import annotations

import shutil

import pytest
from kernels.samples import SAMPLES

from bolt.target import detect

pytestmark = pytest.mark.skipif(not shutil.which("clang++"), reason="there is no clang++ on this machine")


@pytest.fixture(autouse=True)
def _clang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "clang++")


@pytest.mark.parametrize("name", SAMPLES)
def test_sample(name: str) -> None:
    SAMPLES[name].check(detect())
