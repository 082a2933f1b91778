"""The sites that are measured. All serve ``/make?user=7``, ``/read``, ``/write``.

``/make`` begins the session of a user, with 300 bytes in it, or with ``&size=10`` of
10 KB; ``/read`` shows what is in it, and ``/write`` counts up first. The response is
``7 12``: the user and the count. A bare site keeps no sessions and always responds with
``0 0``; it has as many routes as the site that it is compared with, because each route
that does not match takes time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Connections that may wait to be accepted: as many as come at once. Tornado's 128
# would have some of a thousand tried again, a second later.
BACKLOG = 1024

BARE = "0 0"
SECRET = "a secret of forty-three characters, for all"  # nosec B105 # serves nobody

SMALL = 4  # items in the cart of a session of 300 bytes
BYTES_OF_ITEM, OTHER_BYTES = 42, 140


def first_data(user: int, kilobytes: int = 0) -> dict[str, Any]:
    """Return what a new session holds: 300 bytes as msgpack, or so many KB."""
    items = (kilobytes * 1000 - OTHER_BYTES) // BYTES_OF_ITEM if kilobytes else SMALL
    return {
        "user": user,
        "n": 0,
        "name": "Ada Lovelace",
        "email": "ada.lovelace@example.org",
        "seen": 1795345905.25,
        "cart": [{"item": f"notebook, lined, {n}", "price": 4.5} for n in range(items)],
        "address": "12 St James's Square",
        "theme": "dark",
        "languages": ["en", "fr", "de"],
    }


def shown(session: Mapping[str, Any]) -> str:
    """Return what a page shows of a session."""
    return f"{session['user']} {session['n']}"
