"""Enumeration and ranking."""

from search.toy_family import Config, ToyFamily, add_spec, gemm_spec

from bolt.search.candidates import describe, enumerate_candidates, nearest, supports
from bolt.target import X86_AVX2

CONFIGS = (Config(work=3), Config(work=1), Config(work=2))


def test_candidates_come_best_estimate_first():
    found = enumerate_candidates(add_spec(), X86_AVX2, families=[ToyFamily(*CONFIGS)])
    assert [c.config for c in found.candidates] == list(CONFIGS)
    assert found.rejections == ()


def test_a_family_that_does_not_support_a_spec_says_why():
    found = enumerate_candidates(add_spec(1 << 20), X86_AVX2, families=[ToyFamily(*CONFIGS)])
    assert found.candidates == ()
    assert [r.reason for r in found.rejections] == ["too many rows"]
    assert "toy: too many rows" in supports(add_spec(1 << 20), X86_AVX2, families=[ToyFamily()]).reason
    assert supports(add_spec(), X86_AVX2, families=[ToyFamily()]) is None


def test_families_are_asked_about_their_own_operator_only():
    assert enumerate_candidates(gemm_spec(), X86_AVX2, families=[ToyFamily(*CONFIGS)]).rejections == ()
    reason = supports(gemm_spec(), X86_AVX2, families=[ToyFamily()]).reason
    assert reason == "x86-avx2 has no kernel for gemm"


def test_neighbours_come_first():
    family = ToyFamily(Config(work=1), Config(work=2, twin=5), Config(work=1, twin=5), Config(work=9))
    best, *rest = enumerate_candidates(add_spec(), X86_AVX2, families=[family]).candidates
    assert [c.config for c in nearest(best, rest)] == [
        Config(work=1, twin=5),
        Config(work=9),
        Config(work=2, twin=5),
    ]


def test_describe():
    assert describe(add_spec(4)) == "pointwise 4x16"
    assert describe(gemm_spec()) == "gemm 1x1x4x4 <- 1x1x4x4, 1x1x4x4"
