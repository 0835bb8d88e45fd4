"""A run over several models: saved as it goes, resumed, and what fails is a row."""

from dataclasses import replace

import numpy as np
import pytest
from bench_results import measured, result, row

from benchmarks import models
from benchmarks.models import Conduct, measure
from benchmarks.subjects import Subject
from bolt.bench.packages import PackageError
from bolt.bench.result import Coverage, load
from bolt.bench.run import Plan
from bolt.errors import ModelError

PLAN = Plan(threads=(1, 2))


def subject(name, path=lambda progress: None):
    return Subject(name=name, path=path, feeds=lambda: [{"x": np.zeros((1, 3), np.float32)}])


@pytest.fixture
def asked(monkeypatch):
    """Stands in for measuring; lists what was measured."""
    done = []

    def fake(name, path, cases, plan, progress):
        done.append((name, *plan.threads))
        return tuple(row(model=name, threads=t) for t in plan.threads)

    monkeypatch.setattr(models, "measure_model", fake)
    monkeypatch.setattr(models, "facts", lambda engines: result().machine)
    return done


def test_every_model_is_measured_with_every_number_of_threads(asked):
    found = measure([subject("a"), subject("b")], PLAN)
    assert asked == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    assert [(r.model, r.threads) for r in found.rows] == asked


def test_a_run_that_was_ended_goes_on(asked, tmp_path):
    out, told = tmp_path / "x.json", []
    result(row(model="a", threads=1)).save(out)
    measure([subject("a"), subject("b")], PLAN, Conduct(out=out, say=told.append))
    assert asked == [("a", 2), ("b", 1), ("b", 2)]
    assert len(load(out).rows) == 4
    assert told[0].startswith("1 of 4 are in the file already")
    measure([subject("a"), subject("b")], PLAN, Conduct(out=out))
    assert len(asked) == 3
    measure([subject("a")], PLAN, Conduct(out=out, again=True))
    assert asked[3:] == [("a", 1), ("a", 2)]


def test_what_was_wrong_or_lacks_an_engine_is_measured_again(asked, tmp_path):
    out = tmp_path / "x.json"
    wrong = replace(row(model="a"), engines={"bolt": measured(None, problem="wrong"), "ort": measured(1.0)})
    lacking = replace(row(model="b"), engines={"bolt": measured(1.0)})
    result(wrong, lacking, row(model="c")).save(out)
    measure([subject(name) for name in "abc"], replace(PLAN, threads=(1,)), Conduct(out=out))
    assert asked == [("a", 1), ("b", 1)]


def test_rows_are_saved_one_after_the_other(asked, tmp_path, monkeypatch):
    out = tmp_path / "x.json"

    def fail(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure([subject("a"), subject("b", fail)], PLAN, Conduct(out=out))
    assert [r.model for r in load(out).rows] == ["a", "a"]


def test_a_model_that_cant_be_fetched_is_a_row_that_says_so(asked):
    def fail(progress):
        raise PackageError("no network")

    found = measure([subject("a", fail), subject("b")], replace(PLAN, threads=(1,)))
    assert next((r.model, r.case, r.threads, r.problem) for r in found.rows) == ("a", "1x3", 1, "no network")
    assert found.rows[1].problem == ""


def test_no_job_begins_when_the_time_is_up(asked, monkeypatch):
    told = []
    monkeypatch.setattr(models, "time", type("Clock", (), {"monotonic": iter(range(0, 1000, 10)).__next__}))
    measure([subject("a"), subject("b")], PLAN, Conduct(limit_s=35.0, say=told.append))
    assert len(asked) == 2 and "time is up: 2 of 4 left" in told[-1]


def test_results_of_two_machines_do_not_mix(asked, tmp_path):
    out = tmp_path / "x.json"
    other = result(row())
    replace(other, machine={**other.machine, "cpu": "another"}).save(out)
    with pytest.raises(ModelError, match="another --out"):
        measure([subject("a")], PLAN, Conduct(out=out))


def test_preparing_measures_nothing(asked, tmp_path, monkeypatch):
    made, told = [], []
    monkeypatch.setattr(models, "prepared", lambda path, case, plan, threads, progress: made.append(threads))
    monkeypatch.setattr(
        models, "coverage", lambda _: Coverage(nodes=8, left=2, partitions=1, flops_share=1.0)
    )
    out = tmp_path / "x.json"
    found = measure([subject("a")], PLAN, Conduct(out=out, prepare=True, say=told.append))
    assert told[0] == "a 1T: bolt runs 8 nodes in 1 partitions, 2 are left"
    assert made == [1, 2] and asked == [] and found.rows == () and not out.exists()


def test_a_file_that_cant_be_written_is_told_before_anything_is_measured(asked, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        measure([subject("a")], PLAN, Conduct(out=tmp_path / "file" / "x.json"))
    assert asked == []


def test_a_mistake_on_one_model_does_not_end_the_run(asked):
    def fail(progress):
        raise AssertionError("no such tile")

    found = measure([subject("a", fail), subject("b")], replace(PLAN, threads=(1,)))
    assert [r.problem for r in found.rows] == ["internal error: AssertionError('no such tile')", ""]
