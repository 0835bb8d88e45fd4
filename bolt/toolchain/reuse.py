"""Which batch of the cache a source was compiled in: a search takes it from there, whatever else is in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from bolt.kernels.family import Source
from bolt.target import Target
from bolt.toolchain.cache import Store, make_key
from bolt.toolchain.compile import OBJECT, object_key
from bolt.toolchain.host import Compiler

_NOTE = "unit.json"

DUPLICATES = "-Wl,-z,muldefs"
"""For linking objects that hold the same source twice, once each by itself or in some batch."""


def remember(sources: Sequence[Source], path: Path, target: Target, compiler: Compiler, cache: Store) -> None:
    """Notes that these sources were compiled together into the object at `path`."""
    note = json.dumps({"entry": path.parent.name, "names": [source.name for source in sources]})
    for source in sources:
        with cache.workspace() as folder:
            (folder / _NOTE).write_text(note)
            cache.put(_key(source, target, compiler), {_NOTE: folder / _NOTE})


def recall(
    source: Source, target: Target, compiler: Compiler, cache: Store
) -> tuple[Path, tuple[str, ...]] | None:
    """The object a source was compiled into, and the names of all sources in it; None when there is none."""
    if alone := cache.get(object_key(source, target, compiler)):
        return alone / OBJECT, (source.name,)
    key = _key(source, target, compiler)
    note = cache.get(key)
    if note is None:
        return None
    noted = json.loads((note / _NOTE).read_text())
    entry = cache.get(noted["entry"])
    if entry is None:
        cache.drop(key)
        return None
    return entry / OBJECT, tuple(noted["names"])


def _key(source: Source, target: Target, compiler: Compiler) -> str:
    return make_key(what="unit", object=object_key(source, target, compiler))
