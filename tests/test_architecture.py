"""The design's rules that a machine can check."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "tornado_mcsession"

# The lines of the design, highest first. A module imports only from lines below
# its own; a new module gets its place here.
LAYERS = [
    {"__main__"},
    {"_doctor.examining"},
    {"_doctor.judging", "_doctor.pages", "_doctor.reading", "_doctor.trials"},
    {"_doctor.asking"},
    {"_doctor.findings"},
    {"mixin"},
    {"_cycle", "_gate"},
    {"_answer"},
    {"manager"},
    {"_assembly", "_report"},
    {"_by_id", "_opening", "_parts", "_policy"},
    {"_verbs"},
    {"_endings", "_finding", "_saver"},
    {"_legacy"},
    {"_rotation"},
    {"_commit", "_drafts", "_hooks", "_transaction"},
    {"_tries"},
    {"_markers", "_record_store"},
    {"_bounded_store"},
    {"_failures", "_foreign", "_undeleted"},
    {"_tasks"},
    {"stores.memcached"},
    {"stores.memory"},
    {"stores._node"},
    {"stores._wire"},
    {"stores._access", "stores._pipeline", "stores._reasons"},
    {"stores._connection", "stores._servers"},
    {"stores._breaker", "stores._client", "stores._resolver"},
    {"stores._values"},
    {"transport"},
    {"codec"},
    {"session"},
    {"_facts"},
    {"_keeper", "_mapping"},
    {"_state"},
    {"_turn"},
    {"serializers"},
    {"_executor"},
    {"_calls"},
    {"_routing"},
    {"_lifetime"},
    {"_record"},
    {"_merge"},
    {"stores.base"},
    {"config"},
    {"_cookie", "_keys"},
    {"checks", "_forks", "_headers", "_held", "_ids", "_pages", "exceptions"},
]
LEVEL = {name: -line for line, names in enumerate(LAYERS) for name in names}

MAX_MODULE = 300
MAX_FUNCTION = 45

# Loading data with these runs code that is in it.
UNSAFE_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle"}
UNSAFE_CALLS = {"print", "eval", "exec", "__import__"}

FILES = {
    path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", "."): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
MODULES = {name: path for name, path in FILES.items() if "__init__" not in name}

each_module = pytest.mark.parametrize("name", MODULES)
each_file = pytest.mark.parametrize("name", FILES)


def parse(name: str) -> ast.Module:
    return ast.parse(FILES[name].read_text(encoding="utf-8"))


def imports(name: str) -> Iterator[str]:
    """Everything of this package that a module imports, however it spells it.

    Imports for type checkers only count as well: they show who knows whom.
    """
    for node in ast.walk(parse(name)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == PACKAGE.name:
                    yield alias.name.partition(".")[2]
        elif isinstance(node, ast.ImportFrom):
            module = (node.module or "").split(".") if node.module else []
            if node.level:
                module = name.split(".")[: -node.level] + module
            elif module and module[0] == PACKAGE.name:
                module = module[1:]
            else:
                continue
            for alias in node.names:
                whole = ".".join([*module, alias.name])
                yield whole if whole in FILES else ".".join(module)


@each_module
def test_a_module_imports_only_from_below(name):
    """Every import goes down one or more lines; none goes up or sideways."""
    assert name in LEVEL, f"give {name} its place in LAYERS"
    for target in imports(name):
        assert target in LEVEL, f"{name} imports {target or 'the package'!r} itself"
        assert LEVEL[target] < LEVEL[name], f"{name} imports {target}"


@each_file
def test_a_module_fits_on_a_few_screens(name):
    """No module has more than 300 lines."""
    lines = len(FILES[name].read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_MODULE


@each_file
def test_a_function_fits_on_a_screen(name):
    """No function has more than 45 lines, its docstring included."""
    for node in ast.walk(parse(name)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            lines = node.end_lineno - node.lineno + 1
            assert lines <= MAX_FUNCTION, f"{node.name} has {lines} lines"


@each_file
def test_nothing_prints_or_runs_what_it_reads(name):
    """The package never prints, unpickles or evaluates; doctor alone may print."""
    for node in ast.walk(parse(name)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if name == "__main__" and node.func.id == "print":
                continue
            assert node.func.id not in UNSAFE_CALLS
        elif isinstance(node, ast.Import):
            found = {alias.name.split(".")[0] for alias in node.names}
            assert not found & UNSAFE_MODULES
        elif isinstance(node, ast.ImportFrom) and not node.level:
            assert (node.module or "").split(".")[0] not in UNSAFE_MODULES


@pytest.mark.parametrize(
    "path", sorted(Path(__file__).parent.rglob("test_*.py")), ids=lambda path: path.name
)
def test_a_test_says_what_it_tests(path):
    """Each test states its fact in a docstring."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if node.name.startswith("test_"):
                assert ast.get_docstring(node), f"{node.name} has no docstring"
