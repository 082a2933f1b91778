"""The figures of the faults, and their places in the page for operators.

The page is written by hand. In its tables the last cell of a row has the name of the
fault; the three cells before it are measured.
"""

from __future__ import annotations

import re
import subprocess  # nosec B404 # runs memcached -V
from importlib.metadata import version
from typing import Any

from tests.support.processes import find_server

__all__ = ["cells", "filled", "rows"]

MEASURED = re.compile(r"<!-- measured -->.*?<!-- end -->", re.DOTALL)


def rows(page: str) -> dict[str, list[str]]:
    """Return the cells of each fault's row."""
    found = {}
    for line in page.splitlines():
        row = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and re.fullmatch(r"`[\w-]+`", row[-1]):
            found[row[-1].strip("`")] = row
    return found


def filled(page: str, results: list[dict[str, Any]]) -> str:
    """Return the page with the figures of all faults."""
    for result in results:
        row = rows(page)[result["name"]]
        new = [*row[:-4], *cells(result), row[-1]]
        page = page.replace(_line(row), _line(new))
    return MEASURED.sub(f"<!-- measured -->\n{_run(results)}\n<!-- end -->", page)


def cells(result: dict[str, Any]) -> list[str]:
    """Return the share of failed responses, the longest and the wrong ones."""
    shares = []
    for group in ("all sessions", "its sessions", "other sessions"):
        seen = result["statuses"].get(group, {})
        failed = sum(n for what, n in seen.items() if what not in ("200", "409"))
        if seen:
            shares.append(f"{failed / sum(seen.values()):.0%}")
    wrong = sum(result["problems"].values())
    return [", others ".join(shares) or "0%", f"{result['longest_ms']} ms", str(wrong)]


def _line(row: list[str]) -> str:
    return f"| {' | '.join(row)} |"


def _run(results: list[dict[str, Any]]) -> str:
    said = subprocess.run(  # nosec B603 # no shell, nothing from outside
        [find_server("memcached"), "-V"], capture_output=True, text=True, check=True
    ).stdout
    responses = sum(result["requests"] for result in results)
    return (
        f"Measured on memcached {said.split()[-1]} and Tornado {version('tornado')}: "
        f"{responses:,} responses while faults lasted."
    )
