"""The pretended CUDA driver is as strict as its head says."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from cuda import driver

PRELUDE = """
import ctypes, os, sys
from ctypes import byref, c_char, c_int, c_size_t, c_uint64, c_void_p
cu = ctypes.CDLL("libcuda.so.1")
cu.fake_cuda_counter.restype = ctypes.c_long
def ok(code): assert code == 0, code
def call(name, *args): return getattr(cu, name)(*args)
def context(ordinal=0):
    c = c_void_p(); ok(cu.cuDevicePrimaryCtxRetain(byref(c), ordinal)); ok(cu.cuCtxSetCurrent(c)); return c
def memory(n):
    p = c_uint64(); ok(cu.cuMemAlloc_v2(byref(p), c_size_t(n))); return p
def stream():
    s = c_void_p(); ok(cu.cuStreamCreate(byref(s), 1)); return s
def copy(to, source, n, s): return cu.cuMemcpyAsync(to, source, c_size_t(n), s)
def address(buffer): return c_uint64(ctypes.addressof(buffer))
def count(name): return cu.fake_cuda_counter(name.encode())
ok(cu.cuInit(0))
"""


def child(code: str, **changes: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PRELUDE + code]
    return subprocess.run(command, env=driver.environment(**changes), capture_output=True, text=True)


def passes(code: str, **changes: str) -> None:
    done = child(code, **changes)
    assert done.returncode == 0, done.stderr


def test_device_memory_faults_when_the_host_reads_it() -> None:
    done = child("context(); ctypes.string_at(memory(8).value, 1)")
    assert done.returncode == -signal.SIGSEGV


def test_work_executes_when_somebody_waits() -> None:
    passes("""
context(); device, s = memory(4), stream()
pinned, out = c_void_p(), (c_char * 4)()
ok(cu.cuMemHostAlloc(byref(pinned), c_size_t(4), 1))
ctypes.memmove(pinned, b"old!", 4)
ok(copy(device, c_uint64(pinned.value), 4, s))
ctypes.memmove(pinned, b"new!", 4)
ok(copy(address(out), device, 4, s))        # to pageable memory: waits
assert out.raw == b"new!"
source = (c_char * 4)(*b"one!")
ok(copy(device, address(source), 4, s))     # from pageable memory: read at once
source[:] = b"two!"
ok(copy(c_uint64(pinned.value), device, 4, s))
assert ctypes.string_at(pinned, 4) == b"new!"
ok(cu.cuStreamSynchronize(s))
assert ctypes.string_at(pinned, 4) == b"one!"
""")


def test_an_event_orders_two_streams() -> None:
    passes("""
context(); device, a, b, e = memory(4), stream(), stream(), c_void_p()
out, source = (c_char * 4)(), (c_char * 4)(*b"good")
ok(cu.cuEventCreate(byref(e), 2))
ok(copy(device, address(source), 4, a)); ok(cu.cuEventRecord(e, a))
ok(cu.cuStreamWaitEvent(b, e, 0))
ok(copy(address(out), device, 4, b))
assert out.raw == b"good"
""")


def test_without_the_event_the_second_stream_sees_old_bytes() -> None:
    passes("""
context(); device, a, b = memory(4), stream(), stream()
out, source = (c_char * 4)(), (c_char * 4)(*b"good")
ok(copy(device, address(source), 4, a))
ok(copy(address(out), device, 4, b))
assert out.raw != b"good"
""")


def test_capture_and_replay() -> None:
    passes("""
context(); x, y, s = memory(4), memory(4), stream()
graph, run = c_void_p(), c_void_p()
ok(cu.cuStreamBeginCapture_v2(s, 2))
ok(copy(y, x, 4, s))
assert cu.cuStreamSynchronize(s) == 900
assert cu.cuStreamEndCapture(s, byref(graph)) == 901
ok(cu.cuStreamBeginCapture_v2(s, 2)); ok(copy(y, x, 4, s)); ok(cu.cuStreamEndCapture(s, byref(graph)))
ok(cu.cuGraphInstantiateWithFlags(byref(run), graph, c_uint64(0)))
for text in (b"abcd", b"efgh"):
    source, out = (c_char * 4)(*text), (c_char * 4)()
    ok(copy(x, address(source), 4, s)); ok(cu.cuGraphLaunch(run, s)); ok(copy(address(out), y, 4, s))
    assert out.raw == text
""")


def test_launched_work_may_touch_device_memory() -> None:
    passes("""
context(); device, s, out = memory(4), stream(), (c_char * 4)()
def fill(a): ctypes.memset(c_uint64.from_address(a).value, 65, 4)
body = ctypes.CFUNCTYPE(None, c_void_p)(fill)
argument = c_uint64(device.value)
ok(cu.fake_cuda_launch(s, body, byref(argument), c_size_t(8)))
assert count("launches") == 1
ok(copy(address(out), device, 4, s))
assert out.raw == b"AAAA"
""")


def test_devices_and_their_visibility() -> None:
    code = """
n, major, minor = c_int(), c_int(), c_int()
ok(cu.cuDeviceGetCount(byref(n)))
found = []
for i in range(n.value):
    ok(cu.cuDeviceGetAttribute(byref(major), 75, i)); ok(cu.cuDeviceGetAttribute(byref(minor), 76, i))
    found.append(major.value * 10 + minor.value)
assert found == eval(os.environ["WANT"]), found
"""
    passes(code, devices="80,90,120", WANT="[80, 90, 120]")
    passes(code, devices="80,90,120", WANT="[120, 80]", CUDA_VISIBLE_DEVICES="2,0")
    assert "100" in child("", devices="").stderr


@pytest.mark.parametrize("call", ["cu.cuCtxSynchronize()", "cu.cuStreamCreate(byref(c_void_p()), 0)"])
def test_calls_without_a_context_fail(call: str) -> None:
    passes(f"assert {call} == 201")


def test_memory_runs_out_and_comes_back() -> None:
    passes(
        """
context(); a = memory(8192)
assert cu.cuMemAlloc_v2(byref(c_uint64()), c_size_t(1)) == 2
ok(cu.cuMemFree_v2(a)); memory(4096)
assert count("live_bytes") == 4096
""",
        FAKE_CUDA_MEMORY="8192",
    )


def test_elapsed_time_is_that_of_the_work_between_two_events() -> None:
    passes("""
context(); s = stream(); BODY = ctypes.CFUNCTYPE(None, c_void_p)
events = [c_void_p() for _ in range(3)]
for e in events: ok(cu.cuEventCreate(byref(e), 0))
bodies = [BODY(lambda _: sum(range(1000000)) and None), BODY(lambda _: None)]
for e, body in zip(events, bodies):
    ok(cu.cuEventRecord(e, s)); ok(cu.fake_cuda_launch(s, body, b"", c_size_t(0)))
ok(cu.cuEventRecord(events[2], s))
ms = ctypes.c_float()
assert cu.cuEventElapsedTime(byref(ms), events[0], events[1]) == 600
ok(cu.cuStreamSynchronize(s))
ok(cu.cuEventElapsedTime(byref(ms), events[0], events[1])); assert ms.value > 1
long = ms.value
ok(cu.cuEventElapsedTime(byref(ms), events[1], events[2])); assert 0.0009 < ms.value < long
""")
