"""CUTLASS 3.x matrix products on datacenter Blackwell: what differs from Hopper's."""

from __future__ import annotations

from pathlib import Path

import pytest
from kernels.device_units import Gemm, Unit, compiled, loaded, needs_cutlass
from kernels.test_cutlass_gemm_sm90 import FULL, INVALID, ROW, extra, gemm

from bolt.kernels.cutlass_gemm_sm90_code import Sm90Gemm
from bolt.kernels.cutlass_gemm_sm100 import CutlassGemmSm100
from bolt.kernels.cutlass_tiles_sm90 import ELEMENT_BYTES
from bolt.kernels.cutlass_tiles_sm100 import tiles
from bolt.target import SM90A, SM100A
from bolt.types import BF16, F16, F32, S8

pytest.importorskip("cutlass_library")

FAMILY = CutlassGemmSm100()


def test_only_blackwell_has_tcgen05() -> None:
    rejection = FAMILY.supports(gemm(), SM90A)
    assert rejection is not None and "of sm100a, not of sm90a" in rejection.reason


def test_what_is_taken_and_refused() -> None:
    for spec in (gemm(), gemm(BF16, F32, m=None), gemm(F32, F32, math="tf32")):
        assert FAMILY.supports(spec, SM100A) is None
        assert all(FAMILY.estimate(spec, c, SM100A) > 0 for c in FAMILY.configs(spec, SM100A))
    for spec, reason in ((gemm(S8, F16), "no instruction for s8"), (gemm(n=100), "extent of the output")):
        rejection = FAMILY.supports(spec, SM100A)
        assert rejection is not None and reason in rejection.reason


@pytest.mark.parametrize("element", ("f16", "bf16", "tf32"))
def test_tiles_cover_both_schedules(element: str) -> None:
    found = tiles(element)
    assert {t.schedule for t in found.legal} == {"1sm", "2sm"} and len(set(found.legal)) == len(found.legal)
    assert found.rejected and all(r.reason for r in found.rejected)
    for tile in found.legal:
        assert tile.shape[0] == 128 and tile.shape[2] * ELEMENT_BYTES[element] == 128
        assert tile.cluster[0] == (2 if tile.schedule == "2sm" else 1)


def test_two_multiprocessors_multiply_the_tiles_of_both() -> None:
    spec = gemm(extras=(extra(F32, ROW),))
    text = FAMILY.units(spec, Sm90Gemm(tile=(128, 64, 64), cluster=(2, 1), schedule="2sm"), SM100A)[0].text
    assert "using TileShape = Shape<Int<256>, Int<64>, Int<64>>;" in text
    assert "using CtaTileShape = Shape<Int<128>, Int<64>, Int<64>>;" in text
    assert "arch::Sm100" in text and "arch::Sm90" not in text


@pytest.mark.slow
@needs_cutlass
def test_every_tile_compiles(tmp_path: Path) -> None:
    spec = gemm(extras=(extra(F32, ROW), extra(F16, FULL)))
    sources = [u for c in FAMILY.configs(spec, SM100A) for u in FAMILY.units(spec, c, SM100A)]
    sources += FAMILY.units(
        gemm(F32, F32, math="tf32"), Sm90Gemm(tile=(128, 128, 32), schedule="1sm"), SM100A
    )
    binaries = compiled(sources, SM100A, tmp_path)
    library = loaded(binaries, SM100A, tmp_path)
    for binary in binaries:
        assert Unit(library, binary.name).check(Gemm()) == INVALID
