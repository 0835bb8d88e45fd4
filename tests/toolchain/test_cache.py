"""The content-addressed store: whole entries or none."""

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from bolt.errors import ToolchainError
from bolt.toolchain import cache
from bolt.toolchain.cache import Store, make_key

KEY = make_key(what="test")


def put(store, key=KEY, data=b"data"):
    with store.workspace() as folder:
        (folder / "f").write_bytes(data)
        return store.put(key, {"f": folder / "f"})


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def test_get_returns_what_was_put(store):
    assert store.get(KEY) is None
    put(store)
    assert (store.get(KEY) / "f").read_bytes() == b"data"
    assert not list((store.root / "tmp").iterdir())


def test_the_key_covers_every_part():
    base = {"compiler": "g++ 12", "flags": ["-O3"], "source": "int x;"}
    keys = {make_key(**base), *(make_key(**{**base, name: "other"}) for name in base)}
    assert len(keys) == 4


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "no entry file", "junk entry file"])
def test_a_damaged_entry_is_dropped_and_can_be_put_again(store, damage):
    file = put(store) / "f"
    entry_file = file.with_name("entry.json")
    {
        "truncate": lambda: file.write_bytes(b"da"),
        "flip": lambda: file.write_bytes(b"dbta"),
        "remove": file.unlink,
        "no entry file": entry_file.unlink,
        "junk entry file": lambda: entry_file.write_text("[1"),
    }[damage]()
    assert store.get(KEY) is None
    assert not file.parent.exists()
    put(store)
    assert (store.get(KEY) / "f").read_bytes() == b"data"


def test_putting_over_a_damaged_entry_replaces_it(store):
    file = put(store) / "f"
    file.write_bytes(b"xxxx")
    put(store)
    assert (store.get(KEY) / "f").read_bytes() == b"data"


def test_prune_drops_what_was_unused_for_longest(store):
    keys = [make_key(n=n) for n in range(4)]
    for age, key in enumerate(keys):
        entry = put(store, key, bytes(1000))
        os.utime(entry, (time.time() - 10_000 * (4 - age),) * 2)
    store.get(keys[0])
    one = store.size().bytes // 4
    freed = store.prune(2 * one)
    assert freed == 2 * one
    assert [store.get(k) is not None for k in keys] == [True, False, False, True]


def test_prune_leaves_what_is_in_use_and_clear_does_not(store):
    put(store)
    assert store.prune(0) == 0
    assert store.clear() > 0
    assert store.size() == cache.Size(entries=0, bytes=0)


def test_a_full_disk_says_what_to_do_and_leaves_nothing(store, monkeypatch):
    def full(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(cache.shutil, "move", full)
    with pytest.raises(ToolchainError, match=r"No space left.*bolt cache prune"):
        put(store)
    assert store.get(KEY) is None
    assert not list((store.root / "tmp").iterdir())


def test_a_folder_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ToolchainError, match="BOLT_CACHE_DIR"):
        put(Store(tmp_path / "file" / "store"))


def _put_many(root, seed):
    for n in range(40):
        put(Store(root), make_key(n=n), b"%d" % n * 1000)


def test_several_processes_write_the_same_entries(store):
    spawn = multiprocessing.get_context("fork")
    workers = [spawn.Process(target=_put_many, args=(store.root, seed)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    for n in range(40):
        assert (store.get(make_key(n=n)) / "f").read_bytes() == b"%d" % n * 1000


def test_a_killed_writer_leaves_no_partial_entry(store):
    script = textwrap.dedent("""
        import sys, itertools
        from pathlib import Path
        from bolt.toolchain.cache import Store, make_key
        store = Store(Path(sys.argv[1]))
        print("go", flush=True)
        for n in itertools.count():
            with store.workspace() as folder:
                for name in "abc":
                    (folder / name).write_bytes(b"%d" % n * 5000)
                store.put(make_key(n=n), {name: folder / name for name in "abc"})
    """)
    for _ in range(3):
        child = subprocess.Popen(
            [sys.executable, "-P", "-c", script, str(store.root)], stdout=subprocess.PIPE
        )
        child.stdout.readline()
        time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    entries = [entry for entry in store._entries()]
    assert entries
    for entry in entries:
        assert store.get(entry.name), "a partial entry became visible"


def test_leftovers_of_killed_processes_are_removed(store):
    put(store)
    left = store.root / "tmp" / "1-abc"
    left.mkdir()
    os.utime(left, (1, 1))
    store.prune(1 << 30)
    assert not left.exists()
