"""Made-up results of benchmarks."""

from __future__ import annotations

from bolt.bench.layers import Layer
from bolt.bench.result import Coverage, Measured, Result, Row
from bolt.timing import Ratio, Timing


def measured(ms: float | None, *, problem: str = "") -> Measured:
    timing = Timing(min_ms=ms, median_ms=ms, low_ms=ms, high_ms=ms, runs=9) if ms else None
    return Measured(error=1e-6 if ms else None, problem=problem, timing=timing)


def row(*, model: str = "net", ratio: float = 2.0, spread: float = 0.05, threads: int = 1) -> Row:
    return Row(
        model=model,
        case="1x3",
        threads=threads,
        engines={"bolt": measured(1.0), "ort": measured(ratio)},
        ratios={"ort": Ratio(median=ratio, low=ratio - spread, high=ratio + spread, best=ratio)},
        peak_gflops=100.0,
        coverage=Coverage(nodes=8, left=2, partitions=1, flops_share=0.9),
        layers=(
            Layer(
                partition="p",
                name="conv: a",
                family="cpu_conv",
                us=100.0,
                flops=5_000_000,
                bytes=1000,
                roof_us=50.0,
                peak_gflops=100.0,
                mnk=(100, 25, 1000),
            ),
            Layer(partition="p", name="copy: layout", family="cpu_copy", us=300.0, flops=None),
        ),
    )


def result(*rows: Row) -> Result:
    machine = {
        "cpu": "a processor", "cores": 2, "target": "x86-avx2", "load_average": 0.1, "date": "today",
        "commit": None, "versions": {"bolt": "0"},
    }  # fmt: skip
    return Result(machine=machine, options={"budget": 0}, missing={"torch": "not installed"}, rows=rows)
