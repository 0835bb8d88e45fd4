"""Timing, on engines whose time is made up."""

import pytest

from bolt.timing import Protocol, Samples, interleave, quantile, settle

PROTOCOL = Protocol(rounds=4, burst_s=0.01, warm_s=0.0, warm_calls=1, limit_s=1e9)


class World:
    """A clock that only engines move."""

    def __init__(self):
        self.now, self.log = 0.0, []

    def engine(self, name, *ms):
        """Takes ms[0], ms[1], ... milliseconds, the last one for ever."""
        left = list(ms)

        def call():
            self.log.append(name)
            self.now += (left.pop(0) if len(left) > 1 else left[0]) * 1e-3

        return call

    def run(self, protocol=PROTOCOL, **engines):
        return interleave(engines, protocol, clock=lambda: self.now, rest=lambda: self.log.append("rest"))


def test_times_and_ratios_are_those_of_the_engines():
    world = World()
    found = world.run(slow=world.engine("slow", 4.0), fast=world.engine("fast", 1.0))
    assert found.timing("slow").median_ms == pytest.approx(4.0)
    assert found.timing("fast").min_ms == pytest.approx(1.0)
    assert found.timing("fast").spread == pytest.approx(0.0)
    ratio = found.ratio("fast", "slow")
    assert (ratio.median, ratio.low, ratio.high, ratio.best) == pytest.approx((4.0, 4.0, 4.0, 4.0))


def test_bursts_are_equally_long_and_alternate():
    world = World()
    found = world.run(slow=world.engine("slow", 5.0), fast=world.engine("fast", 1.0))
    assert [len(burst) for burst in found.ms["slow"]] == [2] * 4
    assert [len(burst) for burst in found.ms["fast"]] == [10] * 4
    turns = "".join(" " if name == "rest" else name[0] for name in world.log).split()[1:]
    assert [turn[0] for turn in turns] == ["s", "f", "f", "s", "s", "f", "f", "s"]
    assert all(len(turn) == {"s": 3, "f": 11}[turn[0]] for turn in turns), "one warm call a turn"


def test_first_calls_do_not_count():
    world = World()
    protocol = Protocol(rounds=1, burst_s=0.004, warm_s=0.0, warm_calls=2, limit_s=1e9)
    found = world.run(protocol, a=world.engine("a", 90.0, 2.0, 50.0, 50.0, 2.0))
    assert found.timing("a").high_ms == pytest.approx(2.0)


def test_warming_up_goes_on_for_its_time():
    world = World()
    protocol = Protocol(rounds=1, burst_s=0.001, warm_s=0.1, warm_calls=0, limit_s=1e9)
    world.run(protocol, a=world.engine("a", 1.0))
    assert world.log.index("rest") == pytest.approx(101, abs=2)


def test_a_long_call_warms_up_once():
    world = World()
    protocol = Protocol(rounds=1, burst_s=0.01, warm_s=0.0, warm_calls=5, limit_s=1e9)
    world.run(protocol, a=world.engine("a", 200.0))
    assert world.log[world.log.index("rest") :] == ["rest", "a", "a"], "one warm, one counted"


def test_rounds_end_at_the_limit_but_not_before_the_least():
    world = World()
    protocol = Protocol(rounds=50, burst_s=0.01, warm_s=0.0, limit_s=0.0, least_rounds=3)
    found = world.run(protocol, a=world.engine("a", 10.0))
    assert len(found.ms["a"]) == 3


def test_a_ratio_compares_bursts_of_the_same_round():
    """A machine that is three times slower in one round slows both engines."""
    found = Samples(ms={"a": [[1.0, 1.0], [3.0, 3.0]], "b": [[2.0, 2.0], [6.0, 6.0]]})
    ratio = found.ratio("a", "b")
    assert (ratio.median, ratio.low, ratio.high) == pytest.approx((2.0, 2.0, 2.0))


def test_the_spread_of_a_ratio_is_told():
    found = Samples(ms={"a": [[1.0]] * 10, "b": [[float(i)] for i in range(1, 11)]})
    ratio = found.ratio("a", "b")
    assert (ratio.median, ratio.low, ratio.high, ratio.best) == pytest.approx((5.5, 2.0, 10.0, 1.0))


def test_quantiles():
    assert [quantile([1, 2, 3, 4], share) for share in (0.0, 0.3, 0.5, 0.99, 1.0)] == [1, 2, 3, 4, 4]


def test_settling_ends_on_an_idle_and_on_a_busy_process(monkeypatch):
    idle, busy = iter([0.0] * 1000), iter(float(i) for i in range(1000))
    monkeypatch.setattr("bolt.timing._SETTLE_LIMIT_S", 0.02)
    monkeypatch.setattr("bolt.timing.time.process_time", lambda: next(idle))
    settle()
    assert next(idle) == 0.0
    monkeypatch.setattr("bolt.timing.time.process_time", lambda: next(busy))
    settle()
    assert next(busy) > 2
