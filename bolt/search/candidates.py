"""What could compute a spec: every config of every family that supports it, best estimate first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from bolt import kernels
from bolt.kernels.family import Candidate, Family
from bolt.ops.spec import Spec
from bolt.report import Rejection
from bolt.target import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Enumerated:
    """The candidates of a spec.

    Attributes:
        candidates: best estimate first; the first one is the analytic pick.
        estimates: of the candidates, in one unit of time.
        rejections: why families do not take part.
    """

    candidates: tuple[Candidate, ...]
    estimates: tuple[float, ...]
    rejections: tuple[Rejection, ...]


def supports(spec: Spec, target: Target, *, families: Sequence[Family] | None = None) -> Rejection | None:
    """None when some family computes `spec` on `target`, else all their reasons in one."""
    reasons = []
    for family in _families(spec, target, families):
        rejection = family.supports(spec, target)
        if rejection is None:
            return None
        reasons.append(f"{family.name}: {rejection.reason}")
    said = "; ".join(reasons) or f"{target.name} has no kernel for {spec.op}"
    return Rejection(stage="supports", subject=spec.op, reason=said)


def enumerate_candidates(
    spec: Spec,
    target: Target,
    *,
    ints: Sequence[int] | None = None,
    families: Sequence[Family] | None = None,
) -> Enumerated:
    """All candidates of `spec` on `target`, in a deterministic order.

    Args:
        ints: typical values of the run-time dims and strides; estimates of different families are only
            comparable for known sizes.
    """
    sized = spec if ints is None else spec.bind(ints)
    ranked: list[tuple[float, int, Candidate]] = []
    rejections = []
    for family in _families(spec, target, families):
        if rejection := _rejected(family, spec, target):
            rejections.append(rejection[0])
            continue
        for config in family.configs(spec, target):
            cost = family.estimate(sized, config, target)
            candidate = Candidate(spec=spec, family=family, config=config, target=target)
            ranked.append((cost, len(ranked), candidate))
    ordered = sorted(ranked, key=lambda row: row[:2])
    return Enumerated(
        candidates=tuple(candidate for _, _, candidate in ordered),
        estimates=tuple(cost for cost, _, _ in ordered),
        rejections=tuple(rejections),
    )


def nearest(best: Candidate, rest: Sequence[Candidate]) -> list[Candidate]:
    """`rest` reordered for a descent along single coordinates: fewest differences from `best` first."""
    return sorted(rest, key=lambda c: _differences(best, c))


def _differences(a: Candidate, b: Candidate) -> int:
    if a.family is not b.family:
        return 1 << 16
    return sum(getattr(a.config, f.name) != getattr(b.config, f.name) for f in fields(a.config))


def describe(spec: Spec) -> str:
    """The spec's operands for a person: `conv 1x56x56x64 <- 1x56x56x64, 64x64x3x3`."""
    shapes = [
        "x".join("?" if d is None else str(d) for d in o.dims) for o in spec.operands[: spec.extra_base]
    ]
    return f"{spec.op} {shapes[0]} <- {', '.join(shapes[1:])}" if shapes[1:] else f"{spec.op} {shapes[0]}"


def _families(spec: Spec, target: Target, families: Sequence[Family] | None) -> list[Family]:
    """Those that compute specs of this kind."""
    every = kernels.families(target) if families is None else families
    return [family for family in every if family.op == spec.op]


def _rejected(family: Family, spec: Spec, target: Target) -> tuple[Rejection, ...]:
    """The family's rejection in a tuple: a `Rejection` itself counts as false."""
    rejection = family.supports(spec, target)
    return () if rejection is None else (rejection,)
