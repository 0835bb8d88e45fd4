"""Compiler lookup and its commands."""

import platform
import shutil

import pytest

from bolt.errors import ToolchainError
from bolt.target import CPU_TARGETS, X86_AVX2, X86_AVX512
from bolt.toolchain import host


def test_a_compiler_is_found_and_has_an_identity():
    compiler = host.find_compiler()
    assert compiler.kind in ("gcc", "clang")
    assert compiler.arch == platform.machine()
    assert compiler.arch in compiler.identity
    assert compiler.version >= (host.OLDEST[compiler.kind],)


def test_an_unknown_compiler_says_what_to_install():
    with pytest.raises(ToolchainError, match=r"no program 'no-such-c\+\+'.*Install g\+\+"):
        host.find_compiler("no-such-c++")


def test_no_compiler_for_an_architecture_names_the_cross_compiler():
    missing = r"\(no riscv64-linux-gnu-g\+\+, no package ziglang\).*package g\+\+-riscv64-linux-gnu"
    with pytest.raises(ToolchainError, match=missing):
        host.find_compiler(arch="riscv64")


def test_a_program_that_is_no_compiler_is_refused(tmp_path):
    program = tmp_path / "cxx"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    with pytest.raises(ToolchainError, match="--version fails"):
        host.find_compiler(str(program))


def test_an_old_compiler_is_refused(tmp_path):
    program = tmp_path / "g++"
    program.write_text(
        "#!/bin/sh\n"
        'case $1 in -dumpversion) echo 9;; -dumpmachine) echo x86_64-linux-gnu;; *) echo "g++ 9.1";; esac\n'
    )
    program.chmod(0o755)
    with pytest.raises(ToolchainError, match="is gcc 9; bolt needs 11"):
        host.find_compiler(str(program))


def test_the_environment_names_the_compiler(monkeypatch):
    path = shutil.which(host.find_compiler().path)
    monkeypatch.setenv("CXX", "no-such-c++")
    monkeypatch.setenv("BOLT_CXX", str(path))
    assert host.find_compiler().path == path


def test_flags_differ_between_targets():
    compiler = host.find_compiler()
    flags = {target.name: host.kernel_flags(compiler, target) for target in CPU_TARGETS}
    assert len(set(flags.values())) == len(CPU_TARGETS)
    assert "-DBOLT_VL=16" in flags[X86_AVX512.name]
    assert "-DBOLT_VL=8" in flags[X86_AVX2.name]


def test_no_path_of_this_machine_is_part_of_the_flags():
    compiler = host.find_compiler()
    assert not [f for f in host.kernel_flags(compiler, X86_AVX2) if "/" in f]
