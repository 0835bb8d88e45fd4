"""Inputs given on the command line."""

import numpy as np
import pytest

from bolt.errors import ModelError
from bolt.inputs import Wanted, read

INPUTS = (
    Wanted(name="x", dtype="float32", dims=("n", 3)),
    Wanted(name="ids", dtype="int64", dims=("", 4)),
)


def test_random_values_fit_the_inputs():
    made = read(["random"], INPUTS, {"n": (5,)})
    assert (made["x"].shape, made["x"].dtype) == ((5, 3), np.float32)
    assert (made["ids"].shape, made["ids"].dtype) == ((1, 4), np.int64)
    np.testing.assert_array_equal(made["x"], read([], INPUTS, {"n": (5,)})["x"])


def test_files(tmp_path):
    x, ids = np.ones((2, 3), np.float32), np.zeros((2, 4), np.int64)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "all.npz", x=x + 1, ids=ids)
    made = read([str(tmp_path / "all.npz"), f"x={tmp_path / 'x.npy'}"], INPUTS, {})
    np.testing.assert_array_equal(made["x"], x)
    np.testing.assert_array_equal(made["ids"], ids)


def test_what_can_not_be_read_is_named(tmp_path):
    (tmp_path / "x.npy").write_bytes(b"junk")
    for text in (f"x={tmp_path / 'x.npy'}", str(tmp_path / "x.npy"), "x=gone.npy", "gone.npz"):
        with pytest.raises(ModelError, match=r"can't be read as input"):
            read([text], INPUTS, {})
    np.savez(tmp_path / "y.npz", y=np.ones(1))
    with pytest.raises(ModelError, match="no input 'y'; its inputs are x, ids"):
        read([str(tmp_path / "y.npz")], INPUTS, {})


def test_the_shape_of_a_whole_input_can_be_given() -> None:
    (open_,) = (w for w in INPUTS if w.name == "x")
    dims = tuple(7 if isinstance(d, str) else d for d in open_.dims)
    assert read([], INPUTS, {"x": dims})["x"].shape == dims
    with pytest.raises(ModelError, match="the shape given"):
        read([], INPUTS, {"x": (*dims, 1)})
