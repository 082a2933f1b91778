"""What the doctor says about nodes that do not answer, and how long it takes."""

from __future__ import annotations

import contextlib
import itertools
import socket
import time

import pytest

from tornado_mcsession.doctor import Doctor

from ..support.processes import free_port
from ..support.tls import tls_url
from .doctoring import codes, examined, remark

pytestmark = pytest.mark.integration

# Generous: what would hang, hangs for ever.
BOUND = 30.0


@pytest.fixture(autouse=True)
def _bounded():
    """Every examination ends."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < BOUND


def nothing_known(found) -> None:
    """Nothing is said that could not be found out."""
    assert not found.ok
    assert set(found.commands.values()) == {None}
    for fact in ("version", "round_trip", "cas", "memory", "authentication", "tls"):
        assert getattr(found, fact) is None
    assert len(found.remarks) == 1


def test_a_dead_port_is_a_problem():
    """Where nothing listens, that is said."""
    found = examined(f"memcached://127.0.0.1:{free_port()}")
    nothing_known(found)
    assert "nothing listens" in remark(found, "down").text


def test_a_missing_socket_is_a_problem(tmp_path):
    """A Unix socket that is not there is as a port that nothing listens on."""
    found = examined(f"memcached://{tmp_path}/none.sock")
    nothing_known(found)
    assert codes(found, "problem") == ["down"]


def test_a_host_that_is_none_is_a_problem():
    """A name that no name service knows is told as that."""
    found = examined("memcached://nobody.invalid")
    nothing_known(found)
    assert codes(found, "problem") == ["name"]


def test_a_node_that_hangs_is_a_problem(own_memcached):
    """A stopped process accepts connections, and never answers."""
    own_memcached.stop()
    found = examined(own_memcached.url)
    nothing_known(found)
    assert codes(found, "problem") == ["silent"]


def test_a_node_that_hangs_with_credentials_is_a_problem(own_memcached):
    """Waiting for the answer to a password is bounded as well."""
    own_memcached.stop()
    url = own_memcached.url.replace("://", "://me:secret@")
    assert codes(examined(url), "problem") == ["silent"]


def test_a_node_that_drips_is_a_problem(proxy):
    """An answer that comes byte by byte has no more time than any other."""
    proxy.drip(1, 0.3)
    assert codes(examined(proxy.url), "problem") == ["silent"]


def test_a_node_that_is_always_just_in_time_ends(proxy):
    """Slow answers add up to no more than a bounded time."""
    proxy.delay(0.3)
    examined(proxy.url + "?timeout=0.4")


def test_a_node_that_falls_silent_later_is_a_problem(middleman):
    """What was found out before is told, and not that the node can keep sessions."""
    ends = itertools.count()

    def lose_the_rest(data: bytes) -> bytes:
        return b"" if data == b"END\r\n" and next(ends) > 2 else data

    middleman.change(lose_the_rest)
    found = examined(middleman.url + "?timeout=0.5")
    assert codes(found, "problem") == ["silent"]
    assert set(found.commands.values()) == {True}
    assert found.memory is None


def test_a_failure_of_the_doctor_is_none_of_a_node(
    tls_memcached, certificates, tmp_path
):
    """What goes wrong here is raised: nobody waits for it in vain."""
    authority = tmp_path / "ca.pem"
    authority.write_bytes(certificates.ca.read_bytes())
    doctor = Doctor(tls_url(tls_memcached.port, tls_ca=authority))
    authority.unlink()
    with pytest.raises(ValueError, match="tls_ca"):
        list(doctor.examine())


def test_a_connection_that_breaks_is_a_problem(proxy):
    """A node that hangs up at once: one problem, not one for each command."""
    proxy.cut()
    found = examined(proxy.url)
    assert codes(found, "problem") == ["closed"]
    assert len(found.remarks) == 1
    assert "sessions need" not in found.remarks[0].text


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        b"\x00nonsense\r\n",
        b"VALUE other 0 5 1\r\nwrong\r\nEND\r\n",
        b"OK\r\n",
        b"STORED\r\n",
        b"VERSION 1.6.18\r\n",
        b"STAT pid 1\r\nEND\r\n",
    ],
)
def test_what_is_no_memcached_is_a_problem(proxy, data):
    """Whatever else listens there, it is no node."""
    proxy.garbage(data)
    assert not examined(proxy.url).ok


@pytest.mark.parametrize("credentials", ["", "me:secret@"])
def test_a_full_node_takes_no_connection(memcached_factory, credentials):
    """Where the connection limit is reached, the advice names the option."""
    server = memcached_factory("-c", "30", "-t", "1")
    with contextlib.ExitStack() as held:
        answer = b"VERSION"
        while answer.startswith(b"VERSION"):
            other = held.enter_context(socket.create_connection(server.server, 5))
            other.sendall(b"version\r\n")
            answer = other.recv(100)
        found = examined(server.url.replace("://", f"://{credentials}"))
    assert not found.ok
    assert "-c" in found.remarks[0].advice


def test_each_node_is_told_as_soon_as_it_is_known(memcached, proxy):
    """One that hangs holds up no other, wherever it stands in the URL."""
    proxy.hang()
    url = f"{proxy.url},127.0.0.1:{memcached.port}?timeout=5"
    found = Doctor(url).examine()
    assert next(found).name == f"127.0.0.1:{memcached.port}"
    proxy.pass_through()
    assert next(found).ok
    assert list(found) == []


def test_more_nodes_than_workers_are_all_examined(memcached):
    """Each of many nodes is told once."""
    ports = {free_port() for _ in range(40)} | {memcached.port}
    url = "memcached://" + ",".join(f"127.0.0.1:{port}" for port in ports)
    found = list(Doctor(url).examine())
    assert sorted(node.name for node in found) == sorted(
        f"127.0.0.1:{port}" for port in ports
    )
    assert [node.ok for node in found].count(True) == 1


def test_shares_follow_the_placing(memcached):
    """Two nodes share the sessions; a node with twice the weight has two thirds."""
    url = f"memcached://127.0.0.1:{memcached.port},127.0.0.1:{free_port()}"
    found = {node.name: node for node in Doctor(url).examine()}
    assert sum(node.share for node in found.values()) == pytest.approx(1)
    assert found[f"127.0.0.1:{memcached.port}"].share == pytest.approx(1 / 2, abs=0.05)
    found = {node.name: node for node in Doctor(url + "?weights=2,1").examine()}
    assert found[f"127.0.0.1:{memcached.port}"].share == pytest.approx(2 / 3, abs=0.05)
