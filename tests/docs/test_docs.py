"""What the pages under docs/ say is so: their links, and that all their code is run."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest
from tornado.web import RequestHandler

from tornado_mcsession import (
    SessionManager,
)

from ..support.pages import DOCS, ROOT, blocks, pages, run, text_of

# Links.


def headings(path: Path) -> set[str]:
    """The anchors of a document, made as GitHub makes them."""
    found = re.findall(r"^#+ (.*)$", path.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in found}


@functools.cache
def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_each_link_leads_somewhere(page: Path) -> None:
    """To a file that is there, and in it to a heading or a test of that name."""
    for target in set(re.findall(r"\]\(([^)\s]+)\)", page.read_text())):
        if target.startswith("https:"):
            continue
        name, _, fragment = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.is_relative_to(ROOT), target
        assert path.exists(), target
        if fragment:
            known = functions(path) if name.endswith(".py") else headings(path)
            assert fragment in known, target


def test_no_two_pages_have_one_name() -> None:
    """Tests and messages can name a page without its folder."""
    names = [page.name for page in DOCS.rglob("*.md")]
    assert len(names) == len(set(names))


def test_each_page_with_code_has_a_test_that_runs_it() -> None:
    """No Python of a page stands there untried."""
    tests = "".join(path.read_text() for path in ROOT.glob("tests/**/test_*.py"))
    for page in DOCS.rglob("*.md"):
        if "```python" in page.read_text():
            assert f'("{page.name}")' in tests, page.name


# docs/guides/koa.md


def test_sessions_are_shared_as_the_page_says() -> None:
    """Its settings are accepted, and its handlers are some."""
    koa, express, handlers = blocks("koa.md")
    for block, key in ((koa, "koa:sess:"), (express, "shop:")):
        manager = SessionManager(run(block)["app"])
        assert manager.codec.key("a" * 43) == key + "a" * 43
    assert issubclass(run(handlers)["Login"], RequestHandler)


def test_the_list_of_moved_pages_is_that_of_the_demo() -> None:
    """The page's part of a configuration stands in the demo's in the same way."""
    (shown,) = re.findall(r"```nginx\n(.*?)```", text_of("moving-koa.md"), re.S)
    template = (ROOT / "demo" / "koa" / "nginx.conf").read_text()
    first = shown.strip().splitlines()[0].rstrip(" {")
    assert f"{first} {{{{" in template
