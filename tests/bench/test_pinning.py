"""On which cores a measurement runs."""

import os
import subprocess
import sys

import pytest

from bolt.bench.pinning import choose

PAIRS = {0: "0,4", 4: "0,4", 1: "1,5", 5: "1,5", 2: "2,6", 6: "2,6"}


@pytest.mark.parametrize(
    ("threads", "cores"),
    [(1, (6,)), (2, (5, 6)), (3, (4, 5, 6)), (4, (2, 4, 5, 6)), (9, (0, 1, 2, 4, 5, 6))],
)
def test_every_core_is_used_once_before_any_is_used_twice(threads, cores):
    assert choose(threads, PAIRS, PAIRS.__getitem__) == cores


def test_only_allowed_cores_are_chosen():
    assert choose(1, {0}, str) == (0,)
    assert choose(2, {3, 1, 2}, str) == (2, 3)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no processes")
def test_a_process_stays_where_it_is_pinned():
    script = "import os; from bolt.bench.pinning import pin; print(pin(1), os.sched_getaffinity(0))"
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    core = max(os.sched_getaffinity(0))
    chosen, allowed = done.stdout.strip().split(") ")
    assert allowed == f"{{{chosen.strip('(),')}}}" and int(chosen.strip("(),")) <= core
