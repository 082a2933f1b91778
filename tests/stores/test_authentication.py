"""MemcachedStore where memcached wants a user name and password."""

from __future__ import annotations

import pytest

from tornado_mcsession import MemcachedStore, StoreRejected, StoreUnavailable

from .recording import ScriptedServer

pytestmark = [pytest.mark.integration, pytest.mark.gen_test]

SECRET = "pä55/word"
TTL = 100.0


@pytest.fixture
def guarded(memcached_factory, tmp_path):
    """A memcached that knows one user."""
    users = tmp_path / "users"
    users.write_text(f"me:{SECRET}\n", encoding="utf-8")
    return memcached_factory("-Y", str(users))


def everything(error: BaseException | None) -> str:
    """All that an error and its causes say."""
    said = ""
    while error is not None:
        said += f"{error!r} {error} {vars(error)}"
        error = error.__cause__ or error.__context__
    return said


async def test_who_is_known_is_let_in(guarded, connect):
    """Each new connection authenticates; the URL may have the password encoded."""
    store = connect(f"memcached://me:p%C3%A455%2Fword@127.0.0.1:{guarded.port}")
    assert await store.add("key", b"1", TTL)
    guarded.restart()
    assert await store.add("key", b"1", TTL)
    assert (await store.get("key")).data == b"1"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"username": "me", "password": "wr0ng"},
        {"username": "u", "password": SECRET},
    ],
    ids=["missing", "password", "user"],
)
async def test_who_is_not_known_is_rejected(guarded, options):
    """Without the right credentials every operation is StoreRejected, and quiet."""
    store = MemcachedStore([guarded.server], **options)
    events = []
    store.on_connect(events.append)
    for operation in (
        lambda: store.get("key"),
        lambda: store.add("key", b"1", TTL),
        lambda: store.cas("key", b"1", TTL, b"1"),
        lambda: store.touch("key", TTL),
        lambda: store.delete("key"),
    ):
        with pytest.raises(StoreRejected, match="authentication") as raised:
            await operation()
        assert not raised.value.too_large
        assert "wr0ng" not in everything(raised.value)
        assert SECRET not in everything(raised.value)
    await store.close()
    assert events == []


async def test_a_server_that_asks_no_password_keeps_none(memcached):
    """The password is not left in a memcached that stores it as a value."""
    store = MemcachedStore([memcached.server], username="me", password=SECRET)
    assert await store.add("key", b"1", TTL)
    await store.close()
    assert memcached.get("mcsession:auth") is None
    assert memcached.keys() == ["key"]


@pytest.mark.parametrize(
    "answer", [b"ERROR Too many open connections\r\n", b"nonsense\r\n", b""]
)
async def test_no_answer_is_not_a_refusal(answer):
    """A node that says something else, or nothing, is unavailable."""

    def script(connection):
        connection.recv(1000)
        connection.sendall(answer)
        connection.close()

    with ScriptedServer(*[script] * 10) as server:
        store = MemcachedStore(
            server.url.removeprefix("memcached://"), username="me", password=SECRET
        )
        with pytest.raises(StoreUnavailable):
            await store.get("key")
        await store.close()
