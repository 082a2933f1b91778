"""The pages under docs/, by their names: a page may move to another folder."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def pages() -> list[Path]:
    """All pages that people read, in order."""
    demo = ROOT / "demo" / "README.md"
    return [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md")), demo]


def page(name: str) -> Path:
    """The page ``name`` (``"csrf.md"``), in whatever folder of docs/ it is."""
    (found,) = DOCS.rglob(name)
    return found


def text_of(name: str) -> str:
    return page(name).read_text(encoding="utf-8")


def figure(name: str) -> str:
    return (DOCS / "figures" / name).read_text(encoding="utf-8")


def blocks(name: str) -> list[str]:
    """The Python code of a page."""
    return re.findall(r"```python\n(.*?)```", text_of(name), re.S)
