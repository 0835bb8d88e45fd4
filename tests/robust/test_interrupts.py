"""Ctrl-C and a hard kill leave no traces, and the next run makes the artifact as if undisturbed."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import subprocess
import time

import pytest
from robust.command import QUICK, Ended, Place, call, contents, finish, start

from bolt.ep.folder import prefix

TUNING = ("--budget", "60s", "--threads", "1", "--no-ab")
VERIFIED = ("--budget", "0", "--threads", "1", "--no-ab")


def stop_at(place: Place, stage: str, delay_s: float, how: signal.Signals, *options: str) -> Ended:
    """Starts optimizing and signals it `delay_s` after `stage` began: Ctrl-C reaches its whole group."""
    process = start(place, "optimize", "small.onnx", "-o", place.out, *options)
    seen = wait_for(process, stage)
    time.sleep(delay_s)
    if how == signal.SIGINT:
        os.killpg(process.pid, how)
    else:
        process.send_signal(how)
    ended = finish(process)
    return Ended(code=ended.code, out=ended.out, err=seen + ended.err)


def wait_for(process: subprocess.Popen[str], stage: str) -> str:
    """Reads the progress on stderr until a stage begins."""
    assert process.stderr is not None
    seen = ""
    for line in process.stderr:
        seen += line
        if line.startswith(stage):
            return seen
    raise AssertionError(f"{stage} never began: {seen}")


def wait_for_orphans(place: Place) -> None:
    """What a killed process has started ends by itself."""
    deadline = time.monotonic() + 60
    while place.processes() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert place.processes() == []


MOMENTS = [
    ("load", VERIFIED),
    ("graph", VERIFIED),
    ("tune", TUNING),
    ("build", VERIFIED),
    ("module", QUICK),
    ("verify", VERIFIED),
]


@pytest.mark.parametrize(("stage", "options"), MOMENTS, ids=[stage for stage, _ in MOMENTS])
def test_control_c(stage: str, options: tuple[str, ...], place: Place, finished: Place) -> None:
    delay_s = random.Random(stage).uniform(0, 0.2)
    ended = stop_at(place, stage, delay_s, signal.SIGINT, *options)
    assert "Traceback" not in ended.err and "Exception ignored" not in ended.err, ended.err
    assert place.left() == []
    if ended.code == 0:  # it was faster
        assert contents(place.out)["manifest.json"]
    else:
        assert ended.code == 130, ended
        assert "interrupted" in ended.err
        assert not place.out.exists()
    call(place, "optimize", "small.onnx", "-o", place.out, *QUICK).well()
    if options is not TUNING:  # measurements that were kept may choose other kernels
        assert contents(place.out) == contents(finished.out)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP])
def test_polite_ends_clean_up_as_well(how: signal.Signals, place: Place) -> None:
    ended = stop_at(place, "tune", 0.1, how, *TUNING)
    assert ended.code == 128 + how
    assert "Traceback" not in ended.err
    assert place.left() == []
    assert not place.out.exists()


@pytest.mark.parametrize("stage", ["tune", "module", "verify"])
def test_kill(stage: str, place: Place, finished: Place) -> None:
    options = {"tune": TUNING, "module": QUICK, "verify": VERIFIED}[stage]
    stop_at(place, stage, random.Random(f"kill {stage}").uniform(0, 0.1), signal.SIGKILL, *options)
    if place.out.exists():
        assert contents(place.out) == contents(finished.out)
    wait_for_orphans(place)
    call(place, "optimize", "small.onnx", "-o", place.out, *QUICK).well()
    if options is not TUNING:
        assert contents(place.out) == contents(finished.out)


def test_staged_folders_of_killed_processes_are_swept(warm: Place) -> None:
    stale, fresh, mine = (warm.work / f"{prefix(warm.out)}{name}" for name in ("stale", "fresh", "held"))
    for folder in (stale, fresh, mine):
        folder.mkdir()
    for folder in (stale, mine):
        os.utime(folder, (0, 0))
    holder = os.open(mine, os.O_RDONLY)
    try:
        fcntl.flock(holder, fcntl.LOCK_EX)
        call(warm, "optimize", "small.onnx", "-o", warm.out, *QUICK).well()
    finally:
        os.close(holder)
    assert not stale.exists()
    assert fresh.exists() and mine.exists()


def test_two_at_the_same_time(place: Place, finished: Place) -> None:
    both = [start(place, "optimize", "small.onnx", "-o", place.out, *QUICK) for _ in range(2)]
    for process in both:
        finish(process).well()
    assert contents(place.out) == contents(finished.out)
    assert place.left() == []
