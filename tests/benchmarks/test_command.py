"""`python -m benchmarks`: results come back from files, and what got worse is named."""

import json
from dataclasses import replace

import pytest
from bench_results import measured, result, row
from click.testing import CliRunner

from benchmarks import __main__ as command
from benchmarks.workloads import WORKLOADS
from bolt.bench.result import load


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
    assert all(w.name in done.output for w in WORKLOADS)


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


def test_what_changed_is_told_and_fails_when_it_is_worse(tmp_path):
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    result(row(ratio=2.0), row(model="b", ratio=2.0), row(model="c")).save(old)
    result(row(ratio=1.5), row(model="b", ratio=3.0), row(model="c")).save(new)
    done = run("compare", old, new)
    assert done.exit_code == 1
    assert "slower: net" in done.output and "faster: b" in done.output
    assert "1 faster, 1 same, 1 slower" in done.output
    assert run("compare", new, new).exit_code == 0


def test_results_become_one_page(saved, tmp_path):
    other = tmp_path / "other.json"
    result(row(model="<b>", threads=2)).save(other)
    pages = [tmp_path / "x.md", tmp_path / "x.html"]
    done = run("report", saved, other, "--out", tmp_path / "all.json", *(f"--page={p}" for p in pages))
    assert done.exit_code == 0, done.output
    assert len(load(tmp_path / "all.json").rows) == 2
    markdown, html = (path.read_text() for path in pages)
    assert "| net | 1x3 | 1 | 2.00 |" in markdown and "### Floors" in markdown
    assert "<td class=l>&lt;b&gt;</td>" in html and "<b>" not in html and "conv: a" in html


@pytest.mark.parametrize("suite", ["nothing", "quick,full"])
def test_a_suite_is_named_as_it_is(suite):
    done = run("models", "--suite", suite, "--prepare")
    assert done.exit_code == 2
