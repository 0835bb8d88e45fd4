"""What bolt is meant to reach, beside what it reaches."""

from dataclasses import replace

from bench_results import result, row

from benchmarks.floors import batch, verdicts


def named(found, text):
    return [v for v in found if text in v.what]


def test_means_and_the_slowest_model_are_judged():
    found = verdicts(result(row(model="a", ratio=4.0), row(model="b", ratio=0.5)))
    (mean,) = named(found, "geometric mean of 2 models, fp32 over ort")
    assert mean.reached and abs(mean.value - 2**0.5) < 1e-9
    (slowest,) = named(found, "slowest model")
    assert not slowest.reached and slowest.below == ("b 0.50x",)
    assert str(slowest).endswith("floor 1.00x: missed (b 0.50x)")


def test_a_model_that_is_handed_back_is_not_the_slowest():
    back = row(model="b", ratio=0.9)
    back = replace(back, coverage=replace(back.coverage, partitions=0))
    (slowest,) = named(verdicts(result(row(model="a", ratio=1.5), back)), "slowest")
    assert slowest.reached and slowest.value == 1.5
    assert not named(verdicts(result(back)), "slowest")


def test_a_model_has_floors_of_its_own_by_threads():
    rows = [row(model="random/resnet50", ratio=1.25, threads=t) for t in (1, 2)]
    one, two = named(verdicts(result(*rows)), "random/resnet50")
    assert (one.least, one.reached) == (1.28, False) and (two.least, two.reached) == (1.2, True)


def test_precisions_and_batches_are_judged_apart():
    rows = [row(model="a", ratio=3.0), replace(row(model="a", ratio=1.0), precision="bf16", case="8x3")]
    found = verdicts(result(*rows))
    assert {v.what.rpartition(", ")[2] for v in named(found, "fp32")} == {"batch 1"}
    assert [v.reached for v in named(found, "bf16")] == [False]


def test_a_model_counts_once_for_a_batch_size():
    rows = [row(model="a", ratio=2.0), replace(row(model="a", ratio=8.0), case="1x7")]
    assert named(verdicts(result(*rows)), "geometric mean")[0].value == 2.0


def test_a_target_that_is_not_the_machine_s_best_has_no_floors():
    assert not verdicts(result(replace(row(model="a", ratio=0.5), target="x86-avx2")))


def test_batches_are_read_from_the_case():
    assert [batch(case) for case in ("8x3x224x224", "1x128 1x128", "scalar", "7")] == [8, 1, 1, 7]
