"""Program + chosen kernels -> one shared library and its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bolt.chain import all_specs
from bolt.kernels.family import Candidate
from bolt.module.dialect import dialect
from bolt.module.plan import plan
from bolt.module.render import render_module
from bolt.program import Program
from bolt.target import Target
from bolt.toolchain import build
from bolt.toolchain.cache import Store
from bolt.toolchain.compile import compile_object
from bolt.toolchain.host import Compiler


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """A module on disk.

    Attributes:
        path: the shared library, inside the cache.
        weights: what `create` is given; empty for none.
        text: the generated `run`.
    """

    path: Path
    weights: np.ndarray
    text: str


def compile_module(
    program: Program,
    chosen: Mapping[str, tuple[Candidate, tuple[Path, ...]]],
    target: Target,
    sample: Mapping[str, int],
    *,
    compiler: Compiler,
    cache: Store,
) -> Compiled:
    """The module of `program`.

    Args:
        chosen: spec key -> the kernel and its object files; kernels may share some.
        sample: typical dims.

    Raises:
        CompileError: the generated code does not compile or link.
    """
    candidates = {key: candidate for key, (candidate, _) in chosen.items()}
    memory = plan(program, sample, in_place=dialect(target).in_place)
    rendered = render_module(program, memory, candidates, target, sample)
    sources = (rendered.source, *rendered.further)
    own = [compile_object(source, target, compiler=compiler, cache=cache) for source in sources]
    keys = {spec.key for spec in all_specs(program)}
    objects = {candidates[key].name: chosen[key][1] for key in keys}
    ordered = [*own, *build.distinct(objects[name] for name in sorted(objects))]
    path = build.link(ordered, compiler=compiler, cache=cache, exports=("bolt_module",))
    return Compiled(path=path, weights=rendered.weights, text=rendered.source.text)
