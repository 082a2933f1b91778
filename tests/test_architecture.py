"""The design's rules that a machine can check."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "tornado_mcsession"

# Highest first. An import goes down a floor, or sideways within one.
FLOORS = ["the front door", "web", "sessions", "stores", "what all floors use"]
SHARED = {"exceptions", "checks"}
DEEPEST = 9


def modules() -> dict[str, ast.Module]:
    return {
        path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", "."): (
            ast.parse(path.read_text())
        )
        for path in sorted(PACKAGE.rglob("*.py"))
    }


MODULES = modules()


def floor_of(name: str) -> int:
    room = name.partition(".")[0]
    if room in FLOORS:
        return FLOORS.index(room)
    return FLOORS.index("what all floors use") if room in SHARED else 0


def found_as(name: str) -> str | None:
    """The module of a dotted name, which may be that of a folder."""
    inside = f"{name}.__init__".lstrip(".")
    return name if name in MODULES else inside if inside in MODULES else None


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def imports(name: str, tree: ast.AST) -> Iterator[str]:
    """The modules of the package that one imports when it runs."""
    for node in ast.iter_child_nodes(tree):
        if is_for_types(node):
            continue
        if isinstance(node, ast.ImportFrom) and node.level:
            parts = name.split(".")
            if parts[-1] != "__init__":
                parents = parts[: -node.level]
            else:
                parents = parts[: len(parts) - node.level]
            base = ".".join([*parents, *(node.module or "").split(".")]).strip(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}".strip(".")
                yield found_as(inner) or found_as(base) or base
        else:
            yield from imports(name, node)


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_down(name):
    """A floor knows nothing of the floors above it."""
    for target in imports(name, MODULES[name]):
        assert floor_of(target) >= floor_of(name), f"{name} imports {target}"


@pytest.mark.parametrize("name", MODULES)
def test_nothing_needs_the_tools_for_tests(name):
    """They know the whole package, and the package does not know them."""
    if not name.startswith("testing."):
        for target in imports(name, MODULES[name]):
            assert not target.startswith("testing."), f"{name} imports {target}"


def uses(name: str) -> set[str]:
    """The foreign packages that a module imports when it runs."""
    found = set()
    for node in ast.walk(MODULES[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").partition(".")[0])
    return found


@pytest.mark.parametrize("name", MODULES)
def test_only_the_upper_floors_know_tornado(name):
    """Sessions and stores work without a server."""
    if name.partition(".")[0] in ("sessions", "stores", "doctor", "settings"):
        assert "tornado" not in uses(name)


@pytest.mark.parametrize("name", MODULES)
def test_no_module_knows_pickle(name):
    """What is stored must never be able to run code."""
    assert not uses(name) & {"pickle", "marshal", "shelve", "dill"}


def test_no_module_imports_itself():
    """There are no circles."""
    for name in MODULES:
        reached, waiting = set(), [name]
        while waiting:
            for target in imports(waiting[0], MODULES.get(waiting[0], ast.Module([]))):
                assert target != name, f"{name} imports itself by {waiting[0]}"
                if target not in reached and target in MODULES:
                    reached.add(target)
                    waiting.append(target)
            waiting.pop(0)


@cache
def chain_from(name: str) -> tuple[str, ...]:
    """The longest chain of imports that begins with a module."""
    below = {target for target in imports(name, MODULES[name]) if target in MODULES}
    return (name, *max(map(chain_from, below - {name}), key=len, default=()))


def test_no_chain_of_imports_is_long():
    """What one module needs can be held in a head."""
    longest = max(map(chain_from, MODULES), key=len)
    assert len(longest) <= DEEPEST, " imports ".join(longest)


PRIVATE_OF_TORNADO = {
    "_auto_finish",
    "_break_cycles",
    "_execute",
    "_finished",
    "_handle_request_exception",
    "_headers",
    "_headers_written",
    "_log",
    "_new_cookie",
    "_prepared_future",
    "_reason",
    "_request_summary",
    "_status_code",
    "_stream_request_body",
    "_transforms",
    "_write_buffer",
    "_write_finished",
}


@pytest.mark.parametrize("name", MODULES)
def test_no_private_attribute_of_tornado_is_used(name):
    """The same code runs on every release."""
    used = {
        node.attr
        for node in ast.walk(MODULES[name])
        if isinstance(node, ast.Attribute) and node.attr in PRIVATE_OF_TORNADO
    }
    assert not used
