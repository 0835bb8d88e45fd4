"""The declaration of the CUDA driver (bolt/ep/src/cuda.h) against a real cuda.h, at compile time."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from bolt.ep.library import SOURCE
from bolt.toolchain.host import find_compiler

TEMPLATE = r"""
#include <cstddef>
#include <type_traits>
#include <cuda.h>
#include "cuda.h.bolt"

template <class T> struct Norm { using Type = T; };
template <class T> requires(std::is_pointer_v<T>) struct Norm<T> { using Type = void*; };
template <class T> requires std::is_enum_v<T> struct Norm<T> { using Type = int; };
template <class R, class... A> struct Norm<R(A...)> {
  using Type = typename Norm<R>::Type(typename Norm<A>::Type...);
};
template <class A, class B>
constexpr bool kSame = std::is_same_v<typename Norm<A>::Type, typename Norm<B>::Type>;

#define SAME(name, symbol, params)                                       \
  static_assert(kSame<decltype(symbol), bolt::cuda::Result params>, #symbol " has another type");
namespace bolt::cuda {
BOLT_CUDA(SAME)
}  // namespace bolt::cuda

static_assert(bolt::cuda::kOutOfMemory == CUDA_ERROR_OUT_OF_MEMORY);
static_assert(bolt::cuda::kCapabilityMajor == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
static_assert(bolt::cuda::kCapabilityMinor == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
static_assert(bolt::cuda::kNonBlocking == CU_STREAM_NON_BLOCKING);
static_assert(bolt::cuda::kNoTiming == CU_EVENT_DISABLE_TIMING);
static_assert(bolt::cuda::kPortable == CU_MEMHOSTALLOC_PORTABLE);
static_assert(bolt::cuda::kRelaxed == CU_STREAM_CAPTURE_MODE_RELAXED);
@NAMES@
"""


def header_folder() -> Path | None:
    """Where this machine has cuda.h: beside nvcc, or in $CUDA_HOME."""
    nvcc = shutil.which("nvcc")
    roots = [Path(nvcc).resolve().parents[1]] if nvcc else []
    roots += [Path(p) for p in (os.environ.get("CUDA_HOME"), "/usr/local/cuda", "/usr/local/cuda-13.0") if p]
    return next((root / "include" for root in roots if (root / "include" / "cuda.h").is_file()), None)


@pytest.fixture
def headers() -> Path:
    folder = header_folder()
    if folder is None:
        pytest.skip("no cuda.h here; set CUDA_HOME to a toolkit that has it")
    return folder


def compiled(text: str, headers: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """The check of the declaration `text`."""
    # Two files are called cuda.h.
    (folder / "cuda.h.bolt").write_text(text)
    names = re.findall(r"X\(\w+, (cu\w+),", text)
    assert len(names) > 25
    # The loader takes a name as it is; where cuda.h maps it to a later version, the plain symbol is another
    # function.
    checks = "\n".join(f"#ifdef {name}\n#error {name} is an old version\n#endif" for name in names)
    (folder / "check.cc").write_text(TEMPLATE.replace("@NAMES@", checks))
    command = [*find_compiler().argv, "-std=c++20", "-fsyntax-only", f"-I{folder}", f"-I{headers}"]
    return subprocess.run([*command, str(folder / "check.cc")], capture_output=True, text=True)


def test_types_and_numbers_agree(headers: Path, tmp_path: Path) -> None:
    done = compiled((SOURCE / "cuda.h").read_text(), headers, tmp_path)
    assert done.returncode == 0, done.stderr[:3000]


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("(Address*, size_t)", "(Address*, unsigned)"),
        ("kRelaxed = 2", "kRelaxed = 1"),
        ("cuMemAlloc_v2", "cuMemAlloc_v7"),
        ("cuMemAlloc_v2", "cuMemAlloc"),
    ],
)
def test_the_check_finds_a_wrong_declaration(headers: Path, tmp_path: Path, right: str, wrong: str) -> None:
    text = (SOURCE / "cuda.h").read_text()
    assert right in text
    assert compiled(text.replace(right, wrong, 1), headers, tmp_path).returncode != 0
