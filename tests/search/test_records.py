"""The store of measurements."""

import json
import logging
import multiprocessing

import pytest

from bolt.errors import ModelError, ToolchainError
from bolt.search.measure import Measurement
from bolt.search.records import Key, Records, device_name

KEY = Key(candidate="c", object="o", device="d", threads=1, dims=(1, 2), rotate_bytes=0)
FAST = Measurement(status="ok", median_us=1.5, min_us=1.0, spread=0.1, calls=10)


def changed(**values):
    base = {"candidate": "c", "object": "o", "device": "d", "threads": 1, "dims": (1, 2), "rotate_bytes": 0}
    return Key(**{**base, **values})


def test_what_was_put_is_found(tmp_path):
    with Records.below(tmp_path) as records:
        records.put(KEY, FAST)
    with Records.below(tmp_path) as records:
        assert records.get(KEY) == FAST
        assert records.knows("c") and not records.knows("x")


@pytest.mark.parametrize(
    "other",
    [
        {"candidate": "x"},
        {"object": "x"},
        {"device": "x"},
        {"threads": 2},
        {"dims": (2, 1)},
        {"rotate_bytes": 1},
    ],
)
def test_every_part_of_the_key_counts(tmp_path, other):
    with Records.below(tmp_path) as records:
        records.put(KEY, FAST)
        assert records.get(changed(**other)) is None


def test_merging_keeps_the_better_founded_record(tmp_path):
    better = Measurement(status="ok", median_us=1.2, calls=100)
    crash = Measurement(status="crash", reason="SIGSEGV")
    with Records(tmp_path / "a") as a, Records(tmp_path / "b") as b:
        a.put(KEY, FAST)
        b.put(KEY, better)
        b.put(changed(threads=2), crash)
        rows = json.loads(json.dumps(b.export()))
        assert a.merge(rows) == 2
        assert a.merge(rows) == 0
        assert a.get(KEY) == better
        assert a.get(changed(threads=2)) == crash
        assert a.export() == b.export()


@pytest.mark.parametrize("row", [{}, {"candidate": "c"}, {"dims": "[1"}, {"dims": 3}])
def test_junk_is_not_merged(tmp_path, row):
    with Records.below(tmp_path) as records, pytest.raises(ModelError, match="no tuning record"):
        records.merge([row])


def test_a_damaged_file_is_moved_aside(tmp_path, caplog):
    path = tmp_path / "records.sqlite"
    path.write_bytes(b"junk" * 1000)
    with caplog.at_level(logging.WARNING), Records(path) as records:
        records.put(KEY, FAST)
        assert records.count() == 1
    assert "is damaged" in caplog.text
    assert path.with_suffix(".damaged").exists()


def test_a_folder_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ToolchainError, match="BOLT_CACHE_DIR"):
        Records.below(tmp_path / "file")


def _write(path, worker):
    with Records(path) as records:
        for n in range(50):
            records.put(changed(dims=(worker, n)), FAST)


def test_several_processes_write_at_the_same_time(tmp_path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_write, args=(tmp_path / "r", n)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    with Records(tmp_path / "r") as records:
        assert records.count() == 150


def test_clear(tmp_path):
    with Records.below(tmp_path) as records:
        records.put(KEY, FAST)
        records.clear()
        assert records.count() == 0


def test_this_device_has_a_name():
    assert device_name()
