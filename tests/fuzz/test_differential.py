"""Random handlers, each with a session and without one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import tornado
from tornado.httputil import HTTPConnection
from tornado.web import RequestHandler

from .differential import check_all, mismatch
from .programs import Program, Request

# scripts/test plays a thousand: half of them with an old Tornado, half with a new one.
FIRST = 0 if tornado.version_info < (6, 5) else 500
SIZE = 125


@pytest.mark.parametrize("first", range(FIRST, FIRST + 500, SIZE))
def test_a_session_changes_nothing_else(first):
    """Only Vary, Set-Cookie and Cache-Control show that a handler has a session."""
    asyncio.run(check_all(range(first, first + SIZE)))


def program(verb: Any = (), **options: Any) -> Program:
    request = {"verb": tuple(verb), **options.pop("request", {})}
    return Program((Request(**request),), **options)


def upload(*prepare: Any, **request: Any) -> Program:
    """An upload that is refused in prepare()."""
    request = {"method": "POST", "pieces": (40, 40), "prepare": prepare, **request}
    return program(request=request, streams=True, store="late")


WRITE, READ = ("session", "write"), ("session", "read")
FLUSH, AWAIT_FLUSH = ("flush",), ("await flush",)
EXPECT = (("Expect", "100-continue"),)
FOUND = {
    "refused": upload(WRITE, ("redirect",)),
    "refused by an error": upload(WRITE, ("raise HTTPError", 403)),
    "refused before it came": upload(WRITE, ("redirect",), headers=EXPECT),
    "refused by an error before it came": upload(
        WRITE, ("raise Finish",), headers=EXPECT
    ),
    "late header": program([WRITE, FLUSH, ("set_header", "X-A", "a")]),
    "late length": program([WRITE, ("write", 5), FLUSH, ("own_length", 5)]),
    "sized": program(
        [
            *(WRITE, ("own_length", 9), ("write", 5), FLUSH),
            *(("await sleep",), ("await sleep",), WRITE, ("finish", 4)),
        ],
        store="late",
    ),
    "sized, and whole at once": program(
        [READ, ("own_length", 5), ("write", 5), AWAIT_FLUSH, WRITE], store="late"
    ),
    "sized, and empty": program([WRITE, ("own_length", 0), AWAIT_FLUSH, AWAIT_FLUSH]),
    "without a body": program([WRITE, ("set_status", 304), AWAIT_FLUSH, AWAIT_FLUSH]),
    "HEAD": program([WRITE, AWAIT_FLUSH, READ], request={"method": "HEAD"}),
    "HEAD without on_finish": program(
        [WRITE, AWAIT_FLUSH], request={"method": "HEAD"}, passes_on=False
    ),
    "flushed and detached": program([READ, FLUSH, ("detach", True)]),
    "gone before it is sent": program([WRITE], request={"leaves": 1}, store="late"),
    "super": program([("super",), WRITE, ("write", 5)], chain="page"),
    "super without a verb": program([("super",), WRITE], request={"is_async": False}),
    "no verb": program(request={"prepare": (WRITE,)}, chain="bare"),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_is_the_same(name):
    """Programs that once behaved differently, as small as they can be."""
    assert asyncio.run(mismatch(FOUND[name])) == ""


# Known faults: each must be found.


class Holder(HTTPConnection):
    """Holds a response until its end, and then a little longer."""

    def __init__(self, handler: Any) -> None:
        self.handler = handler
        self.connection: Any = handler.request.connection
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)

    def write_headers(self, start_line: Any, headers: Any, chunk: Any = None) -> Any:
        if self.handler.copies:
            headers = headers.copy()
        return self.hold("write_headers", start_line, headers, chunk)

    def write(self, chunk: bytes) -> Any:
        return self.hold("write", chunk)

    def finish(self) -> None:
        self.hold("finish")
        if self.handler.waits:
            asyncio.get_running_loop().create_task(self.save())
        else:
            self.send()
            asyncio.get_running_loop().create_task(
                self.handler.run.store.add("k", b"", 9)
            )

    async def save(self) -> None:
        await self.handler.run.store.add("k", b"", 9)
        self.send()

    def send(self) -> None:
        for name, *arguments in self.calls:
            getattr(self.connection, name)(*arguments)
        self.calls = []

    def hold(self, *call: Any) -> Any:
        self.calls.append(call)
        future = asyncio.get_running_loop().create_future()
        future.set_result(None)
        return future


class Holds(RequestHandler):
    """What a mixin does that knows nothing of uploads."""

    copies = True
    waits = True
    session = None

    def prepare(self) -> None:
        self.request.connection = Holder(self)


class SendsTheSameHeaders(Holds):
    copies = False


class SendsBeforeTheSave(Holds):
    waits = False


PLAIN = program([("write", 5)], store="late")
REFUSED = upload(("redirect",))
LATE_HEADER = program([("flush",), ("set_header", "X-A", "a")])


@pytest.mark.parametrize(
    ("mixin", "harmless", "found"),
    [
        (Holds, PLAIN, REFUSED),
        (SendsTheSameHeaders, PLAIN, LATE_HEADER),
        (SendsBeforeTheSave, LATE_HEADER, PLAIN),
    ],
)
def test_a_known_fault_is_found(mixin, harmless, found):
    """A program that has nothing to do with the fault shows nothing."""
    assert asyncio.run(mismatch(harmless, mixin)) == ""
    assert asyncio.run(mismatch(found, mixin)) != ""
