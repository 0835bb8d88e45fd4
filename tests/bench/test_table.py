"""Results: to JSON and back, as text, and against older ones."""

import json
from dataclasses import replace

import pytest
from bench_results import measured, result, row

from bolt.bench import result as results
from bolt.bench.compare import regressions
from bolt.bench.table import layers_text, table, text
from bolt.errors import ModelError


def test_a_result_survives_json(tmp_path):
    path = tmp_path / "folder" / "x.json"
    whole = result(row(), row(model="b", threads=2))
    whole.save(path)
    assert results.load(path) == whole


def test_a_row_without_numbers_survives_json(tmp_path):
    path = tmp_path / "x.json"
    whole = result(results.Row(model="m", case="1", threads=1, problem="no"))
    whole.save(path)
    assert results.load(path) == whole


@pytest.mark.parametrize("data", ["", "[]", "{}", json.dumps({"schema": 99})])
def test_other_files_are_refused(tmp_path, data):
    path = tmp_path / "x.json"
    path.write_text(data)
    with pytest.raises(ModelError, match=r"x\.json"):
        results.load(path)


def test_means_are_geometric_and_count_each_model_once():
    whole = result(row(model="a", ratio=1.0), row(model="a", ratio=4.0), row(model="b", ratio=8.0))
    assert whole.mean_ratio("ort") == pytest.approx(4.0)
    assert whole.mean_ratio("ort", 2) is None
    assert whole.mean_ratio("openvino") is None


def test_the_text_has_ratio_first_times_and_what_is_missing():
    shown = text(result(row(), results.Row(model="gone", case="1", threads=1, problem="no such model")))
    header = next(line for line in shown.splitlines() if line.startswith("model"))
    assert header.index("x ort") < header.index("bolt ms") < header.index("ort ms")
    line = next(line for line in shown.splitlines() if line.startswith("net"))
    assert line.split() == [
        "net",
        "1x3",
        "1",
        "2.00",
        "1.95-2.05",
        "2.00",
        "1.000",
        "2.000",
        "8/10",
        "90%",
        "1e-06",
    ]
    assert "geometric mean over ort, 1T: 2.000x" in shown
    assert "torch: not installed" in shown and "gone 1 1T: no such model" in shown


def test_an_engine_that_fails_is_named_and_its_cells_are_empty():
    failed = replace(
        row(), engines={"bolt": measured(1.0), "ort": measured(None, problem="fails: x")}, ratios={}
    )
    other = row(model="b")
    shown = text(result(failed, other))
    assert "ort fails: x" in shown
    assert next(line for line in shown.splitlines() if line.startswith("net")).split()[3] == "-"


def test_layers_are_ordered_by_time_with_speed_and_share_of_the_peak():
    lines = layers_text(row()).splitlines()
    assert "2 steps, 400 us" in lines[0]
    assert lines[2].split() == ["copy:", "layout", "cpu_copy", "-", "300.0", "75.0%", "-", "-", "-"]
    assert lines[3].split() == [
        "conv:",
        "a",
        "cpu_conv",
        "100",
        "25",
        "1000",
        "100.0",
        "25.0%",
        "50.0",
        "50%",
        "50%",
    ]


def test_more_layers_than_asked_for_are_summed():
    assert "1 more steps: 100 us" in layers_text(row(), most=1)


def test_tables_line_up():
    assert table([["a", "b", "c"], ["long", "x", "100"]]) == "a     b    c\nlong  x  100"


@pytest.mark.parametrize(
    ("now", "named"),
    [(row(), 0), (row(ratio=2.2), 0), (row(ratio=1.92), 0), (row(ratio=1.5), 1), (row(threads=2), 1)],
)
def test_only_what_fell_by_more_than_the_noise_is_a_regression(now, named):
    assert len(regressions(result(now), result(row()))) == named


def test_a_result_that_became_wrong_is_a_regression():
    wrong = replace(row(), engines={"bolt": measured(None, problem="wrong: z")}, ratios={})
    assert regressions(result(wrong), result(row())) == ["net 1x3 1T: wrong: z"]
    assert regressions(result(wrong), result(wrong)) == []
