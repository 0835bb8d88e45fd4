"""cpu_conv_transpose: strides, pads, output padding, dilation, groups, views, run-time extents, shares."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from kernels.conv_specs import epilogue_of, unknown_outer
from kernels.harness import CPU_TARGETS, check, f32, ints_of

from bolt.kernels.cpu_conv_transpose import CpuConvTranspose, phases
from bolt.ops.conv import ConvTransposeSpec
from bolt.target import Target

CPU_CONV_TRANSPOSE = CpuConvTranspose()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvTranspose:
    """A transposed convolution by its sizes; `more` is ONNX's output_padding, `pad_end` is `pad`."""

    h: int
    w: int
    c: int
    k: int
    n: int = 1
    kernel: tuple[int, int] = (2, 2)
    stride: tuple[int, int] = (2, 2)
    dilation: tuple[int, int] = (1, 1)
    pad: tuple[int, int] = (0, 0)
    more: tuple[int, int] = (0, 0)
    groups: int = 1
    wide: int = 0
    epilogue: str = "residual"

    def _out(self, axis: int, extent: int) -> int:
        reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1
        return (extent - 1) * self.stride[axis] + reach - 2 * self.pad[axis] + self.more[axis]

    def spec(self) -> ConvTransposeSpec:
        p, q = self._out(0, self.h), self._out(1, self.w)
        x, y = self.c + self.wide, self.k + self.wide
        out = f32((self.n, p, q, self.k), (p * q * y, q * y, y, 1))
        image = f32((self.n, self.h, self.w, self.c), (self.h * self.w * x, self.w * x, x, 1))
        weights = f32((self.c, self.k // self.groups, *self.kernel))
        expression, extras = epilogue_of(self.epilogue, out)
        return ConvTransposeSpec(
            operands=(out, image, weights, *extras),
            epilogue=expression,
            constants=(2,),
            stride=self.stride,
            dilation=self.dilation,
            pad=self.pad,
            groups=self.groups,
        )


CASES = {
    "2x2_stride2": ConvTranspose(h=4, w=15, c=8, k=33),
    "4x4_stride2": ConvTranspose(n=2, h=3, w=9, c=5, k=16, kernel=(4, 4), pad=(1, 1)),
    "3x3_stride2_more": ConvTranspose(h=4, w=5, c=6, k=7, kernel=(3, 3), pad=(1, 1), more=(1, 1)),
    "3x3_stride1": ConvTranspose(h=5, w=6, c=4, k=20, kernel=(3, 3), stride=(1, 1), pad=(1, 1)),
    "gaps": ConvTranspose(h=3, w=4, c=3, k=5, kernel=(1, 2), stride=(3, 4), epilogue="bias_relu"),
    "dilated": ConvTranspose(h=4, w=4, c=4, k=8, kernel=(3, 2), stride=(2, 3), dilation=(2, 3), pad=(1, 2)),
    "groups": ConvTranspose(h=3, w=5, c=6, k=9, kernel=(3, 3), groups=3, wide=2),
    "depthwise": ConvTranspose(h=4, w=6, c=20, k=20, kernel=(4, 4), pad=(1, 1), groups=20, epilogue="none"),
    "wide_kernel": ConvTranspose(h=2, w=2, c=3, k=4, kernel=(7, 9), stride=(2, 2), pad=(3, 4)),
    "one_pixel": ConvTranspose(h=1, w=1, c=1, k=1, kernel=(1, 1), stride=(1, 1)),
    "1d": ConvTranspose(h=1, w=11, c=4, k=6, kernel=(1, 8), stride=(1, 4), pad=(0, 2)),
}


@pytest.mark.parametrize("target", CPU_TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("case", CASES)
def test_small_integers(case: str, target: Target) -> None:
    spec = CASES[case].spec()
    for parts in (1, 3):
        check(CPU_CONV_TRANSPOSE, spec, target=target, parts=parts, page_end=(0,) if parts == 3 else (1,))


@pytest.mark.parametrize("target", CPU_TARGETS, ids=lambda t: t.name)
def test_run_time_extents(target: Target) -> None:
    for n, h, w in [(1, 1, 1), (2, 3, 20), (1, 2, 5)]:
        static = ConvTranspose(n=n, h=h, w=w, c=5, k=18, kernel=(4, 4), pad=(1, 1)).spec()
        operands = tuple(o if i == 2 else unknown_outer(o) for i, o in enumerate(static.operands))
        spec = replace(static, operands=operands)
        check(CPU_CONV_TRANSPOSE, spec, ints_of(spec, static.operands), target=target, parts=2)


def test_every_config() -> None:
    spec = ConvTranspose(h=2, w=17, c=4, k=90).spec()
    for config in CPU_CONV_TRANSPOSE.configs(spec, CPU_TARGETS[0]):
        check(CPU_CONV_TRANSPOSE, spec, target=CPU_TARGETS[0], config=config, exact=False)


def test_phases_of_a_4x4_kernel_with_stride_2() -> None:
    assert phases(4, 2, 1, 1) == [[(1, 0), (3, -1)], [(0, 1), (2, 0)]]
