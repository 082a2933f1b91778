"""Garbage in a record, or on the way: one session's problem, never its neighbours'.

Records that no release of this package writes are made from its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import math
import pickle
import re
import secrets
import zlib

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tornado_mcsession import MsgpackSerializer, SessionGone
from tornado_mcsession.sessions.ids import record_key
from tornado_mcsession.sessions.record import Flash, Record

from ..stores.recording import RecordingProxy
from ..support.proxy import FaultProxy
from ..support.remote import Account, comes, post, session_id, started, until
from ..support.site import session_cookie

pytestmark = [pytest.mark.integration, pytest.mark.gen_test(timeout=60)]

KEY = b"k" * 32
KEYS = {"plain": (), "sealed": (KEY,)}
both = pytest.mark.parametrize("keys", KEYS.values(), ids=KEYS)

NOW = 1_800_000_000.0
RECORD = Record(
    created=NOW,
    renewed_at=NOW,
    expires_at=NOW + 1000,
    data=MsgpackSerializer().dumps({"owner": "mallory", "n": 7}),
    writes=b"1234567890",
    flashes=(Flash(b"id", "info", "hello"),),
    principal="ann",
    authenticated_at=NOW,
)
FIELDS = list(msgspec.structs.astuple(RECORD))
NAMES = Record.__struct_fields__


@pytest.fixture
def start(io_loop):
    yield from started(io_loop)


def packed(value):
    return b"\x01" + msgspec.msgpack.encode(value)


def with_field(name, value):
    fields = list(FIELDS)
    fields[NAMES.index(name)] = value
    return packed(fields)


def with_data(data):
    return with_field("data", data)


def with_raw(name, encoded):
    """The record with the bytes ``encoded`` in the place of a field."""
    fields = [msgspec.msgpack.encode(field) for field in FIELDS]
    fields[NAMES.index(name)] = encoded
    return b"\x01" + bytes([0x90 + len(fields)]) + b"".join(fields)


VALID = packed(FIELDS)
DEEP = b"\x91" * 10_000 + b"\xc0"
WRONG = {
    "created": ["2026", None, b"", []],
    "renewed_at": ["2026", None],
    "expires_at": ["2026", None, {}],
    "data": ["text", None, {"n": 1}, [1, 2], 7],
    "writes": [7, "text", [7], ["text"], {"a": b"b"}],
    "flashes": [7, [7], [[b"id", "info"]], [[1, 2, 3]], ["text"]],
    "principal": [7, b"ann", ["ann"]],
    "authenticated_at": ["2026", []],
    "marker": ["text", 7],
    "idle_timeout": ["60", [60]],
    "end": ["never", [1]],
    "persistent": [1, "yes"],
    "retired": [0, None, "no"],
    "successor": ["text", 7],
    "successor_until": ["2026", [1]],
}
SENSELESS = {
    "created": [math.nan, math.inf, -1.0],
    "renewed_at": [math.nan, -math.inf, -1e300],
    "expires_at": [math.nan, math.inf, -math.inf],
    "idle_timeout": [math.nan, math.inf, 0.0, -5.0],
    "end": [math.nan, math.inf],
    "authenticated_at": [math.nan, -1.0],
    "successor_until": [math.nan, math.inf],
}
GARBAGE = {
    "empty": b"",
    "a number": b"42",
    "a line end": b"\r\n",
    "an answer": b"END\r\n",
    "a command": b"flush_all\r\n",
    "html": b"<html><body>502 Bad Gateway</body></html>",
    "json": json.dumps({"owner": "mallory"}).encode(),
    "pickle": pickle.dumps({"owner": "mallory"}),
    "zlib": zlib.compress(VALID),
    "zeros": bytes(1000),
    "noise": bytes(range(256)) * 4,
    "nearly a megabyte": b"\xff" * 1_000_000,
    "no version": VALID[1:],
    "a later version": b"\x03" + VALID[1:],
    "an encrypted record's version": b"\x02" + VALID[1:],
    "the version alone": b"\x01",
    "something behind it": VALID + b"\x00",
    "twice": VALID + VALID,
    "no record": packed("text"),
    "a map": packed({"created": NOW}),
    "too few fields": packed(FIELDS[:3]),
    "no fields": packed([]),
    "deep": b"\x01" + DEEP,
    "deep maps": b"\x01" + b"\x81\xa1a" * 10_000 + b"\xc0",
    "deep in a field": with_raw("writes", DEEP),
    "deep behind the fields": b"\x01\xdc\x00\x10" + VALID[2:] + DEEP,
    "deep in the data": with_data(b"\x81\xa1a" + DEEP),
    "deep maps in the data": with_data(b"\x81\xa1a" * 10_000 + b"\xc0"),
    "an endless array": b"\x01\xdd\xff\xff\xff\xff",
    "an endless map": b"\x01\xdf\xff\xff\xff\xff",
    "an endless text": b"\x01\xdb\xff\xff\xff\xff",
    "an endless field": with_raw("data", b"\xc6\xff\xff\xff\xff"),
    "endless data": with_data(b"\xdf\xff\xff\xff\xff"),
    "an endless extension": with_data(b"\x81\xa1a\xc9\xff\xff\xff\xff\x05"),
    "no data": with_data(b""),
    "a list for data": with_data(msgspec.msgpack.encode([1, 2])),
    "keys that are no text": with_data(msgspec.msgpack.encode({1: 2})),
    "a list for a key": with_data(b"\x81\x91\x01\x01"),
    "broken text": with_data(b"\x81\xa1\xff\x01"),
    "a reserved code": with_data(b"\x81\xa1a\xc1"),
    **{
        f"{name}={value!r:.20}": with_field(name, value)
        for table in (WRONG, SENSELESS)
        for name, values in table.items()
        for value in values
    },
}


def sealed(plain, key):
    """What `Codec` makes of ``plain`` under the store key ``key``."""
    nonce = secrets.token_bytes(12)
    derived = hmac.digest(KEY, key.encode(), "sha256")
    return b"\x02" + nonce + AESGCM(derived).encrypt(nonce, plain, key.encode())


def put(memcached, key, value, flags=0):
    """Store what a session manager never would."""
    head = b"set %b %d 0 %d\r\n" % (key.encode(), flags, len(value))
    assert memcached.command(head + value) == b"STORED"


def key_of(browser):
    return record_key("mcsession:", session_id(browser))


async def at_once(proxy, site, browsers, go_on=None):
    """The answers to GETs; all but the first's session are asked for in one command."""
    proxy.cut()  # so that the first one is seen to connect
    proxy.hang()
    before = proxy.connections
    first = asyncio.create_task(browsers[0].get("/"))
    await until(lambda: proxy.connections > before)
    asked = [asyncio.create_task(browser.get("/")) for browser in browsers[1:]]
    await until(lambda: site.node()["pending"] == len(browsers))
    (go_on or proxy.pass_through)()
    return await asyncio.gather(first, *asked)


def warnings(caplog):
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "tornado_mcsession" and record.levelno >= logging.WARNING
    ]


async def check(start, memcached, caplog, keys, spoil):
    """Five users at once, one of whose records ``spoil`` makes of its store key."""
    with RecordingProxy(memcached.port) as proxy:
        site = start(
            f"{proxy.url}/?timeout=10&threads=1",
            session={"encryption_keys": keys, "clock": lambda: NOW},
        )
        users = [await site.user(f"user{number}") for number in range(5)]
        ill = users[2]
        key, before = key_of(ill), session_id(ill)
        foreign = spoil(key)
        put(memcached, key, foreign)
        caplog.clear()
        answers = await at_once(proxy, site, users)
        assert any(
            key in line.decode() and line.count(b" ") == 4
            for line in proxy.commands(b"gets")
        )
        assert [answer.status for answer in answers] == [200] * 5
        owners = [answer.json()["owner"] for answer in answers]
        assert owners == ["user0", "user1", None, "user3", "user4"]
        assert answers[2].json() == {
            "owner": None,
            "n": None,
            "principal": None,
            "available": True,
        }
        assert session_cookie(answers[2]) is None
        (warning,) = warnings(caplog)
        assert warning.startswith("a session record was taken as empty")
        assert site.manager.stats()["corrupt_records"] == 1
        assert site.node()["breaker"] == "closed"

        assert (await ill.post("/begin?owner=new", body=b"")).status == 200
        assert session_id(ill) != before
        assert (await ill.get("/")).json()["owner"] == "new"
        assert memcached.get(key) == foreign


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
async def test_a_garbage_record_is_one_empty_session(start, memcached, caplog, garbage):
    """It is a 200, logged and counted once, never adopted, and its neighbours' not."""
    await check(start, memcached, caplog, (), lambda key: garbage)


@pytest.mark.parametrize("name", sorted(GARBAGE.keys() - {"no version"}))
async def test_sealed_garbage_is_no_better(start, memcached, caplog, name):
    """The key may be known to an older release, or to a broken one."""
    plain = GARBAGE[name].removeprefix(b"\x01")
    await check(start, memcached, caplog, (KEY,), lambda key: sealed(plain, key))


UNSEALED = {
    name: GARBAGE[name]
    for name in ("empty", "zeros", "json", "an encrypted record's version", "deep")
}


@pytest.mark.parametrize(
    "garbage", [*UNSEALED.values(), VALID], ids=[*UNSEALED, "a plain record"]
)
async def test_what_is_not_sealed_is_garbage(start, memcached, caplog, garbage):
    """Where records are encrypted; a healthy plain one as well."""
    await check(start, memcached, caplog, (KEY,), lambda key: garbage)


# Every way to damage a small record by one byte, all at once.


def variants(raw):
    """``raw`` cut at each byte, and with each byte other than it was."""
    for at in range(len(raw)):
        yield raw[:at]
        for mask in (0x01, 0x10, 0x80, 0xFF):
            yield raw[:at] + bytes([raw[at] ^ mask]) + raw[at + 1 :]


@both
async def test_each_cut_and_each_changed_byte_is_one_sessions_problem(
    start, memcached, keys
):
    """Whatever comes out, the answer is a 200, and every neighbour has its own."""
    site = start(
        f"{memcached.url}/?timeout=30&threads=1",
        session={"encryption_keys": keys, "clock": lambda: NOW},
    )
    model = await site.user("model")
    raw = memcached.get(key_of(model))
    changed = list(variants(raw))
    sound = await asyncio.gather(*(site.user(f"user{n}") for n in range(20)))
    ids = [f"{number:043}" for number in range(len(changed))]
    for number, foreign in zip(ids, changed, strict=True):
        put(memcached, record_key("mcsession:", number), foreign)
    asked = []
    for turn, number in enumerate(ids):
        headers = {"Cookie": f"session={number}"}
        asked.append(site.browser().get("/", headers=headers))
        asked.append(sound[turn % len(sound)].get("/"))
    answers = await asyncio.gather(*asked)
    assert {answer.status for answer in answers} == {200}
    owners = [answer.json()["owner"] for answer in answers[1::2]]
    assert owners == [f"user{turn % len(sound)}" for turn in range(len(ids))]
    stats = site.manager.stats()
    if keys:
        # Not one of them is taken for a session.
        assert {answer.json()["owner"] for answer in answers[::2]} == {None}
        assert stats["corrupt_records"] == len(changed)
    else:
        assert stats["corrupt_records"] > len(changed) / 2
    assert site.node()["breaker"] == "closed"


# Items that memcached itself knows to be odd.


@both
@pytest.mark.parametrize("flags", [1, 16, 2**16, 2**32 - 1])
async def test_foreign_flags_change_nothing(start, memcached, keys, flags):
    """What other clients mark compressed or pickled is never unpacked here."""
    site = start(memcached.url, session={"encryption_keys": keys})
    browser, other = await site.user("bob"), await site.user("eve")
    raw = memcached.get(key_of(browser))
    put(memcached, key_of(browser), raw, flags)
    assert (await browser.get("/")).json()["owner"] == "bob"
    put(memcached, key_of(browser), pickle.dumps("x"), flags)
    pages = await asyncio.gather(browser.get("/"), other.get("/"))
    assert [page.json()["owner"] for page in pages] == [None, "eve"]


async def test_a_number_that_another_program_counts_is_garbage(start, memcached):
    """incr makes memcached rewrite an item, with a length of its own."""
    site = start(memcached.url)
    browser, other = await site.user("bob"), await site.user("eve")
    put(memcached, key_of(browser), b"99")
    assert memcached.command(b"incr %b 1" % key_of(browser).encode()) == b"100"
    pages = await asyncio.gather(browser.get("/"), other.get("/"))
    assert [page.json()["owner"] for page in pages] == [None, "eve"]


FAR = 253_402_300_799.0  # the last second of the year 9999


@pytest.mark.parametrize(
    "fields",
    [
        {"created": FAR, "expires_at": FAR},
        {"created": 1e300, "renewed_at": 1e300, "expires_at": 1e300},
        {"created": 0.0, "renewed_at": 0.0},
        {"created": 5e-324, "renewed_at": 5e-324},
        {"idle_timeout": 1e300},
        {"idle_timeout": 5e-324},
        {"end": 1e300},
        {"end": -1e300},
        {"expires_at": -1e300},
        {"authenticated_at": 1e300},
        {"successor": b"", "successor_until": 1e300},
        {"retired": True, "successor": b"short", "successor_until": 1e300},
        {"retired": True, "successor": b"x" * 20_000, "successor_until": 1e300},
        {"principal": ""},
        {"principal": "\r\nSet-Cookie: a=b"},
        {"marker": b""},
        {"writes": (b"",)},
        {"writes": (b"12345678",) * 50_000},
        {"flashes": (Flash(b"id", "info", "hello"),) * 10_000},
    ],
    ids=lambda fields: ",".join(f"{k}={v!r:.12}" for k, v in fields.items()),
)
@pytest.mark.parametrize(
    "act", ["write_it", "count", "login", "regenerate", "flash", "logout"]
)
async def test_what_is_odd_but_allowed_breaks_nothing(start, memcached, fields, act):
    """Times far away and lists far too long are no reason for an error."""
    site = start(memcached.url, Curious, {"clock": lambda: NOW})
    browser = await site.user("bob")
    record = msgspec.structs.replace(RECORD, **fields)
    put(memcached, key_of(browser), packed(list(msgspec.structs.astuple(record))))
    assert (await browser.get("/")).status == 200
    assert (await post(browser, act)).status == 200
    assert (await browser.get("/")).status == 200


class Curious(Account):
    """Looks at everything that a session tells."""

    def found(self):
        session = self.session
        repr((session.created, session.expires_at, session.authenticated_at))
        repr((session.idle_timeout, session.persistent, session.flashes()))
        return super().found()

    async def count(self):
        with contextlib.suppress(SessionGone):
            await super().count()

    async def regenerate(self):
        with contextlib.suppress(SessionGone):
            await super().regenerate()

    async def flash(self):
        self.session.flash("one more")


# Answers that are not those to the question.


class Rewriting(FaultProxy):
    """Passes what memcached answers through ``rewrite``, where that is set."""

    def __init__(self, target_port):
        self.rewrite = None
        super().__init__(target_port)

    def start(self, rewrite):
        async def answer(link, data):
            await link.send(rewrite(data))

        self._use(answer)


VALUE = re.compile(rb"VALUE (\S+) (\d+) (\d+) (\d+)\r\n")


def values_of(answer):
    """The items in an answer to ``gets``: key, and the rest as it was sent."""
    found = []
    while match := VALUE.match(answer):
        end = match.end() + int(match[3]) + 2
        found.append((match[1], answer[len(b"VALUE ") + len(match[1]) : end]))
        answer = answer[end:]
    return found, answer


def joined(items, end=b"END\r\n"):
    return b"".join(b"VALUE " + key + rest for key, rest in items) + end


def of_several(change):
    """Rewrites answers with more than one value, and no others."""

    def rewrite(answer):
        items, end = values_of(answer)
        return change(items, end) if len(items) > 1 else answer

    return rewrite


def rotated(items, end):
    """Each key with the value of the next one."""
    keys = [key for key, _ in items]
    rests = [rest for _, rest in items]
    return joined(zip(keys, [*rests[1:], rests[0]], strict=True), end)


SEEN = {
    "a value twice": lambda items, end: joined([*items, items[0]], end),
    "all values twice": lambda items, end: joined(items * 2, end),
    "a value of nobody's": lambda items, end: joined(
        [*items, (b"mcsession:nobody", items[0][1])], end
    ),
    "a value under another's name": lambda items, end: joined(
        [(items[1][0], items[0][1]), *items[1:]], end
    ),
    "an answer more": lambda items, end: joined(items, end + b"END\r\n"),
    "two answers more": lambda items, end: joined(items, end + joined(items)),
    "a line in between": lambda items, end: joined(items[:1], b"\r\n") + joined(items),
    "another command's answer": lambda items, end: b"STORED\r\n",
    "an answer before it": lambda items, end: b"STORED\r\n" + joined(items),
    "an end too soon": lambda items, end: joined(items[:1]) + joined(items[1:]),
    "a length too small": lambda items, end: joined(
        [(items[0][0], shortened(items[0][1])), *items[1:]], end
    ),
    "no token": lambda items, end: joined(
        [(items[0][0], re.sub(rb" \d+\r\n", b"\r\n", items[0][1], count=1)), *items[1:]]
    ),
    "an error behind it": lambda items, end: joined(items, b"SERVER_ERROR busy\r\n"),
}


def shortened(head: bytes) -> bytes:
    """The head of an answer that tells of five bytes less than follow it."""
    return re.sub(rb" 0 (\d+)", lambda m: b" 0 %d" % (int(m[1]) - 5), head, count=1)


@both
@pytest.mark.parametrize("change", SEEN.values(), ids=SEEN)
async def test_a_batch_that_is_out_of_step_is_asked_again(
    start, memcached, keys, change
):
    """Nobody gets anything but the own session, and nobody an error."""
    with Rewriting(memcached.port) as proxy:
        site = start(
            f"{proxy.url}/?timeout=10&threads=1", session={"encryption_keys": keys}
        )
        users = [await site.user(f"user{number}") for number in range(5)]
        rewritten = []

        def rewrite(answer):
            changed = of_several(change)(answer)
            rewritten.append(changed != answer)
            return changed

        answers = await at_once(proxy, site, users, lambda: proxy.start(rewrite))
        assert any(rewritten)
        assert [answer.status for answer in answers] == [200] * 5
        assert [answer.json()["owner"] for answer in answers] == [
            f"user{number}" for number in range(5)
        ]
        assert site.manager.stats()["corrupt_records"] == 0


async def saves_at_once(proxy, site, browsers, go_on, act="write_it"):
    """The answers to saves of ``browsers`` that go to memcached in one piece."""
    last = await site.user("last")
    halts, asked = [], []
    for browser in browsers:
        halts.append(site.halt())
        asked.append(asyncio.create_task(post(browser, act)))
        await comes(halts[-1].reached)
    proxy.cut()  # so that the thread is seen to be busy
    proxy.hang()
    before = proxy.connections
    reading = asyncio.create_task(last.get("/"))
    await until(lambda: proxy.connections > before)
    for halt in halts:
        halt.go_on.set()
    await until(lambda: site.node()["pending"] == 1 + len(browsers))
    go_on()
    assert (await reading).json()["owner"] == "last"
    return await asyncio.gather(*asked)


LINES = {
    "a line more": lambda answer: answer + b"STORED\r\n",
    "a line more before": lambda answer: b"NOT_STORED\r\n" + answer,
    "a line of another command": lambda answer: b"DELETED\r\n" + answer[8:],
    "an empty line": lambda answer: b"\r\n" + answer[8:],
    "a half line": lambda answer: answer + b"STO",
    "an error": lambda answer: b"ERROR\r\n" + answer[8:],
    "an error of the client's": lambda answer: (
        b"CLIENT_ERROR bad data chunk\r\n" + answer[8:]
    ),
    "a value": lambda answer: b"VALUE a 0 1 1\r\nx\r\nEND\r\n" + answer,
}


@pytest.mark.parametrize("change", LINES.values(), ids=LINES)
async def test_saves_that_are_out_of_step_are_done_once(start, memcached, change):
    """Where the answer to several makes no sense, each is found done, or done."""
    with Rewriting(memcached.port) as proxy:
        site = start(f"{proxy.url}/?timeout=10&threads=1")
        users = [await site.user(f"user{number}") for number in range(5)]
        rewritten = []

        def rewrite(answer):
            if answer != b"STORED\r\n" * len(users):
                return answer
            rewritten.append(answer)
            return change(answer)

        answers = await saves_at_once(proxy, site, users, lambda: proxy.start(rewrite))
        assert [answer.status for answer in answers] == [200] * 5
        assert len(rewritten) == 1
        for number, browser in enumerate(users):
            page = (await browser.get("/")).json()
            assert (page["owner"], page["n"]) == (f"user{number}", 1)


class Growing(Account):
    """Lets eve's session grow larger than an item may be."""

    async def write_it(self):
        await super().write_it()
        if self.session["owner"] == "eve":
            self.session["large"] = "x" * 20_000


async def test_a_save_that_is_refused_is_its_own_sessions_problem(
    start, memcached_factory
):
    """Among saves that are sent in one piece, the others are done."""
    with Rewriting(
        memcached_factory("-I", "16k", "-o", "slab_chunk_max=8192").port
    ) as proxy:
        site = start(f"{proxy.url}/?timeout=10&threads=1", Growing)
        names = ["ann", "bob", "eve", "joe", "sue"]
        users = [await site.user(name) for name in names]
        answers = await saves_at_once(proxy, site, users, proxy.pass_through)
        assert [answer.status for answer in answers] == [200, 200, 500, 200, 200]
        for name, browser in zip(names, users, strict=True):
            page = (await browser.get("/")).json()
            assert (page["owner"], page["n"]) == (name, int(name != "eve"))


async def test_values_in_another_order_are_right(start, memcached):
    """Each comes with its key: the order is the server's."""
    with Rewriting(memcached.port) as proxy:
        site = start(f"{proxy.url}/?timeout=10&threads=1")
        users = [await site.user(f"user{number}") for number in range(5)]
        rewrite = of_several(lambda items, end: joined(items[::-1], end))
        answers = await at_once(proxy, site, users, lambda: proxy.start(rewrite))
        assert [answer.json()["owner"] for answer in answers] == [
            f"user{number}" for number in range(5)
        ]


async def test_swapped_values_are_seen_where_they_are_encrypted(
    start, memcached, caplog
):
    """Then each is sealed for its key: nobody gets another's session."""
    with Rewriting(memcached.port) as proxy:
        site = start(
            f"{proxy.url}/?timeout=10&threads=1", session={"encryption_keys": (KEY,)}
        )
        users = [await site.user(f"user{number}") for number in range(5)]
        rewrite = of_several(rotated)
        answers = await at_once(proxy, site, users, lambda: proxy.start(rewrite))
        assert [answer.status for answer in answers] == [200] * 5
        owners = [answer.json()["owner"] for answer in answers]
        assert owners == ["user0", None, None, None, None]
        assert site.manager.stats()["corrupt_records"] == 4
        proxy.pass_through()
        for number, browser in enumerate(users):
            assert (await browser.get("/")).json()["owner"] == f"user{number}"


@both
async def test_another_keys_record_is_foreign_where_it_is_encrypted(
    start, memcached, keys
):
    """Who can write to memcached can copy a plain one, and no sealed one."""
    site = start(memcached.url, session={"encryption_keys": keys})
    bob, eve = await site.user("bob"), await site.user("eve")
    raw = memcached.get(key_of(bob))
    put(memcached, key_of(eve), raw)
    pages = await asyncio.gather(bob.get("/"), eve.get("/"))
    owners = [page.json()["owner"] for page in pages]
    assert owners == ["bob", None if keys else "bob"]
