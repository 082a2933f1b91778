"""MemcachedStore through twemproxy, behind which are two memcacheds.

What twemproxy.md says of it is what these tests, and those of its faults, have
seen.
"""

from __future__ import annotations

import asyncio
import re
import subprocess

import pytest

from tornado_mcsession import (
    MemcachedStore,
    SessionManager,
    StoreRejected,
    StoreUnavailable,
)
from tornado_mcsession.testing.contract import (
    OPERATIONS,
    TTL,
    ExpiryContract,
    LoopContract,
    ValueContract,
)

from ..support.pages import page
from ..support.processes import find_server
from ..support.requests import begin, data_of, visit
from ..support.tls import tls_url
from ..support.twemproxy import OPTIONS

pytestmark = pytest.mark.integration

DOCUMENT = page("twemproxy.md")
SECRET = "pa55word"
KEYS = [f"key{number}" for number in range(20)]


@pytest.fixture
def store(twemproxy, connect):
    """A patient client of ``twemproxy``."""
    return connect(twemproxy.url + "?timeout=10")


async def fill(store: MemcachedStore) -> None:
    """Store something under each of `KEYS`, and see it."""
    assert all(await asyncio.gather(*(store.add(key, b"1", TTL) for key in KEYS)))
    assert len(await store.get_many(KEYS)) == len(KEYS)


class TestTwemproxyStore(ValueContract, LoopContract, ExpiryContract):
    """Two real memcacheds behind one twemproxy keep the contract of every store."""

    @pytest.fixture(autouse=True)
    def _servers(self, twemproxy):
        self.url = twemproxy.url + "?timeout=10"

    def make_store(self):
        return MemcachedStore.from_url(self.url)


@pytest.mark.gen_test
async def test_keys_are_spread_and_answers_put_together(store, servers):
    """One get of keys that both servers hold finds all of them, and only them."""
    await fill(store)
    here, there = (server.keys() for server in servers)
    assert here
    assert there
    assert sorted(here + there) == sorted(KEYS)
    found = await store.get_many([*KEYS, "nothing"])
    assert sorted(found) == sorted(KEYS)


@pytest.mark.gen_test
async def test_a_command_may_be_longer_than_a_buffer(store):
    """The longest keys, as many as go into one command, find their own values."""
    keys = [f"{number:03}".ljust(250, "x") for number in range(100)]
    values = [str(number).encode() * number * 10 for number in range(100)]
    added = [store.add(*item, TTL) for item in zip(keys, values, strict=True)]
    assert all(await asyncio.gather(*added))
    found = await store.get_many(keys)
    assert [found[key].data for key in keys] == values


@pytest.mark.gen_test
async def test_what_is_too_large_for_a_server_is_rejected(store):
    """Up to memcached's own limit a value passes; above it, that one is refused."""
    await fill(store)
    data = bytes(1_048_000)
    assert await store.add("large", data, TTL)
    assert (await store.get("large")).data == data
    with pytest.raises(StoreRejected) as raised:
        await store.add("larger", bytes(1_100_000), TTL)
    assert raised.value.too_large
    assert len(await store.get_many(KEYS)) == len(KEYS)


@pytest.mark.gen_test
@pytest.mark.parametrize("hash_tag", ['"{}"', None])
async def test_a_session_lives_its_whole_life(
    twemproxy_factory, servers, connect, hash_tag
):
    """Begun, changed, logged in, given a new id, logged out: each holds at once."""
    proxy = twemproxy_factory(servers, hash_tag=hash_tag)
    manager = SessionManager(store=connect(proxy.url + "?timeout=10"))
    first = await begin(manager, cart=["book"])
    late = await visit(manager, first)
    late.session["cart"].append("pen")
    await late.leave()
    assert await data_of(manager, first) == {"cart": ["book", "pen"]}

    late = await visit(manager, first)
    await late.session.login("alice")
    second = await late.leave_with_cookie()
    assert await manager.get(first) is None
    assert (await manager.get(second)).principal == "alice"

    late = await visit(manager, second)
    await late.session.regenerate()
    third = await late.leave_with_cookie()
    assert await manager.get(second) is None
    assert await data_of(manager, third) == {"cart": ["book", "pen"]}

    slow = await visit(manager, third)
    slow.session["late"] = True
    late = await visit(manager, third)
    await late.session.destroy()
    await late.leave()
    await slow.leave()
    assert await manager.get(third) is None


@pytest.mark.gen_test
async def test_parallel_changes_all_survive(store):
    """Requests at once lose no update: cas tells a newer version through twemproxy."""
    manager = SessionManager(store=store)
    session_ids = [await begin(manager, a=1) for _ in range(4)]
    for session_id in session_ids:
        visits = [await visit(manager, session_id) for _ in range(10)]
        for number, late in enumerate(visits):
            late.session[f"key{number}"] = number
        await asyncio.gather(*(late.leave() for late in visits))
        expected = {"a": 1, **{f"key{number}": number for number in range(10)}}
        assert await data_of(manager, session_id) == expected


@pytest.mark.gen_test
async def test_transactions_count_right(store):
    """Of increments at once none is lost and none made twice."""

    def count(data):
        data["n"] = data.get("n", 0) + 1
        return data["n"]

    manager = SessionManager(store=store)
    session_id = await begin(manager, a=1)
    visits = [await visit(manager, session_id) for _ in range(20)]
    results = await asyncio.gather(*(late.session.transact(count) for late in visits))
    assert sorted(results) == list(range(1, 21))
    assert await data_of(manager, session_id) == {"a": 1, "n": 20}


@pytest.mark.gen_test
async def test_the_sessions_of_a_principal_share_a_server(store, servers):
    """With hash_tag "{}", all that is stored of one principal is on one server."""
    manager = SessionManager(store=store)
    for number in range(40):
        late = await visit(manager)
        await late.session.login(f"user{number % 20}")
        await late.leave()
    here, there = (
        {key.partition("}")[0] for key in server.keys()} for server in servers
    )
    assert here
    assert there
    assert len(here) + len(there) == 20


@pytest.mark.gen_test
@pytest.mark.parametrize("wanted", [True, False])
async def test_a_password_does_not_pass(
    twemproxy_factory, memcached_factory, connect, tmp_path, wanted
):
    """With a user name, and where a server wants one, it is never a miss or stored."""
    users = tmp_path / "users"
    users.write_text(f"me:{SECRET}\n")
    server = memcached_factory(*(("-Y", str(users)) if wanted else ()))
    proxy = twemproxy_factory([server])
    store = connect(f"{proxy.url}?username=me&password={SECRET}&timeout=10")
    for operation in OPERATIONS.values():
        with pytest.raises(StoreUnavailable) as raised:
            await operation(store, "key")
        assert SECRET not in str(raised.value)
    assert int(server.stats()["total_items"] if not wanted else 0) == 0
    if wanted:
        for operation in OPERATIONS.values():
            with pytest.raises(StoreRejected, match="authentication"):
                await operation(connect(proxy.url + "?timeout=10"), "key")


@pytest.mark.gen_test
async def test_tls_does_not_pass(twemproxy, certificates, connect):
    """twemproxy speaks no TLS: a store that wants it is told so, in time."""
    url = tls_url(twemproxy.port, tls_ca=certificates.ca, timeout=10)
    for operation in OPERATIONS.values():
        with pytest.raises(StoreUnavailable) as raised:
            await operation(connect(url), "key")
        assert not raised.value.outcome_unknown


@pytest.mark.gen_test
async def test_a_server_may_move(twemproxy_factory, memcached_factory, connect):
    """Keys are placed by the servers' names, and not by their addresses."""
    placed = []
    for _ in range(2):
        servers = [memcached_factory(), memcached_factory()]
        await fill(connect(twemproxy_factory(servers).url + "?timeout=10"))
        placed.append([server.keys() for server in servers])
    assert placed[0] == placed[1]
    assert all(placed[0])


@pytest.mark.gen_test
@pytest.mark.parametrize("command", [b"stats", b"flush_all", b"mn", b"verbosity 1"])
async def test_commands_about_a_server_are_refused(twemproxy, command):
    """twemproxy closes the connection at what has no key, and passes nothing on."""
    reader, writer = await asyncio.open_connection("127.0.0.1", twemproxy.port)
    writer.write(command + b"\r\n")
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()


def test_the_documentation_has_the_configuration_that_is_tested(tmp_path):
    """What twemproxy.md advises is valid, and what these tests run with."""
    (advised,) = re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(), re.S)
    file = tmp_path / "nutcracker.yml"
    file.write_text(advised)
    command = [find_server("nutcracker"), "-t", "-c", str(file)]
    subprocess.run(command, check=True, capture_output=True)
    options = dict(re.findall(r"^  (\w+): (.+)$", advised, re.M))
    assert options.keys() == {"listen", *OPTIONS}
    for name in OPTIONS.keys() - {"timeout"}:  # tests are patient
        assert options[name] == OPTIONS[name]
