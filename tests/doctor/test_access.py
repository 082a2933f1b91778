"""What the doctor says about authentication, TLS and proxies in front."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tornado_mcsession.doctor import COMMANDS

from ..support.memcached import Memcached
from ..support.tls import LOCAL, Authority, TLSMemcached, tls_url
from .doctoring import QUOTED, SECRET, USER, codes, examined, remark
from .middleman import Middleman

pytestmark = pytest.mark.integration


def with_credentials(server: Memcached, credentials: str) -> str:
    return server.url.replace("://", f"://{credentials}@")


def test_the_right_password_is_accepted(guarded):
    """Wanted and right: the state says so, and nothing is wrong."""
    found = examined(with_credentials(guarded, f"{USER}:{QUOTED}"))
    assert found.ok
    assert found.authentication == "accepted"
    assert found.cas is True
    assert found.memory is not None
    assert codes(found, "warning") == []


@pytest.mark.parametrize("credentials", [f"{USER}:wr0ng", f"you:{QUOTED}"])
def test_a_wrong_password_is_a_problem(guarded, credentials):
    """Wanted and wrong: no session can be kept, and the advice is to correct it."""
    found = examined(with_credentials(guarded, credentials))
    assert not found.ok
    assert found.authentication == "refused"
    assert codes(found, "problem") == ["refused"]


def test_a_missing_password_is_a_problem(guarded):
    """Wanted and not given: the advice shows where it belongs."""
    found = examined(guarded.url)
    assert not found.ok
    assert found.authentication == "missing"
    assert "user:password@" in remark(found, "credentials").advice


def test_a_password_that_nobody_asks_for_is_a_warning(memcached):
    """Given and not wanted: it works, and protects nothing."""
    found = examined(with_credentials(memcached, f"{USER}:{QUOTED}"))
    assert found.ok
    assert found.authentication == "not asked for"
    assert "-Y" in remark(found, "authentication").advice
    assert memcached.keys() == []


def test_whether_a_password_is_wanted_may_stay_open(guarded):
    """If it cannot be tried without the password, nothing is said of it."""
    with Middleman(guarded.port) as middleman:
        middleman.change(lambda data: data.replace(b"CLIENT_ERROR", b"SERVER_ERROR"))
        found = examined(f"memcached://{USER}:{QUOTED}@127.0.0.1:{middleman.port}")
    assert found.ok
    assert found.authentication is None


def test_credentials_may_be_options_of_the_url(guarded):
    """The other way to write them is the same to the doctor."""
    found = examined(guarded.url + f"/?username={USER}&password={QUOTED}")
    assert found.authentication == "accepted"


def test_tls_is_told(tls_memcached):
    """Protocol, cipher and the certificate's end are those of the connection."""
    found = examined(tls_memcached.url)
    assert found.ok
    assert found.tls.protocol in ("TLSv1.2", "TLSv1.3")
    assert found.tls.cipher
    ends = datetime.fromisoformat(found.tls.certificate_ends)
    assert timedelta() < ends - datetime.now(UTC) <= timedelta(days=1)
    assert 0 < found.tls.certificate_left <= 86_400
    assert codes(found, "warning") == ["certificate-ends"]


def test_a_certificate_that_lasts_is_no_warning(certificates, tmp_path):
    """Only an end within two weeks is worth a warning."""
    authority = Authority(tmp_path, "own")
    pair = authority.pair("lasting", LOCAL, ends_in=timedelta(days=30))
    server = TLSMemcached(certificates, pair=pair)
    try:
        found = examined(tls_url(server.port, tls_ca=authority.ca))
    finally:
        server.close()
    assert found.ok
    assert codes(found, "warning") == []


def test_each_node_has_its_own_certificate(tls_memcached_factory, certificates):
    """What is wrong with one node's TLS is not told of another."""
    expired = tls_memcached_factory(pair=certificates.expired)
    found = examined(expired.url)
    assert not found.ok
    assert found.tls is None
    problem = remark(found, "certificate")
    assert problem.kind == "problem"
    assert "expired" in problem.text


def test_an_unknown_authority_is_a_problem(tls_memcached, certificates):
    """The advice names the option for the authority's file."""
    found = examined(tls_url(tls_memcached.port, tls_ca=certificates.other_ca))
    assert not found.ok
    assert "tls_ca" in remark(found, "certificate").advice


def test_a_node_that_wants_a_certificate_is_a_problem(
    tls_memcached_factory, certificates
):
    """Without a client's certificate it fails; with one it is as any other."""
    server = tls_memcached_factory(demands_client=True)
    assert not examined(server.url).ok
    client = certificates.client
    keys = {"tls_cert": client.cert, "tls_key": client.key}
    assert examined(tls_url(server.port, tls_ca=certificates.ca, **keys)).ok


def test_tls_and_a_plain_port_do_not_meet(memcached, tls_memcached):
    """Each way round it is a problem whose advice names the other scheme."""
    found = examined(memcached.url.replace("memcached:", "memcacheds:"))
    assert not found.ok
    (problem,) = found.remarks
    assert "memcached://" in problem.advice
    found = examined(f"memcached://127.0.0.1:{tls_memcached.port}")
    assert not found.ok
    (problem,) = found.remarks
    assert "memcacheds://" in problem.advice


def test_tls_and_a_password_go_together(tls_memcached_factory, tmp_path):
    """A node with both is examined with both."""
    users = tmp_path / "users"
    users.write_text(f"{USER}:{SECRET}\n", encoding="utf-8")
    server = tls_memcached_factory("-Y", str(users))
    found = examined(server.url.replace("://", f"://{USER}:{QUOTED}@"))
    assert found.ok
    assert found.authentication == "accepted"
    assert found.tls is not None


def test_twemproxy_is_recognised(memcached_factory, twemproxy_factory):
    """It passes all commands that sessions need, tells nothing, and is warned of."""
    servers = [memcached_factory(), memcached_factory()]
    found = examined(twemproxy_factory(servers).url)
    assert found.ok
    assert found.commands == dict.fromkeys(COMMANDS, True)
    assert found.cas is True
    assert found.round_trip.reads == 20
    assert (found.memory, found.item_size_max, found.clock) == (None, None, None)
    assert "auto_eject_hosts" in remark(found, "proxy").advice
    assert [server.keys() for server in servers] == [[], []]


def test_a_dead_server_behind_twemproxy_is_found(memcached_factory, twemproxy_factory):
    """Reads of different keys find the part of the sessions that is not there."""
    servers = [memcached_factory(), memcached_factory()]
    proxy = twemproxy_factory(servers)
    servers[0].kill()
    found = examined(proxy.url)
    assert not found.ok
    assert codes(found, "problem")
    assert "servers may be down" in found.remarks[0].advice


@pytest.mark.parametrize("name", ["gets", "add", "cas"])
@pytest.mark.parametrize("answer", [b"ERROR\r\n", b"nonsense\r\n", None])
def test_a_command_that_does_not_work_is_a_problem(
    middleman, own_memcached, name, answer
):
    """Of the commands that sessions need, the one that a proxy refuses is named."""
    if answer is None:
        middleman.hang_up(name.encode())
    else:
        middleman.answer(name.encode(), answer)
    found = examined(middleman.url)
    assert not found.ok
    assert [name for name in COMMANDS if found.commands[name] is False] == [name]
    if name != "gets":
        assert f"need {name}:" in found.remarks[0].text
    # What was added is looked for on some new connections.
    assert 2 <= middleman.connections <= 12
    assert codes(found, "problem") == [found.remarks[0].code]
    assert own_memcached.keys() == []


def test_a_command_that_says_what_cannot_be_is_a_problem(middleman):
    """An item that could be added twice was not: it would be another's session."""
    middleman.answer(b"add", b"STORED\r\n")
    found = examined(middleman.url)
    assert not found.ok
    assert [name for name in COMMANDS if found.commands[name] is False] == ["add"]


def test_what_cannot_be_deleted_goes_by_itself(middleman, own_memcached):
    """Where delete does not work, the doctor's item ends within a minute."""
    middleman.answer(b"delete", b"ERROR\r\n")
    assert examined(middleman.url).ok
    (key,) = own_memcached.keys()
    assert 0 < own_memcached.ttl(key) <= 60


@pytest.mark.parametrize("name", [b"add", b"cas"])
def test_a_node_that_falls_silent_keeps_no_item(middleman, own_memcached, name):
    """When the examination ends in the middle, what it stored is deleted still."""
    middleman.answer(name, b"")
    found = examined(middleman.url + "?timeout=0.5")
    assert not found.ok
    assert found.commands["gets"] is True
    assert found.commands[name.decode()] is None
    assert own_memcached.keys() == []


@pytest.mark.parametrize("fault", [b"ERROR\r\n", b"OK\r\n", b"\xff\r\n", b""])
@pytest.mark.parametrize("name", [b"version", b"stats"])
def test_what_is_not_needed_may_not_work(middleman, name, fault):
    """A node that does not tell its version or statistics can keep sessions."""
    middleman.answer(name, fault)
    found = examined(middleman.url + "?timeout=0.5")
    assert found.ok
    assert found.cas is True
    assert (found.version is None) is (name == b"version")
    assert (found.memory is None) is (name == b"stats")
