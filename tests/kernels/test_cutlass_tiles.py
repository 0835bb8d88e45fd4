"""The tiles read from CUTLASS's generator."""

from __future__ import annotations

import pytest

from bolt.kernels.cutlass_tiles import Tile, tiles, unaligned_tiles
from bolt.target import CUDA_TARGETS, SM75, SM80, SM86, SM120A

pytest.importorskip("cutlass_library")

TYPES = (("f16", "f32"), ("bf16", "f32"), ("tf32", "f32"), ("f32", "f32"), ("s8", "s32"), ("u8", "s32"))


def found(target, element, kind="gemm"):
    accumulator = dict(TYPES)[element]
    return {t.name: t for t in tiles(target, kind, element, accumulator).legal}


def test_a_tile_says_what_the_generator_does():
    assert found(SM80, "f16")["128x256_32x3"] == Tile(
        shape=(128, 256, 32),
        warp=(64, 64, 32),
        instruction=(16, 8, 16),
        stages=3,
        opclass="TensorOp",
        math_op="multiply_add",
        arch=80,
        element="f16",
        accumulator="f32",
        alignments=(8, 4, 2),
    )
    assert found(SM75, "f16")["64x128_64x2"].warps == 4, "two warps share the depth"


@pytest.mark.parametrize("target", CUDA_TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("kind", ("gemm", "conv"))
def test_every_tile_fits_its_target(target, kind):
    for element, accumulator in TYPES:
        table = tiles(target, kind, element, accumulator)
        assert len(set(table.legal)) == len(table.legal)
        for tile in (*table.legal, *unaligned_tiles(target, kind, element, accumulator)):
            assert (tile.element, tile.accumulator) == (element, accumulator)
            assert tile.smem_bytes <= target.gpu.smem_bytes and 32 <= tile.threads <= 1024
            assert all(b % w == 0 for b, w in zip(tile.shape, tile.warp, strict=True))
            assert all(w % i == 0 for w, i in zip(tile.warp, tile.instruction, strict=True))
            assert tile.alignments == tuple(sorted(tile.alignments, reverse=True))


def test_instructions_a_target_lacks_have_no_tiles():
    assert not found(SM75, "bf16") and not found(SM75, "tf32")
    assert found(SM75, "f16") and found(SM75, "s8") and found(SM75, "f32")


def test_less_shared_memory_leaves_fewer_tiles_and_each_has_a_reason():
    large, small = tiles(SM80, "gemm", "f16"), tiles(SM86, "gemm", "f16")
    assert not large.rejected
    assert len(small.legal) + len(small.rejected) == len(large.legal)
    assert "147456 bytes of shared memory, a thread block of sm86 has 101376" in small.rejected[0].reason
    assert found(SM120A, "f16") == found(SM86, "f16")


def test_unaligned_halves_go_through_registers():
    rows = unaligned_tiles(SM80, "gemm", "f16")
    assert rows and all(t.stages == 2 and t.alignments[-1] == 1 for t in rows)
    assert unaligned_tiles(SM80, "gemm", "f32") == tiles(SM80, "gemm", "f32").legal
    assert unaligned_tiles(SM80, "gemm", "s8", "s32") == ()
