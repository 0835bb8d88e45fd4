"""The families bolt ships, through the search: what they support compiles, is right, and is timed."""

import pytest

from bolt.epilogue import Builder
from bolt.kernels import CPU_FAMILIES
from bolt.ops.conv import ConvSpec
from bolt.ops.gemm import GemmSpec
from bolt.ops.pointwise import CopySpec, GatherSpec, PointwiseSpec
from bolt.ops.rows import NormSpec, ReduceSpec, SoftmaxSpec
from bolt.ops.spatial import PoolSpec
from bolt.ops.spec import Operand
from bolt.options import Options
from bolt.search.choose import Problem, select
from bolt.target import detect
from bolt.types import F32, S64


class Few:
    """A family with its first configs only."""

    def __init__(self, family):
        self._family, self.name = family, family.name

    def __getattr__(self, name):
        return getattr(self._family, name)

    def configs(self, spec, target):
        return self._family.configs(spec, target)[:2]


def dense(*dims):
    return Operand.dense(F32, dims)


def per_channel(out):
    return Operand(dtype=F32, dims=out.dims, strides=(0,) * (len(out.dims) - 1) + (1,))


def biased_relu():
    b = Builder()
    return b.finish(b.op("relu", b.op("add", b.acc(), b.input(0))))


def conv(c, k, groups=1):
    out, padded = (
        dense(1, 9, 10, k),
        Operand(dtype=F32, dims=(1, 9, 10, c), strides=(11 * 12 * c, 12 * c, c, 1)),
    )
    return ConvSpec(
        operands=(out, padded, dense(k, c // groups, 3, 3), per_channel(out)),
        epilogue=biased_relu(), pad=(1, 1), pad_end=(1, 1), groups=groups, constants=(2,),
    )  # fmt: skip


def sum_of(count):
    b = Builder()
    total = b.input(0)
    for index in range(1, count):
        total = b.op("add", total, b.input(index))
    return b.finish(total)


SPECS = {
    "conv": conv(5, 20),
    "depthwise": conv(24, 24, groups=24),
    "gemm": GemmSpec(operands=(dense(1, 1, 7, 33), dense(1, 1, 7, 21), dense(1, 1, 21, 33)), constants=(2,)),
    "pointwise": PointwiseSpec(operands=(dense(3, 50),) * 3, epilogue=sum_of(2)),
    "copy": CopySpec(operands=(dense(6, 7), Operand(dtype=F32, dims=(6, 7), strides=(1, 6)))),
    "gather": GatherSpec(operands=(dense(1, 9, 5), dense(1, 40, 5), Operand.dense(S64, (9,)))),
    "softmax": SoftmaxSpec(operands=(dense(1, 2, 3, 17), dense(1, 2, 3, 17))),
    "norm": NormSpec(operands=(dense(1, 2, 3, 17), dense(1, 2, 3, 17))),
    "reduce": ReduceSpec(operands=(dense(2, 1, 9), dense(2, 5, 1, 4, 9)), kind="mean"),
    "pool": PoolSpec(operands=(dense(1, 4, 4, 10), dense(1, 8, 8, 10)), kernel=(2, 2), stride=(2, 2)),
}


@pytest.fixture(scope="module")
def chosen(tmp_path_factory):
    options = Options(cache=tmp_path_factory.mktemp("cache"), budget_s=600, threads=2)
    problems = [Problem(spec=spec) for spec in SPECS.values()]
    return select(problems, detect(), options, families=[Few(family) for family in CPU_FAMILIES])


@pytest.mark.parametrize("name", SPECS)
def test_every_candidate_is_right_and_timed(chosen, name):
    choice = chosen[SPECS[name].key]
    failed = [r for r in choice.rejected if r.stage == "measure"]
    assert not failed
    assert choice.measured >= 1
    assert choice.measurement.median_us > 0
