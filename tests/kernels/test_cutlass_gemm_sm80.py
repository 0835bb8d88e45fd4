"""CUTLASS 2.x matrix products: what is taken, how it is launched, and that units compile and answer."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
from kernels.device_units import Extra, Gemm, Unit, compiled, launcher, loaded, needs_cutlass

from bolt.epilogue import IDENTITY, Builder, Epilogue
from bolt.kernels.cutlass_gemm_problem import Aligned, GemmConfig, Problem, Size, size_of, vectors_of
from bolt.kernels.cutlass_gemm_sm80 import CutlassGemmSm80, _can_share
from bolt.kernels.cutlass_streamk import streamk_workspace
from bolt.kernels.cutlass_tiles import tiles
from bolt.kernels.family import Source
from bolt.ops.gemm import GemmSpec
from bolt.ops.spec import Operand
from bolt.target import CUDA_TARGETS, SM75, SM80, SM86, SM89, SM90A, X86_AVX2, Target
from bolt.types import BF16, F16, F32, S8, S32, DType

pytest.importorskip("cutlass_library")

FAMILY = CutlassGemmSm80()
GOLDEN = Path(__file__).parents[1] / "codegen" / "golden"
M, N, K = 96, 128, 64


def view(
    dtype: DType,
    dims: tuple[int | None, ...],
    strides: tuple[int | None, ...] | None = None,
    alignment: int = 64,
) -> Operand:
    """An operand; dense without `strides`."""
    if strides is None:
        strides = Operand.dense(dtype, [d or 1 for d in dims]).strides
    return Operand(dtype=dtype, dims=dims, strides=strides, alignment=alignment)


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
    n: int | None = N,
    k: int | None = K,
    a: Operand | None = None,
    b: Operand | None = None,
    d: Operand | None = None,
    extras: tuple[Operand, ...] = (),
    math: str = "f32",
) -> GemmSpec:
    """A product with a constant b unless given, all operands dense."""
    constant = view(dtype, (1, 1, k, n), (0, 0, n, 1))
    return GemmSpec(
        operands=(d or view(out, (b0, b1, m, n)), a or view(dtype, (b0, b1, m, k)), b or constant, *extras),
        epilogue=total(len(extras)) if extras else IDENTITY,
        constants=() if b else (2,),
        math=math,
    )


def extra(dtype: DType, strides: tuple[int, ...], b0: int = 1, b1: int = 1) -> Operand:
    return view(dtype, (b0, b1, M, N), strides)


FULL = (M * N, M * N, N, 1)
ROW, COLUMN, SCALAR = (0, 0, 0, 1), (0, 0, 1, 0), (0, 0, 0, 0)


def refusal(spec: GemmSpec, target: Target = SM80) -> str:
    rejection = FAMILY.supports(spec, target)
    return "" if rejection is None else rejection.reason


@pytest.mark.parametrize(
    "spec, target, reason",
    (
        (gemm(), X86_AVX2, "needs a GPU"),
        (gemm(BF16), SM75, "sm75 has no instructions for bf16"),
        (gemm(F32, math="tf32"), SM75, "sm75 has no instructions for tf32"),
        (gemm(S32, F32), SM80, "not s32"),
        (gemm(a=view(F32, (1, 1, M, K)), b=view(F16, (1, 1, K, N))), SM80, "a is f32 and b is f16"),
        (gemm(a=view(F16, (1, 1, M, K), (0, 0, 2 * K, 2))), SM80, "a has strides (128, 2)"),
        (gemm(a=view(F16, (1, 1, M, K), (0, 0, K, None))), SM80, "a has strides (64, None)"),
        (gemm(b=view(F16, (1, 1, K, N), (0, 0, 2 * N, 2))), SM80, "b has strides (256, 2)"),
        (gemm(k=None), SM80, "constant b is one matrix of known size"),
        (gemm(d=view(F16, (1, 1, M, N), (0, 0, 1, M))), SM80, "the output has stride 96 along columns"),
        (gemm(S8, F32, b=view(S8, (1, 1, K, N))), SM80, "contiguous k in both"),
        (gemm(S8, F32, k=62), SM80, "aligned to 4 bytes"),
        (gemm(out=S32), SM80, "not s32"),
        (gemm(extras=(extra(F32, ROW),) * 9), SM80, "9 epilogue inputs"),
    ),
)
def test_what_is_refused_and_why(spec: GemmSpec, target: Target, reason: str) -> None:
    assert reason in refusal(spec, target)


TAKEN = {
    "plain": gemm(),
    "odd": gemm(m=95, n=127, k=63),
    "one row": gemm(m=1),
    "one column": gemm(n=1, k=3),
    "dynamic rows": gemm(m=None),
    "transposed": gemm(a=view(F16, (1, 1, M, K), (0, 0, 1, M)), b=view(F16, (1, 1, K, N), (0, 0, 1, K))),
    "all dynamic": gemm(
        m=None,
        n=None,
        k=None,
        a=view(F16, (1, 1, None, None), (0, 0, None, 1)),
        b=view(F16, (1, 1, None, None), (0, 0, None, 1)),
        d=view(F16, (1, 1, None, None), (0, 0, None, 1)),
    ),
    "f32": gemm(F32, F32, k=63, extras=(extra(F32, COLUMN),)),
    "f32 to f16": gemm(F32, F16),
    "s8": gemm(S8, F16, n=100),
}


@pytest.mark.parametrize("target", CUDA_TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("spec", TAKEN.values(), ids=TAKEN)
def test_every_target_takes_these_products(spec: GemmSpec, target: Target) -> None:
    assert refusal(spec, target) == ""
    configs = FAMILY.configs(spec, target)
    assert configs and len(set(configs)) == len(configs)
    assert all(FAMILY.estimate(spec, c, target) > 0 for c in configs[::7])
    is_static = not spec.dynamic()
    assert is_static or all(c.schedule == "data" for c in configs), "scratch is planned ahead"


@pytest.mark.parametrize(
    "spec, a, b, d",
    (
        (gemm(), (8, 8), (8, 8), (8, 8)),
        (gemm(k=60), (4, 4), (4, 4), (8, 8)),
        (gemm(n=126), (8, 8), (8, 8), (2, 2)),
        (gemm(a=view(F16, (1, 1, M, K), alignment=4)), (2, 2), (8, 8), (8, 8)),
        (gemm(a=view(F16, (1, 1, M, K), alignment=0)), (1, 8), (8, 8), (8, 8)),
        (gemm(a=view(F16, (1, 1, M, K), (0, 0, None, 1))), (1, 8), (8, 8), (8, 8)),
        (gemm(a=view(F16, (1, 1, M, K), (0, 0, 1, M))), (8, 8), (8, 8), (8, 8)),
        (gemm(m=95, a=view(F16, (1, 1, 95, K), (0, 0, 1, 96))), (1, 1), (8, 8), (8, 8)),
        (gemm(b1=3, b=view(F16, (1, 3, K, N), (0, 4, N, 1))), (8, 8), (4, 4), (8, 8)),
        (gemm(b=view(F16, (1, 1, K, N), (4, 4, N, 1))), (8, 8), (8, 8), (8, 8)),
        (gemm(out=F32), (8, 8), (8, 8), (4, 4)),
        (gemm(extras=(view(F16, (1, 1, M, N), ROW, alignment=4),)), (8, 8), (8, 8), (2, 2)),
        (gemm(extras=(view(F32, (1, 1, M, N), ROW, alignment=16),)), (8, 8), (8, 8), (8, 8)),
        (gemm(extras=(view(F16, (1, 1, M, N), COLUMN, alignment=2),)), (8, 8), (8, 8), (8, 8)),
        (gemm(extras=(view(F16, (1, 1, M, N), (0, 0, 129, 1)),)), (8, 8), (8, 8), (1, 1)),
    ),
)
def test_how_far_operands_are_aligned(spec: GemmSpec, a: tuple, b: tuple, d: tuple) -> None:
    problem = Problem(spec)
    found = [(x.proven, x.possible) for x in (problem.a, problem.b)]
    assert found == [a, b]
    widest = 16 // spec.out.dtype.size_bytes
    assert (min(problem.d.proven, widest), min(problem.d.possible, widest)) == d
    assert Aligned.of(view(F32, (1,), (1,)), [8]) == Aligned(proven=4, possible=4)


def test_a_second_unit_serves_what_turns_out_to_be_misaligned() -> None:
    spec = TAKEN["all dynamic"]
    config = FAMILY.configs(spec, SM80)[0]
    fast, slow = vectors_of(Problem(spec), config.tile)
    assert (fast.a, fast.b, fast.d) == (8, 8, 8) and (slow.a, slow.b, slow.d) == (1, 1, 1)
    units = FAMILY.units(spec, config, SM80)
    text = FAMILY.render(spec, config, SM80, "launch")
    assert text.index(units[0].name) < text.index(units[1].name)
    assert f", {config.tile.stages},\n" in units[0].text and ", 2,\n" in units[1].text
    assert len(FAMILY.units(gemm(m=None), config, SM80)) == 1


def test_units_do_not_depend_on_sizes() -> None:
    config = FAMILY.configs(gemm(), SM80)[0]
    one, other = (
        FAMILY.units(gemm(m=m, n=n, k=k, extras=(view(F32, (1, 1, m, n), ROW),)), config, SM80)[0]
        for m, n, k in ((96, 128, 64), (None, 256, 512))
    )
    assert one == other
    assert FAMILY.units(gemm(BF16, BF16), config, SM80)[0].name != one.name
    swizzled = dataclasses.replace(config, swizzle=8)
    assert FAMILY.units(gemm(), swizzled, SM80) == FAMILY.units(gemm(), config, SM80)


def test_a_unit_reads_as_it_did() -> None:
    spec = gemm(extras=(extra(F32, ROW), extra(F16, FULL)))
    config = next(c for c in FAMILY.configs(spec, SM80) if c.tile.name == "128x128_32x4")
    text = FAMILY.units(spec, config, SM80)[0].text
    assert text == (GOLDEN / "cutlass_gemm_sm80.cu").read_text()


def best(m: int, n: int, k: int, target: Target = SM80, **changes) -> GemmConfig:
    spec = gemm(m=m, n=n, k=k, **changes)
    return min(FAMILY.configs(spec, target), key=lambda c: FAMILY.estimate(spec, c, target))


def area(config: GemmConfig) -> int:
    return config.tile.shape[0] * config.tile.shape[1]


@pytest.mark.parametrize("target", (SM75, SM80, SM86, SM89, SM90A), ids=lambda t: t.name)
def test_the_model_picks_large_tiles_for_large_problems_and_shares_long_sums(target: Target) -> None:
    assert area(best(4096, 4096, 4096, target)) == 128 * 256
    assert area(best(64, 256, 128, target)) <= 64 * 128
    assert best(64, 64, 16384, target).split_k > 1


def test_tiles_are_shared_only_by_kernels_that_need_no_local_memory() -> None:
    def schedules(inputs: int) -> set[str]:
        spec = gemm(k=4096, extras=(extra(F32, FULL),) * inputs)
        return {c.schedule for c in FAMILY.configs(spec, SM80)}

    assert schedules(2) == {"data", "stream"} and schedules(3) == {"data"}
    large = gemm(m=512, n=512, k=4096, extras=(view(F32, (1, 1, 512, 512)),) * 2)
    shared = {c.tile.warp for c in FAMILY.configs(large, SM80) if c.schedule == "stream"}
    assert shared and all(m * n <= 64 * 32 for m, n, _ in shared)
    wide = gemm(F32, F32, m=512, n=512, k=8192)
    shared = {c.tile.warp for c in FAMILY.configs(wide, SM80) if c.schedule == "stream"}
    assert shared and all(m * n <= 64 * 32 for m, n, _ in shared)


def test_time_is_in_microseconds() -> None:
    spec, config = gemm(m=4096, n=4096, k=4096), best(4096, 4096, 4096)
    ideal = spec.flops() / SM80.gpu.tensor_flops * 1e6
    assert ideal < FAMILY.estimate(spec, config, SM80) < 1.6 * ideal
    thin = gemm(m=1, n=4096, k=4096)
    memory = 2 * 4096 * 4096 / SM80.gpu.bandwidth * 1e6
    assert memory < FAMILY.estimate(thin, best(1, 4096, 4096), SM80) < 2 * memory


STAND_IN = """
#include "bolt/cuda/launch.h"
static int runs;
extern "C" __attribute__((visibility("default"))) int UNIT_runs() { return runs; }
extern "C" int UNIT_check(const BoltGemm* g) { return g->batch > 65535 ? -4 : 0; }
extern "C" int UNIT(const BoltGemm* g, CUstream_st*) {
  runs++;
  for (int64_t l = 0; l < g->batch; l++)
    for (int64_t i = 0; i < g->m; i++)
      for (int64_t j = 0; j < g->n; j++) {
        float sum = 0;
        for (int64_t x = 0; x < g->k; x++)
          sum += ((const float*)g->a)[l * g->a_batch + i * A_ROW + x * A_K] *
                 ((const float*)g->b)[l * g->b_batch + j * B_ROW + x * B_K];
        for (int e = 0; e < BOLT_MAX_EXTRAS; e++) {
          const BoltExtra& x = g->extras[e];
          if (!x.data) continue;
          if (e == 0 && x.strides[1]) return -7;  // compiled for one value per column
          sum += ((const float*)x.data)[l * x.strides[0] + i * x.strides[1] + j * x.strides[2]];
        }
        ((float*)g->d)[l * g->d_batch + i * g->ldd + j] = sum > 0 || !g->extras[0].data ? sum : 0;
      }
  return 0;
}
"""
"""A product of fp32 operands on the host, plus inputs of which the first is one row, and relu."""


def _batched(
    b0: int | None, b1: int | None, b: str, *, m: int | None = 8, transposed: bool = False, bias: int = 16
) -> GemmSpec:
    """m x 24 by 24 x 16 in two batch dims, plus a row (stepping by `bias` in b1) and a full input."""
    n, k, rows = 16, 24, m or 8
    steps = {"dense": (3 * k * n, k * n), "shared": (0, 0), "inner": (k * n, 0), "constant": (0, 0)}
    b_rows = (1, k) if transposed else (n, 1)
    b_dims = (1, 1, k, n) if b == "constant" else (b0, b1, k, n)
    a_rows = (1, rows) if transposed else (k, 1)
    a_batch = (None, rows * k) if b0 is None else (3 * rows * k, rows * k)
    d_batch = (None, rows * n) if b0 is None else (3 * rows * n, rows * n)
    spec = gemm(
        F32, F32, b0=b0, b1=b1, m=m, n=n, k=k, b=view(F32, b_dims, (*steps[b], *b_rows)),
        a=view(F32, (b0, b1, m, k), (*a_batch, *a_rows)), d=view(F32, (b0, b1, m, n), (*d_batch, n, 1)),
        extras=(view(F32, (b0, b1, m, n), (0, bias, 0, 1)), view(F32, (b0, b1, m, n), (0, 0, n, 1))),
    )  # fmt: skip
    return dataclasses.replace(spec, constants=(2,)) if b == "constant" else spec


LAUNCHES = {
    "constant": (_batched(2, 3, "constant"), 2),
    "dense": (_batched(2, 3, "dense"), 2),
    "transposed": (_batched(2, 3, "dense", transposed=True), 2),
    "shared": (_batched(2, 3, "shared"), 2),
    "inner": (_batched(2, 3, "inner"), 2),
    "outer only": (_batched(2, 1, "dense"), 1),
    "inner only": (_batched(1, 3, "dense"), 1),
    "dynamic": (_batched(None, 3, "constant"), 2),
    "rows": (_batched(1, 3, "constant", m=None), 1),
    "one row each": (_batched(1, 3, "constant", m=1), 1),
    "one row each, one bias": (_batched(1, 3, "constant", m=1, bias=0), 1),
}


@needs_cutlass
@pytest.mark.parametrize("spec, runs", LAUNCHES.values(), ids=LAUNCHES)
def test_the_launcher_walks_both_batch_dims(spec: GemmSpec, runs: int, tmp_path: Path) -> None:
    got, want, launches = _launch(spec, [_bound(spec, s) for s in spec.dynamic()], tmp_path)
    np.testing.assert_array_equal(got, want)
    assert launches == runs


def _bound(spec: GemmSpec, slot) -> int:
    if slot.what == "dims":
        return 2 if slot.axis == 0 else 8
    return 3 * 8 * (24 if slot.operand == 1 else 16)


def _merged(b0: int, b1: int, m: int) -> GemmSpec:
    """A dense batch of rows, one matrix b and one bias."""
    n, k = 16, 24
    return gemm(
        F32, F32, b0=b0, b1=b1, m=m, n=n, k=k, b=view(F32, (b0, b1, k, n), (0, 0, n, 1)),
        extras=(view(F32, (b0, b1, m, n), ROW), view(F32, (b0, b1, m, n))),
    )  # fmt: skip


@needs_cutlass
@pytest.mark.parametrize("dims", ((2, 3, 4), (1, 3, 1), (5, 1, 2), (2, 2, 1)), ids=str)
def test_batches_that_continue_the_rows_are_rows(dims: tuple[int, int, int], tmp_path: Path) -> None:
    spec = _merged(*dims)
    assert size_of(spec) == Size(launches=1, batch=1, m=dims[0] * dims[1] * dims[2], n=16, k=24)
    got, want, launches = _launch(spec, [], tmp_path)
    np.testing.assert_array_equal(got, want)
    assert launches == 1


def _launch(spec: GemmSpec, ints: list[int], folder: Path) -> tuple[np.ndarray, np.ndarray, int]:
    """(result, reference, runs of the unit) of the launcher with a unit on the host."""
    config = FAMILY.configs(spec, SM80)[0]
    a, b = spec.operands[1:3]
    a_major, b_major = a.strides[3] == 1, spec.is_b_constant or b.strides[2] == 1
    words = {
        "A_ROW": "g->lda" if a_major else "1",
        "A_K": "1" if a_major else "g->lda",
        "B_ROW": "g->ldb" if b_major else "1",
        "B_K": "1" if b_major else "g->ldb",
    }
    text = "".join(_stand_in(unit.name, words) for unit in FAMILY.units(spec, config, SM80))
    name = FAMILY.units(spec, config, SM80)[0].name
    rendered = FAMILY.render(spec, config, SM80, "launch")
    rendered += f'extern "C" int {name}_runs();\n'
    rendered += f'extern "C" __attribute__((visibility("default"))) int runs() {{ return {name}_runs(); }}\n'
    call = launcher(rendered, "launch", text, SM80, folder)
    bound, rng = spec.bind(ints), np.random.default_rng(0)
    memory = [np.zeros(8192, np.float32), *(_random(rng, o.dtype) for o in bound.operands[1:])]
    views = [_view(x, o) for x, o in zip(memory, bound.operands, strict=True)]
    packed = FAMILY.pack(spec, config, SM80, {i: views[i] for i in spec.constants})
    addresses = [packed.get(i, x).ctypes.data for i, x in enumerate(memory)]
    assert call(addresses, ints) == 0
    want = np.broadcast_to(bound.reference(views[1:])[0], views[0].shape)
    return views[0], want, size_of(bound).launches


def _stand_in(name: str, words: dict[str, str]) -> str:
    text = STAND_IN.replace("UNIT", name).replace("static int runs", f"static int runs_{name}")
    text = text.replace("return runs;", f"return runs_{name};").replace("  runs++", f"  runs_{name}++")
    for word, meaning in words.items():
        text = text.replace(word, meaning)
    return text


def _random(rng: np.random.Generator, dtype: DType) -> np.ndarray:
    return rng.integers(-3, 4, 8192).astype(dtype.np)


def _view(memory: np.ndarray, operand: Operand) -> np.ndarray:
    steps = [(s or 0) * memory.itemsize for s in operand.strides]
    return np.lib.stride_tricks.as_strided(memory, [d or 1 for d in operand.dims], steps)


def test_a_packed_b_has_contiguous_k_padded_to_whole_vectors() -> None:
    spec = gemm(n=3, k=5)
    config = FAMILY.configs(spec, SM80)[0]
    b = np.arange(15, dtype=np.float32).reshape(1, 1, 5, 3)
    packed = FAMILY.pack(spec, config, SM80, {2: b})[2].reshape(3, 8)
    assert packed.dtype == np.float16
    np.testing.assert_array_equal(packed[:, :5], b[0, 0].T)
    assert not packed[:, 5:].any()
    assert "g.ldb = 8;" in FAMILY.render(spec, config, SM80, "launch")


MISALIGNED, INVALID = -1, -4
"""Negated cutlass::Status."""

INPUTS = (extra(F32, ROW), extra(F16, FULL))
MANY = (*INPUTS, extra(F32, COLUMN), extra(F32, SCALAR), extra(BF16, FULL))

UNITS = {
    "f16": (gemm(extras=INPUTS), "128x128_32x4", "data"),
    "stream": (gemm(k=4096, extras=INPUTS), "64x64_64x5", "stream"),
    "many": (gemm(extras=MANY), "64x64_64x5", "data"),
    "unaligned": (gemm(m=95, n=127, k=63, b=view(F16, (1, 1, 63, 127)), out=F32), "64x64_64x2", "data"),
    "tf32": (gemm(F32, F32, math="tf32", extras=(extra(F32, ROW),)), "128x64_32x3", "data"),
    "f32": (gemm(F32, F32, extras=(extra(F32, COLUMN), extra(F32, FULL))), "64x64_8x5", "data"),
    "s8": (gemm(S8, F16, n=100), "64x64_64x10", "data"),
}


def _config(spec: GemmSpec, tile: str, schedule: str, target: Target = SM80) -> GemmConfig:
    configs = FAMILY.configs(spec, target)
    return next(c for c in configs if (c.tile.name, c.schedule) == (tile, schedule))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Unit]:
    """The units of `UNITS`, compiled together."""
    folder = tmp_path_factory.mktemp("units")
    sources = [FAMILY.units(s, _config(s, tile, how), SM80)[0] for s, tile, how in UNITS.values()]
    library = loaded(compiled(sources, SM80, folder), SM80, folder)
    return {name: Unit(library, source.name) for name, source in zip(UNITS, sources, strict=True)}


def arguments(m: int = 512, n: int = 1024, k: int = 768, **changes: int) -> Gemm:
    """A dense problem with inputs of all kinds, at addresses nothing reads."""
    g = Gemm(batch=1, m=m, n=n, k=k, a=1 << 20, lda=k, b=1 << 24, ldb=k, d=1 << 28, ldd=n, split_k=1)
    g.extras[0] = Extra(changes.pop("row", 1 << 32), (0, 0, 1))
    g.extras[1] = Extra(changes.pop("full", 1 << 36), (0, changes.pop("full_step", n), 1))
    for field, value in changes.items():
        setattr(g, field, value)
    return g


@needs_cutlass
def test_a_unit_says_which_problems_it_runs(built: dict[str, Unit]) -> None:
    unit = built["f16"]
    assert unit.check(arguments()) == 0
    wrong = (
        {"a": 8}, {"b": 4}, {"d": 2}, {"row": 8}, {"full": 8}, {"lda": 772}, {"ldb": 772}, {"ldd": 1028},
        {"k": 772}, {"n": 1028}, {"a_batch": 4}, {"b_batch": 4}, {"d_batch": 4}, {"full_step": 1028},
    )  # fmt: skip
    for change in wrong:
        assert unit.check(arguments(**change)) == MISALIGNED, change
    assert unit.check(arguments(ldb=776, k=772, a=1 << 20, lda=776)) == MISALIGNED, "a's rows are not whole"
    for change in ({"m": 0}, {"k": 0}, {"batch": 0}, {"n": -1}, {"n": 1 << 33}, {"batch": 65536}):
        assert unit.check(arguments(**change)) == INVALID, change
    assert unit.check(arguments(m=1, lda=3, ldd=3, full_step=3)) == 0, "steps of a single row mean nothing"


@needs_cutlass
def test_units_of_unaligned_operands_run_everything(built: dict[str, Unit]) -> None:
    for name in ("unaligned", "f32"):
        assert built[name].check(arguments(m=3, n=5, k=7, a=4, b=4, d=4, row=4, full=4)) == 0
        assert built[name].check(arguments(n=0)) == INVALID


@needs_cutlass
def test_scratch_planned_ahead_is_what_stream_k_asks_for(built: dict[str, Unit]) -> None:
    config = _config(*UNITS["stream"])
    rng = np.random.default_rng(0)
    sizes = [(64, 64, 64), (64, 64, 16384), (4096, 4096, 4096), *rng.integers(1, 6000, (200, 3)).tolist()]
    for (m, n, k), split in itertools.product(sizes, (1, 2, 3, 5, 8, 16)):
        chosen = dataclasses.replace(config, split_k=split)
        planned = streamk_workspace(Size(launches=1, batch=1, m=m, n=n, k=k), chosen, SM80)
        assert built["stream"].workspace(arguments(m, n, k, split_k=split)) == planned, (m, n, k, split)
    spec = gemm(m=512, n=1024, k=768)
    assert FAMILY.scratch_bytes(spec, dataclasses.replace(config, split_k=3), SM80) > 0
    assert FAMILY.scratch_bytes(spec, dataclasses.replace(config, schedule="data"), SM80) == 0
    assert built["f16"].workspace(arguments()) == 0


@needs_cutlass
def test_without_a_device_units_return_an_error(built: dict[str, Unit]) -> None:
    from bolt.target import runs_here

    if runs_here(SM80):
        pytest.skip("needs a machine without a GPU")
    for name in ("f16", "f32", "tf32", "s8", "unaligned"):
        assert built[name].run(arguments()) > 0, f"{name}: a cudaError_t"


@needs_cutlass
def test_trees_compile_for_7_5(tmp_path: Path) -> None:
    spec = gemm(extras=INPUTS)
    source = FAMILY.units(spec, _config(spec, "128x128_32x2", "data", SM75), SM75)[0]
    binaries = compiled([source], SM75, tmp_path)
    assert Unit(loaded(binaries, SM75, tmp_path), source.name).check(arguments()) == 0


def _grid(target: Target) -> dict[str, Source]:
    """Every tile of every type, by unit name."""
    specs = [
        gemm(extras=INPUTS),
        gemm(BF16, F32, extras=(extra(BF16, FULL),)),
        gemm(k=63, n=127, b=view(F16, (1, 1, 63, 127))),
        gemm(F32, F32, math="tf32", extras=(extra(F32, FULL),)),
        gemm(F32, F32, extras=(extra(F32, FULL),)),
        gemm(S8, F16, extras=(extra(F32, ROW),)),
    ]
    found: dict[str, Source] = {}
    for spec in specs:
        if refusal(spec, target):
            continue
        for tile in {c.tile for c in FAMILY.configs(spec, target)}:
            for schedule in ("data", "stream") if _can_share(spec, tile) else ("data",):
                unit = FAMILY.units(spec, GemmConfig(tile=tile, schedule=schedule), target)[0]
                found[unit.name] = unit
    return dict(sorted(found.items()))


@pytest.mark.slow
@needs_cutlass
@pytest.mark.parametrize("target", (SM75, SM80, SM89), ids=lambda t: t.name)
def test_every_tile_compiles_without_spills(target: Target, tmp_path: Path) -> None:
    units = list(_grid(target).values())
    for first in range(0, len(units), 12):
        compiled(units[first : first + 12], target, tmp_path)


def test_the_grid_has_all_tiles() -> None:
    assert len(_grid(SM80)) >= 2 * len(tiles(SM80, "gemm", "f16").legal) + 80
