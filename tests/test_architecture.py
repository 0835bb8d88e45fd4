"""Rules about the code as a whole, read from its syntax trees."""

import ast
from pathlib import Path

import pytest

import bolt
import bolt.graph
from bolt.templates import ROOT as TEMPLATES

BOLT = Path(bolt.__file__).parent
GRAPH = Path(bolt.graph.__file__).parent

LAYERS = (
    ("errors", "types"),
    ("dims", "gpu", "options", "report", "target", "templates"),
    ("epilogue", "spelling"),
    ("ops",),
    ("chain", "child", "program", "timing", "verify"),
    ("codegen",),
    ("kernels",),
    ("graph",),
    ("toolchain",),
    ("module",),
    ("search",),
    ("ep",),
    ("source", "device_code", "compiled", "driver", "storage"),
    ("doctor", "inputs", "runs"),
    ("display",),
    ("cli", "demo", "bench", "__main__"),
)
"""Earlier rows may not import later ones; a row's members may import each other."""

RANK = {name: rank for rank, row in enumerate(LAYERS) for name in row}
ENVIRONMENT = {"options.py"}


def sources():
    found = {f"bolt.{'.'.join(p.relative_to(BOLT).with_suffix('').parts)}": p for p in BOLT.rglob("*.py")}
    found |= {f"bolt.graph.{p.stem}": p for p in GRAPH.glob("*.py")}
    return {name.removesuffix(".__init__"): path for name, path in found.items()}


SOURCES = sources()


def tree(name):
    return ast.parse(SOURCES[name].read_text())


def is_type_checking(node):
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports(node):
    """Modules imported below `node`, type-checking blocks left out."""
    for child in ast.iter_child_nodes(node):
        if is_type_checking(child):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"relative import, line {child.lineno}"
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        else:
            yield from imports(child)


def layer(module):
    parts = module.split(".")
    return parts[1] if parts[0] == "bolt" and len(parts) > 1 else None


def test_there_is_something_to_look_at():
    assert len(SOURCES) > 40
    assert "bolt.graph.pipeline" in SOURCES


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_imports_go_one_way(name):
    own = layer(name)
    if own is None:
        return  # the public face loads everything, lazily
    assert own in RANK, f"{name} is in no layer of this test; add it to its row"
    for module in imports(tree(name)):
        other = layer(module)
        if other in RANK:
            assert RANK[other] <= RANK[own], f"{name} imports {module}, which is a later stage"


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_only_options_reads_the_environment(name):
    if SOURCES[name].name in ENVIRONMENT:
        return
    for node in ast.walk(tree(name)):
        read = isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "putenv")
        assert not read, f"{name} line {getattr(node, 'lineno', 0)} reads the environment"


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_no_globals_that_change_and_no_bare_except(name):
    for node in ast.walk(tree(name)):
        assert not isinstance(node, ast.Global), f"{name} line {node.lineno}: global"
        bare = isinstance(node, ast.ExceptHandler) and node.type is None
        assert not bare, f"{name} line {getattr(node, 'lineno', 0)}: bare except"


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_every_module_says_what_it_is(name):
    text = SOURCES[name].read_text()
    assert not text.strip() or ast.get_docstring(ast.parse(text)), f"{name} has no docstring"


def test_nothing_is_printed_outside_the_command_line():
    printing = {
        name
        for name in SOURCES
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    allowed = {"bolt.demo", "bolt.__main__", "bolt.ep.trial"}
    assert printing <= allowed


def test_every_family_has_the_template_of_its_name():
    stems = {path.name.split(".")[0] for path in TEMPLATES.glob("cpu_*.jinja")}
    assert stems, "no templates"
    rendered = {
        node.value.split(".")[0]
        for name in SOURCES
        if name.startswith("bolt.kernels.")
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.endswith(".jinja")
    }
    assert stems <= rendered, f"templates nobody renders: {sorted(stems - rendered)}"
