"""Steps against what the machine could do."""

from dataclasses import replace

import pytest
from bench_results import result, row

from bolt.bench.bandwidth import at, bandwidth
from bolt.bench.layers import Layer, Limits, _layers
from bolt.bench.table import layers_text, text, weak_steps
from bolt.target import detect

CURVE = ((1000, 100.0), (100_000, 10.0))


def layer(us, roof_us, name="a"):
    return Layer(partition="p", name=name, family="f", us=us, flops=1, bytes=1, roof_us=roof_us)


def test_the_speed_of_memory_is_that_of_what_holds_the_bytes():
    assert [at(CURVE, size) for size in (1, 1000, 1001, 10**9)] == [100.0, 100.0, 10.0, 10.0]


def test_the_roof_is_whatever_takes_longer():
    limits = Limits(gflops=100.0, curve=CURVE)
    assert limits.roof_us(1_000_000, 100) == pytest.approx(10.0)
    assert limits.roof_us(1_000, 50_000) == pytest.approx(5.0)
    assert limits.roof_us(None, 100) is None


def test_steps_have_the_report_s_counts_when_they_match():
    steps = [{"op": "conv", "family": "cpu_conv", "flops": 1_000_000, "bytes": 100}]
    (found,) = _layers("p", [("a", 20.0)], steps, Limits(gflops=100.0, curve=CURVE))
    assert (found.family, found.flops, found.bytes) == ("cpu_conv", 1_000_000, 100)
    assert found.of_roof == pytest.approx(0.5)
    (other,) = _layers("p", [("a", 20.0)], [], Limits(gflops=100.0, curve=CURVE))
    assert other.of_roof is None and other.flops is None


def test_steps_far_from_the_roof_are_named_when_they_matter():
    layers = (layer(100, 90), layer(100, 50, "b"), layer(200, 20, "c"), layer(1, 0.1, "short"))
    slow = replace(row(), layers=layers)
    assert [step.name for step in weak_steps(slow)] == ["c", "b"]
    assert "2 steps below 60% of the roofline lose 57% of the run: c 10%, b 50%" in layers_text(slow)


def test_a_row_on_an_unsteady_machine_is_doubtful():
    shown = text(result(replace(row(), peak_after_gflops=50.0)))
    assert "doubtful, the machine's fp32 peak went from 100 to 50 GFLOP/s" in shown
    assert "doubtful" not in text(result(replace(row(), peak_after_gflops=95.0)))


def test_memory_is_read_at_a_plausible_speed(tmp_path):
    """Between 10 MB/s and ten vectors a cycle of 8 GHz."""
    curve = bandwidth(detect(), 1, sizes=(1 << 16, 1 << 20), cache_root=tmp_path)
    assert [size for size, _ in curve] == [1 << 16, 1 << 20]
    assert all(0.01 < speed < 10 * 64 * 8 for _, speed in curve)
