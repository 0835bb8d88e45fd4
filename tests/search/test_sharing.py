"""Specs share units where that costs little."""

from __future__ import annotations

from dataclasses import dataclass

from search.toy_family import add_spec

from bolt.kernels.family import Candidate, Source
from bolt.search.candidates import Enumerated
from bolt.search.sharing import SLACK, shared
from bolt.target import SM80


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A config made of the unit of that name; none where the kernel is device code of its own."""

    unit: str


class Family:
    name = "toy"
    op = "pointwise"
    language = "cxx"

    def supports(self, spec, target):
        return None

    def configs(self, spec, target):
        return ()

    def estimate(self, spec, config, target):
        return 0.0

    def render(self, spec, config, target, name):
        return ""

    def units(self, spec, config, target):
        return (Source(name=config.unit, text="", language="cuda"),) if config.unit else ()

    def pack(self, spec, config, target, constants):
        return {}

    def scratch_bytes(self, spec, config, target):
        return 0


FAMILY = Family()


def enumerated(rows: int, **units: float) -> Enumerated:
    """Candidates of the units by name, with their estimates; `none` is a kernel without units."""
    names = ["" if unit == "none" else unit for unit in units]
    candidates = [
        Candidate(spec=add_spec(rows), family=FAMILY, config=Config(unit=unit), target=SM80) for unit in names
    ]
    return Enumerated(candidates=tuple(candidates), estimates=tuple(units.values()), rejections=())


def picks(*found: Enumerated) -> list[str]:
    return [one.candidates[0].config.unit for one in shared(found)]


def test_specs_share_what_is_good_for_most_of_them():
    found = enumerated(1, a=1.0, b=1.05), enumerated(2, b=1.0, c=1.01), enumerated(3, d=1.0, b=1.02, a=1.03)
    assert picks(*found) == ["b", "b", "b"]


def test_no_pick_is_much_worse_than_the_best():
    assert picks(enumerated(1, a=1.0, b=1.01 + SLACK), enumerated(2, b=1.0)) == ["a", "b"]


def test_the_best_of_what_is_kept_is_taken():
    only_a, only_b = enumerated(1, a=1.0), enumerated(2, b=1.0)
    assert picks(only_a, only_b, enumerated(3, b=1.0, a=1.01)) == ["a", "b", "b"]


def test_a_kernel_without_units_is_shared_with_nobody():
    assert picks(enumerated(1, none=1.0, a=1.01), enumerated(2, none=1.0, a=1.01)) == ["a", "a"]
    assert picks(enumerated(1, none=1.0), enumerated(2, none=1.0)) == ["", ""]


def test_the_others_keep_their_order_and_estimates():
    found = enumerated(1, a=1.0, b=1.05, c=1.06, d=9.0), enumerated(2, c=1.0)
    first = shared(found)[0]
    assert [c.config.unit for c in first.candidates] == ["c", "a", "b", "d"]
    assert first.estimates == (1.06, 1.0, 1.05, 9.0)


def test_specs_without_candidates_are_left_alone():
    empty = Enumerated(candidates=(), estimates=(), rejections=())
    assert shared([empty, enumerated(1, a=1.0)])[0] == empty
    assert shared([]) == []


def test_equal_counts_do_not_depend_on_the_order():
    first, second = enumerated(1, a=1.0, b=1.0), enumerated(2, b=1.0, a=1.0)
    assert picks(first, second) == picks(second, first)[::-1]
