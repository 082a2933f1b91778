"""A whole request with a session of which anything may be found in the store."""

from __future__ import annotations

import functools
import struct
from typing import Any, NamedTuple

import msgspec
from tornado.httputil import HTTPHeaders
from tornado.web import Application

from tornado_mcsession import Session, SessionError, SessionManager

from . import records
from .cookies import handler_with
from .material import DIGEST, IDS, NOW, PLANTED, FoundStore, assert_silent, wait_for

# Of a logged-in session there is a marker too, beside the record.
MARKER = struct.pack(">16sdd", b"m" * 16, NOW - 60, NOW - 60)


class Site(NamedTuple):
    """A manager, and the ids of an anonymous and of a logged-in session of it."""

    manager: SessionManager
    store: FoundStore
    ids: tuple[str, str]

    @classmethod
    def of(cls, serializer: str) -> Site:
        store = FoundStore()
        manager = SessionManager(
            Application(), store=store, clock=lambda: NOW, serializer=serializer
        )
        session = wait_for(manager.open(handler_with("Cookie", [])))
        wait_for(session.login("alice"))
        assert session.id is not None
        return cls(manager, store, (IDS[0], IDS[0] + session.id[-len(DIGEST) :]))


@functools.cache
def sites() -> list[Site]:
    return [Site.of("msgpack"), Site.of("json")]


def check(data: bytes) -> None:
    """The first byte chooses; the marker and its length stand before the record."""
    how, size, rest = data[:1] or b"\x00", data[1:2] or b"\x00", data[2:]
    manager, store, ids = sites()[how[0] & 1]
    marker, found = rest[: size[0]], rest[size[0] :]
    if how[0] & 2:
        found = records.PLAIN[how[0] & 1].encode(records.record(found), records.NAME)
    if how[0] & 4:
        marker = MARKER
    store.find = lambda key: marker if key.endswith("}") else found
    handler = handler_with("Cookie", [f"session={ids[1 if how[0] & 8 else 0]}"])
    try:
        use(manager, handler)
    except SessionError as error:
        assert_silent(error)
    assert_silent()


def use(manager: SessionManager, handler: Any) -> None:
    """Look at all of the session, change it, save it, and tell the client."""
    session = wait_for(manager.open(handler))
    look_at(session)
    session["seen"] = PLANTED
    session.flash(PLANTED)
    wait_for(manager.commit(session))
    headers = HTTPHeaders()
    manager.deliver(handler, headers, session)
    look_at(session)
    for line in headers.get_list("Set-Cookie"):
        assert line.isascii()
        assert line.isprintable()


def look_at(session: Session) -> None:
    """Every fact that a handler may ask for is there."""
    assert PLANTED not in repr(session)
    assert session.created.tzinfo is not None
    assert session.expires_at.tzinfo is not None
    assert session.idle_timeout is None or session.idle_timeout > 0
    assert session.principal is None or type(session.principal) is str
    assert session.authenticated_at is None or session.authenticated_at.tzinfo
    for key, value in session.items():
        assert session[key] is value
    for category, message in session.flashes():
        assert type(category) is type(message) is str


def seeds() -> list[bytes]:
    """Sessions as they are, logged in or not, ended, retired, and with odd times."""
    odd: list[dict[str, Any]] = [
        {},
        {"principal": None, "authenticated_at": None, "marker": None},
        {"principal": None, "marker": None, "expires_at": 1e300, "end": None},
        {"principal": None, "created": 1e-300, "idle_timeout": 1e300},
        {"expires_at": NOW - 1},
        {"created": NOW + 1e9},
        {"retired": True},
        {"retired": True, "successor": b"s" * 60, "successor_until": NOW + 5},
        {"principal": "", "idle_timeout": 1e-300},
        {"end": 1e300, "created": 0.0},
    ]
    made = []
    for which, codec in enumerate(records.PLAIN):
        data = codec.serializer.dumps({"a": [1, {"b": None}], "word": PLANTED})
        for fields in odd:
            whole = codec.encode(records.record(data, **fields), records.NAME)
            for marker in (
                b"",
                MARKER,
                MARKER[:-1],
                struct.pack(">16sdd", b"x" * 16, 0, 0),
            ):
                head = bytes([which + 8, len(marker)])
                made += [head + marker + whole, bytes([which, 0]) + whole]
        made += [bytes([which + 14, 0]) + data, bytes([which + 6, 0]) + data]
        fields = msgspec.msgpack.decode(whole[1:])
        made += [bytes([which + 4, 0, 1]) + msgspec.msgpack.encode(fields[:4])]
    made += [b"\x0e\x00" + seed[1:] for seed in records.seeds() if seed[0] == 4]
    return made


WORDS = [*records.WORDS, MARKER, struct.pack(">d", float("nan")), b"\xc3", b"\xc2"]
