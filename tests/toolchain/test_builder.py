"""Candidates that share units: compiled once, reused between builders, linked together."""

import ctypes
from dataclasses import dataclass

import pytest
from toolchain.test_nvcc import needs_nvcc, source

from bolt.errors import CompileError
from bolt.kernels.family import Source
from bolt.target import SM80
from bolt.toolchain import build, host
from bolt.toolchain import compile as compiling
from bolt.toolchain.build import Builder
from bolt.toolchain.reuse import DUPLICATES, recall

LAUNCHER = """#include "bolt/cuda/launch.h"
extern "C" int UNIT(void* const* p, const int64_t* d, void* scratch, CUstream_st* stream);
extern "C" int NAME(void* const* p, const int64_t* d, void* scratch, CUstream_st* stream) {
  return UNIT(p, d, scratch, stream);
}
"""


@dataclass(frozen=True)
class Launcher:
    """What a builder sees of a candidate: a launcher of one unit."""

    name: str
    unit: Source

    def source(self):
        return Source(
            name=self.name, text=LAUNCHER.replace("UNIT", self.unit.name).replace("NAME", self.name)
        )

    def units(self):
        return (self.unit,)


pytestmark = needs_nvcc
UNITS = [source(f"unit{i}") for i in range(3)]
BROKEN = source("broken", "#error no\n")


@pytest.fixture
def cache(tmp_path):
    return build.store(tmp_path)


@pytest.fixture
def compiler():
    return host.for_target(SM80)


@pytest.fixture
def builder(cache, compiler):
    return lambda **kwargs: Builder(SM80, compiler=compiler, cache=cache, **kwargs)


@pytest.fixture
def compiled(monkeypatch):
    """The names of what was compiled."""
    ran, run = [], compiling.run

    def noting(argv, **kwargs):
        ran.append((kwargs["cwd"] / argv[-3]).read_text().count("scale<3><<<"))
        return run(argv, **kwargs)

    monkeypatch.setattr(compiling, "run", noting)
    return ran


def test_a_shared_unit_is_compiled_once_and_with_the_others(builder, compiled):
    made = builder().build([Launcher("a", UNITS[0]), Launcher("b", UNITS[0]), Launcher("c", UNITS[1])])
    assert sorted(compiled) == [0, 0, 0, 2], "three launchers and one batch of two units"
    assert made[0].objects[1] == made[1].objects[1] == made[2].objects[1]
    assert [len(kernel.resources.kernels) for kernel in made] == [1, 1, 1]
    assert made[0].resources == made[1].resources != made[2].resources


def test_a_builder_compiles_nothing_twice(builder, compiled):
    one = builder()
    first = one.build([Launcher("a", UNITS[0])])
    count = len(compiled)
    assert one.build([Launcher("a", UNITS[0])]) == first
    assert one.missing([Launcher("a", UNITS[0])]) == []
    assert len(compiled) == count


def test_batches_of_a_new_builder_do_not_depend_on_the_cache(builder, cache, compiler):
    builder(reused=True).build([Launcher("a", UNITS[0]), Launcher("b", UNITS[1])])
    (alone,) = builder().build([Launcher("a", UNITS[0])])
    assert [kernel.symbol for kernel in compiling.resources(alone.objects[1]).kernels] == [
        "_Z5scaleILi3EEvPfi"
    ], "the unit by itself, in no namespace"


def test_a_search_takes_units_from_the_batches_of_earlier_ones(builder, compiled, cache, compiler):
    builder(reused=True).build([Launcher("a", UNITS[0]), Launcher("b", UNITS[1])])
    compiled.clear()
    later = builder(reused=True)
    assert [s.name for s in later.missing([Launcher("c", UNITS[1]), Launcher("d", UNITS[2])])] == [
        "c",
        "d",
        "unit2",
    ]
    made = later.build([Launcher("c", UNITS[1]), Launcher("d", UNITS[2])])
    assert sorted(compiled) == [0, 0, 1]
    assert "unit1" in made[0].resources.kernels[0].symbol


def test_objects_that_hold_the_same_unit_link(builder, cache, compiler):
    first = builder(reused=True).build([Launcher("a", UNITS[0]), Launcher("b", UNITS[1])])
    second = builder().build([Launcher("c", UNITS[1]), Launcher("d", UNITS[2])])
    objects = build.distinct(kernel.objects for kernel in (*first, *second))
    with pytest.raises(CompileError, match="multiple definition"):
        build.link(objects, compiler=compiler, cache=cache)
    library = ctypes.CDLL(str(build.link(objects, compiler=compiler, cache=cache, extra=[DUPLICATES])))
    assert all(hasattr(library, name) for name in "abcd")


def test_a_batch_that_was_pruned_is_compiled_again(builder, cache, compiler):
    one, other = Launcher("a", UNITS[0]), Launcher("b", UNITS[1])
    (made, _) = builder(reused=True).build([one, other])
    cache.drop(made.objects[1].parent.name)
    assert recall(UNITS[0], SM80, compiler, cache) is None
    again = builder(reused=True).build([one, other])
    assert again[0].objects[1].is_file()
    found, names = recall(UNITS[0], SM80, compiler, cache)
    assert found == again[0].objects[1]
    assert names == ("unit0", "unit1")


def test_a_unit_that_does_not_compile_fails_its_candidates_only(builder):
    made = builder(reused=True).build([Launcher("a", BROKEN), Launcher("b", UNITS[0])])
    assert [type(kernel).__name__ for kernel in made] == ["CompileError", "Kernel"]


def test_equal_sources_give_equal_libraries_in_any_folder(tmp_path, compiler):
    linked = []
    for name in ("a", "some/other/folder"):
        cache = build.store(tmp_path / name)
        made = Builder(SM80, compiler=compiler, cache=cache).build(
            [Launcher(u.name + "_launcher", u) for u in UNITS[:2]]
        )
        objects = build.distinct(kernel.objects for kernel in made)
        linked.append(build.link(objects, compiler=compiler, cache=cache).read_bytes())
    assert linked[0] == linked[1]
    assert str(tmp_path).encode() not in linked[0]
