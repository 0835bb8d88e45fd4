"""Tests that download, and tests on a real GPU, run only when a marker expression asks for them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

_ON_GPU = ("kernels", "gpu")
"""Folders whose tests of kernels can run on a GPU; all others that run kernels need the emulator."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--grid", help="write what the grid of CUDA kernels found to this file")
    parser.addoption("--slice", help="run every N-th test from the I-th on: I/N")


def pytest_configure(config: pytest.Config) -> None:
    """`-m gpu` runs kernels on the GPU (tests/kernels/real_gpu.py reads this when it is imported)."""
    if re.match(r"gpu\b", config.option.markexpr):
        os.environ.setdefault("BOLT_TEST_DEVICE", "gpu")


@pytest.hookimpl(trylast=True)  # a slice is of what the marker expression leaves
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.option.markexpr:
        skip = pytest.mark.skip(reason="downloads packages; run with -m network")
        for item in items:
            if item.get_closest_marker("network"):
                item.add_marker(skip)
    _skip_without_gpu(items)
    if config.option.slice:
        _keep_slice(config, items)


def _skip_without_gpu(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    from kernels import real_gpu

    said = "needs a GPU; run with -m gpu" if real_gpu.IS_EMULATED else real_gpu.obstacle()
    for item in marked:
        folder = Path(item.path).relative_to(Path(__file__).parent).parts[0]
        reason = said if folder in _ON_GPU else "runs under the emulator only"
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


def _keep_slice(config: pytest.Config, items: list[pytest.Item]) -> None:
    match = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", config.option.slice)
    if not match or int(match[1]) > int(match[2]):
        raise pytest.UsageError(
            f"--slice {config.option.slice}: write 1/3, 2/3 or 3/3 for the thirds of the tests"
        )
    index, count = int(match[1]), int(match[2])
    kept = items[index - 1 :: count]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
    items[:] = kept


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[pytest.TestReport]:
    """Where nothing runs, results mean nothing."""
    report = yield
    if os.environ.get("BOLT_TEST_DEVICE") == "compile" and report.failed and item.get_closest_marker("gpu"):
        report.outcome, report.longrepr = "skipped", (str(item.path), 0, "compiled only")
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    if os.environ.get("BOLT_TEST_DEVICE") == "compile":
        from kernels import real_gpu

        lines = real_gpu.compile_wanted()
        print("", *lines, sep="\n")
        session.exitstatus = 1 if len(lines) > 1 else 0
