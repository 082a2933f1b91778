"""What the doctor says of several servers behind one name, and of what hides behind."""

from __future__ import annotations

import json
import socket

import pytest

from ..stores.recording import DividingProxy
from .doctoring import codes, examined, remark, run

pytestmark = pytest.mark.integration

REAL = socket.getaddrinfo


def test_a_balancer_before_several_servers_is_a_problem(memcached_factory):
    """What is written on one connection is missing on another."""
    servers = [memcached_factory(), memcached_factory()]
    with DividingProxy(*(server.port for server in servers)) as balancer:
        found = examined(balancer.url)
        assert run("doctor", balancer.url).returncode == 1
    assert not found.ok
    assert found.same_server is False
    assert codes(found, "problem") == ["several-servers"]
    assert "one by one" in remark(found, "several-servers").advice


def test_a_balancer_before_one_server_is_none(memcached):
    """Where every connection leads to the same, all is well."""
    with DividingProxy(memcached.port, memcached.port) as balancer:
        found = examined(balancer.url)
    assert found.ok
    assert found.same_server is True


def test_a_name_with_several_addresses_is_a_problem(memcached, monkeypatch):
    """Unless the URL says that they are the same."""

    def getaddrinfo(host, port, *args, flags=0, **options):
        if host != "cache.example" or flags & socket.AI_NUMERICHOST:
            return REAL(host, port, *args, flags=flags, **options)
        found = REAL("127.0.0.1", port, *args, flags=flags, **options)
        return [*found, *REAL("127.0.0.2", port, *args, flags=flags, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    url = f"memcached://cache.example:{memcached.port}"
    found = examined(url)
    assert not found.ok
    assert codes(found, "problem") == ["addresses"]
    assert "addresses=same" in remark(found, "addresses").text
    assert examined(f"{url}?addresses=same").ok


@pytest.mark.parametrize("answer", [b"ERROR\r\n", b"END\r\n", b"CLIENT_ERROR x\r\n"])
def test_a_server_may_keep_its_settings_to_itself(middleman, answer):
    """Managed servers may know no "stats settings": that is a note."""
    middleman.answer_line(b"stats settings", answer)
    found = examined(middleman.url)
    assert found.ok
    assert found.memory is not None
    assert found.item_size_max is None
    assert codes(found, "warning") == []
    assert "max_size" in remark(found, "settings").advice


def test_a_server_may_hang_up_on_settings(middleman):
    """It is asked the rest on another connection."""
    middleman.hang_up_line(b"stats settings")
    found = examined(middleman.url)
    assert found.ok
    assert found.authentication == "none"
    assert "settings" in codes(found, "note")


@pytest.mark.parametrize("days", [-400, -31, 2, 31])
def test_a_clock_that_is_far_off_is_a_problem(middleman, days):
    """What is kept for long would end at once: exit status 1, and what to do."""

    def change(data: bytes) -> bytes:
        before, name, rest = data.partition(b"STAT time ")
        if not name:
            return data
        then, _, after = rest.partition(b"\r\n")
        return before + name + b"%d\r\n" % (int(then) + days * 86_400) + after

    middleman.change(change)
    done = run("doctor", middleman.url, "--json")
    assert done.returncode == 1
    (node,) = json.loads(done.stdout)["nodes"]
    (problem,) = [each for each in node["remarks"] if each["kind"] == "problem"]
    assert problem["code"] == "clock"
    assert f"{abs(days)} days" in problem["text"]
    assert "NTP" in problem["advice"]
