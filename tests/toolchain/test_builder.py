"""Candidates that share units: compiled once, reused between builders, linked together."""

import ctypes
import re
from dataclasses import dataclass

import pytest
from toolchain.test_nvcc import KERNEL, needs_nvcc, source

from bolt.errors import CompileError
from bolt.kernels.family import Source
from bolt.target import SM80
from bolt.toolchain import build, host
from bolt.toolchain import compile as compiling
from bolt.toolchain.build import Builder
from bolt.toolchain.resources import Kernel, Resources
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


LOCAL = KERNEL.replace("template <int N>", "namespace { struct Three {}; }\ntemplate <class N>").replace(
    "+ N;", "+ sizeof(N);"
)
"""A kernel whose name has a number that nvcc makes of the folder it works in."""


def test_equal_sources_give_equal_libraries_in_any_folder(tmp_path, compiler):
    local = source("local", LOCAL.replace("scale<3>", "scale<Three>"))
    linked = []
    for name in ("a", "some/other/folder"):
        cache = build.store(tmp_path / name)
        made = Builder(SM80, compiler=compiler, cache=cache).build(
            [Launcher(u.name + "_launcher", u) for u in (*UNITS[:2], local)]
        )
        objects = build.distinct(kernel.objects for kernel in made)
        linked.append(build.link(objects, compiler=compiler, cache=cache).read_bytes())
    assert linked[0] == linked[1]
    assert str(tmp_path).encode() not in linked[0]


def test_the_host_knows_kernels_by_the_names_they_have_on_the_device(cache, compiler):
    local = source("local", LOCAL.replace("scale<3>", "scale<Three>"))
    (built,) = build.build([local], SM80, compiler=compiler, cache=cache)
    data = built.path.read_bytes()
    on_device = {name.removeprefix(b".nv.info.") for name in re.findall(rb"\.nv\.info\._Z\w+", data)}
    assert len(on_device) == 1
    registered = on_device.pop()
    assert b"_GLOBAL__N__00000000_" in registered
    assert b"\0" + registered + b"\0" in data, "the string the host registers"


def test_names_in_compressed_device_code_stay():
    symbol = "_Z5scaleIN35_GLOBAL__N__40f7eb8c_9_kernel_cu_go5ThreeEEvPfi"
    occupied = Resources((Kernel(symbol=symbol, arch="sm_80"),))
    data = b"tmpxft_0000aaaa_x " + symbol.encode()
    assert compiling._without_chance(data, occupied) == data.replace(b"aaaa", b"0000")
    plain = data + b" .nv.info." + symbol.encode()
    assert b"40f7eb8c" not in compiling._without_chance(plain, occupied)
