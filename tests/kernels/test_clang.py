"""Every family compiled by clang, for the best target of this machine."""

from __future__ import annotations

from dataclasses import replace

import pytest
from kernels.conv_specs import Conv
from kernels.harness import ALL_TARGETS, TOLERANCES, check
from kernels.samples import SAMPLES

from bolt.kernels.cpu_conv import CpuConv
from bolt.kernels.cpu_depthwise_words import CpuDepthwiseWords
from bolt.kernels.cpu_winograd import CpuWinograd
from bolt.kernels.products import PRODUCTS
from bolt.target import Target, detect
from bolt.toolchain.host import Compiler, probe
from bolt.types import F32

CLANG = probe(("clang++",))

pytestmark = pytest.mark.skipif(not isinstance(CLANG, Compiler), reason=str(CLANG))


@pytest.fixture(autouse=True)
def _clang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "clang++")


@pytest.mark.parametrize("name", SAMPLES)
def test_sample(name: str) -> None:
    SAMPLES[name].check(detect())


@pytest.mark.parametrize("target", [t for t in ALL_TARGETS if t.has_vnni], ids=lambda t: t.name)
def test_products(target: Target) -> None:
    conv = Conv(n=2, h=7, w=9, c=19, k=37, kernel=(3, 3), pad=(1, 1), c_wide=21, k_wide=40)
    for product in PRODUCTS:
        if product.a is F32 or not product.runs_on(target):
            continue
        spec = replace(conv, a=product.a, b=product.b, out=product.a).spec()
        check(CpuConv(), spec, target=target)
        if product.a.is_float:
            check(CpuWinograd(), spec, target=target, exact=False, tolerance=4 * TOLERANCES[product.a])
        else:
            depthwise = replace(conv, c=21, k=21, groups=21, k_wide=0, a=product.a, b=product.b)
            check(CpuDepthwiseWords(), depthwise.spec(), target=target)
