"""Few units for a model: kernels whose estimates are close share the device code that most of them can use.

A unit of CUTLASS takes seconds to compile, on Hopper up to half a minute, and estimates are less exact than
what the sharing costs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace

from bolt.kernels.family import Candidate
from bolt.search.candidates import Enumerated

SLACK = 0.1
"""A pick's estimate may be this much above the best one."""


Units = tuple[str, ...]
"""Names of the device code a candidate is made of."""


def shared(found: Sequence[Enumerated]) -> list[Enumerated]:
    """The candidates of each spec, a good one first whose units other specs use as well."""
    choices = [_good(one) for one in found]
    kept = _cover([list(units) for units in choices])
    return [_led_by(one, units, kept) for one, units in zip(found, choices, strict=True)]


def _good(found: Enumerated) -> dict[Units, Candidate]:
    """The units near the best estimate, best first, each with the best candidate made of them."""
    good: dict[Units, Candidate] = {}
    for candidate, estimate in zip(found.candidates, found.estimates, strict=True):
        if estimate > (1 + SLACK) * found.estimates[0]:
            break
        good.setdefault(tuple(unit.name for unit in candidate.units()) or (candidate.name,), candidate)
    return good


def _cover(choices: Sequence[Sequence[Units]]) -> set[Units]:
    """At least one of each spec's choices, few in all: always what most of the specs left over can use."""
    kept: set[Units] = set()
    left = list(choices)
    while left := [units for units in left if units and kept.isdisjoint(units)]:
        usable = Counter(units for choice in left for units in choice)
        best = Counter(choice[0] for choice in left)
        kept.add(max(usable, key=lambda units: (usable[units], best[units], units)))
    return kept


def _led_by(found: Enumerated, good: Mapping[Units, Candidate], kept: Set[Units]) -> Enumerated:
    """The best candidate that needs only what is kept, then all others in their order."""
    pick = next((candidate for units, candidate in good.items() if units in kept), None)
    rows = sorted(zip(found.candidates, found.estimates, strict=True), key=lambda row: row[0] is not pick)
    return replace(found, candidates=tuple(row[0] for row in rows), estimates=tuple(row[1] for row in rows))
