"""Random programs: what a client sends, and what a handler does about it.

They are data, so that one can be printed, run again and made smaller. A seed always
makes the same program.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tornado.web import Finish, HTTPError

__all__ = [
    "SESSION_STEPS",
    "STEPS",
    "Program",
    "Request",
    "Step",
    "generate",
    "simpler",
]

LARGE = 70_000  # more than Tornado hands over at once

Step = tuple[Any, ...]


@dataclass(frozen=True)
class Request:
    """What the client sends, and what the handler does about it."""

    method: str = "GET"
    version: str = "1.1"
    headers: tuple[tuple[str, str], ...] = ()
    pieces: tuple[int, ...] | None = None
    """Sizes of the pieces of the body; they are sent one after another."""
    chunked: bool = False
    together: bool = False
    """The first piece is sent together with the headers."""
    waits: bool = True
    """The next request is sent only after the response."""
    leaves: int | None = None
    """The client closes the connection after so many sends."""
    has_session: bool = True
    prepare: tuple[Step, ...] = ()
    data: tuple[tuple[Step, ...], ...] = ()
    verb: tuple[Step, ...] = ()
    is_async: bool = True


@dataclass(frozen=True)
class Program:
    """All of a connection's requests, and the handler class that serves them."""

    requests: tuple[Request, ...]
    streams: bool = False
    chain: str = "alone"
    """Where the class with the steps stands: see `handler_class`."""
    passes_on: bool = True
    """``on_finish`` calls ``super().on_finish()``."""
    compresses: bool = False
    load: str = "eager"
    save: bool | None = None
    store: str = "now"
    """When saves are done: now, some turns later, or after the whole request."""


# What handlers do.


def raise_(error: BaseException) -> None:
    raise error


def own_length(handler: Any, length: int) -> None:
    handler.set_header("Content-Length", str(length))


def take_over(handler: Any, closes: bool) -> None:
    stream = handler.detach()
    handler.note("detached")
    stream.write(b"HTTP/1.1 200 Raw\r\nContent-Length: 3\r\n\r\nraw")
    if closes:
        stream.close()


STEPS: dict[str, Callable[..., Any]] = {
    "write": lambda handler, size: handler.write(b"w" * size),
    "flush": lambda handler: handler.flush(),
    "await flush": lambda handler: handler.flush(),
    "finish": lambda handler, size: handler.finish(b"f" * size if size else None),
    "await finish": lambda handler, size: handler.finish(b"f" * size if size else None),
    "set_header": lambda handler, name, value: handler.set_header(name, value),
    "add_header": lambda handler, name, value: handler.add_header(name, value),
    "clear_header": lambda handler, name: handler.clear_header(name),
    "set_cookie": lambda handler, value: handler.set_cookie("other", value),
    "own_length": own_length,
    "clear": lambda handler: handler.clear(),
    "set_status": lambda handler, code: handler.set_status(code),
    "set_etag": lambda handler: handler.set_etag_header(),
    "redirect": lambda handler: handler.redirect("/elsewhere"),
    "send_error": lambda handler, code: handler.send_error(code),
    "raise HTTPError": lambda handler, code: raise_(HTTPError(code)),
    "raise Finish": lambda handler: raise_(Finish()),
    "raise": lambda handler: raise_(ZeroDivisionError()),
    "detach": take_over,
    "super": lambda handler: handler.above(),
    "await sleep": lambda handler: asyncio.sleep(0),
}

SESSION_STEPS: dict[str, Callable[[Any], Any]] = {
    "read": lambda handler: handler.session.get("a"),
    "id": lambda handler: handler.session.id,
    "write": lambda handler: handler.session.update(b=secrets.token_hex(4)),
    "nested": lambda handler: handler.session.setdefault("list", []).append(1),
    "pop": lambda handler: handler.session.pop("a", None),
    "clear": lambda handler: handler.session.clear(),
    "flash": lambda handler: handler.session.flash("hello"),
    "flashes": lambda handler: handler.session.flashes(),
    "remember": lambda handler: handler.session.remember(True),
    "assign": lambda handler: setattr(handler, "session", {"c": 1}),
    "end": lambda handler: setattr(handler, "session", None),
    "await load": lambda handler: handler.load_session(),
    "await save": lambda handler: handler.session.save(),
    "await touch": lambda handler: handler.session.touch(),
    "await login": lambda handler: handler.session.login("ann"),
    "await regenerate": lambda handler: handler.session.regenerate(),
    "await destroy": lambda handler: handler.session.destroy(),
    "await transact": lambda handler: handler.session.transact(count),
}


def count(data: dict[str, Any]) -> None:
    data["n"] = data.get("n", 0) + 1


# Making programs.

SIZES = (0, 1, 5, 40)
STATUSES = (200, 201, 204, 304, 400, 404, 500, 503)
ENDS: tuple[Step, ...] = (
    ("finish", 0),
    ("finish", 7),
    ("await finish", 7),
    ("redirect",),
    ("send_error", 403),
    ("send_error", 500),
    ("raise HTTPError", 404),
    ("raise HTTPError", 503),
    ("raise Finish",),
    ("raise",),
)
FLUSHES = ("flush", "await flush")
SYNCHRONOUS = [name for name in SESSION_STEPS if not name.startswith("await")]


class Maker:
    """Makes one program of a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.store = self.random.choice(("now", "now", "turns", "late"))
        self.streams = self.chance(0.4)
        self.detaches = self.chance(0.06)
        self.leaves = self.chance(0.1)
        # Where a save may wait for the client, so may whoever awaits it.
        self.awaits = self.store != "late" or not (self.streams or self.leaves)

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def program(self) -> Program:
        choice = self.random.choice
        count = choice((1, 1, 1, 2, 3))
        chain = choice(("alone", "alone", "page", "page", "bare"))
        return Program(
            requests=tuple(
                self.request(number == count - 1) for number in range(count)
            ),
            streams=self.streams,
            chain=chain,
            passes_on=self.chance(0.9),
            compresses=self.chance(0.15),
            load=choice(("eager",) * 6 + ("lazy", "off")),
            save=None if self.detaches else choice((None,) * 6 + (True, False)),
            store=self.store,
        )

    def request(self, is_last: bool) -> Request:
        choice = self.random.choice
        method = choice(("GET", "GET", "HEAD", "POST", "POST", "PUT", "OPTIONS"))
        has_body = method in ("POST", "PUT") or self.chance(0.1)
        pieces: tuple[int, ...] | None = None
        together = False
        if has_body:
            pieces = tuple(
                choice((1, 3, 40, 500)) for _ in range(self.random.randrange(4))
            )
            together = self.chance(0.4)
            if self.chance(0.05):
                pieces, together = (3, LARGE), False
        headers = []
        if has_body and self.chance(0.2):
            headers.append(("Expect", "100-continue"))
        if self.chance(0.15):
            headers.append(("If-None-Match", "*"))
        if self.chance(0.5):
            headers.append(("Accept-Encoding", "gzip"))
        if self.chance(0.25):
            headers.append(("Connection", choice(("close", "keep-alive"))))
        version = "1.0" if self.chance(0.1) else "1.1"
        ends_early = self.chance(0.5 if self.streams else 0.2)
        closes = version == "1.0" or ("Connection", "close") in headers
        waits = is_last or closes or self.chance(0.7)
        if self.store == "late" and (self.streams or self.detaches or self.leaves):
            # Whether Tornado looks at what follows depends on when that comes; and
            # a client that leaves gets nothing that is still held.
            waits = True
        prepare = self.steps(0, 3, 0.3 if ends_early else 0.02)
        if self.streams and not sum(pieces or ()):
            # Whether the connection then stays open depends on when the save is done.
            ends = (*ENDS, ("super",))
            prepare = tuple(step for step in prepare if step not in ends)
        if ("Expect", "100-continue") in headers:
            # The interim response would stand amidst the other one.
            prepare = tuple(step for step in prepare if step[0] not in FLUSHES)
        data = [
            self.data_steps(0.3 if ends_early else 0.03)
            for _ in range(self.random.randrange(4))
        ]
        if any(step[0] in FLUSHES for steps in (prepare, *data) for step in steps):
            # Tornado would raise, and close the connection.
            data = [tuple(s for s in steps if s != ("redirect",)) for steps in data]
        return Request(
            method=method,
            version=version,
            headers=tuple(headers),
            pieces=pieces,
            chunked=has_body and version == "1.1" and self.chance(0.4),
            together=together,
            waits=waits,
            leaves=self.random.randrange(1, 4) if self.leaves and is_last else None,
            has_session=self.chance(0.7),
            prepare=prepare,
            data=tuple(data),
            verb=self.steps(0, 8, 0.5, is_verb=True),
            is_async=self.chance(0.8),
        )

    def data_steps(self, ends: float) -> tuple[Step, ...]:
        """Steps that raise nothing: Tornado would close the connection at once."""
        steps = []
        for step in self.steps(0, 2, ends):
            if not step[0].startswith(("raise", "super")):
                steps.append(step)
            if step in ENDS:
                break
        return tuple(steps)

    def steps(
        self, least: int, most: int, ends: float, *, is_verb: bool = False
    ) -> tuple[Step, ...]:
        steps = [self.step(is_verb) for _ in range(self.random.randint(least, most))]
        if self.chance(ends):
            at = self.random.randint(0, len(steps))
            # A flush after the end fails or not, as the connection is closed or not.
            late = [step for step in steps[at:] if step[0] not in FLUSHES]
            end = self.random.choice(ENDS)
            if not self.awaits:
                end = (end[0].removeprefix("await "), *end[1:])
            steps = [*steps[:at], end, *late]
        if is_verb and self.chance(0.15):
            size = self.random.choice((0, 0, 0, 0, 1, -1))
            size += sum(step[1] for step in steps if step[0] == "write")
            size += sum(step[1] for step in steps if step[0].endswith("finish"))
            steps.insert(0, ("own_length", max(0, size)))
        is_open = not any(step in ENDS for step in steps)
        if is_verb and self.detaches and is_open and self.chance(0.7):
            steps.append(("detach", self.chance(0.5)))
        return tuple(steps)

    def step(self, is_verb: bool) -> Step:
        choice = self.random.choice
        if self.chance(0.35):
            return "session", self.session_step()
        flush = "await flush" if self.awaits else "flush"
        steps: list[Step] = [
            ("write", choice(SIZES)),
            ("write", choice(SIZES)),
            ("write", choice(SIZES)),
            ("set_header", choice(("X-A", "X-B", "Content-Type")), choice("abc")),
            ("add_header", choice(("X-A", "X-B")), choice("abc")),
            ("clear_header", choice(("X-A", "Content-Type"))),
            ("set_cookie", choice("abc")),
            ("set_status", choice(STATUSES)),
            ("set_etag",),
            ("await sleep",),
        ]
        if is_verb or self.chance(0.3):
            steps += [("flush",), ("flush",), (flush,), (flush,), ("super",)]
        if self.chance(0.1):
            steps.append(("clear",))
        return choice(steps)

    def session_step(self) -> str:
        if self.detaches:
            # What has changed must be saved before the stream is taken over.
            return self.random.choice(("read", "id", "await load"))
        names = list(SESSION_STEPS) if self.awaits else SYNCHRONOUS
        return self.random.choice(["read", "write", "write", *names])


def generate(seed: int) -> Program:
    """The program of ``seed``."""
    return Maker(seed).program()


# Making them smaller.


def simpler(program: Program) -> Iterator[Program]:
    """Programs with one thing less."""
    for number in range(len(program.requests)):
        if len(program.requests) > 1:
            yield dataclasses.replace(
                program, requests=without(program.requests, number)
            )
    for name, value in (("compresses", False), ("chain", "alone"), ("store", "now")):
        if getattr(program, name) != value:
            yield dataclasses.replace(program, **{name: value})
    for number, request in enumerate(program.requests):
        for less in simpler_requests(request):
            requests = list(program.requests)
            requests[number] = less
            yield dataclasses.replace(program, requests=tuple(requests))


def simpler_requests(request: Request) -> Iterator[Request]:
    for name in ("prepare", "verb", "headers", "data"):
        steps = getattr(request, name)
        for number in range(len(steps)):
            yield dataclasses.replace(request, **{name: without(steps, number)})
    for number, steps in enumerate(request.data):
        for other in range(len(steps)):
            data = list(request.data)
            data[number] = without(steps, other)
            yield dataclasses.replace(request, data=tuple(data))
    if request.pieces and len(request.pieces) > 1:
        yield dataclasses.replace(request, pieces=request.pieces[:-1])


def without(items: tuple[Any, ...], number: int) -> tuple[Any, ...]:
    return items[:number] + items[number + 1 :]
