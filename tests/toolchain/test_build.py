"""Compiling and linking through the cache."""

import ctypes
import shutil
import subprocess
from dataclasses import replace

import pytest

from bolt.errors import CompileError
from bolt.kernels.family import Source
from bolt.target import detect
from bolt.toolchain import build, host
from bolt.toolchain import compile as compiling
from bolt.toolchain.cache import Store
from bolt.toolchain.run import run

TARGET = detect()
COMPILER = host.find_compiler()


def source(name, value):
    function = f'extern "C" __attribute__((visibility("default"))) int {name}() {{ return {value}; }}'
    return Source(name=name, text=f'#include "bolt/simd.h"\n{function}\n')


@pytest.fixture
def cache(tmp_path):
    return build.store(tmp_path)


def objects(sources, cache, **kwargs):
    return build.build_objects(sources, TARGET, compiler=COMPILER, cache=cache, **kwargs)


def test_objects_link_and_run(cache):
    events = []
    built = objects([source("one", 1), source("two", 2)], cache, jobs=2, progress=events.append)
    assert list(built) == ["one", "two"]
    assert events[-1].done == events[-1].total == 2
    library = ctypes.CDLL(str(build.link(list(built.values()), compiler=COMPILER, cache=cache)))
    assert (library.one(), library.two()) == (1, 2)


def test_the_second_build_runs_no_compiler(cache, monkeypatch):
    first = objects([source("one", 1)], cache)
    linked = build.link(list(first.values()), compiler=COMPILER, cache=cache)
    monkeypatch.setattr(build, "run", None)
    monkeypatch.setattr(compiling, "run", None)
    assert objects([source("one", 1)], cache) == first
    assert build.link(list(first.values()), compiler=COMPILER, cache=cache) == linked


def test_a_damaged_object_is_built_again(cache):
    path = objects([source("one", 1)], cache)["one"]
    good = path.read_bytes()
    path.write_bytes(good[:-8])
    assert objects([source("one", 1)], cache)["one"].read_bytes() == good


def test_equal_sources_give_equal_bytes_in_any_folder(tmp_path):
    linked = []
    for name in ("a", "some/other/folder"):
        cache = build.store(tmp_path / name)
        built = objects([source("one", 1)], cache)
        linked.append(build.link(list(built.values()), compiler=COMPILER, cache=cache).read_bytes())
    assert linked[0] == linked[1]
    assert str(tmp_path).encode() not in linked[0]


def test_only_the_named_symbols_are_exported(cache):
    built = objects([source("one", 1), source("two", 2)], cache)
    library = ctypes.CDLL(
        str(build.link(list(built.values()), compiler=COMPILER, cache=cache, exports=["two"]))
    )
    assert library.two() == 2
    assert not hasattr(library, "one")


@pytest.mark.skipif(not shutil.which("readelf"), reason="no readelf")
def test_a_library_needs_the_c_library_only(cache):
    built = objects([source("one", 1)], cache)
    path = build.link(list(built.values()), compiler=COMPILER, cache=cache)
    text = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True).stdout
    needed = [line.split("[")[1].split("]")[0] for line in text.splitlines() if "NEEDED" in line]
    assert set(needed) <= {"libc.so.6", "libm.so.6"}


def test_a_failed_compile_has_command_exit_code_lines_and_source(cache):
    with pytest.raises(CompileError) as caught:
        objects([Source(name="bad", text="int f( { return 1 }\n")], cache)
    message = str(caught.value)
    assert "exit code 1" in message
    assert "-std=c++17" in message
    assert "error:" in message
    kept = next(line.split(": ", 1)[1] for line in message.splitlines() if "source:" in line)
    assert "int f( {" in open(kept).read()


def test_one_failure_does_not_stop_the_others(cache):
    sources = [source("one", 1), Source(name="bad", text="#error no\n"), source("two", 2)]
    built = list(build.build(sources, TARGET, compiler=COMPILER, cache=cache))
    assert [type(b).__name__ for b in built] == ["Binary", "CompileError", "Binary"]


def test_a_missing_symbol_fails_the_link(cache):
    text = (
        'extern "C" int gone(); extern "C" __attribute__((visibility("default"))) int f() { return gone(); }'
    )
    built = objects([Source(name="f", text=text)], cache)
    with pytest.raises(CompileError, match="gone"):
        build.link(list(built.values()), compiler=COMPILER, cache=cache, extra=["-Wl,-z,defs"])


def test_a_compiler_that_hangs_is_ended(tmp_path):
    with pytest.raises(CompileError, match=r"took longer than 0\.2 s"):
        run(["sh", "-c", "sleep 60 & wait"], cwd=tmp_path, timeout_s=0.2)


def test_an_interrupt_ends_running_compilers(cache, tmp_path):
    program = tmp_path / "compiler"
    program.write_text(
        f"#!/bin/sh\ncd {tmp_path}\n"
        "if grep -q SLOW $OLDPWD/kernel.cc; then touch started; sleep 20; touch ended\n"
        "else while ! [ -e started ]; do sleep 0.05; done; touch $OLDPWD/kernel.o; fi\n"
    )
    program.chmod(0o755)

    def interrupt(event):
        raise KeyboardInterrupt

    compiler = replace(COMPILER, argv=(str(program),))
    sources = [source("one", 1), Source(name="slow", text="// SLOW\n")]
    with pytest.raises(KeyboardInterrupt):
        list(build.build(sources, TARGET, compiler=compiler, cache=cache, jobs=2, progress=interrupt))
    assert (tmp_path / "started").exists()
    assert not (tmp_path / "ended").exists()


def test_the_object_key_covers_headers_flags_compiler_and_text(monkeypatch):
    one = source("one", 1)
    keys = {
        compiling.object_key(one, TARGET, COMPILER),
        compiling.object_key(source("one", 2), TARGET, COMPILER),
    }
    keys.add(compiling.object_key(one, TARGET, COMPILER, extra=["-g"]))
    monkeypatch.setattr(compiling, "headers_sha256", lambda: {"bolt/simd.h": "0"})
    keys.add(compiling.object_key(one, TARGET, COMPILER))
    assert len(keys) == 4


def test_the_store_of_a_cache_folder_is_below_it(tmp_path):
    assert build.store(tmp_path) == Store(tmp_path / "objects")
