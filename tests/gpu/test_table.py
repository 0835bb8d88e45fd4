"""What a run on a GPU writes into the table of kernels."""

from __future__ import annotations

from pathlib import Path

import pytest
from gpu.test_grid import write_table

from bolt import gpu
from bolt.bench import support
from bolt.gpu import Device, Found

H200 = Device(
    ordinal=0, name="NVIDIA H200", sm=90, multiprocessors=132, memory_bytes=1 << 37, driver="1", cuda=(13, 0)
)


def test_cells_keep_what_was_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, monkey = tmp_path / "table.json", monkeypatch
    monkey.setattr(gpu, "query", lambda: Found((H200,)))
    known = [
        support.Cell(family="a", target=t, arithmetic="f16", compiled=True, emulated=True, registers=90)
        for t in ("sm80", "sm90a")
    ]
    support.write(path, known)
    write_table(path, [("a", "f16"), ("b", "f32")])
    cells = {(c.family, c.target): c for c in support.read(path)}
    assert cells["a", "sm80"] == known[0]
    assert cells["a", "sm90a"].registers == 90 and cells["a", "sm90a"].emulated
    assert all("NVIDIA H200, 20" in cells[f, "sm90a"].ran_on for f in "ab")
