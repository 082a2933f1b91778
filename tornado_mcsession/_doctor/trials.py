"""What sessions need of a node, tried for real with a key of the doctor's own."""

from __future__ import annotations

import contextlib
import secrets
import statistics
import time
from collections.abc import Callable
from typing import Any

from .asking import Asker, diagnosis, is_final
from .findings import COMMANDS, Findings, RoundTrip

__all__ = ["own_key", "try_commands", "try_reads"]

# If it cannot be deleted, the key is gone after this many seconds.
_EXPIRE = 30
_READS = 20
# As large as many sessions are: memcached keeps each size in memory of its own,
# and that may be full where others are not.
_VALUE = b"x" * 300


def own_key() -> str:
    """Return a key that nothing else uses."""
    return f"mcsession:doctor:{secrets.token_hex(16)}"


def try_commands(asker: Asker, findings: Findings) -> None:
    """Try each command that sessions need, and note what does not work.

    Raises what ends the examination: the node does not answer, or refuses who
    asks.
    """
    trials = _Trials(asker)
    try:
        trials.run()
    finally:
        findings.commands = trials.works
    findings.cas = trials.cas
    _report_failures(trials.failures, findings)
    if trials.cas is False:
        findings.problem(
            "cas",
            "cas is off: no session could be changed once it is stored",
            "Start memcached without -C.",
        )


def _report_failures(failures: dict[str, Exception], findings: Findings) -> None:
    if len(failures) == len(COMMANDS):  # not one command's trouble
        findings.problem(*diagnosis(failures["gets"]))
        return
    for meaning in dict.fromkeys(map(diagnosis, failures.values())):
        code, text, advice = meaning
        failed = [name for name in failures if diagnosis(failures[name]) == meaning]
        findings.problem(
            code,
            f"sessions need {', '.join(failed)}: {text}",
            f"{advice} Does a proxy in front let it through?",
        )


class _Trials:
    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self._key = own_key()
        self.works: dict[str, bool | None] = dict.fromkeys(COMMANDS)
        self.failures: dict[str, Exception] = {}
        self.cas: bool | None = None

    def run(self) -> None:
        """Create, change, keep and remove an item."""
        self._try("gets", self._gets, {})
        try:
            self._add_and_change()
        finally:
            if self.works["delete"] is None:
                with contextlib.suppress(Exception):
                    self._asker.ask(self._delete)

    def _add_and_change(self) -> None:
        self._try("add", self._add, True)
        self._try("add", self._add, False)
        is_there = self.works["add"]
        found = self._try("gets", self._gets) or {}
        _, token = found.get(self._key, (b"", b"1"))
        stored = self._try("cas", lambda client: self._cas(client, token))
        if is_there and self.works["cas"]:
            # With -C each cas is refused, as if another request had been faster.
            self.cas = stored is True
        if self.cas:
            self._try("cas", lambda client: self._cas(client, token), False)
        expected = (True,) if is_there else ()
        self._try("touch", self._touch, *expected)
        self._try("delete", self._delete, *expected)
        if self.works["delete"]:
            self._try("gets", self._gets, {})

    def _try(self, command: str, call: Callable[[Any], Any], *expected: Any) -> Any:
        """Return the answer; `None` if the command does not work."""
        if self.works[command] is False:
            return None
        try:
            answer = self._asker.ask(call)
            if expected and answer != expected[0]:
                raise _WrongAnswer
        except Exception as error:
            if is_final(error):
                raise
            self.works[command] = False
            self.failures[command] = error
            return None
        self.works[command] = True
        return answer

    def _gets(self, client: Any) -> Any:
        return client.gets_many([self._key])

    def _add(self, client: Any) -> Any:
        return client.add(self._key, _VALUE, expire=_EXPIRE, noreply=False)

    def _cas(self, client: Any, token: bytes) -> Any:
        return client.cas(self._key, _VALUE, token, expire=_EXPIRE, noreply=False)

    def _touch(self, client: Any) -> Any:
        return client.touch(self._key, expire=_EXPIRE, noreply=False)

    def _delete(self, client: Any) -> Any:
        return client.delete(self._key, noreply=False)


class _WrongAnswer(Exception):
    """The answer is well formed, and not what has to come."""


def try_reads(asker: Asker, findings: Findings, timeout: float) -> None:
    """Measure reads, of different keys: behind a proxy they have different nodes."""
    times: list[float] = []
    errors: list[Exception] = []
    end = time.monotonic() + timeout
    while len(times) + len(errors) < _READS and time.monotonic() < end:
        began = time.perf_counter()
        try:
            asker.ask(lambda client: client.gets_many([own_key()]))
        except Exception as error:
            if is_final(error):
                raise
            errors.append(error)
        else:
            times.append(time.perf_counter() - began)
    if errors:
        code, text, advice = diagnosis(errors[0])
        some = f"{len(errors)} of {len(times) + len(errors)} reads fail: {text}"
        findings.problem(code, some, advice)
    if times:
        worst = max(times)
        findings.round_trip = RoundTrip(statistics.median(times), worst, len(times))
        if worst > timeout / 2:
            findings.warn(
                "slow",
                f"one of the reads took more than half of the {timeout:g} s that an "
                "operation has: requests will fail",
                "Is the node, the network or this machine overloaded? A longer "
                "timeout in the URL lets requests wait.",
            )
