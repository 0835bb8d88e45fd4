"""Looking for nvcc and CUTLASS, and compiling CUDA sources through the cache."""

import ctypes
import re
import shutil

import pytest

from bolt.errors import CompileError, ToolchainError
from bolt.kernels.family import Source
from bolt.target import SM75, SM80, SM90A
from bolt.toolchain import build, host, nvcc
from bolt.toolchain import compile as compiling
from bolt.toolchain.resources import parse

VERSION = "Cuda compilation tools, release {0}.{1}, V{0}.{1}.88\\nBuild cuda_{0}.{1}.r{0}.{1}/compiler.1_0"
KERNEL = """// A kernel.
#include "bolt/cuda/launch.h"
#include <cuda_runtime.h>

struct CUstream_st;

static __device__ float twice(float x) { return x * 2; }

template <int N>
__global__ void scale(float* p, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) p[i] = twice(p[i]) + N;
}

extern "C" int NAME(void* const* p, const int64_t* d, void* scratch, CUstream_st* stream) {
  scale<3><<<1, 64, 0, stream>>>((float*)p[0], 64);
  return (int)cudaGetLastError();
}
"""


def missing():
    try:
        nvcc.find()
    except ToolchainError as error:
        return str(error)
    return ""


needs_nvcc = pytest.mark.skipif(bool(missing()), reason=missing() or "nvcc is here")


def source(name, text=KERNEL):
    return Source(name=name, text=text.replace("NAME", name), language="cuda")


@pytest.fixture
def cache(tmp_path):
    return build.store(tmp_path)


@pytest.fixture
def compiler():
    return host.for_target(SM80)


@pytest.fixture
def toolkit(tmp_path):
    """Makes a folder that looks like a CUDA toolkit; returns its nvcc."""

    def make(major=13, minor=0, *, runtime="lib64", name="toolkit"):
        root = tmp_path / name
        for folder in ("bin", "include", "lib64", "lib"):
            (root / folder).mkdir(parents=True)
        (root / "include" / "cuda_runtime.h").write_text("")
        (root / runtime / "libcudart_static.a").write_text("runtime") if runtime else None
        program = root / "bin" / "nvcc"
        program.write_text(
            f'#!/bin/sh\nif [ "$1" = --version ]; then printf "{VERSION.format(major, minor)}\\n"\n'
            f'else echo "#$ TOP={root}/bin/.." >&2; fi\n'
        )
        program.chmod(0o755)
        return program

    return make


def test_the_named_nvcc_is_taken(toolkit, monkeypatch):
    program = toolkit(12, 9)
    assert nvcc.find(program).version == (12, 9, 88)
    monkeypatch.setenv("BOLT_NVCC", str(program))
    found = nvcc.find()
    assert found.path == program
    assert found.libraries == program.parents[1] / "lib64"
    assert found.identity.startswith("nvcc 12.9.88")


def test_wheels_keep_their_libraries_elsewhere(toolkit):
    assert nvcc.find(toolkit(runtime="lib")).libraries.name == "lib"


def test_wheels_come_before_the_system(toolkit, tmp_path, monkeypatch):
    system, wheel = toolkit(name="system"), toolkit(name="nvidia/cu13")
    monkeypatch.delenv("BOLT_NVCC", raising=False)
    monkeypatch.setenv("CUDA_HOME", str(system.parents[1]))
    monkeypatch.setattr(nvcc, "_wheels", lambda: iter(()))
    assert nvcc.find().path == system
    monkeypatch.setattr(nvcc, "_wheels", lambda: iter((wheel,)))
    assert nvcc.find().path == wheel


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"major": 11, "minor": 8}, "it is version 11.8.88; bolt needs 12.4"),
        ({"runtime": ""}, "libcudart_static.a"),
    ],
)
def test_an_unusable_nvcc_is_refused_with_what_to_install(toolkit, made, said):
    with pytest.raises(ToolchainError, match=re.escape(said)) as caught:
        nvcc.find(toolkit(**made))
    assert "pip install 'bolt-ep[cuda]'" in str(caught.value)


def test_no_nvcc_says_what_to_install(monkeypatch, tmp_path):
    for name in ("BOLT_NVCC", "CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(nvcc, "_SYSTEM", tmp_path)
    monkeypatch.setattr(nvcc, "_wheels", lambda: iter(()))
    with pytest.raises(ToolchainError, match=r"no CUDA compiler .*pip install 'bolt-ep\[cuda\]'"):
        nvcc.find()
    with pytest.raises(ToolchainError, match="there is no program 'no-nvcc'"):
        nvcc.find("no-nvcc")


def test_the_named_cutlass_is_taken(tmp_path, monkeypatch):
    header = tmp_path / "include" / "cutlass" / "version.h"
    header.parent.mkdir(parents=True)
    header.write_text("#define CUTLASS_MAJOR 4\n#define CUTLASS_MINOR 5\n#define CUTLASS_PATCH 1\n")
    monkeypatch.setenv("BOLT_CUTLASS", str(tmp_path))
    found = nvcc.find_cutlass()
    assert (found.root, found.version) == (tmp_path, "4.5.1")
    with pytest.raises(ToolchainError, match=r"holds no CUTLASS"):
        nvcc.find_cutlass(tmp_path / "include")


def test_the_identity_of_headers_covers_their_bytes(tmp_path):
    identities = set()
    for name, text in (("a", "1"), ("b", "2"), ("c", "1")):
        (tmp_path / name / "include").mkdir(parents=True)
        (tmp_path / name / "include" / "x.h").write_text(text)
        identities.add(nvcc.Cutlass(root=tmp_path / name, version="4").identity)
    assert len(identities) == 2


def test_host_code_of_a_gpu_target_runs_on_any_machine(monkeypatch, toolkit):
    monkeypatch.setenv("BOLT_NVCC", str(toolkit()))
    compiler = host.for_target(SM80)
    assert compiler.device.version == (13, 0, 88)
    flags = host.kernel_flags(compiler, SM80)
    assert set(host.portable().flags) <= set(flags)
    assert not [flag for flag in flags if "sm_80" in flag]


def test_zig_is_no_host_compiler_of_nvcc(monkeypatch, toolkit):
    zig = host.Compiler(argv=("zig",), kind="zig", version=(1,), identity="zig", arch="x86_64")
    monkeypatch.setattr(host, "find_compiler", lambda preferred: zig)
    with pytest.raises(ToolchainError, match=r"Install g\+\+ or clang"):
        host.for_target(SM80, device=toolkit())


def test_the_key_of_device_code_covers_compilers_flags_own_headers_and_cutlass(monkeypatch, toolkit):
    plain, uses = source("k"), source("k", KERNEL + '#include "cutlass/cutlass.h"\n')
    compilers = [host.for_target(SM80, device=toolkit(13, minor, name=str(minor))) for minor in (0, 1)]

    def keys():
        return {compiling.object_key(plain, t, c) for c in compilers for t in (SM75, SM80)}

    found = keys()
    assert len(found) == 4
    headers = compiling.headers_sha256()
    monkeypatch.setattr(compiling, "headers_sha256", lambda: {**headers, "bolt/simd.h": "0"})
    assert keys() == found, "a header that is not included changed the key"
    monkeypatch.setattr(compiling, "headers_sha256", lambda: {**headers, "bolt/cuda/launch.h": "0"})
    assert not keys() & found
    before = compiling.object_key(uses, SM80, compilers[0])
    monkeypatch.setattr(nvcc.Cutlass, "identity", "another")
    assert compiling.object_key(uses, SM80, compilers[0]) != before


def test_headers_of_device_code_do_not_change_keys_of_the_cpu(monkeypatch):
    from bolt.target import detect

    compiler, one = host.find_compiler(), Source(name="f", text="int f();")
    before, headers = compiling.object_key(one, detect(), compiler), compiling.headers_sha256()
    monkeypatch.setattr(compiling, "headers_sha256", lambda: {**headers, "bolt/cuda/new.h": "0"})
    assert compiling.object_key(one, detect(), compiler) == before


def test_cutlass_that_is_missing_says_what_to_install(toolkit, cache, monkeypatch):
    monkeypatch.setattr(nvcc, "find_cutlass", lambda preferred: None)
    compiler = host.for_target(SM80, device=toolkit())
    with pytest.raises(ToolchainError, match=r"CUTLASS headers are missing.*bolt-ep\[cuda\]"):
        compiling.compile_object(
            source("k", '#include "cutlass/cutlass.h"\n'), SM80, compiler=compiler, cache=cache
        )


def fake_run(log):
    """A compiler that writes an object and this log."""

    def run(argv, *, cwd, **rest):
        (cwd / argv[argv.index("-o") + 1]).write_bytes(b"tmpxft_00aB1234 tmpxft_00ab1234_x")
        return log

    return run


def test_what_ptxas_could_not_keep_fast_is_an_error(toolkit, cache, monkeypatch):
    log = "ptxas info : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized"
    monkeypatch.setattr(compiling, "run", fake_run(log))
    compiler = host.for_target(SM90A, device=toolkit())
    with pytest.raises(CompileError, match=r"(?s)could not keep .*source: .*k_.*\.cu.*C7510"):
        compiling.compile_object(source("k"), SM90A, compiler=compiler, cache=cache)


def test_the_compilers_process_number_is_not_in_the_object(toolkit, cache, monkeypatch):
    monkeypatch.setattr(compiling, "run", fake_run(""))
    compiler = host.for_target(SM80, device=toolkit())
    path = compiling.compile_object(source("k"), SM80, compiler=compiler, cache=cache)
    assert path.read_bytes() == b"tmpxft_00aB1234 tmpxft_00000000_x"


@needs_nvcc
def test_device_and_host_code_link_and_load_without_a_driver(cache, compiler):
    launcher = Source(
        name="launcher",
        text='#include "bolt/cuda/launch.h"\n'
        'extern "C" int one(void* const*, const int64_t*, void*, CUstream_st*);\n'
        'extern "C" int launcher(void* const* p) { return one(p, nullptr, nullptr, nullptr); }\n',
    )
    built = list(
        build.build(
            [source("one"), launcher, source("two")], SM80, compiler=compiler, cache=cache, batched=True
        )
    )
    one, host_code, two = built
    assert one.path == two.path != host_code.path
    assert [kernel.arch for kernel in one.resources.kernels] == ["sm_80"]
    assert "one" in one.resources.kernels[0].symbol
    assert one.resources.registers > 0
    assert one.resources.spill_bytes == 0
    assert host_code.resources.kernels == ()
    library = build.link(build.distinct([b.path] for b in built), compiler=compiler, cache=cache)
    loaded = ctypes.CDLL(str(library))
    assert loaded.launcher((ctypes.c_void_p * 1)()) > 0 or shutil.which("nvidia-smi"), "a cudaError_t"
    again = list(
        build.build([source("one"), source("two")], SM80, compiler=compiler, cache=cache, batched=True)
    )
    assert again == [one, two]


@needs_nvcc
def test_a_unit_that_is_missing_fails_the_link(cache, compiler):
    text = 'extern "C" int gone(); extern "C" int f() { return gone(); }'
    built = build.build_objects([Source(name="f", text=text)], SM80, compiler=compiler, cache=cache)
    with pytest.raises(CompileError, match="gone"):
        build.link(list(built.values()), compiler=compiler, cache=cache)


@needs_nvcc
def test_a_batch_with_a_source_that_does_not_compile_is_split(cache, compiler):
    broken = source("broken", KERNEL + "this does not compile;\n")
    built = list(build.build([source("one"), broken], SM80, compiler=compiler, cache=cache, batched=True))
    assert [type(b).__name__ for b in built] == ["Binary", "CompileError"]
    assert "broken" in str(built[1])


@needs_nvcc
def test_no_flag_comes_from_outside(cache, compiler, monkeypatch):
    monkeypatch.setenv("NVCC_APPEND_FLAGS", "--no-such-flag")
    assert build.build_objects([source("one")], SM80, compiler=compiler, cache=cache)["one"].is_file()


LOG = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z1aPf' for 'sm_80'
ptxas info    : Function properties for _Z1aPf
    16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 255 registers, 16 bytes cumulative stack size, 256 bytes smem, 364 bytes cmem[0]
ptxas info    : Function properties for _Z6helperv
    99 bytes stack frame, 99 bytes spill stores, 99 bytes spill loads
ptxas info    : Compiling entry function '_Z1bPf' for 'sm_80'
ptxas info    : Function properties for _Z1bPf
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 10 registers, 364 bytes cmem[0]
"""


def test_what_ptxas_reports_is_read():
    found = parse(LOG)
    assert [(k.symbol, k.registers, k.stack_bytes, k.shared_bytes) for k in found.kernels] == [
        ("_Z1aPf", 255, 16, 256),
        ("_Z1bPf", 10, 0, 0),
    ]
    assert (found.registers, found.spill_bytes, found.shared_bytes) == (255, 20, 256)
    assert type(found).from_json(found.to_json()) == found


def test_kernels_of_a_batch_belong_to_the_source_in_their_name():
    found = parse(LOG.replace("_Z1a", "_Z5unit1"))
    assert [k.symbol for k in found.of("unit1", ["unit1", "unit2"]).kernels] == ["_Z5unit1Pf"]
    assert [k.symbol for k in found.of("unit2", ["unit1", "unit2"]).kernels] == ["_Z1bPf"]
