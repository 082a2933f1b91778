"""A small picture of a session id, from which nobody can tell the id.

python -m demo
curl -s -c jar -b jar http://127.0.0.1:8888/ | grep 'class="print'
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

__all__ = ["Fingerprint", "fingerprint"]

LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"  # without I and O, which look like digits
SIZE = 5
HUES = 6  # the style sheet has that many


@dataclass(frozen=True)
class Fingerprint:
    """Four letters, a color, and the filled squares of a 5 × 5 pattern."""

    letters: str
    hue: int
    squares: list[tuple[int, int]]


def fingerprint(session_id: str | None, key: bytes) -> Fingerprint | None:
    """Return the fingerprint of a session id, or None if there is none.

    It is a keyed hash. Without the key, which each start of the demo makes anew,
    nobody can check a guess of the id against it.
    """
    if session_id is None:
        return None
    digest = hmac.digest(key, session_id.encode(), hashlib.sha256)
    letters = "".join(LETTERS[byte % len(LETTERS)] for byte in digest[:4])
    half = SIZE // 2 + 1  # the other half mirrors it
    squares = []
    for place in range(half * SIZE):
        x, y = divmod(place, SIZE)
        if digest[5 + place] % 2:
            squares += [(x, y), (SIZE - 1 - x, y)]
    return Fingerprint(letters, digest[4] % HUES, sorted(set(squares)))
