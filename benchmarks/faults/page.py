"""The figures of the faults, and their places in the page for operators.

The page is written by hand. In its tables the last cell of a row has the name of the
fault; the three cells before it are measured.
"""

from __future__ import annotations

import re
from typing import Any

from benchmarks.load import machine

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
        page = page.replace(" | ".join(row), " | ".join(new))
    responses = sum(result["requests"] for result in results)
    run = f"{responses:,} responses while faults lasted. {machine()}."
    return MEASURED.sub(f"<!-- measured -->\n{run}\n<!-- end -->", page)


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
