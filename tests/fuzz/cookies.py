"""What a client sends to say which session is its own."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from tornado.httputil import (
    HTTPHeaders,
    HTTPInputError,
    HTTPServerRequest,
    RequestStartLine,
)
from tornado.web import Application, create_signed_value

from tornado_mcsession import SessionManager

from ..support.requests import carried
from .material import (
    COOKIE_SECRETS,
    ID,
    IDS,
    NOW,
    STORE_KEY,
    STRANGER,
    FoundStore,
    assert_silent,
    wait_for,
)

HEADER = "X-Session-ID"


class Mode(NamedTuple):
    """A way for ids to travel, and a manager that uses it."""

    header: str
    signed: bool
    manager: SessionManager
    store: FoundStore

    @classmethod
    def of(cls, secret: Any = None, **options: Any) -> Mode:
        version = 2 if isinstance(secret, dict) else None
        app = Application(cookie_secret=secret, key_version=version)
        store = FoundStore()
        manager = SessionManager(app, store=store, clock=lambda: NOW, **options)
        header = HEADER if "transport" in options else "Cookie"
        return cls(header, secret is not None, manager, store)


@functools.cache
def modes() -> list[Mode]:
    return [
        Mode.of(),
        Mode.of(COOKIE_SECRETS[1]),
        Mode.of(COOKIE_SECRETS),
        Mode.of(transport=f"header:{HEADER}"),
    ]


def check(data: bytes) -> None:
    """The first byte chooses a mode, and each line is a header of its own."""
    which, _, lines = data.partition(b"\n")
    mode = modes()[sum(which) % 4]
    fields = [line.decode("latin-1") for line in lines.split(b"\n")]
    handler = handler_with(mode.header, fields)
    if handler is None:
        return  # Tornado answers 400
    found = carried(mode.manager.transport, handler)
    if mode.header == "Cookie":
        assert found is None or ID.fullmatch(found)
        _check_duplicates(mode, fields, found)
    if mode.signed:
        assert found is None or found in IDS, "nobody signed this"
    mode.store.calls.clear()
    session = wait_for(mode.manager.open(handler))
    assert session.is_new
    assert session.id is None
    assert not dict(session)
    assert_silent()
    asked = mode.store.calls
    if not mode.manager.transport.present(handler).ids:
        assert not asked, "a malformed id was asked for"
    else:
        assert asked
        assert {operation for operation, _ in asked} == {"get"}
        assert all(STORE_KEY.fullmatch(key) for _, key in asked)


def _check_duplicates(mode: Mode, fields: list[str], found: str | None) -> None:
    """The same cookie twice is one; together with another one it is none."""
    again = handler_with("Cookie", fields * 2)
    assert carried(mode.manager.transport, again) == found
    if found is not None:
        beside = handler_with("Cookie", [*fields, _cookie(mode, STRANGER)])
        assert (carried(mode.manager.transport, beside) is None) == (found != STRANGER)


def _cookie(mode: Mode, session_id: str) -> str:
    value = session_id
    if mode.signed:
        value = signed(session_id, COOKIE_SECRETS[1])
        if mode is modes()[2]:
            value = signed(session_id, COOKIE_SECRETS, 1)
    return f"session={value}"


class Handler:
    """As much of a handler as transports and managers look at."""

    def __init__(self, request: HTTPServerRequest) -> None:
        self.request = request
        self.settings: dict[str, Any] = {}


def handler_with(name: str, fields: list[str]) -> Any:
    """A handler for Tornado's own request; None where Tornado refuses it."""
    headers = HTTPHeaders({"Host": "127.0.0.1"})
    try:
        for field in fields:
            headers.add(name, field)
        request = HTTPServerRequest(
            headers=headers, start_line=RequestStartLine("GET", "/", "HTTP/1.1")
        )
    except HTTPInputError:
        return None
    return Handler(request)


def signed(
    value: str, secret: Any, key_version: int | None = None, **options: Any
) -> str:
    """A value as Tornado signs it."""
    options = {"name": "session", "version": 2, "clock": lambda: NOW, **options}
    name = options.pop("name")
    return create_signed_value(
        secret, name, value, key_version=key_version, **options
    ).decode("ascii")


def seeds() -> list[bytes]:
    """What clients send, and what attackers do."""
    first, second, third, _ = IDS
    values = [
        *IDS,
        f'"{first}"',
        first[:21],
        "i" * 200 + "i",
        first + "\x00",
        "abc|123|def",
        f"{first}|{int(NOW)}|{'0' * 40}",
        "2|1:0|10:1800000000|7:session|4:abcd|" + "0" * 64,
        "2|" + "9" * 5000 + ":0|1:0|",
        "2|-1:0|1:0|",
        "9" * 5000 + "|",
        "x" * 70_000,
        "",
    ]
    for session_id in IDS:
        values += [
            signed(session_id, COOKIE_SECRETS[1]),
            signed(session_id, COOKIE_SECRETS, 1),
            signed(session_id, COOKIE_SECRETS, 2),
            signed(session_id, COOKIE_SECRETS[1], version=1),
            signed(session_id, COOKIE_SECRETS[1], name="other"),
            signed(session_id, COOKIE_SECRETS[1], clock=lambda: NOW - 40 * 86_400),
            signed(session_id, "another secret"),
        ]
    made = [f"session={value}" for value in values]
    made += [
        f"a=b; session={first}; c=d",
        f"session={first}\nsession={first}",
        f"session={first}; session={second}\nsession={third}",
        "session=; " * 5000,
        "session",
        "=",
        ";" * 1000,
        "session" + "=" * 1000,
    ]
    headers = [f"{mode}\n{text}" for mode in "0123" for text in made]
    headers += [f"3\n{value}" for value in values]
    headers += [f"3\n{first}\n{first}", f"3\n{first}\n{second}"]
    return [text.encode("latin-1") for text in headers]


WORDS = [
    b"session=",
    b"; ",
    b"\nsession=",
    b"2|1:0|",
    b"|10:1800000000|7:session|",
    b'"',
    b"\x80",
]
