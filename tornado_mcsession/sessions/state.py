"""The life of a session in one request: its states, and what leads from one to another.

What is not in `TRANSITIONS` cannot happen. The documentation draws it from there.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

__all__ = [
    "CLOSED",
    "DETACHED",
    "ENDED",
    "NEW",
    "OPEN",
    "SEALED",
    "STORED",
    "TRANSITIONS",
    "UNAVAILABLE",
    "UNLOADED",
    "Delivery",
    "Event",
    "Phase",
    "Presented",
    "Reach",
]


class Phase(enum.Enum):
    """What a request knows of its session."""

    if not TYPE_CHECKING:
        __hash__ = object.__hash__  # faster than Enum's own, which is Python

    UNLOADED = "not loaded yet"
    NEW = "no session is stored"
    STORED = "stored"
    ENDED = "ended by another request: what is written is dropped"
    UNAVAILABLE = "the store cannot tell: what is written is for this request only"


class Event(enum.Enum):
    """What happens to a session in a request."""

    if not TYPE_CHECKING:
        __hash__ = object.__hash__

    FOUND = "the store has it"
    NOT_FOUND = "the store has none"
    FOUND_ENDED = "the store has its tombstone"
    FAILED = "the store cannot tell, and on_error says to go on"
    SAVED = "it is stored"
    GONE = "another request has ended it"
    DESTROYED = "this request has ended it"


TRANSITIONS: dict[Phase, dict[Event, Phase]] = {
    Phase.UNLOADED: {
        Event.FOUND: Phase.STORED,
        Event.NOT_FOUND: Phase.NEW,
        Event.FOUND_ENDED: Phase.ENDED,
        Event.FAILED: Phase.UNAVAILABLE,
        Event.DESTROYED: Phase.NEW,
    },
    Phase.NEW: {
        Event.SAVED: Phase.STORED,
        Event.DESTROYED: Phase.NEW,
        Event.FAILED: Phase.UNAVAILABLE,
        Event.NOT_FOUND: Phase.NEW,
    },
    Phase.STORED: {
        Event.SAVED: Phase.STORED,
        Event.GONE: Phase.ENDED,
        Event.DESTROYED: Phase.NEW,
        Event.NOT_FOUND: Phase.NEW,  # refused by ``validate``
    },
    Phase.ENDED: {
        Event.SAVED: Phase.STORED,  # by a login
        Event.GONE: Phase.ENDED,
        Event.DESTROYED: Phase.NEW,
    },
    Phase.UNAVAILABLE: {
        Event.DESTROYED: Phase.NEW,
        Event.FAILED: Phase.UNAVAILABLE,
    },
}


class Presented(enum.Enum):
    """What became of the id that a request presented."""

    NONE = "none"
    LIVE = "live"
    EXPIRED = "expired"
    ENDED = "ended"
    UNKNOWN = "unknown"
    REFUSED = "refused"
    AMBIGUOUS = "ambiguous"


class Reach(enum.Enum):
    """What of the response can still be changed."""

    OPEN = "all of it"
    SEALED = "the headers have left: no cookie can be sent"
    DETACHED = "the headers have left, and the connection lives on: a WebSocket"
    CLOSED = "nothing: the response is finished"


class Delivery(enum.Enum):
    """What the response tells the client about the session's id."""

    NOTHING = "nothing"
    SEND = "send the id"
    CLEAR = "forget the id"


# To look a member up on its enum costs 0.1 µs in Python 3.11, and a request looks up
# dozens of these.
UNLOADED, NEW, STORED, ENDED, UNAVAILABLE = Phase
OPEN, SEALED, DETACHED, CLOSED = Reach
