"""The parts of the library that need no ONNX Runtime, driven through a small program (native.cc)."""

from __future__ import annotations

import hashlib
import json
import platform
import random
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bolt.ep.library import SOURCE
from bolt.target import CPU_TARGETS, cpu_flags, runs_here
from bolt.toolchain.host import INCLUDE, find_compiler

PARTS = ("arena", "compatibility", "cpu", "cuda", "device", "file", "json", "manifest", "sha256")
FLAGS = ("-std=c++20", "-O0", "-Wall", "-Wextra", "-Werror")
OPTIMAL, PREFER_RECOMPILATION, UNSUPPORTED, NOT_APPLICABLE = "1", "2", "3", "0"

Ask = Callable[..., list[str]]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Answers to (command, text, ...) tuples."""
    program = tmp_path_factory.mktemp("native") / "native"
    sources = [str(Path(__file__).with_name("native.cc")), *(str(SOURCE / f"{p}.cc") for p in PARTS)]
    command = [*find_compiler().argv, *FLAGS, f"-I{SOURCE}", f"-I{INCLUDE}", *sources, "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:3000]

    def run(*questions: tuple[str | bytes, ...]) -> list[str]:
        lines = [" ".join([str(q[0]), *(_hex(part) for part in q[1:])]) for q in questions]
        text = "\n".join(lines) + "\n"
        done = subprocess.run([program], input=text, capture_output=True, text=True, check=True)
        answers = done.stdout.splitlines()
        assert len(answers) == len(questions)
        return answers

    yield run


def _hex(text: str | bytes) -> str:
    return (text.encode() if isinstance(text, str) else text).hex()


def test_sha256_of_every_length_around_the_blocks(ask: Ask) -> None:
    source = random.Random(1)
    texts = [source.randbytes(n) for n in (*range(200), 1000, 4096, 100003)]
    for text, answer in zip(texts, ask(*(("sha", t) for t in texts)), strict=True):
        assert answer.split() == [hashlib.sha256(text).hexdigest()] * 2


GOOD_JSON = (
    "null", " true ", "false", "0", "-0", "12", "-7", "1.5", "-0.25e-3", "1E+2", "9223372036854775807",
    '""', '"a"', '"\\"\\\\\\/\\b\\f\\n\\r\\t"', '"\\u00e9\\ud83d\\ude00"', '"é😀"', "[]", "[ ]",
    "[1,[2],{}]", "{}", '{"a":1}',
    '{ "a" : [ 1 , 2 ] , "b" : { "c" : null } }', "\t\r\n1\n",
)  # fmt: skip
BAD_JSON = (
    "", " ", "nul", "tru", "True", "nulll", "01", "+1", "-", "1.", ".5", "1e", "1e+", "0x1", "NaN",
    "Infinity", "1 2", "9223372036854775808", '"', '"\\', '"\\x"', '"\\u12"', '"\\ud800"', '"\\udc00"',
    '"\\ud800\\u0041"', '"\n"',
    "[", "[1", "[1,", "[1,]", "[,]", "]", "{", "{1:2}", '{"a"}', '{"a":}', '{"a":1,}',
    '{"a":1 "b":2}', '{"a":1,"a":2}',
    "'a'", "[1]]", "\ufeff1", "\x0b1",
)  # fmt: skip
BAD_UTF8 = (
    b'"\xff"',
    b'"\xc0\x80"',
    b'"\xe0\x80\x80"',
    b'"\xed\xa0\x80"',
    b'"\xf4\x90\x80\x80"',
    b'"\xe2\x82"',
    b'"\x80"',
)


def test_json_that_is_and_is_not(ask: Ask) -> None:
    assert ask(*(("json", t) for t in GOOD_JSON)) == ["ok"] * len(GOOD_JSON)
    for text, answer in zip(BAD_JSON, ask(*(("json", t) for t in BAD_JSON)), strict=True):
        assert answer.startswith("error: not valid JSON at byte"), text
    assert all("UTF-8" in answer for answer in ask(*(("json", t) for t in BAD_UTF8)))


def test_json_depth(ask: Ask) -> None:
    fits, deep = "[" * 60 + "]" * 60, "[" * 70 + "]" * 70
    assert ask(("json", fits))[0] == "ok"
    assert "too deep" in ask(("json", deep))[0]


def test_json_agrees_with_python_on_mutations(ask: Ask) -> None:
    """2000 mutated documents: ours takes one exactly when a strict reading by Python's does."""
    source = random.Random(2)
    seed = json.dumps(
        {"a": [1, -2.5e3, "x\u00e9\n", None, True], "b": {"c": {}, "d": "\U0001f600"}}, ensure_ascii=False
    )
    texts = [_mutate(source, seed) for _ in range(2000)]
    verdicts = [answer == "ok" for answer in ask(*(("json", t) for t in texts))]
    assert verdicts == [_python_takes(t) for t in texts]
    assert 100 < sum(verdicts) < 1900


def _mutate(source: random.Random, text: str) -> str:
    alphabet = '{}[],:"\\ 0123456789.eE+-truefalsn\u00e9'
    for _ in range(source.randint(1, 2)):
        i = source.randrange(len(text))
        text = text[:i] + source.choice(["", source.choice(alphabet)]) + text[i + source.randint(0, 1) :]
    return text


def _python_takes(text: str) -> bool:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len({k for k, _ in pairs}) != len(pairs):
            raise ValueError("duplicate")
        return dict(pairs)

    def integer(digits: str) -> int:
        if not -(1 << 63) <= int(digits) < 1 << 63:
            raise ValueError("range")
        return int(digits)

    def never(word: str) -> None:
        raise ValueError(word)

    try:
        value = json.loads(text, object_pairs_hook=unique, parse_int=integer, parse_constant=never)
        json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate can't be encoded
        return True
    except (ValueError, UnicodeEncodeError):
        return False


def test_every_feature_of_every_target_is_known(ask: Ask) -> None:
    """A feature that bolt/target.py asks for has a row in cpu.cc, and both see the same CPU."""
    for target in CPU_TARGETS:
        if target.arch != platform.machine():
            continue
        answers = ask(*(("feature", f) for f in target.requires)) if target.requires else []
        assert answers == [str(int(f in cpu_flags())) for f in target.requires]
    assert ask(("feature", "avx9000")) == ["?"]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="rows of x86 features")
def test_features_agree_with_the_kernel(ask: Ask) -> None:
    """Every row of cpu.cc against /proc/cpuinfo."""
    names = re.findall(r'\{"(\w+)", \d, \d, k', (SOURCE / "cpu.cc").read_text())
    assert len(names) >= 14
    answers = ask(*(("feature", name) for name in names))
    assert dict(zip(names, answers, strict=True)) == {n: str(int(n in cpu_flags())) for n in names}


def test_judging_compatibility(ask: Ask) -> None:
    here = platform.machine()
    head = "bolt;schema=1;module_abi=1;"
    judged = {
        f"{head}a:{here}:": OPTIMAL,
        f"{head}a:vax:;b:{here}:": PREFER_RECOMPILATION,
        f"{head}a:{here}:avx9000;b:{here}:": PREFER_RECOMPILATION,
        f"{head}a:vax:": UNSUPPORTED,
        f"{head}": UNSUPPORTED,
        f"{head}a": UNSUPPORTED,
        f"bolt;schema=2;module_abi=1;a:{here}:": UNSUPPORTED,
        f"bolt;schema=1;module_abi=9;a:{here}:": UNSUPPORTED,
        "bolt": UNSUPPORTED,
        "other;schema=1": NOT_APPLICABLE,
        "": NOT_APPLICABLE,
    }
    for target in CPU_TARGETS:
        text = f"{head}{target.name}:{target.arch}:{','.join(target.requires)}"
        judged[text] = OPTIMAL if runs_here(target) else UNSUPPORTED
    assert dict(zip(judged, ask(*(("judge", t) for t in judged)), strict=True)) == judged


def test_judging_compatibility_of_gpus(ask: Ask) -> None:
    head = "bolt;schema=1;module_abi=1;"
    ampere, hopper = "sm80:cuda:sm80,sm86,sm89", "sm90a:cuda:sm90"
    judged = {
        (f"{head}{ampere}", "80"): OPTIMAL,
        (f"{head}{ampere}", "89"): OPTIMAL,
        (f"{head}{ampere}", "90"): UNSUPPORTED,
        (f"{head}{ampere}", "8"): UNSUPPORTED,
        (f"{head}{ampere}", ""): UNSUPPORTED,
        (f"{head}{hopper};{ampere}", "80"): PREFER_RECOMPILATION,
        (f"{head}{hopper};{ampere}", "90"): OPTIMAL,
        (f"{head}a:{platform.machine()}:", "80"): UNSUPPORTED,
    }
    assert dict(zip(judged, ask(*(("judge", *key) for key in judged)), strict=True)) == judged


def test_paths_inside_a_folder(ask: Ask, tmp_path: Path) -> None:
    folder = (tmp_path / "f").resolve()
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "x").touch()
    (tmp_path / "f-evil").touch()
    (folder / "good").symlink_to("sub/x")
    (folder / "bad").symlink_to("../f-evil")
    (folder / "loop").symlink_to("loop")
    answers = {
        "sub/x": str(folder / "sub/x"),
        "./sub//x": str(folder / "sub/x"),
        "good": str(folder / "sub/x"),
        "bad": 'error: path "bad" leads out of the artifact\'s folder',
        "loop": "error: can't find",
        "sub/../sub/x": 'error: path "sub/../sub/x" has a ".." part',
        "..x": "error: can't find",
        "/etc/passwd": 'error: path "/etc/passwd" is absolute',
    }
    got = ask(*(("inside", str(folder), path) for path in answers))
    for (path, start), answer in zip(answers.items(), got, strict=True):
        assert answer.startswith(start), path
