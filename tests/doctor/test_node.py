"""What the doctor says about one node that answers."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest

from tornado_mcsession.doctor import COMMANDS
from tornado_mcsession.settings import Settings

from .doctoring import codes, examined, remark

pytestmark = pytest.mark.integration

KIB = 1024
MIB = 1024 * KIB


def fill(server, size: int, count: int) -> set[bytes]:
    """Store ``count`` values of ``size`` bytes; return what was answered."""
    value = b"x" * size
    sets = b"\r\n".join(
        b"set filling%d 0 0 %d\r\n%b" % (number, size, value) for number in range(count)
    )
    return set(server.command(sets).split(b"\r\n"))


def telling(**values: object) -> Callable[[bytes], bytes]:
    """Let the node tell these numbers or words instead of its own."""

    def change(data: bytes) -> bytes:
        for name, value in values.items():
            told = f"STAT {name} {value}\r".encode()
            data = re.sub(rf"STAT {name} [^\r]*\r".encode(), told, data)
        return data

    return change


def late(start: bytes, seconds: float) -> Callable[[bytes], bytes]:
    """Hold an answer up that begins with ``start``."""

    def change(data: bytes) -> bytes:
        if data.startswith(start):
            time.sleep(seconds)
        return data

    return change


def test_a_healthy_node_is_told_in_full(memcached_factory):
    """Of a memcached as the library wants it, all is known, and nothing is wrong."""
    server = memcached_factory("-m", "20", "-c", "100", "-X", "-F")
    found = examined(server.url)
    assert found.ok
    assert found.remarks == []
    assert found.name == f"127.0.0.1:{server.port}"
    assert found.share == 1
    assert found.version == server.stats()["version"]
    assert 0 <= found.uptime < 100
    assert found.round_trip.reads == 20
    assert 0 < found.round_trip.median <= found.round_trip.worst < 1
    assert found.commands == dict.fromkeys(COMMANDS, True)
    assert found.cas is True
    assert found.item_size_max == MIB
    assert (found.memory.limit, found.memory.evicts) == (20 * MIB, True)
    assert (found.memory.evictions, found.memory.refused) == (0, 0)
    assert (found.connections.limit, found.connections.refused) == (100, 0)
    assert 1 <= found.connections.now <= 3
    assert found.authentication == "none"
    assert found.tls is None
    assert abs(found.clock.difference) <= found.clock.uncertainty < 2


def test_a_unix_socket_is_a_node(memcached_socket):
    """A node is examined through its Unix socket as well."""
    found = examined(f"memcached://{memcached_socket}")
    assert found.ok
    assert found.name == memcached_socket
    assert found.cas is True


def test_nothing_but_an_own_key_is_touched(middleman, own_memcached):
    """Every key asked for is the doctor's own, and none of them stays."""
    own_memcached.set("another", b"1")
    assert examined(middleman.url).ok
    asked = [line.split()[1] for line in middleman.sent if len(line.split()) > 1]
    keys = [key for key in asked if key != b"settings"]
    # Behind a proxy, one key's node says nothing of the others'.
    assert len(set(keys)) > 20
    assert all(key.startswith(b"mcsession:doctor:") for key in keys)
    assert own_memcached.keys() == ["another"]


def test_two_examinations_have_different_keys(middleman):
    """Two doctors at once do not meet: the keys are random."""
    examined(middleman.url)
    (first,) = {line.split()[1] for line in middleman.sent if line[:4] == b"add "}
    middleman.sent.clear()
    examined(middleman.url)
    (second,) = {line.split()[1] for line in middleman.sent if line[:4] == b"add "}
    assert first != second


def test_without_cas_a_node_keeps_no_sessions(memcached_factory):
    """-C is a problem of its own: every save of a stored session would fail."""
    server = memcached_factory("-C")
    found = examined(server.url)
    assert not found.ok
    assert found.cas is False
    assert codes(found, "problem") == ["cas"]
    assert "without -C" in remark(found, "cas").advice
    assert server.keys() == []


def test_a_token_that_means_nothing_is_no_cas(middleman):
    """A node that replaces whatever version is given has no cas either."""
    middleman.answer(b"cas", b"EXISTS\r\n")
    assert examined(middleman.url).cas is False
    middleman.answer(b"cas", b"STORED\r\n")
    found = examined(middleman.url)
    assert not found.ok
    assert found.commands["cas"] is False


def test_a_small_item_size_is_a_warning(memcached_factory):
    """Where max_size does not fit, the advice is a value that does."""
    server = memcached_factory("-I", "512k")
    found = examined(server.url)
    assert found.ok
    assert found.item_size_max == 512 * KIB
    advice = remark(found, "item-size").advice
    fits = int(advice.partition("max_size=")[2].partition(":")[0])
    assert fill(server, fits, 1) == {b"STORED"}
    assert fill(server, 512 * KIB, 1) == {b"SERVER_ERROR object too large for cache"}


def test_an_item_size_for_no_session_has_no_advice_for_max_size(middleman):
    """Where next to nothing fits, only a larger -I helps."""
    middleman.change(telling(item_size_max=1000))
    advice = remark(examined(middleman.url), "item-size").advice
    assert "-I" in advice
    assert "max_size" not in advice


def test_the_default_item_size_is_enough(memcached_factory):
    """memcached's 1 MiB has room for the default max_size, so nothing is said."""
    server = memcached_factory()
    assert "item-size" not in codes(examined(server.url), "warning")
    assert fill(server, Settings.max_size, 1) == {b"STORED"}


def test_evictions_are_sessions_lost(memcached_factory):
    """What was dropped before its end is counted, and is a warning."""
    server = memcached_factory("-m", "2")
    fill(server, 8000, 3000)
    found = examined(server.url)
    assert found.ok
    assert found.memory.evictions == int(server.stats()["evictions"]) > 0
    assert str(found.memory.evictions) in remark(found, "evictions").text


def test_a_full_memory_without_evictions_is_a_problem(memcached_factory):
    """With -M and no room left, new sessions are refused, and that is found out."""
    server = memcached_factory("-M", "-m", "2")
    # Together with their keys as large as the doctor's own item.
    assert b"SERVER_ERROR out of memory storing object" in fill(server, 337, 30_000)
    found = examined(server.url)
    assert not found.ok
    assert found.memory.evicts is False
    assert found.commands["add"] is False
    assert found.memory.refused > 0
    assert "out of memory" in remark(found, "full").text
    assert "not-stored" in codes(found, "warning")


@pytest.mark.parametrize("size", [20_000, 2_000])
def test_a_memory_that_is_full_for_others_is_a_problem_too(memcached_factory, size):
    """The doctor's own item may find room in memory for its size."""
    server = memcached_factory("-M", "-m", "2")
    fill(server, size, 1_000)
    found = examined(server.url)
    assert found.commands["add"] is True
    assert not found.ok
    assert "items were refused" in remark(found, "full").text


def test_a_memory_that_fills_is_a_warning(middleman):
    """Before anything was dropped, a memory that is nearly full is told."""
    middleman.change(telling(bytes=65_000_000))
    assert "dropped" in remark(examined(middleman.url), "memory").text
    middleman.change(telling(bytes=65_000_000, evictions=5))
    assert codes(examined(middleman.url), "warning") == ["evictions"]


def test_a_memory_that_fills_without_evictions_is_a_warning(middleman):
    """With -M, new sessions will be refused."""
    # "evictions" is a number in one answer and a word in the other.
    words = telling(bytes=65_000_000)
    middleman.change(
        lambda data: words(data.replace(b"evictions on", b"evictions off"))
    )
    assert "refused" in remark(examined(middleman.url), "memory").text


@pytest.mark.parametrize(
    ("now", "refused", "text"), [(980, 0, "nearly"), (1, 7, "7 connections")]
)
def test_too_many_connections_are_a_warning(middleman, now, refused, text):
    """Connections that were refused, or soon will be, are told."""
    middleman.change(telling(curr_connections=now, rejected_connections=refused))
    assert text in remark(examined(middleman.url), "connections").text


@pytest.mark.parametrize("seconds", [-60, -4, 4, 60])
def test_a_clock_that_is_wrong_is_a_warning(middleman, seconds):
    """The difference has its sign, and a second's uncertainty."""

    def change(data: bytes) -> bytes:
        before, name, rest = data.partition(b"STAT time ")
        if not name:
            return data
        then, _, after = rest.partition(b"\r\n")
        return before + name + b"%d\r\n" % (int(then) + seconds) + after

    middleman.change(change)
    found = examined(middleman.url)
    assert found.ok
    assert abs(found.clock.difference - seconds) <= found.clock.uncertainty
    assert remark(found, "clock").kind == "warning"


def test_a_clock_that_is_right_is_ahead_by_less_than_a_second(middleman):
    """memcached's count is behind by a second on average, which is put right."""
    middleman.change(lambda data: telling(time=int(time.time()))(data))
    clock = examined(middleman.url).clock
    on_the_way = clock.uncertainty - 1
    assert -on_the_way <= clock.difference <= 1 + on_the_way


def test_a_slow_answer_makes_no_clock_wrong(middleman):
    """The time on the way is part of the uncertainty, and no cause for a warning."""

    def change(data: bytes) -> bytes:
        # Up to 2 s behind when it is told, and 1.5 s older in the middle of its way.
        told = telling(time=int(time.time()) - 2)(data)
        return late(b"STAT pid", 3)(told)

    middleman.change(change)
    found = examined(middleman.url + "?timeout=20")
    assert found.clock.difference < -2
    assert found.clock.uncertainty > 2
    assert "clock" not in codes(found, "warning")


def test_slow_reads_are_a_warning(middleman):
    """Reads that take more than half of their time will fail some day."""
    middleman.change(late(b"END", 0.8))
    found = examined(middleman.url + "?timeout=1.5")
    assert found.round_trip.worst > 0.75
    assert found.round_trip.reads < 20
    assert "timeout" in remark(found, "slow").advice


def test_what_everybody_may_do_is_a_note(memcached_factory):
    """flush_all, the list of keys and shutdown are noted, with the options' names."""
    found = examined(memcached_factory("-A").url)
    assert found.ok
    assert codes(found, "note") == ["open"]
    note = remark(found, "open")
    assert "flush_all" in note.text
    assert all(option in note.advice for option in ("-F", "-X", "-A"))


def test_numbers_that_are_none_are_not_told(middleman):
    """What a node says that cannot be is as good as not said."""
    lines = [b"uptime -1", b"time soon", b"bytes " + b"9" * 30, b"max_connections x"]
    stats = b"".join(b"STAT %b\r\n" % line for line in lines)
    middleman.answer(b"stats", stats + b"END\r\n")
    middleman.answer(b"version", b"VERSION \x1b[2J" + b"9" * 100 + b"\r\n")
    found = examined(middleman.url)
    assert found.ok
    assert (found.uptime, found.clock) == (None, None)
    assert (found.memory, found.connections) == (None, None)
    assert found.version == "?[2J" + "9" * 36


def test_uptime_is_that_of_the_process(memcached_factory):
    """A restart, which loses all sessions, shows."""
    server = memcached_factory()
    before = time.monotonic()
    server.restart()
    assert examined(server.url).uptime <= time.monotonic() - before + 3
