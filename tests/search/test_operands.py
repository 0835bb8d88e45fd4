"""Operand memory, data and checks."""

from dataclasses import replace

import numpy as np
import pytest
from search.toy_family import add_spec

from bolt.epilogue import Builder
from bolt.ops.conv import ConvSpec
from bolt.ops.pointwise import CopySpec, GatherSpec, PointwiseSpec
from bolt.ops.spec import Operand
from bolt.search import operands
from bolt.search.operands import GUARD
from bolt.types import BF16, F8E4M3, F8E5M2, F16, F32, S64


def conv():
    return ConvSpec(
        operands=(
            Operand.dense(F32, (1, 5, 5, 4)),
            Operand.dense(F32, (1, 5, 5, 3)),
            Operand.dense(F32, (4, 3, 3, 3)),
        ),
        constants=(2,),
        pad=(1, 1),
        pad_end=(1, 1),
    )


def test_a_halo_is_zero_and_inside_the_memory():
    made = operands.make(conv())
    block = made.blocks[1]
    around = 15 + 3  # one row and one pixel before element 0
    assert block.start == GUARD + around
    assert (block.memory[GUARD : GUARD + around] == 0).all()
    assert block.view.std() > 0.5


def test_weights_keep_results_near_one():
    assert 0.3 < operands.make(conv()).reference.std() < 3


def right(made):
    memory = made.blocks[0].memory.copy()
    view = memory[made.blocks[0].start :][: made.reference.size].reshape(made.reference.shape)
    view[...] = made.reference
    return memory


@pytest.mark.parametrize("dtype", [F16, BF16, F8E4M3, F8E5M2])
def test_narrow_operands_hold_what_the_reference_reads(dtype):
    spec = conv()
    stored = tuple(replace(o, dtype=dtype) for o in spec.operands)
    made = operands.make(replace(spec, operands=stored))
    assert [b.memory.dtype for b in made.blocks] == [dtype.np] * 3
    for index in (1, 2):
        assert made.blocks[index].view.astype(np.float32).std() > 0.1
    assert made.constants[2].dtype == np.float32
    assert (made.constants[2] == made.blocks[2].view.astype(np.float32)).all()
    assert np.isnan(made.blocks[0].memory.astype(np.float32)).all()
    assert made.check(right(made)).ok
    assert not made.check(made.blocks[0].memory.copy()).ok


def test_right_wrong_missing_and_stray_results_are_told_apart():
    made = operands.make(conv())
    assert made.check(right(made)).ok
    wrong = right(made)
    wrong[GUARD + 3] += 0.1
    assert made.check(wrong).worst == (0, 0, 0, 3)
    missing = right(made)
    missing[GUARD] = made.blocks[0].memory[GUARD]
    assert not made.check(missing).ok
    for stray in (GUARD - 1, -GUARD):
        memory = right(made)
        memory[stray] = 1
        assert "wrote 1 elements outside" in made.check(memory).reason


def test_broadcast_operands_have_one_element_per_broadcast_dim():
    made = operands.make(add_spec(8))
    assert made.constants[2].shape == (1, 16)
    np.testing.assert_array_equal(made.blocks[2].view, np.broadcast_to(made.constants[2], (8, 16)))


def test_gaps_between_the_elements_of_an_output_belong_to_others():
    strided = Operand(dtype=F32, dims=(3, 4), strides=(10, 1))
    made = operands.make(CopySpec(operands=(strided, Operand.dense(F32, (3, 4)))))
    memory = made.blocks[0].memory.copy()
    np.lib.stride_tricks.as_strided(memory[GUARD:], (3, 4), (40, 4))[...] = made.reference
    assert made.check(memory).ok
    memory[GUARD + 5] = 0
    assert "outside" in made.check(memory).reason


def test_backward_strides():
    backward = Operand(dtype=F32, dims=(3, 4), strides=(-4, 1))
    made = operands.make(CopySpec(operands=(Operand.dense(F32, (3, 4)), backward)))
    np.testing.assert_array_equal(made.reference, made.blocks[1].view)
    assert made.blocks[1].start == GUARD + 8


def test_indices_stay_inside_the_axis():
    spec = GatherSpec(
        operands=(
            Operand.dense(F32, (2, 50, 3)),
            Operand.dense(F32, (2, 7, 3)),
            Operand.dense(S64, (50,)),
        )
    )
    index = operands.make(spec).blocks[2].view
    assert index.min() >= 0 and index.max() == 6


def test_values_stay_inside_the_domain_of_an_operation():
    b = Builder()
    root = PointwiseSpec(
        operands=(Operand.dense(F32, (8, 8)), Operand.dense(F32, (8, 8))),
        epilogue=b.finish(b.op("sqrt", b.input(0))),
    )
    made = operands.make(root)
    assert np.isfinite(made.reference).all()
    assert made.blocks[1].view.min() > 0


def test_results_stay_within_the_range_of_fp32():
    """exp(60 x) of normal values goes beyond it, and an infinite result would be nothing to compare."""
    b = Builder()
    result = b.op("exp", b.op("mul", b.input(0), b.const(60.0)))
    spec = PointwiseSpec(operands=(Operand.dense(F32, (400,)),) * 2, epilogue=b.finish(result))
    assert operands.make(spec).reference.max() < np.finfo(np.float32).max


def test_equal_seeds_give_equal_data():
    for a, b in zip(operands.make(conv()).blocks, operands.make(conv()).blocks, strict=True):
        np.testing.assert_array_equal(a.memory, b.memory)


def test_constant_bytes():
    assert operands.constant_bytes(conv()) == 4 * 27 * 4
    assert operands.constant_bytes(add_spec(8)) == 64
