"""Spellings of options."""

import math
from pathlib import Path

import pytest

from bolt import options
from bolt.options import OptionError, Options, make, parse_budget, parse_shapes


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), (0, 0), ("30s", 30), ("5m", 300), ("1.5h", 5400), (12.5, 12.5), ("Unlimited", math.inf)],
)
def test_budgets(text, seconds):
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "5 minutes", "m", "1d", "nan"])
def test_what_is_no_budget_is_refused(text):
    with pytest.raises(OptionError, match="write 0, 30s, 5m"):
        parse_budget(text)


def test_shapes():
    assert parse_shapes(["x=1,3,224,224", "batch=8"]) == {"x": (1, 3, 224, 224), "batch": (8,)}
    for text in ("x", "x=", "x=1,-1", "=1"):
        with pytest.raises(OptionError, match="input=1,3,224,224"):
            parse_shapes([text])


def test_make_reads_the_spellings_of_the_api():
    made = make(target=["x86-avx2", "x86-avx512"], budget="30s", shapes={"n": 4, "x": [1, 3]})
    assert made.targets == ("x86-avx2", "x86-avx512")
    assert made.budget_s == 30
    assert made.shapes == (("n", (4,)), ("x", (1, 3)))
    assert make(target="x86-avx2,x86-portable").targets == ("x86-avx2", "x86-portable")
    assert made.thread_count >= 1


def test_impossible_options_are_refused():
    with pytest.raises(OptionError, match="unknown precision 'fp8'"):
        Options(precision="fp8")
    with pytest.raises(OptionError, match="negative"):
        Options(threads=-1)


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("BOLT_CACHE_DIR", str(tmp_path))
    assert options.cache_dir() == tmp_path
    assert Options(cache=Path("/x")).cache_root == Path("/x")
    monkeypatch.delenv("BOLT_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert options.cache_dir() == tmp_path / "bolt"
