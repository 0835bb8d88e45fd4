"""Two results against each other."""

from dataclasses import replace

import pytest
from bench_results import result, row

from bolt.bench.compare import DOUBTFUL, FASTER, SAME, SLOWER, changes


@pytest.mark.parametrize(
    ("ratio", "verdict"), [(2.0, SAME), (1.92, SAME), (1.7, SLOWER), (2.09, SAME), (2.4, FASTER)]
)
def test_a_change_counts_when_it_is_larger_than_the_noise(ratio, verdict):
    (change,) = changes(result(row(ratio=ratio)), result(row()))
    assert change.verdict == verdict and change.peer == "ort"
    assert "was 2.00x" in str(change)


def test_wide_ranges_decide_nothing():
    (change,) = changes(result(row(ratio=1.5, spread=0.6)), result(row()))
    assert change.verdict == SAME


def test_an_unsteady_machine_decides_nothing():
    noisy = replace(row(ratio=1.0), peak_after_gflops=70.0)
    assert [c.verdict for c in changes(result(noisy), result(row()))] == [DOUBTFUL]
    assert [c.verdict for c in changes(result(row()), result(noisy))] == [DOUBTFUL]


def test_precisions_are_different_rows():
    other = replace(row(), precision="bf16")
    (change,) = changes(result(row()), result(other))
    assert change.detail == "was not measured" and "bf16" in change.where
