"""`python -m benchmarks`: results come back from files, and what got worse is named."""

import json
from dataclasses import replace

import pytest
from bench_results import measured, result, row
from click.testing import CliRunner

from benchmarks import __main__ as command
from benchmarks import models
from bolt.bench.packages import PackageError
from bolt.bench.run import Plan


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "new.json"
    result(row()).save(path)
    return path


def run(*arguments):
    return CliRunner().invoke(command.cli, [str(a) for a in arguments])


def test_the_list_names_every_model():
    done = run("list")
    assert done.exit_code == 0
    assert all(name in done.output for name in command._NAMES)


def test_a_saved_result_is_printed_again(saved, tmp_path):
    done = run("report", saved, "--layers", "--plot", tmp_path / "x.svg")
    assert done.exit_code == 0, done.output
    assert "net" in done.output and "2.00" in done.output and "conv: a" in done.output


def test_what_got_slower_is_named_and_fails(saved, tmp_path):
    before = tmp_path / "old.json"
    result(row(ratio=4.0)).save(before)
    done = run("report", saved, "--against", before, "--plot", tmp_path / "x.svg")
    assert done.exit_code == 1
    assert "regression: net" in done.output


def test_a_wrong_result_fails(tmp_path):
    path = tmp_path / "wrong.json"
    bad = replace(row(), engines={"bolt": measured(None, problem="wrong: off by 1"), "ort": measured(2.0)})
    result(bad).save(path)
    done = run("report", path)
    assert done.exit_code == 1 and "off by 1" in done.output


def test_a_file_that_is_no_result_is_told(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"schema": 1}))
    done = run("report", path)
    assert done.exit_code == 1 and "no result" in done.output


@pytest.mark.parametrize("option", [("--only", "nothing"), ("--peers", "tensorrt"), ("--threads", "x")])
def test_misspelled_options_are_refused(option):
    done = run("models", *option)
    assert done.exit_code == 2 and option[1] in done.output


def test_a_model_that_cant_be_fetched_is_a_row_that_says_so(monkeypatch):
    def fail(*_, **__):
        raise PackageError("no network")

    monkeypatch.setattr(models, "fetch", fail)
    found = models.measure(models_named("vgg16"), Plan(threads=(1, 2)))
    assert [(r.model, r.case, r.threads, r.problem) for r in found.rows] == [
        ("vgg16", "1x240x240x3", 1, "no network"),
        ("vgg16", "1x240x240x3", 2, "no network"),
        ("vgg16", "2x240x240x3", 1, "no network"),
        ("vgg16", "2x240x240x3", 2, "no network"),
    ]


def models_named(*names):
    return command.select(names)
