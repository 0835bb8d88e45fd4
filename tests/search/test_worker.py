"""The child process: its life is tied to its parent's."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from bolt.module.host import library_path
from bolt.search import worker as worker_module
from bolt.search.measure import Worker, WorkerLost

SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from search.toy_family import Config, ToyFamily, add_spec
from bolt.options import Options
from bolt.search.choose import Problem, select
from bolt.target import detect
options = Options(cache=Path(sys.argv[1]), budget_s=60, threads=1)
select([Problem(spec=add_spec())], detect(), options, families=[ToyFamily(Config(work=1, behaviour="hang"))])
"""


def children(pid):
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(p) for p in listed.read_text().split()] if listed.exists() else []


def is_worker(pid):
    try:
        return b"bolt.search.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def until(condition, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    return condition()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_a_looping_kernel_ends_with_a_killed_parent(tmp_path):
    tests = Path(__file__).parent.parent
    parent = subprocess.Popen([sys.executable, "-P", "-c", SCRIPT, tmp_path, tests])
    try:
        workers = until(lambda: [p for p in children(parent.pid) if is_worker(p)], 60)
        assert workers, "the search started no worker"
        time.sleep(1.0)  # by then it loops; when it does not yet, it ends all the same
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert until(lambda: not any(is_worker(p) for p in workers), 10)


class Native:
    """Notes which copy of its constants each call starts with."""

    def __init__(self):
        self.first = []

    def bolt_kernel_run(self, function, pointers, operands, sets, first, *_):
        self.first.append((first, sets))


def test_kernels_that_share_packed_constants_don_t_find_them_in_the_caches(tmp_path, monkeypatch):
    """Each call goes on with the copy after the last one, whichever kernel it is of."""
    memory = tmp_path / "memory"
    memory.write_bytes(bytes(4096))
    monkeypatch.setattr(worker_module, "pool", lambda native, threads: SimpleNamespace(handle=None))
    kernels = [
        {"symbol": "abs", "packed": {"1": place}, "scratch_bytes": 0}
        for place in ((0, 100), (0, 100), (128, 50))
    ]
    native = Native()
    session = worker_module.Session(native, {
        "memory": str(memory), "library": None, "operands": [[0, 64, 0], [1024, 0, 0]], "kernels": kernels,
        "ints": [], "threads": 1, "rotate_bytes": 400,
    })  # fmt: skip
    for kernel, calls in ((0, 3), (1, 2), (2, 1), (1, 1), (2, 1)):
        session._call(session.kernels[kernel], calls)
    assert native.first == [(0, 4), (3, 4), (0, 8), (1, 4), (1, 8)]


@pytest.fixture
def worker(tmp_path):
    with Worker(library_path(tmp_path)) as worker:
        yield worker


def test_a_worker_that_died_is_started_again(worker):
    assert worker.ask(op="nothing") == {}
    first = worker._process.pid
    os.kill(first, signal.SIGKILL)
    with pytest.raises(WorkerLost, match="SIGKILL"):
        worker.ask(op="nothing")
    assert worker.ask(op="nothing") == {}
    assert worker._process.pid != first


def test_what_a_worker_said_last_is_quoted(worker):
    with pytest.raises(WorkerLost, match=r"exit code 1: .*no-such-file") as caught:
        worker.ask(
            op="load", library="no-such-library", memory="no-such-file", operands=[], kernels=[], ints=[],
            threads=1, rotate_bytes=0,
        )  # fmt: skip
    assert caught.value.status == "crash"
