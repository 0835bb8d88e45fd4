"""The cache folder as a whole."""

import os
import time

from bolt import storage
from bolt.toolchain.build import store
from bolt.toolchain.cache import make_key


def fill(root):
    cache = store(root)
    for n in range(4):
        with cache.workspace() as folder:
            (folder / "f").write_bytes(bytes(1000))
            entry = cache.put(make_key(n=n), {"f": folder / "f"})
        os.utime(entry, (time.time() - 10_000 + n,) * 2)
    for n in range(3):
        folder = root / "artifacts" / str(n)
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(bytes(1000))
        os.utime(folder, (time.time() - 10_000 + n,) * 2)
    (root / "records-1.sqlite").write_bytes(bytes(500))


def sizes(root):
    return {part.name: part.bytes for part in storage.parts(root)}


def test_parts(tmp_path):
    assert set(sizes(tmp_path).values()) == {0}
    fill(tmp_path)
    assert sizes(tmp_path)["artifacts"] == 3000
    assert sizes(tmp_path)["records"] == 500


def test_prune_keeps_the_measurements_and_what_was_used_last(tmp_path):
    fill(tmp_path)
    before = sum(sizes(tmp_path).values())
    freed = storage.prune(tmp_path, 4500)
    after = sizes(tmp_path)
    assert freed == before - sum(after.values())
    assert sum(after.values()) <= 4500
    assert after["records"] == 500
    assert sorted(p.name for p in (tmp_path / "artifacts").iterdir()) == ["1", "2"]
    assert store(tmp_path).get(make_key(n=3))


def test_clear_drops_everything_of_ours_and_nothing_else(tmp_path):
    fill(tmp_path)
    (tmp_path / "mine.txt").write_text("keep")
    storage.clear(tmp_path)
    assert set(sizes(tmp_path).values()) == {0}
    assert (tmp_path / "mine.txt").read_text() == "keep"


def test_fetched_models_go_first(tmp_path):
    fill(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "x.onnx").write_bytes(bytes(3000))
    total = sum(sizes(tmp_path).values())
    assert storage.prune(tmp_path, total) == 0
    assert storage.prune(tmp_path, total - 1) == 3000
    assert sizes(tmp_path)["models"] == 0
