"""The tables of docs/comparison.md are whole."""

from __future__ import annotations

import json
import re

import pytest

from tornado_mcsession import SessionManager

from ..support.pages import ROOT, text_of

PAGE = text_of("comparison.md")


def rows(table: str) -> list[list[str]]:
    """The cells of a table."""
    lines = table.strip().split("\n")
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


LIBRARIES, *TABLES = map(rows, re.findall(r"(?:^\|.*\|\n)+", PAGE, re.M))


def test_each_row_has_a_cell_for_each_library() -> None:
    """Under the names of the first table, in its order, and none is empty."""
    names = [row[0].strip("*") for row in LIBRARIES[2:]]
    assert len(TABLES) == 3
    for head, _, *lines in TABLES:
        assert head == ["", *names]
        for row in lines:
            assert len(row) == len(head), row[0]
            assert all(row), row[0]


def test_each_library_has_a_version() -> None:
    """Of itself; this package is the one that the pages come with."""
    for row in LIBRARIES[3:]:
        assert re.search(r"\)\*{0,2} v?\d", row[1]), row[0]


def test_each_note_is_there_and_used() -> None:
    """The numbers in the tables are those below them."""
    used = {int(number) for number in re.findall(r"\((\d)\)", PAGE)}
    told = [int(number) for number in re.findall(r"^(\d)\. ", PAGE, re.M)]
    assert told == sorted(used)


def test_the_versions_for_node_are_those_of_the_tests() -> None:
    """Which share sessions with them."""
    package = json.loads((ROOT / "tests" / "interop" / "package.json").read_text())
    versions = {**package.get("dependencies", {}), **package.get("devDependencies", {})}
    names = ("koa-generic-session", "koa-store-memcached")
    for name in (*names, "express-session", "connect-memcached"):
        version = versions[name].lstrip("^~")
        assert re.search(rf"{name}(\]\S+)? {re.escape(version)}", PAGE), name


@pytest.mark.parametrize("url", ["redis://127.0.0.1", "sqlite:///sessions.db"])
def test_there_are_no_other_stores(url: str) -> None:
    """What the page says of Redis and of files on a disk."""
    with pytest.raises(ValueError, match="store"):
        SessionManager(store=url)
