"""Nothing that is secret is in a log line, an exception or a repr."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import traceback

import pytest
from tornado.web import Application

from tornado_mcsession import MemcachedStore, SessionManager

from ..support.requests import FakeHandler, begin, key_of, visit
from ..support.scripted import answers, down, dropped, lost

VALUE = "planted-value-7d1f"
PASSWORD = "planted-password-93ab"
SECRET = "planted-secret-c44e"
KEY = b"planted-encryption-key-32-bytes!"


class Ear(logging.Handler):
    """Keeps every record of every logger, formatted with its traceback."""

    def __init__(self):
        super().__init__(level=0)
        self.heard = []

    def emit(self, record):
        self.heard.append(self.format(record))


@pytest.fixture
def heard():
    """All that is logged during a test, at every level."""
    ear, root = Ear(), logging.getLogger()
    level = root.level
    root.addHandler(ear)
    root.setLevel(0)
    yield ear.heard
    root.setLevel(level)
    root.removeHandler(ear)


class Situation:
    """Runs what fails, and keeps the texts of what it raised."""

    def __init__(self, heard):
        self.texts = heard

    @contextlib.contextmanager
    def fails(self):
        try:
            yield
        except Exception as error:
            self.note(error)
        else:
            raise AssertionError("this did not fail")

    def note(self, error):
        chain = error
        while chain is not None:
            self.texts.append(f"{chain} {chain!r} {vars(chain)}")
            chain = chain.__cause__ or chain.__context__
        # The lines of source would quote the tests themselves.
        summary = traceback.TracebackException.from_exception(error)
        self.texts.extend(summary.format_exception_only())


async def fail_everywhere(manager, store, situation):
    """Take a session through as many failures as there are; return the secrets."""
    session_id = await begin(manager, word=VALUE, nested={"list": [VALUE]})
    secrets = [session_id, key_of(manager, session_id)]
    for script in ([down], [dropped, down], [answers(False)] * 3):
        late = await visit(manager)
        late.session["word"] = VALUE
        store.script("add", *script)
        with situation.fails():
            await late.leave()
        store.scripts.clear()
    for script in ([down], [lost]):
        late = await visit(manager, session_id)
        late.session["word"] = VALUE * 2
        late.session.flash(VALUE)
        store.script("cas", *script)
        store.script("get", down)
        with situation.fails():
            await late.session.save()
        store.scripts.clear()
        situation.texts += [repr(late.session), repr(manager), repr(manager.settings)]
    for bad in ({VALUE}, object(), b"x" * 2_000_000, (VALUE,)):
        late = await visit(manager, session_id)
        late.session["word"] = bad
        with situation.fails():
            await late.leave()
    for operation, use in (
        ("get", manager.get),
        ("get", lambda i: visit(manager, i)),
        ("get", manager.destroy),
    ):
        store.script(operation, down)
        with situation.fails():
            await use(session_id)
    late = await visit(manager, session_id)
    store.script("cas", lost)
    await late.session.login(VALUE)
    secrets.append(late.session.id)
    late.session["a"] = 1
    await manager.destroy(late.session.id)
    for verb in (late.session.save, late.session.reload):
        with situation.fails():
            await verb()
    await late.leave()
    with situation.fails():
        await manager.set(session_id, {"a": VALUE})
    return secrets


@pytest.mark.gen_test
async def test_failures_tell_no_secrets(store, clock, heard):
    """Ids, store keys, values, principals and keys appear nowhere."""
    manager = SessionManager(store=store, clock=clock, encryption_keys=[KEY])
    secrets = await fail_everywhere(manager, store, Situation(heard))
    check(heard, [*secrets, VALUE, KEY.decode()])


@pytest.mark.gen_test
async def test_refused_cookies_tell_no_secrets(store, clock, heard):
    """A tampered signature may be logged, but not what was signed."""
    app = Application(cookie_secret=SECRET)
    manager = SessionManager(app, store=store, clock=clock)
    session_id = await begin(SessionManager(store=store, clock=clock), a=1)
    signer = manager.transport._signer
    clock.advance(-40 * 86_400)
    expired = signer.sign("session", session_id)
    clock.advance(40 * 86_400)
    valid = signer.sign("session", session_id)
    for value in (expired, valid[:-1] + "g", valid[2:], valid):
        session = await manager.open(FakeHandler(f"session={value}"))
        assert session.is_new is (value != valid)
        heard.append(repr(session))
    check(heard, [session_id, key_of(manager, session_id), SECRET, valid, expired])


def check(heard, secrets):
    assert len(heard) > 3
    everything = "\n".join(heard)
    assert not [secret for secret in secrets if secret in everything]


@pytest.mark.gen_test
async def test_corrupt_records_tell_no_secrets(make, store, heard):
    """Neither what was found nor where."""
    secrets, found = [], []
    foreigns = [VALUE.encode(), b"\x01" + VALUE.encode(), b"\x02" + b"x" * 60, b""]
    for foreign in foreigns:
        manager = make(store)  # each logs its first one
        session_id = await begin(manager, word=VALUE)
        key = key_of(manager, session_id)
        entry = await store.get(key)
        await store.cas(key, foreign, 60, entry.token)
        await visit(manager, session_id)
        await manager.get(session_id)
        secrets += [session_id, key]
        found.append(manager.stats()["corrupt_records"])
    assert sum("taken as empty" in line for line in heard) == len(foreigns)
    assert found == [2] * len(foreigns)
    check(heard, [*secrets, VALUE])


@pytest.fixture
def troubled_store(io_loop, proxy):
    """A client of the shared memcached, behind a faulty network."""
    store = MemcachedStore(f"127.0.0.1:{proxy.port}", timeout=0.3)
    yield store
    io_loop.run_sync(store.close)


@pytest.mark.integration
@pytest.mark.gen_test(timeout=60)
async def test_a_failing_memcached_tells_no_secrets(
    proxy, troubled_store, heard, clock
):
    """Whatever the client library quotes of commands and answers is left out."""
    manager = SessionManager(store=troubled_store)
    situation = Situation(heard)
    session_id = await begin(manager, word=VALUE)
    secrets = [session_id, key_of(manager, session_id), VALUE]
    key = secrets[1].encode()
    faults = [
        proxy.cut,
        lambda: proxy.garbage(b"CLIENT_ERROR " + key + b"\r\n"),
        lambda: proxy.garbage(b"VALUE " + key + b" 0\r\n"),
        lambda: proxy.garbage(b"SERVER_ERROR out of memory storing " + key + b"\r\n"),
        lambda: proxy.garbage(b"ERROR " + VALUE.encode() + b"\r\n"),
        lambda: proxy.cut_after(20),
        proxy.lose_answers,
    ]
    for fault in faults:
        proxy.pass_through()
        late = await reached(manager, session_id)
        late.session["other"] = VALUE
        late.session["count"] = faults.index(fault)
        fault()
        for use in (late.session.save(), manager.get(session_id)):
            try:
                await use
            except Exception as error:
                situation.note(error)
    assert sum("127.0.0.1" in line for line in heard) > 2 * len(faults)
    check(heard, secrets)


async def reached(manager, session_id):
    for _ in range(500):
        try:
            return await visit(manager, session_id)
        except Exception:
            await asyncio.sleep(0.01)
    raise AssertionError("the node never came back")


@pytest.mark.parametrize(
    "url",
    [
        f"memcached://127.0.0.1:1/?username=u&password={PASSWORD}",
        f"memcached://127.0.0.1:1/?username=u&password={PASSWORD}&timout=1",
        f"memcached://127.0.0.1:1/?password={PASSWORD}",
        f"memcached://127.0.0.1:1/?username=u&password={PASSWORD} x&timeout=x",
        f"memcached://u:{PASSWORD}@127.0.0.1:1/",
        f"mecached://u:{PASSWORD}@127.0.0.1:1/",
    ],
)
def test_a_stores_password_is_not_shown(url, heard):
    """Neither by an error about the URL nor by a repr."""
    situation = Situation(heard)
    try:
        manager = SessionManager(store=url)
    except ValueError as error:
        situation.note(error)
    else:
        heard += [repr(manager), repr(manager.store), repr(manager.settings)]
        heard.append(str(manager.stats()))
    assert heard
    assert PASSWORD not in "\n".join(heard)
