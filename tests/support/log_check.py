"""A plugin of pytest: what is logged in a whole run holds no secret of it.

Secrets are collected where they are made: session ids, store keys, what is stored in
sessions, cookie secrets, encryption keys and passwords. All log records, of every
logger and level, warnings, and what server processes print are kept, and looked
through when the run is over. A run that passed fails then.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import functools
import hashlib
import logging
import secrets
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from tornado_mcsession import (
    DecodeError,
    JSONSerializer,
    MemcachedStore,
    MsgpackSerializer,
)
from tornado_mcsession.sessions.codec import Codec
from tornado_mcsession.sessions.record import Record
from tornado_mcsession.web.transport import Signer

from .http import RawConnection, Response
from .processes import Process

# A shorter text may well be in a log for another reason.
SHORTEST = 12
# Of a long one this is enough to know it again.
LONGEST = 64
# To make the text of a larger session takes longer than it is worth.
LARGE = 16 * 1024


class Journal:
    """Lines on disk, of this process and of those that it forks.

    Kept in memory, they would be found by the tests of what requests leave there.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile("a+b", buffering=0)

    def write(self, *fields: str) -> None:
        """Add a line; what stands in it has no line ends."""
        line = "\t".join(fields) + "\n"
        self._file.write(line.encode("utf-8", "backslashreplace"))

    def read(self) -> Iterator[list[str]]:
        """All different lines, as they were written; then it is gone."""
        self._file.seek(0)
        with self._file:
            for line in set(self._file):
                yield line.decode("utf-8").rstrip("\n").split("\t")


class Secrets:
    """Texts that must not be found in others."""

    def __init__(self) -> None:
        self._by_beginning: dict[str, set[str]] = {}

    def add(self, secret: str) -> None:
        """Look for ``secret``, or for its beginning if it is long."""
        if len(secret) >= SHORTEST:
            secret = secret[:LONGEST]
            self._by_beginning.setdefault(secret[:SHORTEST], set()).add(secret)

    def add_id(self, session_id: str) -> None:
        """Look for a session id, also as it is signed, and for its store key."""
        name = session_id.encode("ascii", "replace")
        self.add(session_id)
        # The end of it depends on the padding.
        self.add(base64.b64encode(name).decode("ascii").rstrip("=")[:-1])
        self.add(hashlib.sha256(name).hexdigest())

    def add_cookie(self, value: str) -> None:
        """Look for the session id in a cookie, signed by Tornado or not."""
        fields = value.split("|")
        if len(fields) > 4:
            try:
                signed = base64.b64decode(fields[4].partition(":")[2])
            except binascii.Error:
                return
            value = signed.decode("ascii", "replace")
        self.add_id(value)

    def is_in(self, text: str) -> bool:
        """Whether any of them is."""
        beginnings = self._by_beginning
        for start in range(len(text) - SHORTEST + 1):
            found = beginnings.get(text[start : start + SHORTEST])
            if found is not None:
                piece = text[start : start + LONGEST]
                if any(piece.startswith(secret) for secret in found):
                    return True
        return False


class Ear(logging.Handler):
    """Hands on the text of each record, without the lines of source."""

    def __init__(self, hear: Callable[[str], None]) -> None:
        super().__init__(level=logging.NOTSET)
        self._hear = hear

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except Exception:
            return  # its arguments do not fit; logging itself tells of that
        if record.name == "tornado.general" and text.startswith("Malformed HTTP"):
            return  # Tornado shows what it refuses, before this package sees it
        if record.exc_info and record.exc_info[1] is not None:
            text += "\n" + told(record.exc_info[1])
        self._hear(text)


def told(error: BaseException) -> str:
    """What a traceback says but for its lines of source, which quote the tests."""
    summary = traceback.TracebackException.from_exception(error)
    return "".join(_said(summary))


def _said(summary: traceback.TracebackException) -> Iterator[str]:
    yield from summary.format_exception_only()
    hidden = None if summary.__suppress_context__ else summary.__context__
    for more in (summary.__cause__, hidden, *(summary.exceptions or ())):
        if more is not None:
            yield from _said(more)


class LogCheck:
    """Listens during a run, and fails it at its end."""

    def __init__(self) -> None:
        self._secrets, self._heard = Journal(), Journal()
        self._where = "before the first test"
        self._leaks: set[str] = set()
        self._patch = pytest.MonkeyPatch()
        self._ear = Ear(self.hear)
        self._level = logging.WARNING

    def hear(self, text: str) -> None:
        """Keep what was told, and where, for the end of the run."""
        for line in text.splitlines():
            self._heard.write(self._where, line)

    def learn(self, kind: str, secret: str | bytes) -> None:
        """Keep a secret: ``text``, the ``id`` of a session, or its ``cookie``.

        Bytes as a text would show them.
        """
        text = secret if isinstance(secret, str) else repr(secret[:LONGEST])[2:-1]
        for line in text[: 4 * LONGEST].splitlines():
            self._secrets.write(kind, line)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        root = logging.getLogger()
        self._level = root.level
        root.setLevel(logging.NOTSET)
        root.addHandler(self._ear)
        watch_package(self._patch, self.learn)
        watch_processes(self._patch, self.learn, self.hear)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._where = nodeid

    def pytest_warning_recorded(self, warning_message: warnings.WarningMessage) -> None:
        self.hear(str(warning_message.message))

    # After the fixtures of the session have ended, and their processes.
    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        root = logging.getLogger()
        root.removeHandler(self._ear)
        root.setLevel(self._level)
        self._patch.undo()
        found = Secrets()
        add = {"text": found.add, "id": found.add_id, "cookie": found.add_cookie}
        for kind, *secret in self._secrets.read():
            add[kind]("\t".join(secret))
        told = ((at, "\t".join(line)) for at, *line in self._heard.read())
        self._leaks |= {at for at, line in told if found.is_in(line)}
        output = getattr(session.config, "workeroutput", None)
        if output is not None:  # a worker of pytest-xdist, which tells its controller
            output["leaks"] = sorted(self._leaks)
        elif self._leaks and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take over what a worker has found."""
        self._leaks |= set(getattr(node, "workeroutput", {}).get("leaks", ()))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self._leaks:
            terminalreporter.section("secrets in logs", red=True, bold=True)
        for where in sorted(self._leaks):
            terminalreporter.write_line(f"LEAK {where}")


def watch_package(
    patch: pytest.MonkeyPatch, learn: Callable[[str, str | bytes], None]
) -> None:
    """Let ``learn`` know of all secrets of this process."""

    def after(owner: Any, name: str, note: Callable[..., None]) -> None:
        """Let ``note`` see the result and the arguments of each call."""
        original = getattr(owner, name)

        @functools.wraps(original)
        def noted(*args: Any, **options: Any) -> Any:
            result = original(*args, **options)
            note(result, *args, **options)
            return result

        patch.setattr(owner, name, noted)

    def encoded(_: bytes, codec: Codec, record: Record, key: str) -> None:
        learn("text", key)
        for secret in texts_of(codec, record):
            learn("text", secret)

    def keyed(
        _: None, codec: Codec, serializer: Any, prefix: str, keys: Any = ()
    ) -> None:
        for key in keys:
            learn("text", key)
            learn("text", base64.urlsafe_b64encode(key).decode("ascii").rstrip("="))

    def signing(_: None, signer: Signer, secret: Any, *args: Any, **more: Any) -> None:
        for text in secret.values() if isinstance(secret, Mapping) else [secret]:
            learn("text", text)

    def connecting(_: None, *args: Any, password: Any = None, **options: Any) -> None:
        if isinstance(password, str):
            learn("text", password)

    after(secrets, "token_urlsafe", lambda token, *_: learn("id", token))
    after(Codec, "encode", encoded)
    after(Codec, "__init__", keyed)
    after(Signer, "__init__", signing)
    after(MemcachedStore, "__init__", connecting)


def texts_of(codec: Codec, record: Record) -> Iterator[str | bytes]:
    """By what the contents of a record are known again: as bytes and as values."""
    yield record.writes[:10]
    yield record.principal or ""
    yield from (flash.message for flash in record.flashes)
    if type(codec.serializer) not in (MsgpackSerializer, JSONSerializer):
        return  # a test's own, which may count what it is asked
    try:
        values = codec.values(record)
    except DecodeError:
        return
    if len(record.data) < LARGE:
        yield repr(values)
    inside = [values]
    while inside:
        value = inside.pop()
        if isinstance(value, str | bytes):
            yield value
        elif isinstance(value, dict):
            inside += value.values()
        elif isinstance(value, list):
            inside += value


def watch_processes(
    patch: pytest.MonkeyPatch,
    learn: Callable[[str, str | bytes], None],
    hear: Callable[[str], None],
) -> None:
    """Let ``learn`` know of the ids that servers make, and ``hear`` what they print."""
    receive_head, kill = RawConnection.receive_head, Process.kill

    @functools.wraps(receive_head)
    async def received(connection: RawConnection) -> Response:
        response = await receive_head(connection)
        for line in response.all_headers("Set-Cookie"):
            learn("cookie", line.partition(";")[0].partition("=")[2])
        return response

    @functools.wraps(kill)
    def killed(process: Process) -> None:
        with contextlib.suppress(ValueError):  # killed before, and read then
            hear(process.output())
        kill(process)

    patch.setattr(RawConnection, "receive_head", received)
    patch.setattr(Process, "kill", killed)
