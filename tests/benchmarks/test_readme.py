"""The tables of the README."""

from dataclasses import replace
from pathlib import Path

from bench_results import result, row

from benchmarks.__main__ import CUDA_KERNELS
from benchmarks.readme import (
    PERFORMANCE,
    SUPPORT,
    performance,
    published,
    with_performance,
    with_support,
)
from bolt.bench import support

ROOT = Path(__file__).parents[2]


def test_the_table_stands_between_the_marks():
    begin, end = PERFORMANCE
    text = with_performance(f"a\n{begin}\nold\n{end}\nb", [result(row())])
    assert text.startswith("a\n") and text.endswith("\nb")
    assert "old" not in text
    assert "| net |" in text and "2.00" in text


def test_the_readme_says_what_the_result_files_say():
    assert published()
    assert performance(published()) in (ROOT / "README.md").read_text()


def test_there_is_a_line_for_each_model_and_batch_size_and_a_table_for_each_precision():
    rows = [row(model=m, ratio=r, threads=t) for m, r in (("a", 2.0), ("b", 8.0)) for t in (1, 2)]
    rows += [replace(r, case="1x7") for r in rows] + [replace(r, case="8x3") for r in rows[:2]]
    rows += [replace(row(model="a", ratio=3.0), precision="bf16")]
    lines = performance([result(*rows)]).splitlines()
    assert sum(line.startswith("| a |") for line in lines) == 3
    assert next(line for line in lines if "geometric mean" in line).count("**4.00**") == 2
    assert any(line.startswith("**bf16") for line in lines)


def test_each_result_has_a_table_and_one_of_many_peers_shows_no_ranges():
    other = replace(row(model="a"), ratios={name: row().ratios["ort"] for name in "pqrst"})
    lines = performance([result(row(model="a")), result(other)]).splitlines()
    first, second = (line for line in lines if line.startswith("| a |"))
    assert "2.00 (1.95-2.05)" in first
    assert second.count("2.00") == 5 and "(" not in second


def test_results_of_another_target_have_a_table_of_their_own():
    rows = [row(model="a"), replace(row(model="a", ratio=3.0), target="x86-avx2")]
    text = performance([result(*rows)])
    assert "**fp32**" in text and "**fp32 without AVX-512" in text
    assert [line.split("|")[3].strip()[:4] for line in text.splitlines() if line.startswith("| a |")] == [
        "2.00",
        "3.00",
    ]


def test_large_products_are_told_below_the_table():
    large = replace(row().layers[0], flops=200_000_000, us=2500.0, roof_us=2000.0)
    (line,) = [x for x in performance([result(replace(row(), layers=(large,)))]).splitlines() if "GEMMs" in x]
    assert line.startswith("- convolutions") and "1 at 80% of the peak, 0 of them" in line


def test_the_table_of_kernels_tells_what_was_compiled_and_run_and_why_not(tmp_path):
    cells = [
        support.Cell(family="f", target="sm80", arithmetic="f16", compiled=True, emulated=True),
        support.Cell(family="f", target="sm80", arithmetic="f32", compiled=True),
        support.Cell(family="f", target="sm90a", arithmetic="f16", compiled=True, ran_on="H200, 2026-11-20"),
        support.Cell(family="f", target="sm75", arithmetic="f16", reason="needs sm80"),
        support.Cell(family="f", target="sm75", arithmetic="s8", reason=support.MEANINGLESS),
    ]
    support.write(tmp_path / "cells.json", cells)
    assert set(support.read(tmp_path / "cells.json")) == set(cells)
    begin, end = SUPPORT
    text = with_support(f"{begin}\n{end}", support.read(tmp_path / "cells.json"))
    assert "| `f` | - | f16 (e); f32 (c) |" in text and "f16 (GPU)" in text
    assert "run on H200, 2026-11-20" in text and "f16 on sm75: needs sm80" in text
    assert support.MEANINGLESS not in text


def test_newer_cells_take_the_place_of_older_ones(tmp_path):
    old = support.Cell(family="f", target="sm80", arithmetic="f16", reason="old")
    new = support.Cell(family="f", target="sm80", arithmetic="f16", compiled=True)
    support.write(tmp_path / "cells.json", [old])
    support.write(tmp_path / "cells.json", [new])
    assert support.read(tmp_path / "cells.json") == [new]


def test_the_readme_has_the_table_of_kernels():
    text = (ROOT / "README.md").read_text()
    assert with_support(text, support.read(CUDA_KERNELS)) == text


def test_doubtful_rows_are_marked():
    noisy = replace(row(model="a"), peak_after_gflops=10.0)
    shown = performance([result(noisy, row(model="b"))])
    assert "| a \\* |" in shown and "| b |" in shown and "something else was running" in shown
    assert "something else" not in performance([result(row())])
