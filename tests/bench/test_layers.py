"""Steps against what the machine could do."""

from dataclasses import replace

import numpy as np
import pytest
from bench_results import result, row
from onnx_models import ModelBuilder

import bolt
from bolt.bench.bandwidth import at, bandwidth
from bolt.bench.layers import Layer, Limits, _layers, layers
from bolt.bench.products import products
from bolt.bench.table import layers_text, text, weak_steps
from bolt.bench.why import why
from bolt.target import detect

CURVE = ((1000, 100.0), (100_000, 10.0))


LIMITS = Limits(peaks={"f32": 100.0, "u8": 400.0}, curve=CURVE)


def layer(us, roof_us, name="a", family="cpu_pool"):
    return Layer(partition="p", name=name, family=family, us=us, flops=1, bytes=1, roof_us=roof_us)


def product(mnk, us, *, family="cpu_conv", memory_us=0.0):
    """One that takes `us`, on a machine of 100 GFLOP/s."""
    m, n, k = mnk
    flops = 2 * m * n * k
    roof = max(flops / 100e3, memory_us)
    return Layer(
        partition="p", name="conv: c", family=family, us=us, flops=flops, bytes=1, roof_us=roof,
        peak_gflops=100.0, mnk=mnk,
    )  # fmt: skip


def test_the_speed_of_memory_is_that_of_what_holds_the_bytes():
    assert [at(CURVE, size) for size in (1, 1000, 1001, 10**9)] == [100.0, 100.0, 10.0, 10.0]


def test_the_roof_is_whatever_takes_longer():
    assert LIMITS.roof_us(1_000_000, 100, "f32") == pytest.approx(10.0)
    assert LIMITS.roof_us(1_000_000, 100, "u8") == pytest.approx(2.5)
    assert LIMITS.roof_us(1_000_000, 100, "") == pytest.approx(10.0)
    assert LIMITS.roof_us(1_000, 50_000, "f32") == pytest.approx(5.0)


def test_steps_have_the_report_s_counts_when_they_match():
    step = {"op": "conv", "family": "cpu_conv", "flops": 1_000_000, "bytes": 100}
    (found,) = _layers("p", [("a", 20.0)], [{**step, "multiplies": "u8", "mnk": [5, 4, 25_000]}], LIMITS)
    assert (found.family, found.flops, found.bytes) == ("cpu_conv", 1_000_000, 100)
    assert found.of_roof == found.of_peak == pytest.approx(0.125)
    assert found.mnk == (5, 4, 25_000)
    (other,) = _layers("p", [("a", 20.0)], [], LIMITS)
    assert other.of_roof is None and other.flops is None


def test_a_step_without_products_has_no_peak():
    step = {"op": "pool", "family": "cpu_pool", "flops": 1_000_000, "bytes": 100}
    (found,) = _layers("p", [("a", 20.0)], [{**step, "multiplies": "", "mnk": None}], LIMITS)
    assert found.of_roof == pytest.approx(0.5)
    assert found.of_peak is None


def test_steps_of_sizes_not_compiled_for_are_timed_without_counts(tmp_path):
    b = ModelBuilder()
    h = b.add("Relu", b.add("MatMul", b.input("x", ["n", 32]), b.weights("w", (32, 64))))
    model = b.output(b.add("MatMul", h, b.weights("v", (64, 16))), ["n", 16]).model()
    artifact = bolt.optimize(model, budget=0, shapes={"n": 4}, ab=False, cache=tmp_path)
    for rows, counted in ((4, True), (7, False)):
        feeds = {"x": np.ones((rows, 32), np.float32)}
        found = layers(artifact, feeds, LIMITS, threads=1, run_us=10.0)
        gemms = [step for step in found if step.name.startswith("gemm")]
        assert gemms and all(step.us > 0 for step in gemms)
        assert all((step.flops is not None) == counted for step in gemms)
        assert all((step.mnk is not None and step.mnk[0] == 4) == counted for step in gemms)


def test_steps_far_from_the_roof_are_named_when_they_matter():
    steps = (layer(100, 90), layer(100, 50, "b"), layer(200, 20, "c"), layer(1, 0.1, "short"))
    slow = replace(row(), layers=steps)
    assert [step.name for step in weak_steps(slow)] == ["c", "b"]
    shown = layers_text(slow)
    assert "2 steps below 60% of the roofline lose 57% of the run:" in shown
    assert "compares and adds, each of a value of its own: c 10%, b 50%" in shown


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (layer(4.0, 1.0), "shorter than 5 us"),
        (product((1, 1000, 2048), 100.0), "so few rows"),
        (product((3136, 3, 64), 100.0), "fewer columns than a vector"),
        (product((3136, 64, 27), 100.0), "short sums"),
        (product((3136, 40, 512), 100.0), "the last vector of columns"),
        (product((3136, 64, 512), 100.0), "not looked into"),
        (layer(9.0, 1.0, family="cpu_attention"), "softmax between"),
    ],
)
def test_a_reason_is_told_for_a_weak_step(step, said):
    assert why(step).startswith(said)


def test_large_products_are_told_beside_the_peak():
    good, poor = product((1000, 100, 1000), 2100.0), product((1000, 100, 1000), 4000.0)
    winograd = product((1000, 100, 1000), 900.0, family="cpu_winograd")
    gemv, small = product((1, 10_000, 10_000), 9000.0, memory_us=8000.0), product((100, 100, 100), 900.0)
    whole = result(
        replace(row(), layers=(good, poor, winograd, gemv, small)), replace(row(threads=2), layers=())
    )
    (found,) = products(whole)
    assert [step for _, step in found.steps] == [good, poor]
    assert found.mean == pytest.approx(4000 / 6100)
    assert str(found) == (
        "convolutions and GEMMs of 100 MFLOP and more, fp32 1T: 2 at 66% of the peak, 1 of them (34% of "
        "their time) at 90% or more, 1 below 60%: the last vector of columns is partly empty (net)"
    )


def test_a_row_on_an_unsteady_machine_is_doubtful():
    shown = text(result(replace(row(), peak_after_gflops=50.0)))
    assert "doubtful, the machine's fp32 peak went from 100 to 50 GFLOP/s" in shown
    assert "doubtful" not in text(result(replace(row(), peak_after_gflops=95.0)))


def test_memory_is_read_at_a_plausible_speed(tmp_path):
    """Between 10 MB/s and ten vectors a cycle of 8 GHz."""
    curve = bandwidth(detect(), 1, sizes=(1 << 16, 1 << 20), cache_root=tmp_path)
    assert [size for size, _ in curve] == [1 << 16, 1 << 20]
    assert all(0.01 < speed < 10 * 64 * 8 for _, speed in curve)
