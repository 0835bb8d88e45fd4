"""What the command line prints."""

from dataclasses import replace

from bolt import display
from bolt.report import DeviceCode, Event, Kernel, Partition, Rejection, Report

CONV = Kernel(
    name="k2", op="conv", shape="conv 1x8", family="cpu_conv", config={"mr": 6}, uses=4, median_us=1.5
)
REPORT = Report(
    model="m",
    nodes=5,
    partitions=(
        Partition(
            name="bolt_0",
            nodes=("a", "b", "c"),
            kernels=(
                Kernel(name="k1", op="copy", shape="copy 8", family="cpu_copy", config={}, median_us=2.0),
                CONV,
                Kernel(name="k3", op="fill", shape="fill 8", family="cpu_fill", config=None),
            ),
        ),
    ),
    rejections=(
        Rejection(stage="partition", subject="loop", reason="Loop has no kernel"),
        Rejection(stage="partition", subject="loop2", reason="Loop has no kernel"),
        Rejection(stage="choose", subject="k9", reason="9.0 us"),
        Rejection(stage="measure", subject="k8", reason="crash: SIGSEGV"),
    ),
    bolt_ms=2.0,
    ort_ms=3.0,
    notes={"threads": 2},
).to_dict()  # fmt: skip


def test_summary():
    text = display.summary("x.bolt", REPORT)
    assert "bolt runs 3 of 5 nodes in 1 partitions" in text
    assert "1.50x" in text
    assert "left to ONNX Runtime" in display.summary("x.bolt", {**REPORT, "partitions": ()})


def test_summary_says_how_far_off_a_lower_precision_is():
    notes = {"precision": "bf16", "errors": {"y": 0.001, "z": 0.0123}}
    text = display.summary("x.bolt", {**REPORT, "notes": notes})
    assert "computed in bf16: off by at most 1.23% of an output's range" in text
    assert "off by" not in display.summary("x.bolt", {**REPORT, "notes": {**notes, "precision": "fp32"}})
    assert "off by" not in display.summary("x.bolt", {**REPORT, "notes": notes, "partitions": ()})


def test_explain_lists_kernels_by_time_and_reasons_together(capsys):
    display.explain(REPORT, every=False)
    out = capsys.readouterr().out
    assert out.index("conv 1x8") < out.index("copy 8") < out.index("fill 8")
    assert "mr=6" in out
    assert "partition  loop and 1 more: Loop has no kernel" in out
    assert "measure    k8: crash: SIGSEGV" in out
    assert "9.0 us" not in out
    assert "1 kernels that lost are not listed" in out
    display.explain(REPORT, every=True)
    assert "9.0 us" in capsys.readouterr().out


def test_explain_shows_what_kernels_of_a_gpu_occupy(capsys):
    code = DeviceCode(estimate_us=12.34, registers=168, spill_bytes=8, shared_bytes=0, is_cutlass=True)
    config = {"tile": {"name": "128x64_32x3", "stages": 3}, "split_k": 2}
    slow = Kernel(name="k", op="gemm", shape="gemm 9", family="f", config=config, device=code)
    fast = replace(slow, shape="gemm 8", device=replace(code, estimate_us=1.0))
    part = Partition(name="bolt_0", nodes=("a",), kernels=(fast, slow))
    display.explain(Report(model="m", partitions=(part,)).to_dict(), every=False)
    out = capsys.readouterr().out
    assert out.index("gemm 9") < out.index("gemm 8"), "the longest first, by the estimate where nothing ran"
    assert all(text in out for text in ("tile=128x64_32x3 split_k=2", "registers", "12.3"))
    display.explain(REPORT, every=False)
    assert "registers" not in capsys.readouterr().out


def test_progress_without_a_terminal_is_a_line_per_stage(capsys):
    with display.ProgressDisplay() as progress:
        for done in range(3):
            progress(Event(stage="build", done=done, total=3, detail="kernels"))
        progress(Event(stage="verify"))
    assert capsys.readouterr().err.splitlines() == ["build kernels", "verify"]
