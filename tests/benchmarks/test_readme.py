"""The performance table of the README."""

from pathlib import Path

from bench_results import result, row

from benchmarks.readme import BEGIN, END, performance, with_performance
from bolt.bench.result import load

ROOT = Path(__file__).parents[2]


def test_the_table_stands_between_the_marks():
    text = with_performance(f"a\n{BEGIN}\nold\n{END}\nb", [result(row())])
    assert text.startswith("a\n") and text.endswith("\nb")
    assert "old" not in text
    assert "| net |" in text and "2.00" in text


def test_the_readme_says_what_the_result_files_say():
    files = sorted((ROOT / "benchmarks" / "results").glob("2026-11-20-*.json"))
    assert performance([load(path) for path in files]) in (ROOT / "README.md").read_text()
