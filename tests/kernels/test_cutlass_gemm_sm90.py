"""CUTLASS 3.x matrix products: what is taken, how it is launched, and that it compiles without spills."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from kernels.device_units import Extra, Gemm, Unit, compiled, launcher, loaded, needs_cutlass

from bolt.epilogue import IDENTITY, Builder, Epilogue
from bolt.kernels.cutlass_gemm_sm90 import CutlassGemmSm90
from bolt.kernels.cutlass_gemm_sm90_code import Sm90Gemm
from bolt.kernels.cutlass_tiles_sm90 import ELEMENT_BYTES, SMEM_BYTES, epilogue_bytes, stages, tiles
from bolt.kernels.family import Source
from bolt.ops.gemm import GemmSpec
from bolt.ops.spec import Operand
from bolt.target import SM80, SM90A
from bolt.types import BF16, BOOL, F8E4M3, F8E5M2, F16, F32, S8, U8, DType, convert

pytest.importorskip("cutlass_library")

FAMILY = CutlassGemmSm90()
M, N, K = 96, 128, 64


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


def gemm(
    dtype: DType = F16,
    out: DType = F16,
    *,
    b0: int | None = 1,
    b1: int | None = 1,
    m: int | None = M,
    n: int = N,
    k: int = K,
    a: Operand | None = None,
    b: Operand | None = None,
    extras: tuple[Operand, ...] = (),
    math: str = "f32",
) -> GemmSpec:
    """A product with a constant b unless given, all operands dense."""
    constant = view(dtype, (1, 1, k, n), (0, 0, n, 1))
    return GemmSpec(
        operands=(view(out, (b0, b1, m, n)), a or view(dtype, (b0, b1, m, k)), b or constant, *extras),
        epilogue=total(len(extras)) if extras else IDENTITY,
        constants=() if b else (2,),
        math=math,
    )


def extra(dtype: DType, strides: tuple[int, ...], b0: int = 1, b1: int = 1) -> Operand:
    return view(dtype, (b0, b1, M, N), strides)


FULL = (M * N, M * N, N, 1)
ROW, COLUMN, SCALAR = (0, 0, 0, 1), (0, 0, 1, 0), (0, 0, 0, 0)


def refusal(spec: GemmSpec) -> str:
    rejection = FAMILY.supports(spec, SM90A)
    return "" if rejection is None else rejection.reason


@pytest.mark.parametrize(
    "spec, reason",
    (
        (gemm(k=60), "extent of operand a is 60, not a multiple of 16 bytes"),
        (gemm(n=100), "extent of the output is 100"),
        (gemm(F32, F32), "precision tf32"),
        (gemm(U8, F32), "no instruction for u8 x u8"),
        (gemm(S8, F32, a=view(S8, (1, 1, M, K), (0, 0, 1, M))), "s8 operands must be contiguous along k"),
        (
            gemm(F8E4M3, F32, a=view(F8E4M3, (1, 1, M, K), (0, 0, 1, M))),
            "f8 operands must be contiguous along",
        ),
        (gemm(F8E4M3, F16, k=56), "extent of operand a is 56, not a multiple of 16 bytes"),
        (gemm(F8E4M3, F8E4M3, n=24), "extent of the output is 24, not a multiple of 16 bytes"),
        (gemm(F8E4M3, F16, b=view(F8E4M3, (1, 1, K, N))), "f8 operands must be contiguous along"),
        (gemm(F8E4M3, F16, a=view(F16, (1, 1, M, K))), "no instruction for f16 x f8e4m3"),
        (gemm(F16, F16, a=view(F8E4M3, (1, 1, M, K))), "no instruction for f8e4m3 x f16"),
        (gemm(a=view(F16, (1, 1, M, K), (0, 0, 2 * K, 2))), "operand a has no contiguous dim"),
        (gemm(a=view(F16, (1, 1, M, K), (0, 0, K + 1, 1))), "row stride of operand a is 65"),
        (gemm(a=view(F16, (2, 1, M, K), (4, 0, K, 1)), b0=2), "batch step of operand a is 4"),
        (gemm(a=view(F16, (1, 1, M, K), (0, 0, None, 1))), "known at run time only"),
        (gemm(a=dataclasses.replace(view(F16, (1, 1, M, K)), alignment=8)), "not known to be aligned"),
        (gemm(F16, S8), "stores f32, f16, bf16, f8e4m3, f8e5m2, not s8"),
        (gemm(extras=(extra(F32, (0, 0, 0, 2)),)), "stride 2 along columns"),
        (gemm(extras=(extra(F32, ROW),) * 9), "9 epilogue inputs"),
    ),
)
def test_what_is_refused_and_why(spec: GemmSpec, reason: str) -> None:
    assert reason in refusal(spec)


def test_only_hopper_has_wgmma() -> None:
    rejection = FAMILY.supports(gemm(), SM80)
    assert rejection is not None and "not of sm80" in rejection.reason


@pytest.mark.parametrize(
    "spec",
    (
        gemm(),
        gemm(BF16, F32, m=None),
        gemm(F32, F32, math="tf32", k=36),
        gemm(S8, F16, k=80),
        gemm(F8E4M3, BF16, k=80, m=None),
        gemm(F8E5M2, F8E4M3, b=view(F8E4M3, (1, 1, K, N), (0, 0, 1, K)), extras=(extra(F8E5M2, FULL),)),
        gemm(F16, F32, n=4),
        gemm(a=view(F16, (1, 1, M, K), (0, 0, 1, M)), b=view(F16, (1, 1, K, N), (0, 0, 1, K))),
        gemm(b0=None, b1=12, a=view(F16, (None, 12, M, K), (None, K, 12 * K, 1))),
        gemm(extras=(extra(U8, FULL), extra(BOOL, ROW), extra(F32, (0, 0, 3, 0)))),
    ),
)
def test_what_is_taken(spec: GemmSpec) -> None:
    assert refusal(spec) == ""
    configs = FAMILY.configs(spec, SM90A)
    assert configs and len(set(configs)) == len(configs)
    assert all(FAMILY.estimate(spec, c, SM90A) > 0 for c in configs)
    static = None not in (*spec.out.dims, spec.operands[1].dims[3])
    assert any(c.stream_k for c in configs) == (static and K >= 4 * tiles("f16").legal[0].shape[2])


@pytest.mark.parametrize("element", ELEMENT_BYTES)
def test_tiles_are_within_the_hardwares_limits(element: str) -> None:
    found = tiles(element)
    assert found == tiles(element) and len(set(found.legal)) == len(found.legal)
    assert found.rejected and all(r.reason for r in found.rejected)
    for tile in found.legal:
        m, n, k = tile.shape
        assert m % (128 if tile.schedule == "cooperative" else 64) == 0 and n % 16 == 0
        assert k * ELEMENT_BYTES[element] == 128
        used = epilogue_bytes(tile, 4, 4)
        assert used + stages(tile, element, used) * (m + n) * 128 <= SMEM_BYTES


def test_8_bit_floats_leave_room_for_sums_in_fp32() -> None:
    wide = [t.shape for t in tiles("f8").legal if t.shape[0] * t.shape[1] >= 128 * 256]
    assert not wide and any(t.shape == (128, 192, 128) for t in tiles("f8").legal)
    assert any("accumulator registers" in r.reason for r in tiles("f8").rejected)


def test_each_operand_keeps_its_kind_of_8_bit_floats() -> None:
    constant = view(F8E4M3, (1, 1, K, N), (0, 0, N, 1))
    spec = dataclasses.replace(gemm(F8E5M2, F16, b=constant), constants=(2,))
    config = FAMILY.configs(spec, SM90A)[0]
    weights = np.random.default_rng(0).uniform(-400, 500, (1, 1, K, N))
    packed = FAMILY.pack(spec, config, SM90A, {2: weights})[2]
    np.testing.assert_array_equal(
        packed.view(np.uint8), convert(weights[0, 0].T, F8E4M3).ravel().view(np.uint8)
    )
    text = FAMILY.units(spec, config, SM90A)[0].text
    assert "ElementA = cutlass::float_e5m2_t" in text and "ElementB = cutlass::float_e4m3_t" in text


def best(m: int, n: int, k: int) -> Sm90Gemm:
    spec = gemm(m=m, n=n, k=k, extras=(view(F32, (1, 1, m, n), ROW), view(F16, (1, 1, m, n))))
    return min(FAMILY.configs(spec, SM90A), key=lambda c: FAMILY.estimate(spec, c, SM90A))


def test_the_model_picks_large_tiles_for_large_problems_and_narrow_ones_for_few_rows() -> None:
    large, thin = best(4096, 4096, 4096), best(16, 4096, 4096)
    assert large.tile[0] * large.tile[1] == 128 * 256 and large.swizzle == 8
    assert thin.tile[0] == 64 or thin.stream_k
    long = best(128, 128, 16384)
    assert long.stream_k


def test_the_model_expects_8_bit_floats_to_gain_less_than_integers_whose_sums_are_exact() -> None:
    least = []
    for dtype in (F16, F8E4M3, S8):
        spec = gemm(dtype, F16, m=4096, n=4096, k=4096)
        least.append(min(FAMILY.estimate(spec, c, SM90A) for c in FAMILY.configs(spec, SM90A)))
    half, eight, integers = least
    assert half > 1.3 * eight > 1.3 * integers


def test_units_do_not_depend_on_sizes() -> None:
    config = Sm90Gemm(tile=(128, 128, 64))
    one, other = (
        FAMILY.units(gemm(m=m, n=n, k=k, extras=(view(F32, (1, 1, m, n), ROW),)), config, SM90A)[0]
        for m, n, k in ((96, 128, 64), (None, 256, 512))
    )
    assert one == other
    assert FAMILY.units(gemm(BF16, BF16), config, SM90A)[0].name != one.name


def test_one_full_input_is_the_source_and_further_ones_are_loaded_apart() -> None:
    spec = gemm(extras=(extra(F32, ROW), extra(F16, FULL), extra(F16, FULL), extra(F16, SCALAR)))
    text = FAMILY.units(spec, Sm90Gemm(tile=(128, 128, 64)), SM90A)[0].text
    assert "SOURCE = 1;" in text and text.count("Sm90SrcFetch") == 1 and text.count("Sm90AuxLoad") == 1
    assert text.count("Sm90RowBroadcast") == 1 and text.count("Sm90ScalarBroadcast") == 1


STAND_IN = """
#include "bolt/cuda/launch.h"
static float half(const void* p, int64_t i) { return (float)((const _Float16*)p)[i]; }
extern "C" int UNIT(const BoltGemm* g, CUstream_st*) {
  for (int64_t l = 0; l < g->batch; l++)
    for (int64_t i = 0; i < g->m; i++)
      for (int64_t j = 0; j < g->n; j++) {
        float sum = 0;
        for (int64_t x = 0; x < g->k; x++)
          sum += half(g->a, l * g->a_batch + i * A_ROW + x * A_K) *
                 half(g->b, l * g->b_batch + j * B_ROW + x * B_K);
        for (const BoltExtra& e : g->extras)
          if (e.data) sum += ((const float*)e.data)[l * e.strides[0] + i * e.strides[1] + j * e.strides[2]];
        ((float*)g->d)[l * g->d_batch + i * g->ldd + j] = sum > 0 || !g->extras[0].data ? sum : 0;
      }
  return 0;
}
"""
"""A product of fp16 operands on the host, plus fp32 inputs, relu where there are any."""


def _batched(b0: int | None, b1: int | None, b: str, *, transposed: bool = False) -> GemmSpec:
    """Three products of 8 x 24 by 24 x 16 in each of two batch dims, with a row and a full input."""
    m, n, k = 8, 16, 24
    steps = {"dense": (3 * k * n, k * n), "shared": (0, 0), "inner": (k * n, 0)}
    rows = (1, k) if transposed else (n, 1)
    operand = None if b == "constant" else view(F16, (b0, b1, k, n), (*steps[b], *rows))
    a_rows = (1, m) if transposed else (k, 1)
    batch = (None, m * k) if b0 is None else (3 * m * k, m * k)
    bias, whole = view(F32, (b0, b1, m, n), (0, n, 0, 1)), view(F32, (b0, b1, m, n), (0, 0, n, 1))
    return gemm(
        F16, F32, b0=b0, b1=b1, m=m, n=n, k=k, b=operand,
        a=view(F16, (b0, b1, m, k), (*batch, *a_rows)), extras=(bias, whole),
    )  # fmt: skip


@needs_cutlass
@pytest.mark.parametrize(
    "spec",
    (
        _batched(2, 3, "constant"),
        _batched(2, 3, "dense"),
        _batched(2, 3, "dense", transposed=True),
        _batched(2, 3, "shared"),
        _batched(2, 3, "inner"),
        _batched(2, 1, "dense"),
        _batched(1, 3, "dense"),
        _batched(None, 3, "constant"),
    ),
    ids=("constant", "dense", "transposed", "shared", "inner", "outer-only", "inner-only", "dynamic"),
)
def test_the_launcher_walks_both_batch_dims(spec: GemmSpec, tmp_path: Path) -> None:
    config = FAMILY.configs(spec, SM90A)[0]
    unit = FAMILY.units(spec, config, SM90A)[0].name
    a, b = spec.operands[1:3]
    k_major = spec.is_b_constant or b.strides[2] == 1
    words = {
        "UNIT": unit,
        "A_ROW": "g->lda" if a.strides[3] == 1 else "1",
        "A_K": "1" if a.strides[3] == 1 else "g->lda",
        "B_ROW": "g->ldb" if k_major else "1",
        "B_K": "1" if k_major else "g->ldb",
    }
    text = STAND_IN
    for word, meaning in words.items():
        text = text.replace(word, meaning)
    call = launcher(FAMILY.render(spec, config, SM90A, "launch"), "launch", text, SM90A, tmp_path)
    ints = [2 if s.what == "dims" else 3 * 8 * (24 if s.operand == 1 else 16) for s in spec.dynamic()]
    bound, rng = spec.bind(ints), np.random.default_rng(0)
    memory = [np.zeros(4096, np.float32), *(_random(rng, o.dtype) for o in bound.operands[1:])]
    views = [_view(x, o) for x, o in zip(memory, bound.operands, strict=True)]
    packed = FAMILY.pack(spec, config, SM90A, {i: views[i] for i in spec.constants})
    addresses = [packed.get(i, x).ctypes.data for i, x in enumerate(memory)]
    assert call(addresses, ints) == 0
    np.testing.assert_array_equal(views[0], np.broadcast_to(bound.reference(views[1:])[0], views[0].shape))


def _random(rng: np.random.Generator, dtype: DType) -> np.ndarray:
    return rng.integers(-3, 4, 8192).astype(dtype.np)


def _view(memory: np.ndarray, operand: Operand) -> np.ndarray:
    steps = [(s or 0) * memory.itemsize for s in operand.strides]
    return np.lib.stride_tricks.as_strided(memory, [d or 1 for d in operand.dims], steps)


def arguments(m: int = 512, n: int = 1024, k: int = 768, **changes: int) -> Gemm:
    """A dense problem with a row input and a full one, at addresses nothing reads."""
    g = Gemm(batch=1, m=m, n=n, k=k, a=1 << 20, lda=k, b=1 << 24, ldb=k, d=1 << 28, ldd=n, split_k=1)
    g.a_batch, g.d_batch = m * k, m * n
    g.extras[0] = Extra(1 << 32, (0, 0, 1))
    g.extras[1] = Extra(changes.pop("source", 1 << 36), (m * n, n, 1))
    for field, value in changes.items():
        setattr(g, field, value)
    return g


MISALIGNED, INVALID = -1, -4
"""Negated cutlass::Status."""


@needs_cutlass
def test_a_split_unit_compiles_and_its_host_side_answers(tmp_path: Path) -> None:
    sizes = {"m": 512, "n": 1024, "k": 768}
    inputs = (view(F32, (1, 1, 512, 1024), ROW), view(F16, (1, 1, 512, 1024)))
    spec = gemm(**sizes, extras=inputs)
    config = next(c for c in FAMILY.configs(spec, SM90A) if c.split_k == 2 and c.tile == (128, 128, 64))
    binaries = compiled(FAMILY.units(spec, config, SM90A), SM90A, tmp_path)
    assert binaries[0].resources.registers <= 168
    unit = Unit(loaded(binaries, SM90A, tmp_path), binaries[0].name)
    assert unit.check(arguments()) == 0
    for change in ({"a": 8}, {"b": 4}, {"d": 2}, {"source": 8}, {"lda": 772}, {"ldd": 1028}, {"k": 772}):
        assert unit.check(arguments(**change)) == MISALIGNED, change
    for change in ({"m": 0}, {"k": 0}, {"batch": 0}, {"n": 1 << 33}):
        assert unit.check(arguments(**change)) == INVALID, change
    assert unit.check(arguments(m=1)) == 0
    assert unit.check(arguments(a_batch=5)) == 0, "the step of a single batch means nothing"
    _check_workspace(unit, spec, config)
    if _has_hopper():
        pytest.skip("the rest needs a machine without a GPU")
    assert unit.run(arguments()) > 0, "a cudaError_t: no driver, or the tests' own"
    assert unit.run(arguments(a=8)) == MISALIGNED
    _check_instructions(binaries[0].path)


def _has_hopper() -> bool:
    from bolt.target import runs_here

    return runs_here(SM90A)


def _check_workspace(unit: Unit, spec: GemmSpec, config: Sm90Gemm) -> None:
    """What Python reserves is what the unit asks for, or more where the scheduler decides."""
    sizes = ((64, 64, 1024), (128, 128, 16384), (512, 1024, 768), (1000, 520, 4096), (4096, 4096, 512))
    for (m, n, k), split in itertools.product(sizes, (1, 2, 4)):
        sized = gemm(m=m, n=n, k=k, extras=(view(F32, (1, 1, m, n), ROW), view(F16, (1, 1, m, n))))
        chosen = dataclasses.replace(config, split_k=split)
        reserved = FAMILY.scratch_bytes(sized, chosen, SM90A)
        asked = unit.workspace(arguments(m, n, k, split_k=split))
        assert asked <= reserved, (m, n, k, split)
        assert split == 1 or asked == reserved, (m, n, k, split)


def _check_instructions(path: Path, product: str = "HGMMA") -> None:
    """wgmma and TMA are there (where the disassembler is installed)."""
    if shutil.which("cuobjdump") is None or shutil.which("nvdisasm") is None:
        return
    done = subprocess.run(["cuobjdump", "-sass", path], capture_output=True, text=True, check=True)
    assert product in done.stdout and "UTMALDG" in done.stdout and "UTMASTG" in done.stdout


def _grid() -> list[tuple[str, GemmSpec, Sm90Gemm]]:
    """Units that differ in type, layout, loader, schedule, cluster and scheduler."""
    transposed = view(F16, (1, 4, M, K), (0, M * K, 1, M))
    many = (
        extra(F16, FULL), extra(F16, FULL), extra(BOOL, FULL), extra(F32, COLUMN), extra(F16, SCALAR),
        extra(F32, ROW), extra(F32, (0, 0, 5, 0)),
    )  # fmt: skip
    rows = (
        ("plain", gemm(), {"tile": (64, 64, 64)}),
        (
            "mn-major",
            gemm(a=transposed, b=view(F16, (1, 4, K, N)), b1=4),
            {"tile": (128, 128, 64), "cluster": (2, 1)},
        ),
        ("bf16", gemm(BF16, F32, extras=(extra(BF16, FULL),)), {"tile": (64, 256, 64), "cluster": (1, 2)}),
        ("tf32", gemm(F32, F32, math="tf32", extras=(extra(F32, ROW),)), {"tile": (128, 128, 32)}),
        ("s8", gemm(S8, F16, k=256, extras=(extra(F32, ROW), extra(F32, SCALAR))), {"tile": (128, 128, 128)}),
        (
            "f8",
            gemm(F8E4M3, F16, k=256, extras=(extra(F32, ROW), extra(F16, FULL))),
            {"tile": (128, 192, 128), "schedule": "cooperative"},
        ),
        (
            "f8 of both kinds",
            gemm(
                F8E5M2,
                F8E4M3,
                k=256,
                b=view(F8E4M3, (1, 1, 256, N), (0, 0, 1, 256)),
                extras=(extra(F32, ROW),),
            ),
            {"tile": (64, 192, 128), "cluster": (1, 2)},
        ),
        (
            "f8 by streams",
            gemm(F8E4M3, BF16, k=2048, extras=(extra(F32, ROW), extra(F8E4M3, FULL))),
            {"tile": (128, 128, 128), "schedule": "cooperative", "stream_k": True},
        ),
        (
            "loaders",
            gemm(F16, F32, extras=many),
            {"tile": (128, 64, 64), "schedule": "cooperative", "stream_k": True},
        ),
        (
            "wide",
            gemm(extras=(extra(F32, ROW),)),
            {"tile": (128, 256, 64), "schedule": "cooperative", "cluster": (2, 1)},
        ),
        ("narrow", gemm(extras=(extra(F32, ROW), extra(F16, FULL))), {"tile": (64, 16, 64)}),
    )
    return [(name, spec, Sm90Gemm(**config)) for name, spec, config in rows]


@pytest.mark.slow
@needs_cutlass
def test_every_kind_of_unit_compiles(tmp_path: Path) -> None:
    sources: list[Source] = []
    products: dict[str, str] = {}
    for name, spec, config in _grid():
        assert refusal(spec) == "", name
        unit = FAMILY.units(spec, config, SM90A)[0]
        products[unit.name] = _PRODUCTS.get(spec.operands[1].dtype, "HGMMA")
        sources.append(unit)
    binaries = compiled(sources, SM90A, tmp_path)
    library = loaded(binaries, SM90A, tmp_path)
    for binary in binaries:
        assert Unit(library, binary.name).check(Gemm()) == INVALID
        _check_instructions(binary.path, products[binary.name])


_PRODUCTS = {S8: "IGMMA", F8E4M3: "QGMMA", F8E5M2: "QGMMA"}
"""The instructions that multiply operands of a type; HGMMA all others."""
