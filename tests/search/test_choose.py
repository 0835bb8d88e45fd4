"""From problems to choices, with kernels that misbehave."""

from dataclasses import replace

import pytest
from search.toy_family import Config, ToyFamily, add_spec, gemm_spec

from bolt.errors import CompileError, TargetError
from bolt.options import Options
from bolt.report import silent
from bolt.search import measure, tune
from bolt.search.budget import FIRST
from bolt.search.choose import Problem, clearly_faster, select
from bolt.search.measure import Measurement
from bolt.search.records import Records
from bolt.target import detect
from bolt.toolchain.build import Builder
from bolt.toolchain.resources import Kernel, Resources

TARGET = detect()
SPEC = add_spec()


@pytest.fixture
def options(tmp_path):
    return Options(cache=tmp_path, budget_s=60, threads=1)


def choose(options, *configs, spec=SPEC, ints=(), progress=lambda event: None):
    problem = Problem(spec=spec, ints=ints)
    return select([problem], TARGET, options, progress, families=[ToyFamily(*configs)])[spec.key]


def reasons(choice):
    return {r.reason.split(":")[0] for r in choice.rejected}


def test_the_fastest_candidate_wins(options):
    choice = choose(options, Config(work=50), Config(work=1), Config(work=30))
    assert choice.candidate.config == Config(work=1)
    assert (choice.considered, choice.measured) == (3, 3)
    assert choice.measurement.median_us > 0
    assert [path.is_file() for path in choice.objects] == [True]
    assert "the best estimate takes" in choice.reason
    assert len(choice.rejected) == 2


def test_without_budget_nothing_is_timed(tmp_path, monkeypatch):
    monkeypatch.setattr(tune, "Worker", None)
    choice = choose(Options(cache=tmp_path, budget_s=0), Config(work=9), Config(work=1))
    assert choice.candidate.config == Config(work=9)
    assert choice.measurement is None
    assert [path.is_file() for path in choice.objects] == [True]
    assert "nothing was timed" in choice.reason


@pytest.mark.parametrize("behaviour", ["wrong", "crash", "segfault", "outside", "broken"])
def test_a_bad_candidate_is_a_record_and_does_not_stop_the_others(options, behaviour):
    choice = choose(options, Config(work=1, behaviour=behaviour), Config(work=20), Config(work=2))
    assert choice.candidate.config == Config(work=2)
    expected = {"outside": "wrong", "segfault": "crash", "broken": "compile"}.get(behaviour, behaviour)
    assert expected in reasons(choice)


def test_a_candidate_that_hangs_is_ended(options, monkeypatch):
    monkeypatch.setattr(measure.Worker.__init__, "__kwdefaults__", {"limit_s": 3.0})
    choice = choose(options, Config(work=1, behaviour="hang"), Config(work=2))
    assert choice.candidate.config == Config(work=2)
    assert "timeout" in reasons(choice)


def test_what_a_wrong_candidate_did_is_said(options):
    choice = choose(options, Config(work=1, behaviour="outside"), Config(work=2))
    assert any("wrote 1 elements outside its output" in r.reason for r in choice.rejected)
    choice = choose(options, Config(work=1, behaviour="wrong"), Config(work=2))
    assert any("at (0, 0) it is off by" in r.reason for r in choice.rejected)


def test_a_first_pick_that_does_not_compile_makes_room(tmp_path):
    options = Options(cache=tmp_path, budget_s=0)
    choice = choose(options, Config(work=1, behaviour="broken"), Config(work=5))
    assert choice.candidate.config == Config(work=5)
    assert "compile" in reasons(choice)


def spill(monkeypatch, *works):
    """Lets the kernels of configs with these amounts of work spill registers, as those of a GPU may."""
    plain = Builder.build

    def build(self, candidates, progress=silent):
        made = plain(self, candidates, progress)
        spilled = Resources(
            kernels=(Kernel(symbol="k", arch="sm_80", spill_store_bytes=8, spill_load_bytes=4),)
        )
        return [
            replace(k, resources=spilled) if c.config.work in works and not isinstance(k, CompileError) else k
            for c, k in zip(candidates, made, strict=True)
        ]

    monkeypatch.setattr(Builder, "build", build)


def test_a_pick_that_spills_makes_room_where_nothing_is_timed(tmp_path, monkeypatch):
    spill(monkeypatch, 1, 2)
    configs = [Config(work=w) for w in (1, 2, 3, 4)]
    choice = choose(Options(cache=tmp_path, budget_s=0), *configs)
    assert choice.candidate.config == Config(work=3) and not choice.resources.spill_bytes
    said = [r.reason for r in choice.rejected if r.reason.startswith("spills")]
    assert said == ["spills: it spills 12 bytes of registers, and nothing was timed"] * 2


@pytest.mark.parametrize(
    "configs",
    [
        [Config(work=1), Config(work=2)],
        [Config(work=1), Config(work=2), Config(work=3), Config(work=4)],
        [Config(work=1), Config(work=2, behaviour="broken")],
    ],
    ids=("both", "too-many", "the-other-does-not-compile"),
)
def test_the_best_estimate_ships_where_all_that_is_tried_spills(configs, tmp_path, monkeypatch):
    spill(monkeypatch, 1, 2, 3)
    choice = choose(Options(cache=tmp_path, budget_s=0), *configs)
    assert choice.candidate.config == configs[0] and choice.resources.spill_bytes == 12
    assert "nothing was timed" in choice.reason


def test_what_spills_and_is_the_fastest_ships(options, monkeypatch):
    spill(monkeypatch, 1)
    choice = choose(options, Config(work=50), Config(work=1))
    assert choice.candidate.config == Config(work=1) and choice.resources.spill_bytes == 12


def test_when_nothing_compiles_the_compiler_is_quoted(options):
    with pytest.raises(CompileError, match="error:"):
        choose(options, Config(work=1, behaviour="broken"))


def test_the_analytic_pick_stays_when_nothing_is_clearly_faster(options):
    twins = [Config(work=20, twin=i) for i in range(4)]
    choice = choose(options, *twins)
    assert choice.candidate.config == twins[0]
    assert any("same code" in r.reason for r in choice.rejected)
    assert choice.measured == 1


@pytest.mark.parametrize(
    ("new", "faster"),
    [
        ({"median_us": 90, "min_us": 80}, True),
        ({"median_us": 98, "min_us": 80}, False),
        ({"median_us": 90, "min_us": 80, "spread": 0.6}, False),
        ({"median_us": 90, "min_us": 96}, False),
    ],
)
def test_only_more_than_noise_counts_as_faster(new, faster):
    old = Measurement(status="ok", median_us=100, min_us=95, spread=0.02)
    assert clearly_faster(Measurement(status="ok", **new), old) == faster


def test_measurements_on_record_are_not_made_again(options, monkeypatch):
    configs = [Config(work=w) for w in (50, 1, 30)]
    first = choose(options, *configs)
    monkeypatch.setattr(tune, "Worker", None)
    again = choose(options, *configs)
    assert again.candidate.config == first.candidate.config == Config(work=1)
    assert again.measurement == first.measurement


def test_records_of_other_threads_and_sizes_are_not_used(options, tmp_path):
    spec = add_spec(None)
    choose(options, Config(work=1), spec=spec, ints=(8, 8, 8))
    choose(options, Config(work=1), spec=spec, ints=(16, 16, 16))
    choose(Options(cache=tmp_path, budget_s=60, threads=2), Config(work=1), spec=spec, ints=(8, 8, 8))
    with Records.below(tmp_path) as records:
        assert records.count() == 3


def test_run_time_dims_are_bound(options):
    choice = choose(
        options, Config(work=9), Config(work=1, behaviour="scratch"), spec=add_spec(None), ints=(40, 40, 40)
    )
    assert choice.candidate.config == Config(work=1, behaviour="scratch")


def test_several_threads_share_the_work(tmp_path):
    options = Options(cache=tmp_path, budget_s=60, threads=3)
    choice = choose(options, Config(work=60), Config(work=1), spec=add_spec(7))
    assert choice.candidate.config == Config(work=1)


def test_an_interrupt_keeps_what_was_measured(options, tmp_path):
    def interrupt(event):
        if event.stage == "tune" and events:
            raise KeyboardInterrupt
        events.append(event)

    events = []
    configs = [Config(work=w) for w in range(1, 20)]
    with pytest.raises(KeyboardInterrupt):
        choose(options, *configs, progress=interrupt)
    with Records.below(tmp_path) as records:
        assert records.count() == FIRST


def test_equal_specs_are_one_choice(options):
    problems = [Problem(spec=add_spec(n), weight=w) for n, w in ((8, 1), (8, 5), (9, 1))]
    chosen = select(problems, TARGET, options, families=[ToyFamily(Config(work=1))])
    assert set(chosen) == {add_spec(8).key, add_spec(9).key}


def test_a_spec_nobody_computes_is_refused(options):
    with pytest.raises(TargetError, match=r"no kernel family computes gemm "):
        choose(options, Config(work=1), spec=gemm_spec())
