"""Several CUDA sources as one translation unit.

Most of a CUTLASS compile is reading the headers: eight sm80 kernels in one file take 11 s instead of 50,
eight sm90a kernels 60 s instead of 180. A source can take part when its includes come first and it defines no
macro; what follows the includes is put into a namespace of its own. What is batched with what depends on the
sources alone, never on the machine or the cache, so that the same model gives the same bytes.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from bolt.kernels.family import Source
from bolt.toolchain.nvcc import uses_cutlass

_GB = 1 << 30
_GLOBAL = re.compile(r"\s*(#\s*include\b|struct \w+;)")
_HEAD = re.compile(r"\s*(//.*|#\s*include\b.*|struct \w+;.*|)$")
_DIRECTIVE = re.compile(r"^\s*#\s*(include|define|undef)\b", re.MULTILINE)
_COLLECTIVE = re.compile("sm90|sm100|sm120|collective")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What compiling takes.

    Attributes:
        bytes: memory of a compiler run on one source.
        batch_bytes: the same on a full batch.
        batch: most sources of one batch; more would leave processor cores idle.
        seconds: of one core for one source more in a batch, roughly.
    """

    bytes: int
    batch_bytes: int
    batch: int
    seconds: float


HOST = Cost(bytes=_GB // 2, batch_bytes=_GB // 2, batch=1, seconds=0.2)
PLAIN = Cost(bytes=_GB // 2, batch_bytes=_GB, batch=6, seconds=0.7)
CUTLASS_2 = Cost(bytes=_GB * 11 // 10, batch_bytes=_GB * 3 // 2, batch=6, seconds=2)
CUTLASS_3 = Cost(bytes=4 * _GB, batch_bytes=8 * _GB, batch=5, seconds=8)


def cost(source: Source) -> Cost:
    """The row of a source: host code, CUDA without CUTLASS, CUTLASS 2.x, CUTLASS 3.x."""
    if source.language != "cuda":
        return HOST
    if not uses_cutlass(source.text):
        return PLAIN
    return CUTLASS_3 if _COLLECTIVE.search(source.text) else CUTLASS_2


def seconds(sources: Iterable[Source]) -> float:
    """What compiling takes in batches, each source once, roughly, on one core."""
    return sum(cost(source).seconds for source in {s.name: s for s in sources}.values())


@dataclass(frozen=True, slots=True)
class Batch:
    """Sources that are compiled as one."""

    sources: tuple[Source, ...]

    @property
    def source(self) -> Source:
        """The translation unit of all."""
        return self.sources[0] if len(self.sources) == 1 else _joined(self.sources)

    @property
    def bytes(self) -> int:
        """Memory its compiler run needs."""
        row = cost(self.sources[0])
        share = (len(self.sources) - 1) / max(1, row.batch - 1)
        return row.bytes + int(share * (row.batch_bytes - row.bytes))

    @property
    def alone(self) -> tuple[Batch, ...]:
        """One for each source."""
        return tuple(Batch((source,)) for source in self.sources)


def singles(sources: Sequence[Source]) -> list[Batch]:
    """Each source by itself."""
    return [Batch((source,)) for source in sources]


def batches(sources: Sequence[Source]) -> list[Batch]:
    """Sources that can share a translation unit together, evenly spread; all others by themselves."""
    groups: dict[tuple[str, ...], list[Source]] = {}
    for source in sorted(sources, key=lambda s: s.name):
        groups.setdefault(_group(source), []).append(source)
    return [Batch(tuple(part)) for group in groups.values() for part in _even(group)]


def _group(source: Source) -> tuple[str, ...]:
    """Equal for sources that may share; CUTLASS headers, most of the work, are only read where needed."""
    parts = _split(source.text) if source.language == "cuda" else None
    if parts is None:
        return "alone", source.name
    return parts[0] if uses_cutlass(source.text) else ("plain",)


def _even(sources: Sequence[Source]) -> Iterator[Sequence[Source]]:
    parts = -(-len(sources) // cost(sources[0]).batch)
    bounds = [len(sources) * i // parts for i in range(parts + 1)]
    yield from (sources[a:b] for a, b in itertools.pairwise(bounds))


def _split(text: str) -> tuple[tuple[str, ...], str] | None:
    """(its includes and forward declarations, the rest); None when it can't share a translation unit."""
    lines = text.splitlines()
    count = next((i for i, line in enumerate(lines) if not _HEAD.match(line)), len(lines))
    body = "\n".join(lines[count:])
    if _DIRECTIVE.search(body):
        return None
    return tuple(line.strip() for line in lines[:count] if _GLOBAL.match(line)), body


def _joined(sources: Sequence[Source]) -> Source:
    parts = [(source, _split(source.text)) for source in sources]
    texts = [_in_namespace(source.name, split[1]) for source, split in parts if split]
    heads = dict.fromkeys(line for _, split in parts if split for line in split[0])
    text = "\n".join((*heads, *texts))
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Source(name=f"batch_{digest[:12]}", text=text, language="cuda")


def _in_namespace(name: str, body: str) -> str:
    if body.startswith(f"namespace {name} "):
        return f"{body}\n"
    return f"namespace {name} {{\n{body}\n}}  // namespace {name}\n"
