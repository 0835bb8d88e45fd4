"""The ctypes binding of the module ABI and the host's thread pool."""

import ctypes
import hashlib
import threading

import numpy as np
import pytest
from module.toy import compile_toy

from bolt.errors import ModelError, ModuleError
from bolt.module import host
from bolt.module.load import load
from bolt.types import F32, S64

WEIGHTS = np.array([1, 2, 3, 4], np.float32)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def toy(root):
    with load(compile_toy(root), WEIGHTS, cache_root=root) as module:
        yield module


def arrays(rows, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((rows, 4), np.float32), rng.standard_normal(4, np.float32)]


def test_what_the_module_says_about_itself(toy):
    assert [(v.name, v.dtype, v.dims) for v in toy.inputs] == [("a", F32, (None, 4)), ("b", F32, (4,))]
    assert [(v.name, v.dtype, v.dims) for v in toy.outputs] == [("y", F32, (None, 4)), ("rows", S64, (1,))]
    assert toy.target == "x86-portable"


def test_infer(toy):
    inferred = toy.infer([(7, 4), (4,)])
    assert inferred.dims == ((7, 4), (1,))
    assert inferred.workspace_bytes == 7 * 16
    with pytest.raises(ModuleError, match="2000000 rows are too many"):
        toy.infer([(2000000, 4), (4,)])


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("rows", [1, 2, 3, 500])
def test_run(toy, threads, rows):
    a, b = arrays(rows)
    for _ in range(20):
        y, count = toy.run([a, b], threads=threads)
        np.testing.assert_array_equal(y, a * WEIGHTS + b)
        assert count == [rows]


def test_runs_from_several_threads_at_once(toy):
    wrong = []

    def work(seed):
        for rows in range(1, 60):
            a, b = arrays(rows, seed)
            y, _ = toy.run([a, b], threads=2)
            wrong.extend([rows] if (y != a * WEIGHTS + b).any() else [])

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_inputs_need_not_be_contiguous(toy):
    a, b = arrays(6)
    y, _ = toy.run([a[::2], b])
    np.testing.assert_array_equal(y, a[::2] * WEIGHTS + b)


def test_every_round_is_timed(toy):
    us = toy.time_us(arrays(3), rounds=5)
    assert us.shape == (5,) and (us > 0).all()


def test_inputs_that_do_not_fit_are_refused(toy):
    a, b = arrays(3)
    with pytest.raises(ModelError, match="takes 2 inputs, 1 were given"):
        toy.run([a])
    with pytest.raises(ModelError, match=r"input 'a' is float32, the array given is float64"):
        toy.run([a.astype(np.float64), b])
    with pytest.raises(ModelError, match=r"input 'a' has dims \(\?, 4\), the dims given are \(3, 5\)"):
        toy.run([np.zeros((3, 5), np.float32), b])


def test_an_error_of_the_module_is_passed_on(toy):
    a, b = arrays(3)
    b[0] = -77
    with pytest.raises(ModuleError, match="failed: b is -77"):
        toy.run([a, b])


def test_weights_must_be_the_right_ones(root):
    right = hashlib.sha256(WEIGHTS.tobytes()).hexdigest()
    path = compile_toy(root, sha256=right)
    load(path, WEIGHTS, cache_root=root).close()
    with pytest.raises(ModuleError, match="not those"):
        load(path, WEIGHTS + 1, cache_root=root)
    with pytest.raises(ModuleError, match="needs 16 bytes of weights, 12 were given"):
        load(path, WEIGHTS[:3], cache_root=root)


def test_misaligned_weights_are_copied(root):
    padded = np.zeros(33, np.float32)
    start = next(i for i in range(1, 17) if (padded.ctypes.data + 4 * i) % 64)
    padded[start : start + 4] = WEIGHTS
    a, b = arrays(3)
    with load(compile_toy(root), padded[start : start + 4], cache_root=root) as module:
        np.testing.assert_array_equal(module.run([a, b])[0], a * WEIGHTS + b)


def test_another_abi_version_is_refused(root):
    with pytest.raises(ModuleError, match="has module ABI 99"):
        load(compile_toy(root, abi="99"), WEIGHTS, cache_root=root)


def test_what_is_no_module_is_refused(root, tmp_path):
    (tmp_path / "m.so").write_bytes(b"no library")
    with pytest.raises(ModuleError, match="can't be loaded as a bolt module"):
        load(tmp_path / "m.so", cache_root=root)
    with pytest.raises(ModuleError, match="can't be loaded as a bolt module"):
        load(host.library_path(root), cache_root=root)


def test_the_pool_runs_each_index_once(root):
    library = host.open_library(host.library_path(root))
    pool = host.pool(library, 4)
    task_type = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_size_t)
    for count in (0, 1, 2, 3, 64, 1000):
        seen = [0] * count

        def task(_, index, seen=seen):
            seen[index] += 1

        callback = task_type(task)
        library.bolt_pool_run(pool.handle, ctypes.cast(callback, ctypes.c_void_p), count, None)
        assert seen == [1] * count
