"""What fuzzing found, and what it cannot see: limits of depth and of size."""

from __future__ import annotations

import socket
import time
import tracemalloc
from types import SimpleNamespace

import pytest
from pymemcache.exceptions import MemcacheUnknownError

from tornado_mcsession import DecodeError, EncodeError, Entry, JSONSerializer
from tornado_mcsession.sessions.serializers import check_items
from tornado_mcsession.stores.memcached import connection
from tornado_mcsession.stores.memcached.protocol import Client

from . import answers, records

# Much more than a short answer or record needs, much less than what one announces.
LITTLE = 1 << 20

each_serializer = pytest.mark.parametrize(
    "codec", records.PLAIN, ids=["msgpack", "json"]
)


def nested(levels):
    """Lists within each other in a session's mapping."""
    value = None
    for _ in range(levels):
        value = [value]
    return {"a": value}


@each_serializer
def test_what_may_be_stored_can_be_read(codec):
    """The deepest value that a request may store comes back."""
    values = nested(records.MAX_DEPTH)
    check_items(codec.serializer, {"a": values["a"]})
    data = codec.serializer.dumps(values)
    assert codec.values(records.record(data)) == values


@each_serializer
@pytest.mark.parametrize("more", [1, 400, 800])
def test_what_may_not_be_stored_is_not_read(codec, more):
    """A record that is nested deeper is foreign, however far the decoder goes."""
    values = nested(records.MAX_DEPTH + more)
    with pytest.raises(EncodeError):
        check_items(codec.serializer, {"a": values["a"]})
    data = codec.serializer.dumps(values)
    with pytest.raises(DecodeError, match="nested too deep"):
        codec.values(records.record(data))


@pytest.mark.parametrize("lie", records.LIES, ids=lambda lie: f"{lie[0]:x}")
@pytest.mark.parametrize("before", [b"\x04", b"\x04\x81\xa1a", b"\x00\x01"])
def test_a_length_alone_takes_no_memory(lie, before):
    """A record that announces four gigabytes is refused before they are made."""
    tracemalloc.start()
    try:
        records.check(before + lie)
        assert tracemalloc.get_traced_memory()[1] < LITTLE
    finally:
        tracemalloc.stop()


def test_a_length_in_an_answer_takes_no_memory():
    """Nor does a value of four gigabytes of which nothing comes."""
    script = answers.Script([answers.value("k", b"", size=2**32 - 1)], 0, False)
    tracemalloc.start()
    try:
        (call,) = answers.run([("get", "k")], script)
        assert call.error is not None
        assert tracemalloc.get_traced_memory()[1] < LITTLE
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("token", [b"noreply", b"-1", b"1a", b"\xb2"])
def test_a_token_that_is_no_number_is_not_believed(token):
    """It would stand in a command: memcached takes the data of a bad one for more."""
    answer = answers.value("k", b"data", token) + b"END\r\n"
    (call,) = answers.run([("get", "k")], answers.Script([answer], 0, True))
    assert call.error is not None
    assert not isinstance(call.result, Entry)


def test_a_key_that_is_answered_twice_is_not_believed():
    """Two values for one key, of which one could be another session's."""
    first = answers.value("k", b"one", b"1")
    # Three spaces make up for what a negative length adds to the sum of all.
    second = b"VALUE k 0    -2 2\r\n"
    for twice in (first + first, first + second):
        (call,) = answers.run(
            [("get", "k")], answers.Script([twice + b"END\r\n"], 0, True)
        )
        assert call.error is not None


class EndlessLine:
    """A connection on which a line comes that does not end."""

    def __init__(self):
        self.taken = 0

    def sendall(self, data):
        pass

    def recv(self, size):
        self.taken += size
        assert self.taken < LITTLE, "this is listened to for ever"
        return b"x" * size


def test_an_endless_answer_to_writes_is_left():
    """A server that sends no end of a line is not listened to until time is up."""
    client = Client(("localhost", 1))
    client.sock = EndlessLine()
    with pytest.raises(MemcacheUnknownError):
        client.write(
            [
                SimpleNamespace(kind="touch", request=b"touch a 1\r\n"),
                SimpleNamespace(kind="delete", request=b"delete b\r\n"),
            ]
        )


def test_an_endless_line_in_an_answer_to_reads_is_left():
    """Nor where a value was asked for."""
    client = Client(("localhost", 1))
    client.sock = EndlessLine()
    with pytest.raises(MemcacheUnknownError):
        client.read(["a"])


def test_an_endless_answer_is_left(monkeypatch):
    """Whatever is asked: what comes is not collected for as long as it comes."""
    monkeypatch.setattr(connection, "MAX_ANSWER", LITTLE)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        link = connection.Link(ours, "", time.monotonic() + 60)
        theirs.setblocking(False)
        with pytest.raises(MemcacheUnknownError):  # noqa: PT012
            for _ in range(2 * LITTLE // 1024):
                theirs.send(b"x" * 1024)
                link.recv(4096)


def test_json_numbers_are_bounded():
    """A number of a million digits is refused at once."""
    data = b'{"a":' + b"9" * 1_000_000 + b"}"
    with pytest.raises(DecodeError):
        records.PLAIN[1].values(records.record(data))
    assert isinstance(records.PLAIN[1].serializer, JSONSerializer)
