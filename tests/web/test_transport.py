"""How an id travels: signed and unsigned cookies, headers, and own transports.

How many signatures are remembered is a number inside of the package.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tornado.web import Application, create_signed_value

from tornado_mcsession import MemoryStore, SessionManager
from tornado_mcsession.web.transport import REMEMBERED, REMEMBERED_SECONDS

from ..support.clock import ManualClock
from ..support.requests import FakeHandler, carried, cookie_of, visit, written

ID = "a-session-id-of-forty-three-characters-0123"
OTHER = "another-id-of-exactly-forty-three-chars-012"
SECRET = "a secret"


def signed(value, *, secret=SECRET, version=2, clock=None, **options):
    return create_signed_value(
        secret, "session", value, version=version, clock=clock, **options
    ).decode()


# Reading.


@pytest.mark.gen_test
async def test_what_is_written_is_read_again(build):
    """A cookie that was set brings the session back, signed or not."""
    for secret in (None, SECRET, {1: "old", 2: SECRET}):
        manager = build(secret, 2)
        cookie = cookie_of(await written(manager))
        assert ("|" in cookie) is (secret is not None)
        session = await manager.open(FakeHandler(cookie))
        assert dict(session) == {"a": 1}
        quoted = cookie.replace("=", '="', 1) + '"'
        assert dict(await manager.open(FakeHandler(quoted))) == {"a": 1}


@pytest.mark.gen_test
async def test_secrets_are_rotated(build):
    """The newest key signs, all are read, one that was taken out is not."""
    store = MemoryStore()
    old = cookie_of(await written(build({1: "old"}, 1, store=store)))
    both = build({1: "old", 2: "new"}, 2, store=store)
    assert carried(both.transport, FakeHandler(old)) is not None
    new = cookie_of(await written(both))
    alone = build({2: "new"}, 2, store=store)
    assert carried(alone.transport, FakeHandler(new)) is not None
    assert carried(alone.transport, FakeHandler(old)) is None


@pytest.mark.parametrize("secret", [SECRET, {1: SECRET}])
@pytest.mark.parametrize(
    "value",
    [
        "abc|123|def",
        ID,
        "",
        "2|",
        "2|1:0|10:1800000000|7:session|4:YWFh|" + "0" * 64,
        "3|1:0|x",
        "2|1:x|" + "1" * 5000,
        "\xff\xfe|\x00",
        signed(ID, version=1),
    ],
    ids=range(9),
)
def test_what_this_application_did_not_sign_is_ignored(build, secret, value):
    """Unsigned, foreign and version-1 values are none, and no error."""
    manager = build(secret, 1)
    assert carried(manager.transport, FakeHandler(f"session={value}")) is None


@given(st.text(st.characters(max_codepoint=255, exclude_characters=";"), max_size=80))
def test_no_value_is_an_error(value):
    """Whatever a client sends as a cookie, reading it ends with an id or none."""
    for secret in (None, SECRET, {1: SECRET}):
        app = Application(cookie_secret=secret, key_version=1)
        manager = SessionManager(app, store=MemoryStore())
        handler = FakeHandler(f"session={value}", f"session=2|{value}")
        assert carried(manager.transport, handler) in (None, value.strip())


def test_a_tampered_signature_is_ignored(build, clock):
    """One changed character anywhere makes it nobody's."""
    manager = build(SECRET)
    value = signed(ID, clock=clock)
    assert carried(manager.transport, FakeHandler(f"session={value}")) == ID
    for at in range(len(value)):
        changed = value[:at] + ("A" if value[at] != "A" else "B") + value[at + 1 :]
        assert carried(manager.transport, FakeHandler(f"session={changed}")) is None


def test_another_cookies_signature_is_ignored(build, clock):
    """A value that was signed for another name is not taken over."""
    value = create_signed_value(SECRET, "other", ID, clock=clock).decode()
    assert carried(build(SECRET).transport, FakeHandler(f"session={value}")) is None


def test_a_signature_ends_with_the_lifetime(build, clock):
    """Older than ``lifetime`` it is ignored; without one it never ends.

    Its time is in whole seconds, and must not end it before the record does.
    """
    handler = FakeHandler(f"session={signed(ID, clock=clock)}")
    brief, endless = build(SECRET, lifetime=100), build(SECRET, lifetime=None)
    clock.advance(99)
    assert carried(brief.transport, handler) == ID
    clock.advance(3 + REMEMBERED_SECONDS)
    assert carried(brief.transport, handler) is None
    clock.advance(1e9)
    assert carried(endless.transport, handler) == ID


def test_signing_can_be_switched_off(build):
    """``signed=False`` sends the id as it is, in spite of a secret."""
    assert (
        carried(build(SECRET, signed=False).transport, FakeHandler(f"session={ID}"))
        == ID
    )


@pytest.mark.parametrize(
    ("cookies", "found"),
    [
        ([ID, ID], ID),
        ([ID, OTHER], None),
        ([ID, "short"], ID),
        (["", ID, '"'], ID),
        (["short"], None),
        (["x" * 201], None),
        ([ID + "!"], None),
        (["é" * 43], None),
    ],
)
def test_exactly_one_distinct_valid_value_counts(build, cookies, found):
    """Of cookies sent twice only one valid id is used; of two different ones none."""
    manager = build()
    joined = "; ".join(f"session={value}" for value in cookies)
    assert carried(manager.transport, FakeHandler(joined)) == found
    apart = [f"session={value}" for value in cookies]
    assert carried(manager.transport, FakeHandler(*apart)) == found


def test_of_two_signed_values_the_unsigned_one_does_not_count(build, clock):
    """A planted cookie without a signature does not get in the way."""
    value = signed(ID, clock=clock)
    handler = FakeHandler(f"session={OTHER}; session={value}")
    assert carried(build(SECRET).transport, handler) == ID


# Other transports.


@pytest.mark.gen_test
async def test_the_id_may_travel_in_a_header(build):
    """``transport="header:…"`` reads and writes a header, and sets no cookie."""
    manager = build(SECRET, transport="header:X-Session-ID")
    headers = await written(manager)
    assert "Set-Cookie" not in headers
    assert headers["Cache-Control"] == "no-store"
    assert headers["Vary"] == "X-Session-ID"
    session_id = headers["X-Session-ID"]
    handler = FakeHandler(X_Session_ID=session_id)
    session = await manager.open(handler)
    assert dict(session) == {"a": 1}
    await session.destroy()
    manager.deliver(handler, headers, session)
    assert headers["X-Session-ID"] == ""


def test_two_different_ids_in_headers_are_none(build):
    """As with cookies, neither of two is to be trusted."""
    transport = build(transport="header:X-ID").transport
    handler = FakeHandler()
    assert carried(transport, handler) is None
    for value, found in ((ID, ID), (ID, ID), (OTHER, None)):
        handler.request.headers.add("X-ID", value)
        assert carried(transport, handler) == found


class QueryTransport:
    vary = None

    def __init__(self):
        self.done = []

    def read(self, handler):
        return handler.request.headers.get("X-Query")

    def write(self, handler, headers, session):
        self.done.append(("write", session.id))
        headers["X-Told"] = session.id

    def clear(self, handler, headers):
        self.done.append(("clear",))


@pytest.mark.gen_test
async def test_an_own_transport_is_asked(build):
    """Any object that can read, write and clear may carry the id."""
    transport = QueryTransport()
    manager = build(transport=transport)
    headers = await written(manager)
    assert "Vary" not in headers
    handler = FakeHandler(X_Query=headers["X-Told"])
    session = await manager.open(handler)
    assert session["a"] == 1
    await session.destroy()
    manager.deliver(handler, headers, session)
    assert transport.done == [("write", headers["X-Told"]), ("clear",)]


@pytest.mark.gen_test
async def test_what_an_own_transport_reads_is_not_trusted(build):
    """An id without the form of one costs no store call, and is not adopted."""
    manager = build(transport=QueryTransport())
    session = await manager.open(FakeHandler(X_Query="../etc/passwd"))
    assert session.id is None
    assert manager.stats()["loads"] == 0


def test_a_clock_decides_the_signatures_age():
    """The manager's clock, not the machine's, is in what is signed."""
    clock = ManualClock(1_000_000)
    app = Application(cookie_secret=SECRET)
    manager = SessionManager(app, store=MemoryStore(clock=clock), clock=clock)
    handler = FakeHandler(f"session={signed(ID, clock=clock)}")
    assert carried(manager.transport, handler) == ID


@pytest.mark.gen_test
async def test_an_unsigned_visit_reads_what_it_wrote(build):
    """The tests' own requests travel the same way."""
    manager = build()
    first = await visit(manager)
    first.session["a"] = 1
    again = await visit(manager, await first.leave_with_cookie())
    assert again.session["a"] == 1


def test_a_signature_is_remembered_for_its_name_alone(build, clock):
    """What was signed for one cookie is not taken for another's, before or after."""
    manager = build(SECRET, cookie=lambda handler: {"name": handler.request.host})
    value = signed(ID, clock=clock)
    handler = FakeHandler(f"session={value}; other={value}")
    for _ in range(2):
        handler.request.host = "session"
        assert carried(manager.transport, handler) == ID
        handler.request.host = "other"
        assert carried(manager.transport, handler) is None
        altered = FakeHandler(f"session={value}x")
        altered.request.host = "session"
        assert carried(manager.transport, altered) is None


def test_few_signatures_are_remembered(build, clock):
    """However many users there are, memory stays bounded."""
    manager = build(SECRET)
    for number in range(REMEMBERED + 10):
        cookie = signed(f"{number:043}", clock=clock)
        assert carried(manager.transport, FakeHandler(f"session={cookie}"))
    assert len(manager.transport._known) <= REMEMBERED
