"""What memcached says, or whoever has taken its place on the connection.

It goes through private parts of the store: a server's process for each of thousands of
scripts would be too slow.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from tornado_mcsession import CasResult, Entry, StoreError, StoreRejected
from tornado_mcsession.stores.memcached import protocol
from tornado_mcsession.stores.memcached.connection import Link
from tornado_mcsession.stores.memcached.errors import NotConnected
from tornado_mcsession.stores.memcached.executor import Call, Limits
from tornado_mcsession.stores.memcached.node import Node

from .material import PLANTED, assert_silent

KEYS = ["mcsession:" + letter * 64 for letter in "abc"]
CREDENTIALS = ("user", f"{PLANTED}-password")
DATA = PLANTED.encode()
TOKEN = b"17"
NOBODY_WAITS_IN_VAIN: Any = SimpleNamespace(cancelled=lambda: False)
NOBODY_IS_TOLD: Any = SimpleNamespace(
    loop=SimpleNamespace(call_soon_threadsafe=lambda *arguments: None)
)

# protocol.txt: what each command is answered with.
SAYS: dict[str, dict[bytes, Any]] = {
    "add": {b"STORED": True, b"NOT_STORED": False},
    "cas": {
        b"STORED": CasResult.STORED,
        b"EXISTS": CasResult.CONFLICT,
        b"NOT_FOUND": CasResult.MISSING,
    },
    "touch": {b"TOUCHED": True, b"NOT_FOUND": False},
    "delete": {b"DELETED": True, b"NOT_FOUND": False},
}
REQUESTS: dict[str, Any] = {
    "get": lambda key: key,
    "add": lambda key: protocol.add(key, DATA, 60, 0),
    "cas": lambda key: protocol.cas(key, DATA, 60, TOKEN, 0),
    "touch": lambda key: protocol.touch(key, 60),
    "delete": protocol.delete,
}
KINDS = list(SAYS)


RECEIVED_AT_ONCE = 64 * 1024


NOT_STORED = (CasResult.CONFLICT, CasResult.MISSING)


class Script:
    """What is answered, command by command; the last answer is for all that follow.

    It arrives in pieces of ``size`` bytes, and ends by a close or by silence.
    """

    def __init__(self, answers: Sequence[bytes], size: int, closes: bool) -> None:
        self.answers = list(answers)
        self.size = min(size or RECEIVED_AT_ONCE, RECEIVED_AT_ONCE)
        self.closes = closes

    def read(self, end: int) -> bytes:
        """What of the last answer is received by who reads until ``end``."""
        return self.answers[-1][: -(-end // self.size) * self.size]


class ScriptedSocket:
    """The end of a connection at which a script sits."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._waiting = b""
        self._over = False

    def send(self, data: bytes) -> int:
        script = self._script
        last = len(script.answers) == 1
        self._waiting += script.answers[0] if last else script.answers.pop(0)
        self._over = last and script.closes
        return len(data)

    def recv(self, size: int) -> bytes:
        if not self._waiting and not self._over:
            raise BlockingIOError
        size = min(size, self._script.size)
        piece, self._waiting = self._waiting[:size], self._waiting[size:]
        return piece

    def close(self) -> None:
        self._waiting, self._over = b"", True


class ScriptedLink(Link):
    """A link to a script instead of a server."""

    def __init__(self, script: Script, deadline: float) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            super().__init__(ours, "", deadline)
        self.socket: Any = ScriptedSocket(script)
        self._waited = 0

    def recv(self, size: int) -> bytes:
        self._waited = 0
        return super().recv(size)

    def _wait(self, event: int) -> None:
        # Before a first look at the socket nobody knows; after it, time is up.
        self._waited += 1
        if self._waited > 1:
            raise TimeoutError


class ScriptedConnector:
    """Makes links to a script."""

    def __init__(self, script: Script, credentials: tuple[str, str] | None) -> None:
        self._script = script
        self._credentials = credentials

    def connect(self, deadline: float) -> Link:
        link = ScriptedLink(self._script, deadline)
        if self._credentials is not None:
            try:
                link.authenticate(*self._credentials)
            except OSError as error:
                link.close()
                raise NotConnected from error
        return link

    def trusts(self, link: Link) -> bool:
        return True

    def distrust(self) -> None:
        pass


def check(data: bytes) -> None:
    """Three bytes choose a command, its number and how the rest arrives."""
    how = data[:3].ljust(3, b"\x00")
    answer = data[3:]
    number = how[0] // 8 % 3 + 1
    closes = bool(how[1] & 1)
    script = Script([answer], how[2], closes)
    if how[0] % 8 < 2:
        check_reads(KEYS[:number], script)
    elif how[0] % 8 < 6:
        kind = KINDS[how[0] % 8 - 2]
        calls = run([(kind, KEYS[0])], script)
        assert_told(calls, [says(kind, script)])
    elif how[0] % 8 == 6:
        check_pipeline(how[1] // 2 % 4, number + 1, script)
    else:
        script.answers.append(b"")
        calls = run([("get", KEYS[0]), ("delete", KEYS[0])], script, CREDENTIALS)
        assert_told(calls, [Refused, Refused])


class Refused:
    """Stands for any `StoreError`."""


def run(
    commands: Sequence[tuple[str, str]],
    script: Script,
    credentials: tuple[str, str] | None = None,
    connect: bool = False,
) -> list[Call]:
    """Ask for ``commands``; each call has its outcome then.

    With ``connect`` a first one, which is not returned, makes the connection.
    """
    connector: Any = ScriptedConnector(script, credentials)
    limits = Limits(timeout=1.0, reconnect_timeout=0.0, threads=2, max_pending=100)
    node = Node("node", ("host", 1), connector, limits, lambda *_: None, None)
    calls = []
    for kind, key in commands:
        end = time.monotonic() + 1000
        request = REQUESTS[kind](key)
        calls.append(Call(kind, request, end, NOBODY_WAITS_IN_VAIN, NOBODY_IS_TOLD))
    if connect:
        node._run(calls[:1])
        del calls[0]
    node._run(calls)
    node._clients.clear()
    for call in calls:
        if call.error is not None:
            assert isinstance(call.error, StoreError), type(call.error)
            assert not hasattr(call.result, "data")
            assert_silent(call.error)
    assert_silent()
    return calls


def check_reads(keys: Sequence[str], script: Script) -> None:
    """An answer is believed to the byte; each value is that of its own key."""
    calls = run([("get", key) for key in keys], script)
    whole = parsed(script, keys)
    for call in calls:
        key = call.request
        found = whole
        if whole is None or any(entry.token == b"0" for entry in whole.values()):
            found = parsed(script, [key])  # each is asked for alone
        expected = Refused if found is None else found.get(key)
        if isinstance(expected, Entry) and expected.token == b"0":
            assert isinstance(call.error, StoreRejected)
        else:
            assert_told([call], [expected])


def check_pipeline(first: int, number: int, script: Script) -> None:
    """Each line answers its own command, or none is believed."""
    kinds = [KINDS[(first + n) % 4] for n in range(number)]
    answer = script.answers[0]
    script.answers.insert(0, b"END\r\n")
    commands = [(kind, KEYS[n % 3]) for n, kind in enumerate(kinds)]
    calls = run([("get", KEYS[0]), *commands], script, connect=True)
    lines = answer.split(b"\r\n")[:number]
    end = sum(len(line) + 2 for line in lines)
    if end > len(answer):
        # Not all has come: the time is up, or they are done again, one by one.
        alone = [
            says_again(kind, script) if script.closes else Refused for kind in kinds
        ]
        assert_told(calls, alone)
        return
    pairs = list(zip(kinds, lines, strict=True))
    told = [SAYS[kind].get(line, Refused) for kind, line in pairs]
    known = [
        line in SAYS[kind] or line.startswith(b"SERVER_ERROR ") for kind, line in pairs
    ]
    if len(script.read(end)) == end and all(known):
        assert_told(calls, told)
    else:
        assert_told(calls, [says_again(kind, script) for kind in kinds])


def says_again(kind: str, script: Script) -> Any:
    """What the answer means to a command that may have been done before."""
    told = says(kind, script)
    if kind in ("add", "cas") and told in (False, *NOT_STORED):
        return Refused
    return told


def says(kind: str, script: Script) -> Any:
    """What the answer means to one command, by the protocol and nothing else."""
    line, found, _ = script.answers[-1].partition(b"\r\n")
    end = len(line) + 2
    if not found or len(script.read(end)) != end:
        return Refused
    return SAYS[kind].get(line, Refused)


def assert_told(calls: Sequence[Call], expected: Sequence[Any]) -> None:
    for call, wanted in zip(calls, expected, strict=True):
        if wanted is Refused:
            assert call.error is not None, "this was believed"
        else:
            assert call.error is None
            assert call.result == wanted


# Of 32, 32 and 64 bits.
_HEAD = re.compile(
    rb"VALUE ([\x21-\x7e]{1,250}) ([0-9]{1,10}) ([0-9]{1,10}) ([0-9]{1,20})\r\n"
)


def parsed(script: Script, keys: Sequence[str]) -> dict[str, Entry] | None:
    """What an answer to gets says, by protocol.txt; None where it breaks that."""
    found: dict[str, Entry] = {}
    answer = script.answers[-1]
    at = 0
    while (head := _HEAD.match(answer, at)) is not None:
        key, begin = head[1].decode("ascii"), head.end()
        end = begin + int(head[3])
        if key not in keys or key in found or answer[end : end + 2] != b"\r\n":
            return None
        found[key] = Entry(answer[begin:end], head[4], int(head[2]))
        at = end + 2
    if answer[at : at + 5] != b"END\r\n" or len(script.read(at + 5)) != at + 5:
        return None
    return found


def value(key: str, data: bytes, token: bytes = TOKEN, size: Any = None) -> bytes:
    """One value of an answer to gets."""
    size = len(data) if size is None else size
    return b"VALUE %b 0 %b %b\r\n%b\r\n" % (
        key.encode("ascii"),
        str(size).encode("ascii"),
        token,
        data,
    )


def seeds() -> list[bytes]:
    """Right answers to each command, wrong ones, and those of somebody else."""
    one, two, three = (value(key, DATA + bytes([n])) for n, key in enumerate(KEYS))
    reads = [
        b"END\r\n",
        one + b"END\r\n",
        one + two + b"END\r\n",
        one + two + three + b"END\r\n",
        one + one + b"END\r\n",
        one + b"END\r\nEND\r\n",
        one + b"OK\r\n",
        one,
        one[:-2] + b"XXEND\r\n",
        value("mcsession:" + "z" * 64, DATA) + b"END\r\n",
        value(KEYS[0], b"END\r\n" * 3) + b"END\r\n",
        value(KEYS[0], b"") + b"END\r\n",
        value(KEYS[0], DATA, b"0") + b"END\r\n",
        value(KEYS[0], DATA, b"noreply") + b"END\r\n",
        value(KEYS[0], DATA, b"-1") + b"END\r\n",
        *(
            value(KEYS[0], DATA, size=size) + b"END\r\n"
            for size in (-2, 0, 3, 1000, 4294967295, "0x4", "1_8", "+18", "9" * 5000)
        ),
        value(KEYS[0], DATA).replace(b" ", b"  ") + b"END\r\n",
        value(KEYS[0], DATA).replace(b" 0 ", b" -0 ") + b"END\r\n",
        b"VALUE\r\nEND\r\n",
        b"VALUE " + KEYS[0].encode() + b" 0 1\r\n1\r\nEND\r\n",
    ]
    lines = [line for says_so in SAYS.values() for line in says_so]
    lines += [
        b"ERROR",
        b"ERROR Too many open connections",
        b"CLIENT_ERROR " + KEYS[0].encode(),
        b"CLIENT_ERROR unauthenticated",
        b"SERVER_ERROR out of memory storing object",
        b"SERVER_ERROR object too large for cache " + DATA,
        b"<html>",
        b"",
        b"END",
        b"x" * 10_000,
    ]
    made = [
        bytes([how, end, 0]) + text
        for text in reads
        for how in (0, 8, 16)
        for end in (0, 1)
    ]
    made += [
        bytes([how, 0, size]) + reads[3] for how in (0, 16) for size in (1, 7, 100)
    ]
    for kind in range(2, 8):
        made += [bytes([kind, 0, 0]) + line + b"\r\n" for line in lines]
        made += [bytes([kind, 1, 1]) + line for line in lines]
        made += [bytes([kind, 0, 0]) + line + b"\r\n" + line for line in lines]
    for first in range(4):
        kinds = [KINDS[(first + n) % 4] for n in range(4)]
        right = b"".join(next(iter(SAYS[kind])) + b"\r\n" for kind in kinds[:2])
        wrong = (right[:-2], right + b"\r\n", right + b"x", b"SERVER_ERROR x\r\n" * 2)
        for text in (right, *wrong):
            made += [bytes([6, 2 * first, size]) + text for size in (0, 1, 5)]
    return made


WORDS = [
    b"VALUE " + KEYS[0].encode(),
    KEYS[1].encode(),
    b"END\r\n",
    b"STORED\r\n",
    b"NOT_STORED\r\n",
    b"EXISTS\r\n",
    b"NOT_FOUND\r\n",
    b"TOUCHED\r\n",
    b"DELETED\r\n",
    b"SERVER_ERROR ",
    b"CLIENT_ERROR ",
    b" 4294967295 ",
    b" -2 ",
    b"\r\n",
]
