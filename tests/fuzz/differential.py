"""A random handler behaves the same with a session and without one.

A `Program` is a list of requests, and of the steps that a handler takes for each of
them. It is sent twice over a socket: to a plain handler and to one with
`SessionMixin`. The responses, the calls of the handler's methods and what happens
to the connection must be equal. Only ``Vary``, ``Set-Cookie`` and ``Cache-Control``
may differ. Besides, no response may be complete before its session is saved.

A seed always makes the same program::

    scripts/fuzz --runs 20000 differential
    scripts/fuzz --runs 1 --seed 4711 differential  # one program, as it was found
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import logging
import pprint
import re
import secrets
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPOutputError
from tornado.iostream import IOStream
from tornado.web import (
    Application,
    RequestHandler,
    stream_request_body,
)

from tornado_mcsession import MemoryStore, SessionManager, SessionMixin

from .programs import SESSION_STEPS, STEPS, Program, Request, Step, generate, simpler

__all__ = ["Mismatch", "check_all", "mismatch", "shrink"]

# After so many turns of the loop in which nothing happened, nothing will.
QUIET_TURNS = 25
# Header lines that may differ; the handlers' own bodies hold no line ends.
FOREIGN = re.compile(
    rb"\r\n(?:Vary|Cache-Control|Set-Cookie: session=)[^\r]*", re.IGNORECASE
)
VARY = re.compile(rb"\r\nVary: ([^\r]*)")
DATE = re.compile(rb"\r\nDate: [^\r]*")
# gzip puts the time behind its first four bytes.
GZIP = re.compile(rb"(\x1f\x8b\x08\x00)....", re.DOTALL)


class Mismatch(AssertionError):
    """A program that behaves differently with a session."""


def short(data: bytes) -> str:
    """``data`` in few characters, since bodies repeat their letters."""
    runs = [(letter, len(list(run))) for letter, run in itertools.groupby(data)]
    return " ".join(f"{chr(letter)}*{size}" for letter, size in runs)


class Acting(RequestHandler):
    """Takes the steps of its request, and notes which of its methods are called."""

    def initialize(self, run: Run) -> None:
        self.run = run
        self.number = int(self.request.headers["X-Number"])
        self.does = run.program.requests[self.number]
        self.received = 0
        self.has_flushed = self.has_used = False

    def note(self, *event: Any) -> None:
        self.run.events.append((self.number, *event))

    async def prepare(self) -> None:
        await self.super_prepare()
        self.note("prepare")
        await self.act(self.does.prepare)

    def super_prepare(self) -> Any:
        raise NotImplementedError

    def data_received(self, chunk: bytes) -> Any:
        self.note("data_received", short(chunk))
        steps = self.does.data
        taken = steps[self.received] if self.received < len(steps) else ()
        self.received += 1
        return self.act_now_or_later(taken)

    def serve(self, *_: str) -> Any:
        self.note("verb", self.request.method)
        return self.act_now_or_later(self.does.verb)

    def above(self) -> Any:
        raise NotImplementedError

    def on_finish(self) -> None:
        self.note("on_finish", self.get_status())

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self.note("on_connection_close")

    def log_exception(self, kind: Any, *_: Any) -> None:
        self.note("log_exception", kind.__name__)

    def flush(self, include_footers: bool = False) -> Any:
        self.has_flushed = True
        with self.watching():
            return super().flush(include_footers)

    def finish(self, chunk: Any = None) -> Any:
        with self.watching():
            return super().finish(chunk)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        try:
            yield
        except HTTPOutputError:
            self.run.is_wrong = True
            raise

    def act_now_or_later(self, steps: Sequence[Step]) -> Any:
        if self.does.is_async:
            return self.act(steps)
        later: list[Any] = []
        try:
            for name, *rest in steps:
                if name == "super":
                    later.append(STEPS[name](self))
                elif name != "session":
                    if name != "await sleep":
                        STEPS[name](self, *rest)
                elif self.run.has_sessions and not rest[0].startswith("await"):
                    self.begin_use()
                    with contextlib.suppress(Exception):
                        SESSION_STEPS[rest[0]](self)
            # As in ``return super().get()``.
            return later.pop() if later else None
        finally:
            for coroutine in filter(inspect.iscoroutine, later):
                coroutine.close()

    async def act(self, steps: Sequence[Step]) -> None:
        for name, *rest in steps:
            if name == "session":
                await self.use_session(rest[0])
                continue
            result = STEPS[name](self, *rest)
            if name.startswith(("await", "super")) and inspect.isawaitable(result):
                await result

    async def use_session(self, name: str) -> None:
        if not self.run.has_sessions:
            return
        self.begin_use()
        # What cannot be done to a session here is not what is compared.
        with contextlib.suppress(Exception):
            result = SESSION_STEPS[name](self)
            if name.startswith("await"):
                await result

    def begin_use(self) -> None:
        # What left before the first use was not held.
        self.run.is_late |= self.has_flushed and not self.has_used
        self.has_used = True


class Page(RequestHandler):
    """What the acting class may find above itself."""

    def get(self) -> None:
        self.write("page")

    async def post(self) -> None:
        self.write("posted")


VERBS = ("get", "head", "post", "put", "patch", "delete")


def handler_class(program: Program, mixin: type | None) -> type[RequestHandler]:
    """The class that serves a program, with ``mixin`` or without one.

    ``chain`` is ``"alone"``; ``"page"`` where its verbs may call those of a page
    above the mixin; or ``"bare"`` where it has no verbs of its own.
    """
    above: list[type] = [] if mixin is None else [mixin]
    above.append(RequestHandler if program.chain == "alone" else Page)
    base: Any = type("Above", (*above,), {})

    class Handler(Acting, base):  # type: ignore[misc]
        session_load = program.load
        session_save = program.save

        def super_prepare(self) -> Any:
            async def prepared() -> None:
                result = base.prepare(self)
                if result is not None:
                    await result

            return prepared()

        def above(self) -> Any:
            return getattr(base, self.request.method.lower())(self)

        def on_finish(self) -> None:
            if program.passes_on:
                base.on_finish(self)
            Acting.on_finish(self)

        def on_connection_close(self) -> None:
            base.on_connection_close(self)
            self.note("on_connection_close")

    if program.chain != "bare":
        for verb in VERBS:
            setattr(Handler, verb, Acting.serve)
    return stream_request_body(Handler) if program.streams else Handler


# The run of a program.


class Store(MemoryStore):
    """Saves when the run says so."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = "now"
        self.wanted = mode
        self.calls = 0
        self.waiting: list[asyncio.Future[None]] = []

    async def add(self, *args: Any, **options: Any) -> Any:
        await self._turn()
        return await super().add(*args, **options)

    async def cas(self, *args: Any, **options: Any) -> Any:
        await self._turn()
        return await super().cas(*args, **options)

    async def _turn(self) -> None:
        self.calls += 1
        if self.mode == "turns":
            for _ in range(self.calls % 4):
                await asyncio.sleep(0)
        elif self.mode == "late":
            future = asyncio.get_running_loop().create_future()
            self.waiting.append(future)
            await future

    def release(self) -> None:
        """Let the write go on that has waited longest."""
        future = self.waiting.pop(0)
        if not future.done():
            future.set_result(None)


@dataclass
class Outcome:
    """What client and handler saw."""

    events: list[Any] = field(default_factory=list)
    responses: list[Any] = field(default_factory=list)
    is_closed: bool = False
    varied_by_encoding: int = 0
    problems: list[str] = field(default_factory=list)
    is_wrong: bool = False
    """The handler wrote another length than it announced."""


class Run:
    """One program, sent to one kind of handler."""

    def __init__(self, program: Program, mixin: type | None) -> None:
        self.program = program
        self.has_sessions = mixin is not None
        self.events: list[Any] = []
        self.received = bytearray()
        self.is_closed = False
        self.problems: list[str] = []
        self.is_wrong = self.is_late = False
        self.store = Store(program.store)
        self.ids = [secrets.token_urlsafe(32) for _ in program.requests]
        handler = handler_class(program, mixin)
        self.application = Application(
            [("/.*", handler, {"run": self})],
            compress_response=program.compresses,
            session={"store": self.store},
            log_function=self.log_request,
        )

    def log_request(self, handler: RequestHandler) -> None:
        number = int(handler.request.headers["X-Number"])
        self.events.append((number, "log_request", handler.get_status()))

    async def __call__(self) -> Outcome:
        if self.has_sessions:
            manager = SessionManager(store=self.store)
            for session_id in self.ids:
                await manager.set(session_id, {"a": 1})
            self.store.mode = self.store.wanted
        server = HTTPServer(self.application)
        client, end = socket.socketpair()
        client.setblocking(False)
        stream = IOStream(end)
        server.handle_stream(stream, ("127.0.0.1", 0))
        try:
            await self.talk(client)
        finally:
            client.close()
            while self.store.waiting:
                self.store.release()
            await self.settle(client)
            await server.close_all_connections()
            stream.close()  # also where it was detached
        methods = [request.method for request in self.program.requests]
        responses = list(split(normal(bytes(self.received)), methods))
        encoding = sum(
            b"Accept-Encoding" in line for line in VARY.findall(self.received)
        )
        return Outcome(
            self.events,
            responses,
            self.is_closed,
            encoding,
            self.problems,
            self.is_wrong,
        )

    async def talk(self, client: socket.socket) -> None:
        for number, request in enumerate(self.program.requests):
            sends = list(encoded(request, number, self.ids[number]))
            for data in sends[: request.leaves]:
                with contextlib.suppress(OSError):
                    client.send(data)
                await self.settle(client)
            if request.leaves is not None:
                client.close()
                await self.settle(client)
                return
            if request.waits or number == len(self.program.requests) - 1:
                await self.let_save(client)

    async def let_save(self, client: socket.socket) -> None:
        """Let what waits for its save go on, one write after another."""
        while self.store.waiting:
            begun = len({event[0] for event in self.events if event[1] == "prepare"})
            methods = [request.method for request in self.program.requests]
            found = [
                response
                for response in split(bytes(self.received), methods)
                if response.is_complete and response.status >= 200
            ]
            # Headers that are the whole response leave when the handler says so. And
            # what is saved only because ``session_save`` says so was not changed.
            is_held = found and found[-1].body and not self.program.save
            if is_held and len(found) >= begun and not self.is_late:
                self.problems.append("a response was complete before its save")
            self.store.release()
            await self.settle(client)

    async def settle(self, client: socket.socket) -> None:
        """Wait until nothing happens any more."""
        before: Any = None
        quiet = 0
        while quiet < QUIET_TURNS:
            await asyncio.sleep(0)
            self.receive(client)
            now = len(self.events), len(self.received), self.store.calls
            quiet = quiet + 1 if now == before else 0
            before = now

    def receive(self, client: socket.socket) -> None:
        while not self.is_closed and client.fileno() >= 0:
            try:
                data = client.recv(1 << 20)
            except BlockingIOError:
                return
            except ConnectionError:
                data = b""
            self.received += data
            self.is_closed = not data


def encoded(request: Request, number: int, session_id: str) -> Iterator[bytes]:
    """What the client sends, send by send."""
    fields = [("Host", "127.0.0.1"), ("X-Number", str(number)), *request.headers]
    if request.has_session:
        fields.append(("Cookie", f"session={session_id}"))
    pieces = [chr(97 + n % 26).encode() * s for n, s in enumerate(request.pieces or ())]
    if request.pieces is not None:
        if request.chunked:
            fields.append(("Transfer-Encoding", "chunked"))
            pieces = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces]
            pieces.append(b"0\r\n\r\n")
        else:
            fields.append(("Content-Length", str(sum(request.pieces))))
    lines = [f"{request.method} / HTTP/{request.version}"]
    lines += [f"{name}: {value}" for name, value in fields]
    head = "\r\n".join([*lines, "", ""]).encode()
    if request.together and pieces:
        head += pieces.pop(0)
    yield head
    yield from pieces


@dataclass(frozen=True)
class Response:
    """A response as it came, taken apart."""

    start: bytes
    headers: list[tuple[str, bytes]]
    body: bytes
    is_complete: bool

    @property
    def status(self) -> int:
        return int([*self.start.split(), b"0", b"0"][1])


CHUNK = re.compile(rb"([0-9a-fA-F]+)\r\n")


def split(data: bytes, methods: Sequence[str]) -> Iterator[Response]:
    """The responses in ``data``; what is no response stands in a last one's body."""
    rest, waiting = data, list(methods)
    while rest:
        head, found, body = rest.partition(b"\r\n\r\n")
        start, *lines = head.split(b"\r\n")
        if not found or not start.startswith(b"HTTP/"):
            yield Response(b"", [], rest, False)
            return
        headers = []
        for line in lines:
            name, _, value = line.partition(b":")
            headers.append((name.decode("latin-1").lower(), value.strip()))
        status = int(start.split()[1])
        method = "GET"
        if status >= 200 and waiting:
            method = waiting.pop(0)
        size, is_complete = length(method, status, dict(headers), body)
        yield Response(start, headers, body[:size], is_complete)
        rest = body[size:]


def length(
    method: str, status: int, headers: dict[str, bytes], data: bytes
) -> tuple[int, bool]:
    """How much of ``data`` is the body of this response, and whether that is all."""
    if method == "HEAD" or status in (204, 304) or status < 200:
        return 0, True
    if headers.get("transfer-encoding") == b"chunked":
        at = 0
        while chunk := CHUNK.match(data, at):
            size = int(chunk[1], 16)
            at = chunk.end() + size + 2
            if at > len(data):
                break
            if size == 0:
                return at, True
        return len(data), False
    if "content-length" in headers:
        size = int(headers["content-length"])
        return min(size, len(data)), len(data) >= size
    return len(data), False


def normal(data: bytes) -> bytes:
    """A response without what may differ, and without the time of day."""
    data = FOREIGN.sub(b"", data)
    return GZIP.sub(rb"\1", DATE.sub(b"\r\nDate: today", data))


# Comparing.


@contextlib.contextmanager
def silence() -> Iterator[list[str]]:
    """Print nothing, and keep what asyncio complains of."""
    heard: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    ear = Ear()
    levels = {}
    for name in ("tornado", "tornado_mcsession"):
        logger = logging.getLogger(name)
        levels[logger] = logger.level
        logger.setLevel(logging.CRITICAL + 1)
    asyncio_logger = logging.getLogger("asyncio")
    passed_on, asyncio_logger.propagate = asyncio_logger.propagate, False
    asyncio_logger.addHandler(ear)
    try:
        yield heard
    finally:
        asyncio_logger.removeHandler(ear)
        asyncio_logger.propagate = passed_on
        for logger, level in levels.items():
            logger.setLevel(level)


async def mismatch(program: Program, mixin: type = SessionMixin) -> str:
    """How a program differs with a session; empty where it does not."""
    with silence() as heard:
        plain = await Run(program, None)()
        known = len(heard)
        session = await Run(program, mixin)()
        found = session.problems
        if len(heard) > 2 * known:
            found += [f"asyncio: {message}" for message in heard[known:]]
        await end_tasks()
    names = ["is_closed"]
    if not plain.is_wrong:
        # What is wrong is noticed when its bytes leave, be they held or not.
        names += ["events", "responses", "varied_by_encoding"]
    if program.store == "late" and program.requests[-1].leaves is not None:
        # Who leaves does not get what is held.
        names = names[1:2]
    for name in names:
        without, used = getattr(plain, name), getattr(session, name)
        if without != used:
            found.append(f"{name} without a session:\n{shown(without)}")
            found.append(f"{name} with a session:\n{shown(used)}")
    return "\n".join(found)


async def end_tasks() -> None:
    """End handlers that wait for a connection which is closed."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0)


def shown(value: Any) -> str:
    return pprint.pformat(value, width=100)


async def shrink(program: Program, mixin: type = SessionMixin) -> Program:
    """A smaller program that still differs."""
    is_smaller = True
    while is_smaller:
        is_smaller = False
        for smaller in simpler(program):
            if await mismatch(smaller, mixin):
                program, is_smaller = smaller, True
                break
    return program


async def check_all(seeds: Iterable[int], mixin: type = SessionMixin) -> None:
    """Raise `Mismatch` where the program of a seed differs with a session."""
    for seed in seeds:
        program = generate(seed)
        if await mismatch(program, mixin):
            program = await shrink(program, mixin)
            raise Mismatch(
                f"seed {seed}\n{pprint.pformat(program, width=100)}\n"
                + await mismatch(program, mixin)
            )
