"""A picture of what sessions cost: bars, as SVG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape

from .rows import DOING

# Two of the colours of Okabe and Ito, which colour-blind people tell apart.
COLOURS = dict(zip(DOING.values(), ("#0072B2", "#D55E00"), strict=True))
WIDTH, LABELS, RIGHT = 760, 330, 50
TOP, BAR, GAP = 58, 13, 14
HEAD = "CPU time that a session adds to a request, in µs (less is better)"


def bars(costs: Mapping[str, Mapping[str, float]], titles: Mapping[str, str]) -> str:
    """Return a picture with two bars for each of ``costs``: reading and writing."""
    height = TOP + len(costs) * (2 * BAR + GAP) + GAP
    most = max(each[doing] for each in costs.values() for doing in COLOURS)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="13" role="img">',
        f"<title>{escape(HEAD)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        _text(12, 22, HEAD, 'font-weight="bold"'),
        *_legend(),
    ]
    top = TOP
    for name, values in costs.items():
        title = titles[name].replace("`", "").partition(",")[0]
        parts.append(_text(LABELS - 10, top + BAR + 4, title, 'text-anchor="end"'))
        for doing in COLOURS:
            value = values[doing]
            length = max(value, 0) / most * (WIDTH - LABELS - RIGHT)
            parts.append(_rect(LABELS, top, length, doing))
            parts.append(_text(LABELS + length + 6, top + BAR - 2, f"{value:.0f}"))
            top += BAR
        top += GAP
    return "\n".join([*parts, "</svg>", ""])


def _legend() -> Iterator[str]:
    for number, doing in enumerate(COLOURS):
        left = LABELS + 100 * number
        yield _rect(left, 34, BAR, doing)
        yield _text(left + BAR + 6, 45, doing)


def _rect(left: float, top: float, width: float, doing: str) -> str:
    size = f'x="{left:.0f}" y="{top}" width="{width:.1f}" height="{BAR - 1}"'
    return f'<rect {size} fill="{COLOURS[doing]}"/>'


def _text(left: float, top: float, text: str, more: str = "") -> str:
    return f'<text x="{left:.0f}" y="{top}" {more}>{escape(text)}</text>'
