"""Candidates of a CUDA target on a pretended driver: checked, timed, and survived."""

from dataclasses import replace

import pytest
from cuda import driver
from search.toy_cuda import ToyCuda
from search.toy_family import Config, add_spec

from bolt import gpu
from bolt.errors import ToolchainError
from bolt.gpu import Device, Found
from bolt.options import Options
from bolt.search import measure
from bolt.search.budget import FIRST
from bolt.search.choose import Problem, select
from bolt.search.records import Records
from bolt.target import SM80, SM90A
from bolt.toolchain import nvcc

DEVICE = Device(
    ordinal=1, name="A100", sm=80, multiprocessors=108, memory_bytes=80 << 30, driver="580.1", cuda=(99, 0)
)
SPEC = add_spec()


@pytest.fixture(autouse=True)
def _toolchain():
    pytest.importorskip("cuda.bindings.driver")
    try:
        nvcc.find()
    except ToolchainError as error:
        pytest.skip(str(error))


@pytest.fixture
def machine(monkeypatch):
    """This machine has two GPUs; the second one is an A100."""
    monkeypatch.setattr(gpu, "query", lambda: Found((DEVICE,)))
    for name, value in driver.environment("90,80").items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def options(tmp_path):
    return Options(cache=tmp_path, budget_s=60)


def choose(options, *configs, spec=SPEC, ints=(), target=SM80, progress=lambda event: None):
    problem = Problem(spec=spec, ints=ints)
    return select([problem], target, options, progress, families=[ToyCuda(*configs)])[spec.key]


def reasons(choice):
    return {r.reason.split(":")[0] for r in choice.rejected}


def test_candidates_are_measured_on_the_device_that_runs_the_target(machine, options, tmp_path):
    choice = choose(options, Config(work=2), Config(work=1))
    assert (choice.considered, choice.measured) == (2, 2)
    assert choice.measurement.median_us > 0
    assert len(choice.objects) == 2, "launcher and unit"
    with Records.below(tmp_path) as records:
        assert {row["device"] for row in records.export()} == {"A100, driver 580.1 (CUDA 99.0)"}


def test_the_fastest_candidate_wins(machine, options):
    choice = choose(options, Config(work=6000), Config(work=50), Config(work=4000))
    assert choice.candidate.config == Config(work=50)
    assert "the best estimate takes" in choice.reason


def test_measurements_on_record_are_not_made_again(machine, options, monkeypatch):
    first = choose(options, Config(work=2), Config(work=1))
    monkeypatch.setattr(measure.Worker, "ask", None)
    again = choose(options, Config(work=2), Config(work=1))
    assert again.measurement == first.measurement
    assert again.objects == first.objects


def test_run_time_dims_are_passed(machine, options):
    choice = choose(options, Config(work=1, behaviour="scratch"), spec=add_spec(None), ints=(40, 40, 40))
    assert choice.measured == 1


@pytest.mark.parametrize(
    ("behaviour", "status"),
    [
        ("wrong", "wrong"),
        ("outside", "wrong"),
        ("zeroed", "wrong"),
        ("crash", "crash"),
        ("refuses", "crash"),
        ("broken", "compile"),
    ],
)
def test_a_bad_candidate_is_a_record_and_does_not_stop_the_others(machine, options, behaviour, status):
    choice = choose(options, Config(work=1, behaviour=behaviour), Config(work=2), Config(work=3))
    assert choice.candidate.config == Config(work=2)
    assert (status in reasons(choice), choice.measured) == (True, 2)


def test_a_refused_launch_is_quoted(machine, options):
    choice = choose(options, Config(work=1, behaviour="refuses"), Config(work=2))
    assert any("failed to launch: cudaError_t 9" in r.reason for r in choice.rejected)


def test_a_kernel_that_hangs_is_ended(machine, options, monkeypatch):
    monkeypatch.setattr(measure.Worker.__init__, "__kwdefaults__", {"limit_s": 5.0})
    choice = choose(options, Config(work=1, behaviour="hang"), Config(work=2))
    assert choice.candidate.config == Config(work=2)
    assert "timeout" in reasons(choice)


def test_the_first_candidates_are_compiled_together(machine, options):
    events = []
    configs = [Config(work=w) for w in range(1, FIRST + 3)]
    choose(options, *configs, progress=events.append)
    built = [event for event in events if event.stage == "build"]
    assert built[0].total == FIRST + 1, "launchers and one unit"


def test_a_driver_older_than_the_compiler_times_nothing_and_the_choice_says_so(options, monkeypatch):
    monkeypatch.setattr(gpu, "query", lambda: Found((replace(DEVICE, cuda=(11, 8)),)))
    choice = choose(options, Config(work=9), Config(work=1))
    assert choice.candidate.config == Config(work=9)
    assert "the driver serves CUDA 11.8, the compiler is of CUDA 1" in choice.reason


def test_without_the_device_nothing_is_timed_and_the_choice_says_so(options, monkeypatch):
    monkeypatch.setattr(gpu, "query", lambda: Found((DEVICE,)))
    monkeypatch.setattr(measure.Worker, "ask", None)
    choice = choose(options, Config(work=9), Config(work=1), target=SM90A)
    assert choice.candidate.config == Config(work=9)
    assert choice.measurement is None
    assert choice.reason == "best estimate; nothing was timed: this machine can't run sm90a"
