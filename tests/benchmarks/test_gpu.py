"""`python -m benchmarks gpu`: what is measured, how results are kept, and what happens without a GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from bench_results import measured
from click.testing import CliRunner, Result

from benchmarks import __main__ as command
from benchmarks import gpu, gpu_kernels, gpu_models, gpu_result, random_models
from benchmarks.gpu_result import GpuResult, Row
from benchmarks.workloads import PRODUCTS, RANDOM_MODELS
from bolt.errors import ModelError
from bolt.gpu import Found
from bolt.search.candidates import enumerate_candidates
from bolt.target import SM80, SM90A
from bolt.timing import Ratio


def row(ratio: float = 1.0, *, name: str = "a 8x8x8", case: str = "none") -> Row:
    return Row(
        kind="gemm", name=name, case=case,
        engines={"bolt": measured(1.0), "cublaslt": measured(ratio)},
        ratios={"cublaslt": Ratio(median=ratio, low=ratio, high=ratio, best=ratio)},
        kernel="family config", tensor_share=0.5, memory_share=0.25,
    )  # fmt: skip


def result(*rows: Row) -> GpuResult:
    machine = {
        "device": "a GPU",
        "clocks": "1 MHz",
        "date": "today",
        "commit": None,
        "versions": {"bolt": "0"},
    }
    return GpuResult(machine=machine, missing={"ort_cuda": "not installed"}, rows=rows)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command.cli, ["gpu", *map(str, arguments)])


@pytest.mark.parametrize("name", ("kernels", "models"))
def test_without_a_gpu_one_sentence_says_so(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("bolt.gpu.query", lambda: Found(reason="the driver lists no device"))
    done = run(name, "--out", tmp_path / "x.json")
    assert done.exit_code == 4
    assert "no NVIDIA GPU" in done.output and "the driver lists no device" in done.output
    assert not (tmp_path / "x.json").exists()


def test_every_kernel_row_has_kernels_on_every_gpu() -> None:
    cases = gpu_kernels.cases()
    assert len({c.spec.key for c in cases}) == len(cases) == 92
    assert len(PRODUCTS) == 36
    for case in cases:
        for target in (SM80, SM90A):
            assert enumerate_candidates(case.spec, target).candidates, case.name


def test_specs_have_the_problems_sizes() -> None:
    case = next(c for c in gpu_kernels.cases() if c.kind == "conv fused" and "/2" in c.name)
    assert case.spec.out.dims == (32, 28, 28, 128)
    gemm = gpu_kernels.cases()[0]
    assert gemm.spec.flops() == 2 * 32 * 768 * 768


def test_every_model_has_a_recipe_and_inputs() -> None:
    assert {m.name for m in RANDOM_MODELS} <= set(random_models.MODELS)
    assert len(gpu_models.cases()) == 12
    given = random_models.feeds("bert_base", 2)
    assert {name: a.shape for name, a in given.items()} == {"input_ids": (2, 128), "attention_mask": (2, 128)}


def test_slices_are_everything_once() -> None:
    cases = gpu_kernels.cases()
    parts = [gpu._sliced(cases, f"{i}/3", lambda c: c.name, "") for i in (1, 2, 3)]
    assert sorted(map(id, (c for part in parts for c in part))) == sorted(map(id, cases))
    assert run("kernels", "--dry-run", "--slice", "4/3").exit_code == 2


def test_later_slices_extend_the_file(tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    result(row(0.9), row(1.2, case="bias_gelu")).save(path)
    gpu_result.load(path).with_rows([row(1.1)]).save(path)
    found = gpu_result.load(path)
    assert [r.ratios["cublaslt"].median for r in found.rows] == [1.1, 1.2]
    assert found == gpu_result.load(path)
    assert gpu._before(path, False) == {row().key, row(case="bias_gelu").key}


def test_failed_rows_are_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    wrong = replace(row(), engines={"bolt": measured(None, problem="off by 3")})
    result(wrong).save(path)
    assert gpu._before(path, False) == set()


def test_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(ModelError, match=r"no result of the GPU benchmark"):
        gpu_result.load(tmp_path / "x.json")


def test_the_report_states_means_and_targets(tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    result(row(0.8), row(1.25, name="b")).save(path)
    done = run("report", path)
    assert done.exit_code == 0, done.output
    assert "gemm over cublaslt: 1.000x (target 0.95x: reached)" in done.output
    assert "0.80" in done.output and "50%" in done.output and "ort_cuda: not installed" in done.output


def test_files_become_one(tmp_path: Path) -> None:
    old, new, both = (tmp_path / f"{name}.json" for name in ("old", "new", "both"))
    result(row(0.5), row(2.0, name="b")).save(old)
    result(row(1.5), row(3.0, name="c")).save(new)
    assert run("report", old, new, "--out", both).exit_code == 0
    rows = {r.name: r.ratios["cublaslt"].median for r in gpu_result.load(both).rows}
    assert rows == {"a 8x8x8": 1.5, "b": 2.0, "c": 3.0}


def test_a_wrong_kernel_ends_the_command_with_a_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = replace(row(), engines={"bolt": measured(None, problem="off by 3")}, ratios={})
    monkeypatch.setattr(gpu, "target", lambda dry_run: SM90A)
    monkeypatch.setattr(gpu_kernels, "choose", lambda *a, **k: {})
    monkeypatch.setattr(gpu_kernels, "measure", lambda *a: iter([row(name="good"), wrong]))
    done = run("kernels", "--out", tmp_path / "gpu.json")
    assert done.exit_code == 1 and "off by 3" in done.output
    assert len(gpu_result.load(tmp_path / "gpu.json").rows) == 2
