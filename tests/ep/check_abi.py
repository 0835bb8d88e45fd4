"""Checks bolt/ep/src/ort_abi.h against real ONNX Runtime headers, at compile time.

    python tests/ep/check_abi.py <folder with onnxruntime_c_api.h> ...

One translation unit includes both and asserts, for all that the real headers know: the slot of every
function of the two tables, its signature (pointers count as void*, enums as int), and the offset and
signature of every field of the structs that an execution provider fills in.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from bolt.ep.library import SOURCE
from bolt.toolchain.host import Compiler, find_compiler

HEADER = "onnxruntime_c_api.h"

_TEMPLATE = r"""
#include <cstdio>
#include <type_traits>
#include "onnxruntime_c_api.h"
#include "ort_abi.h"
@STRUCTS@

template <class T> struct Norm { using Type = T; };
template <class T>
  requires(std::is_pointer_v<T> && !std::is_function_v<std::remove_pointer_t<T>>)
struct Norm<T> { using Type = void*; };
template <class T> requires std::is_enum_v<T> struct Norm<T> { using Type = int; };
template <class R, class... A> struct Norm<R (*)(A...)> {
  using Type = typename Norm<R>::Type (*)(typename Norm<A>::Type...);
};
template <class R, class... A> struct Norm<R (*)(A...) noexcept> : Norm<R (*)(A...)> {};
template <class A, class B>
constexpr bool kSame = std::is_same_v<typename Norm<A>::Type, typename Norm<B>::Type>;

int checked = 0, absent = 0;

#define HOLDS(what, condition) static_assert(condition, what)
#define TABLE(table, slot, since, name)                                                         \
  template <class T> void table##_##name() {                                                    \
    if constexpr (since <= ORT_API_VERSION) {                                                   \
      HOLDS(#name " has another slot", offsetof(T, name) == slot * sizeof(void*));              \
      HOLDS(#name " has another type", (kSame<decltype(T::name), bolt::ort::name##Fn>));        \
      ++checked;                                                                                \
    } else {                                                                                    \
      ++absent;                                                                                 \
    }                                                                                           \
  }
#define API(slot, since, name, ret, params) TABLE(OrtApi, slot, since, name)
#define EP_API(slot, since, name, ret, params) TABLE(OrtEpApi, slot, since, name)
BOLT_ORT_API(API)
BOLT_ORT_EP_API(EP_API)

#define FIELD(type, name)                                                                       \
  template <class T, class Ours> void Field_##type##_##name() {                                 \
    if constexpr (requires { &T::name; }) {                                                     \
      HOLDS(#type "::" #name " has another offset", offsetof(T, name) == offsetof(Ours, name)); \
      HOLDS(#type "::" #name " has another type", (kSame<decltype(T::name), decltype(Ours::name)>)); \
      ++checked;                                                                                \
    } else {                                                                                    \
      ++absent;                                                                                 \
    }                                                                                           \
  }
@FIELDS@

int main() {
#define CALL_API(slot, since, name, ret, params) OrtApi_##name<OrtApi>();
#define CALL_EP_API(slot, since, name, ret, params) OrtEpApi_##name<OrtEpApi>();
  BOLT_ORT_API(CALL_API)
  BOLT_ORT_EP_API(CALL_EP_API)
@CALLS@
  std::printf("API version %d: %d agree, %d not in these headers\n", ORT_API_VERSION, checked, absent);
}
"""


def structs(abi: str) -> dict[str, list[str]]:
    """The fields of each struct that ort_abi.h defines and ONNX Runtime calls into."""
    bodies = re.findall(r"^struct (Ort\w+) \{\n(.*?)^\};", abi, re.MULTILINE | re.DOTALL)
    field = re.compile(r"\(\*(\w+)\)\(|^\s+(?:uint32_t|bool) (\w+);", re.MULTILINE)
    found = {name: [a or b for a, b in field.findall(body)] for name, body in bodies}
    return {name: fields for name, fields in found.items() if name != "OrtApiBase"}


def source() -> str:
    """The translation unit."""
    found = structs((SOURCE / "ort_abi.h").read_text())
    fields = [(s, f) for s, names in found.items() for f in names]
    # A struct that is younger than the headers is incomplete there, and has no field.
    text = _TEMPLATE.replace("@STRUCTS@", "\n".join(f"struct {name};" for name in found))
    text = text.replace("@FIELDS@", "\n".join(f"FIELD({s}, {f})" for s, f in fields))
    return text.replace("@CALLS@", "\n".join(f"  Field_{s}_{f}<{s}, bolt::ort::{s}>();" for s, f in fields))


def check(include: Path, compiler: Compiler) -> str:
    """Compiles and runs the check against the headers in `include`; returns its one line of output.

    Raises:
        AssertionError: something differs; the message is the compiler's.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "check.cc").write_text(source())
        flags = ["-std=c++20", "-Wno-invalid-offsetof", f"-I{include}", f"-I{SOURCE}"]
        command = [*compiler.argv, *flags, str(folder / "check.cc"), "-o", str(folder / "check")]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[:4000]
        return subprocess.run([folder / "check"], capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    for path in sys.argv[1:]:
        print(path, check(Path(path), find_compiler()))
