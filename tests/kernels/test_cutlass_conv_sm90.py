"""CUTLASS 3.x convolutions: what is taken, how it is launched, and that it compiles without spills."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from kernels.device_units import Conv, Extra, Unit, compiled, launcher, loaded, needs_cutlass

from bolt.epilogue import Builder, Epilogue
from bolt.kernels.cutlass_conv_sm90 import CutlassConvSm90, Sm90Conv
from bolt.kernels.cutlass_gemm_sm90 import CutlassGemmSm90
from bolt.kernels.cutlass_gemm_sm90_code import Sm90Gemm
from bolt.ops.conv import ConvSpec
from bolt.ops.gemm import GemmSpec
from bolt.ops.spec import Operand
from bolt.target import SM80, SM90A, runs_here
from bolt.types import BF16, F16, F32, S8, DType

pytest.importorskip("cutlass_library")

FAMILY = CutlassConvSm90()


def view(
    dtype: DType, dims: tuple[int | None, ...], strides: tuple[int | None, ...] | None = None
) -> Operand:
    """An operand aligned for TMA; dense without `strides`."""
    if strides is None:
        strides = Operand.dense(dtype, [d or 1 for d in dims]).strides
    return Operand(dtype=dtype, dims=dims, strides=strides, alignment=16)


def total(inputs: int) -> Epilogue:
    """relu(acc + in0 + in1 + ...)"""
    builder = Builder()
    value = builder.acc()
    for index in range(inputs):
        value = builder.op("add", value, builder.input(index))
    return builder.finish(builder.op("relu", value))


def conv(
    c: int = 32,
    k: int = 64,
    taps: int = 3,
    *,
    dtype: DType = F16,
    out: DType = F16,
    n: int | None = 2,
    size: int = 8,
    stride: int = 1,
    pad: int | None = None,
    pad_end: int | None = None,
    dilation: int = 1,
    extras: tuple[str, ...] = ("row", "full"),
    x: Operand | None = None,
    **changes: object,
) -> ConvSpec:
    """A square convolution; `extras` are "row", "full", "scalar", "image" (a vector per image), "line"."""
    before = (taps - 1) * dilation // 2 if pad is None else pad
    after = before if pad_end is None else pad_end
    p = (size + before + after - (taps - 1) * dilation - 1) // stride + 1
    y = view(out, (n, p, p, k), (p * p * k, p * k, k, 1))
    steps = {
        "row": (0, 0, 0, 1),
        "full": y.strides,
        "scalar": (0, 0, 0, 0),
        "image": (k, 0, 0, 1),
        "line": (0, k, 0, 1),
    }
    inputs = [view(F32 if e != "full" else out, y.dims, steps[e]) for e in extras]
    operands = (
        y,
        x or view(dtype, (n, size, size, c), (size * size * c, size * c, c, 1)),
        view(F32, (k, c, taps, taps)),
    )
    spec = ConvSpec(
        operands=(*operands, *inputs),
        epilogue=total(len(inputs)),
        constants=(2,),
        stride=(stride, stride),
        dilation=(dilation, dilation),
        pad=(before, before),
        pad_end=(after, after),
        has_halo=False,
    )
    return dataclasses.replace(spec, **changes)  # type: ignore[arg-type]


def refusal(spec: ConvSpec) -> str:
    rejection = FAMILY.supports(spec, SM90A)
    return "" if rejection is None else rejection.reason


@pytest.mark.parametrize(
    "spec, reason",
    (
        (conv(c=3), "the input has 3 channels"),
        (conv(k=20), "the output has 20 channels"),
        (conv(c=32, groups=2), "2 groups"),
        (conv(has_halo=True), "padding is in memory"),
        (conv(constants=()), "weights are not constant"),
        (conv(dtype=F32, out=F32), "precision tf32"),
        (conv(out=S8, extras=()), "stores f32, f16, bf16, not s8"),
        (conv(dtype=S8), "no instruction for s8"),
        (conv(stride=9, size=40), "steps of 9"),
        (conv(taps=5, dilation=64, size=300), "last tap is 256 away"),
        (conv(pad=129), "beyond TMA's corners"),
        (conv(taps=5, dilation=40, size=300, pad=0), "beyond TMA's corners"),
        (conv(extras=("row", "full", "full")), "more than one epilogue input"),
        (conv(extras=("image",)), "epilogue input 0 is no channel vector"),
        (conv(extras=("line",)), "epilogue input 0 is no channel vector"),
        (conv(x=dataclasses.replace(view(F16, (2, 8, 8, 32)), alignment=8)), "not known to be aligned"),
        (conv(x=view(F16, (2, 8, 8, 32), (8 * 8 * 36, 8 * 36, 36, 1))), "a stride of the input is"),
    ),
)
def test_what_is_refused_and_why(spec: ConvSpec, reason: str) -> None:
    assert reason in refusal(spec)


def test_only_hopper_has_wgmma() -> None:
    rejection = FAMILY.supports(conv(), SM80)
    assert rejection is not None and "not of sm80" in rejection.reason


@pytest.mark.parametrize(
    "spec, product",
    (
        (conv(), False),
        (conv(n=None), False),
        (conv(stride=2, pad_end=0), False),
        (conv(dtype=BF16, out=F32, extras=("scalar",)), False),
        (conv(dtype=F32, out=F32, math="tf32", taps=7), False),
        (conv(taps=1, stride=2), False),
        (conv(taps=1, pad=1), False),
        (conv(taps=1), True),
        (conv(taps=1, n=None, extras=("image", "full", "full")), True),
        (conv(taps=1, x=view(F16, (2, 8, 8, 32), (5000, 8 * 32, 32, 1))), True),
        (conv(taps=1, x=view(F16, (2, 8, 8, 32), (5000, 10 * 32, 32, 1))), False),
        (conv(taps=1, dtype=F32, out=F32, math="tf32"), True),
    ),
)
def test_what_is_taken_and_how(spec: ConvSpec, product: bool) -> None:
    assert refusal(spec) == ""
    configs = FAMILY.configs(spec, SM90A)
    assert configs and len(set(configs)) == len(configs)
    assert {type(c) for c in configs} == {Sm90Gemm if product else Sm90Conv}
    assert all(FAMILY.estimate(spec, c, SM90A) > 0 for c in configs)


def test_a_convolution_that_is_a_product_shares_the_products_unit() -> None:
    spec = conv(32, 64, taps=1, extras=("row",))
    gemm = GemmSpec(
        operands=(
            view(F16, (1, 1, 40, 128)), view(F16, (1, 1, 40, 96)), view(F16, (1, 1, 96, 128), (0, 0, 128, 1)),
            view(F32, (1, 1, 40, 128), (0, 0, 0, 1)),
        ),
        epilogue=total(1), constants=(2,),
    )  # fmt: skip
    config = Sm90Gemm(tile=(128, 128, 64))
    assert FAMILY.units(spec, config, SM90A) == CutlassGemmSm90().units(gemm, config, SM90A)


def test_units_do_not_depend_on_sizes() -> None:
    config = Sm90Conv(tile=(128, 64, 64))
    one, other = (
        FAMILY.units(s, config, SM90A)[0] for s in (conv(64), conv(128, 256, 5, n=None, size=20, stride=2))
    )
    assert one == other


STAND_IN = {
    "conv": """
extern "C" int UNIT(const BoltConv* g, CUstream_st*) {
  for (int64_t n = 0; n < g->n; n++)
    for (int64_t p = 0; p < g->p; p++)
      for (int64_t q = 0; q < g->q; q++)
        for (int64_t k = 0; k < g->k; k++) {
          float sum = ((const float*)g->extras[0].data)[k];
          for (int64_t r = 0; r < g->r; r++)
            for (int64_t s = 0; s < g->s; s++)
              for (int64_t c = 0; c < g->c; c++) {
                const int64_t h = p * g->stride[0] - g->pad[0] + r * g->dilation[0];
                const int64_t w = q * g->stride[1] - g->pad[1] + s * g->dilation[1];
                if (h < 0 || h >= g->h || w < 0 || w >= g->w) continue;
                sum += half(g->x, n * g->x_strides[0] + h * g->x_strides[1] + w * g->x_strides[2] + c) *
                       half(g->weights, ((k * g->r + r) * g->s + s) * g->c + c);
              }
          const int64_t* const e = g->extras[1].strides;
          sum += ((const float*)g->extras[1].data)[n * e[0] + p * e[1] + q * e[2] + k];
          const int64_t* const y = g->y_strides;
          ((float*)g->y)[n * y[0] + p * y[1] + q * y[2] + k] = sum > 0 ? sum : 0;
        }
  return 0;
}
""",
    "product": """
extern "C" int UNIT(const BoltGemm* g, CUstream_st*) {
  for (int64_t l = 0; l < g->batch; l++)
    for (int64_t i = 0; i < g->m; i++)
      for (int64_t j = 0; j < g->n; j++) {
        float sum = 0;
        for (int64_t x = 0; x < g->k; x++)
          sum += half(g->a, l * g->a_batch + i * g->lda + x) * half(g->b, l * g->b_batch + j * g->ldb + x);
        for (int e = 0; e < 2; e++) {
          const int64_t* const s = g->extras[e].strides;
          sum += ((const float*)g->extras[e].data)[l * s[0] + i * s[1] + j * s[2]];
        }
        ((float*)g->d)[l * g->d_batch + i * g->ldd + j] = sum > 0 ? sum : 0;
      }
  return 0;
}
""",
}
"""fp16 operands, two fp32 inputs and relu on the host."""

_PIXELS_APART = view(F16, (2, 8, 8, 16), (5000, 8 * 24, 24, 1))


@needs_cutlass
@pytest.mark.parametrize(
    "spec, kind",
    (
        (conv(16, 8, out=F32), "conv"),
        (conv(16, 8, out=F32, n=None, stride=2, pad=0, pad_end=1, dilation=2), "conv"),
        (conv(16, 8, taps=1, out=F32), "product"),
        (conv(16, 8, taps=1, out=F32, n=None), "product"),
        (conv(16, 8, taps=1, out=F32, extras=("image", "full")), "product"),
        (conv(16, 8, taps=1, out=F32, x=_PIXELS_APART), "product"),
    ),
    ids=("taps", "dynamic-strided", "pixels", "dynamic-pixels", "per-image", "images-apart"),
)
def test_the_launcher_passes_the_problem_on(spec: ConvSpec, kind: str, tmp_path: Path) -> None:
    config = FAMILY.configs(spec, SM90A)[0]
    unit = FAMILY.units(spec, config, SM90A)[0].name
    half = "static float half(const void* p, int64_t i) { return (float)((const _Float16*)p)[i]; }\n"
    text = f'#include "bolt/cuda/launch.h"\n{half}' + STAND_IN[kind].replace("UNIT", unit)
    call = launcher(FAMILY.render(spec, config, SM90A, "launch"), "launch", text, SM90A, tmp_path)
    ints = [2 for _ in spec.dynamic()]
    bound, rng = spec.bind(ints), np.random.default_rng(0)
    memory = [rng.integers(-3, 4, 20000).astype(o.dtype.np) for o in bound.operands]
    views = [_view(x, o) for x, o in zip(memory, bound.operands, strict=True)]
    packed = FAMILY.pack(spec, config, SM90A, {2: views[2]})
    assert call([packed.get(i, x).ctypes.data for i, x in enumerate(memory)], ints) == 0
    np.testing.assert_array_equal(views[0], bound.reference(views[1:])[0])


def _view(memory: np.ndarray, operand: Operand) -> np.ndarray:
    steps = [(s or 0) * memory.itemsize for s in operand.strides]
    return np.lib.stride_tricks.as_strided(memory, [d or 1 for d in operand.dims], steps)


def arguments(**changes: int) -> Conv:
    """A dense 3x3 problem with a row input and a full one, at addresses nothing reads."""
    size, c, k = 28, 64, 128
    g = Conv(n=8, h=size, w=size, c=c, k=k, p=size, q=size, r=3, s=3, groups=1)
    g.pad, g.stride, g.dilation = (1, 1), (1, 1), (1, 1)
    g.x, g.x_strides = 1 << 20, (size * size * c, size * c, c)
    g.weights, g.y, g.y_strides = 1 << 24, 1 << 28, (size * size * k, size * k, k)
    g.extras[0] = Extra(1 << 32, (0, 0, 0))
    g.extras[1] = Extra(changes.pop("source", 1 << 36), g.y_strides)
    for field in ("pad", "stride", "dilation", "x_strides"):
        if field in changes:
            changes[field] = (changes[field],) * len(getattr(g, field))
    for field, value in changes.items():
        setattr(g, field, value)
    return g


MISALIGNED, INVALID, UNSUPPORTED = -1, -4, -11
"""Negated cutlass::Status."""


@needs_cutlass
def test_an_implicit_gemm_compiles_and_its_host_side_answers(tmp_path: Path) -> None:
    spec, config = conv(), Sm90Conv(tile=(128, 128, 64))
    binaries = compiled(FAMILY.units(spec, config, SM90A), SM90A, tmp_path)
    unit = Unit(loaded(binaries, SM90A, tmp_path), binaries[0].name)
    assert unit.check(arguments()) == 0
    assert unit.check(arguments(stride=2, p=14, q=14)) == 0
    assert unit.check(arguments(pad=0, p=26, q=26)) == 0
    assert unit.check(arguments(p=29, q=29)) == 0, "padding after the end follows from the output's size"
    for change in ({"x": 8}, {"weights": 8}, {"y": 4}, {"source": 2}, {"x_strides": 60}):
        assert unit.check(arguments(**change)) == MISALIGNED, change
    for change in (
        {"n": 0},
        {"k": 0},
        {"p": 26},
        {"stride": 9},
        {"groups": 2},
        {"dilation": 0},
        {"h": 1 << 33},
    ):
        assert unit.check(arguments(**change)) == INVALID, change
    for change in ({"c": 60}, {"pad": 200, "p": 426, "q": 426}, {"dilation": 200, "p": 1, "q": 1}):
        assert unit.check(arguments(**change)) == UNSUPPORTED, change
    assert unit.workspace(arguments()) == FAMILY.scratch_bytes(spec, config, SM90A) == 0
    assert unit.run(arguments(x=8)) == MISALIGNED
    if not runs_here(SM90A):
        assert unit.run(arguments()) > 0, "a cudaError_t: no driver, or the tests' own"


@pytest.mark.slow
@needs_cutlass
def test_every_kind_of_unit_compiles(tmp_path: Path) -> None:
    rows = (
        (conv(extras=()), Sm90Conv(tile=(64, 64, 32))),
        (conv(dtype=BF16, out=F32, extras=("row", "scalar")), Sm90Conv(tile=(128, 128, 64), cluster=(2, 1))),
        (conv(dtype=F32, out=F32, math="tf32"), Sm90Conv(tile=(64, 256, 32), cluster=(1, 2))),
    )
    sources = []
    for spec, config in rows:
        assert refusal(spec) == ""
        sources += FAMILY.units(spec, config, SM90A)
    binaries = compiled(sources, SM90A, tmp_path)
    library = loaded(binaries, SM90A, tmp_path)
    for binary in binaries:
        assert Unit(library, binary.name).check(Conv()) == INVALID
