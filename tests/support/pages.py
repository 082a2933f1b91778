"""The pages under docs/, by their names, and their code.

A name such as ``"csrf.md"`` finds a page in whatever folder it is.
"""

from __future__ import annotations

import asyncio
import re
import textwrap
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler

import tornado_mcsession
from tornado_mcsession.stores import base

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

# What a block of a page may use without importing it.
NAMES = {
    **{name: getattr(tornado_mcsession, name) for name in tornado_mcsession.__all__},
    **{name: getattr(base, name) for name in base.__all__ if name.startswith("check_")},
    "Application": Application,
    "RequestHandler": RequestHandler,
    "WebSocketHandler": WebSocketHandler,
    "asyncio": asyncio,
    "timedelta": timedelta,
    "time": time,
}


def pages() -> list[Path]:
    """All pages that people read, in order."""
    demo = ROOT / "demo" / "README.md"
    return [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md")), demo]


def page(name: str) -> Path:
    """The page ``name``, in whatever folder of docs/ it is."""
    (found,) = DOCS.rglob(name)
    return found


def text_of(name: str) -> str:
    return page(name).read_text(encoding="utf-8")


def figure(name: str) -> str:
    return (DOCS / "figures" / name).read_text(encoding="utf-8")


def blocks(name: str, language: str = "python") -> list[str]:
    """The code of a page, in order: Python, or what else is asked for."""
    return re.findall(rf"```{language}\n(.*?)```", text_of(name), re.S)


def programs(name: str) -> list[str]:
    """The whole programs of a page, each of which serves an application."""
    return [block for block in blocks(name) if "asyncio.run(main())" in block]


def with_ports(text: str, port: int, memcached: int) -> str:
    """Return ``text`` with the ports of a test in the place of the usual ones."""
    return text.replace("8888", str(port)).replace("11211", str(memcached))


def run(block: str, **given: Any) -> dict[str, Any]:
    """The names that a block leaves."""
    names = {**NAMES, **given}
    # As in a module of its own, without this module's __future__ imports.
    exec(compile(block, "<a page>", "exec", dont_inherit=True), names)
    return names


async def run_async(block: str, **given: Any) -> dict[str, Any]:
    """The names that a block leaves which awaits."""
    body = textwrap.indent(f"{block}\nreturn locals()", "    ")
    names = {**NAMES, **given}
    exec(f"async def block():\n{body}", names)
    left: dict[str, Any] = await names["block"]()
    return left
