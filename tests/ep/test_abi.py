"""The declaration of ONNX Runtime's ABI, against real headers and against the installed runtime."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import onnxruntime
import pytest
from ep import check_abi, ort_versions, toy

from bolt.ep.library import get_library_path
from bolt.toolchain.host import find_compiler

INSTALLED = ("/usr/include/onnxruntime", "/usr/local/include/onnxruntime")


def header_folders() -> list[Path]:
    """Folders with ONNX Runtime's headers: those in $BOLT_ORT_INCLUDE (colon-separated), the usual ones."""
    given = os.environ.get("BOLT_ORT_INCLUDE", "").split(":")
    return [Path(p) for p in (*given, *INSTALLED) if p and (Path(p) / check_abi.HEADER).is_file()]


@pytest.fixture(params=header_folders() or [None], ids=str)
def headers(request: pytest.FixtureRequest) -> Path:
    if request.param is None:
        pytest.skip("no ONNX Runtime headers here; set BOLT_ORT_INCLUDE to a folder that has them")
    return request.param


def test_slots_signatures_and_fields_agree_with_the_headers(headers: Path) -> None:
    assert "agree" in check_abi.check(headers, find_compiler())


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("X(90, 23, KernelContext_GetInput,", "X(91, 23, KernelContext_GetInput,"),
        ("(OrtValue*, void**)", "(OrtValue*, uint32_t)"),
        ("void (*ReleaseEp)(OrtEpFactory*, OrtEp*);", "void (*ReleaseEp)(OrtEpFactory*, size_t);"),
    ],
)
def test_the_check_finds_a_wrong_declaration(
    headers: Path, right: str, wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (check_abi.SOURCE / "ort_abi.h").read_text()
    assert right in text
    (tmp_path / "ort_abi.h").write_text(text.replace(right, wrong, 1))
    monkeypatch.setattr(check_abi, "SOURCE", tmp_path)
    with pytest.raises(AssertionError, match="has another"):
        check_abi.check(headers, find_compiler())


def test_every_struct_of_the_provider_is_found() -> None:
    found = check_abi.structs((check_abi.SOURCE / "ort_abi.h").read_text())
    assert {"OrtEp", "OrtEpFactory", "OrtNodeComputeInfo", "OrtAllocator"} <= set(found)
    assert found["OrtNodeFusionOptions"] == ["ort_version_supported", "drop_constant_initializers"]
    assert found["OrtEp"][-1] == "GetWeightlessSupport"


def test_installed_runtime_in_a_child_process(tmp_path: Path) -> None:
    artifact = toy.artifact(tmp_path / "toy.bolt", toy.Toy(), graph=toy.only_partition())
    result = ort_versions.run(Path(onnxruntime.__file__).parents[1], artifact, toy.Toy().scale)
    assert "failed" not in result, result
    assert result["providers"] == ["BoltExecutionProvider", "CPUExecutionProvider"]
    assert "the toy fears 13 rows" in str(result["error"])


@pytest.mark.network
@pytest.mark.parametrize("version", ort_versions.VERSIONS)
def test_every_supported_runtime(version: str, tmp_path: Path) -> None:
    artifact = toy.artifact(tmp_path / "toy.bolt", toy.Toy(), graph=toy.only_partition())
    result = ort_versions.run(ort_versions.install(version, tmp_path), artifact, toy.Toy().scale)
    if version in ort_versions.TOO_OLD:
        assert "RuntimeMissing" in str(result.get("failed"))
    else:
        assert result.get("version") == version, result


class _Runtime:
    """An OrtApiBase of another version, with CreateStatus and nothing else."""

    def __init__(self, version: bytes) -> None:
        create_status = ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_int, ctypes.c_char_p)
        get_api = ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_uint32)
        get_version = ctypes.CFUNCTYPE(ctypes.c_size_t)
        self.messages: list[str] = []
        self.asked: list[int] = []
        self._slot = create_status(self._create_status)
        self._table = (ctypes.c_void_p * 1)(ctypes.cast(self._slot, ctypes.c_void_p).value)
        self._version = ctypes.create_string_buffer(version)
        self._functions = (get_api(self._get_api), get_version(lambda: ctypes.addressof(self._version)))
        self.base = (ctypes.c_void_p * 2)(*(ctypes.cast(f, ctypes.c_void_p).value for f in self._functions))

    def _create_status(self, code: int, message: bytes) -> int:
        self.messages.append(message.decode())
        return 4711

    def _get_api(self, version: int) -> int:
        self.asked.append(version)
        return ctypes.addressof(self._table)


@pytest.mark.parametrize("version", [b"1.22.1", b"1.4.0", b"2.30.0", b"", b"nonsense"])
def test_old_and_strange_runtimes_are_refused(version: bytes) -> None:
    """The refusal must not touch the table beyond slot 0 nor ask for a table the runtime does not have."""
    runtime = _Runtime(version)
    create = ctypes.CDLL(get_library_path()).CreateEpFactories
    create.restype = ctypes.c_size_t
    create.argtypes = [ctypes.c_char_p, *[ctypes.c_void_p] * 3, ctypes.c_size_t, ctypes.c_void_p]
    factories, count = (ctypes.c_void_p * 4)(), ctypes.c_size_t(9)
    assert create(b"bolt", runtime.base, None, factories, 4, ctypes.byref(count)) == 4711
    assert runtime.messages and "1.23 or newer" in runtime.messages[0]
    assert runtime.asked == [1] and count.value == 0


def test_only_the_two_entry_points_are_exported() -> None:
    library = ctypes.CDLL(get_library_path())
    assert library.CreateEpFactories and library.ReleaseEpFactory
    for hidden in ("_ZN4bolt6Sha256EPKvm", "_Znwm", "__cxa_throw"):
        address = (
            ctypes.cast(getattr(library, hidden), ctypes.c_void_p).value if hasattr(library, hidden) else None
        )
        assert address is None or not _inside(library, address)


def _inside(library: ctypes.CDLL, address: int) -> bool:
    """Whether an address lies in the library's own file (a lookup also searches what it depends on)."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    ranges = [line.split()[0].split("-") for line in maps if line.endswith(library._name)]
    return any(int(start, 16) <= address < int(end, 16) for start, end in ranges)


def test_library_depends_on_libc_only(tmp_path: Path) -> None:
    data = Path(get_library_path()).read_bytes()
    assert b"libc.so" in data and b"libstdc++" not in data and b"libgcc_s" not in data


def test_library_is_built_once_and_found_again() -> None:
    assert get_library_path() == get_library_path()
    assert Path(get_library_path()).is_absolute()
