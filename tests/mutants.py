"""Faults that are put into the package, one at a time, to see that a test notices.

    python -m tests.mutants
    python -m tests.mutants --area rotation --jobs 2

Each is one line of the package, or a few, written wrong. In a copy of the project the
tests that should notice are run until one fails. Prints what no test noticed, and how
many were noticed in each area; ends with 1 where any was not, or where the package has
no such line any more.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).parent.parent
PACKAGE = "tornado_mcsession"
COPIED = (PACKAGE, "tests", "benchmarks", "docs", "demo", "scripts", "pyproject.toml")
LONGEST = 600.0
"""Seconds. What makes the tests hang was noticed."""


@dataclass(frozen=True)
class Mutant:
    """One fault: in ``file`` there stands ``wrong`` instead of ``right``."""

    area: str
    file: str
    right: str
    wrong: str

    @contextmanager
    def within(self, package: Path) -> Iterator[None]:
        path = package / self.file
        text = path.read_text()
        if text.count(self.right) != 1:
            raise LookupError(f"{self.file} has no such line: {self.right!r}")
        path.write_text(text.replace(self.right, self.wrong))
        try:
            yield
        finally:
            path.write_text(text)


TESTS: dict[str, tuple[str, ...]] = {
    "cas loop": (
        "tests/sessions/test_lost_answers.py",
        "tests/sessions/test_lost_saves.py",
        "tests/sessions/test_done_twice.py",
        "tests/sessions/test_unknown_outcomes.py",
        "tests/sessions/test_conflicts.py",
        "tests/sessions/test_overtaken.py",
        "tests/sessions/test_writers.py",
        "tests/sessions/test_transactions.py",
        "tests/sessions/test_transact.py",
        "tests/sessions/test_new_ids.py",
        "tests/sessions/test_merge.py",
        "tests/sessions/test_expiry.py",
    ),
    "end": (
        "tests/sessions/test_endings.py",
        "tests/sessions/test_ended.py",
        "tests/sessions/test_gone.py",
        "tests/sessions/test_pending_ends.py",
        "tests/sessions/test_by_id.py",
        "tests/web/test_endings.py",
        "tests/web/test_logout_presented.py",
        "tests/web/test_two_cookies.py",
        "tests/sessions/test_foreign_records.py",
        "tests/sessions/test_loops.py",
    ),
    "rotation": (
        "tests/sessions/test_regenerate.py",
        "tests/sessions/test_grace.py",
        "tests/sessions/test_new_ids.py",
        "tests/sessions/test_login.py",
        "tests/sessions/test_revoke_others.py",
        "tests/sessions/test_endings.py",
        "tests/sessions/test_ended.py",
        "tests/sessions/test_gone.py",
        "tests/sessions/test_pending_ends.py",
        "tests/web/test_endings.py",
        "tests/web/test_logout_presented.py",
        "tests/web/test_two_cookies.py",
    ),
    "revocation": (
        "tests/sessions/test_revocation.py",
        "tests/sessions/test_markers.py",
        "tests/sessions/test_revoke_others.py",
        "tests/sessions/test_login.py",
        "tests/security/test_login_ids.py",
    ),
    "a user's sessions": (
        "tests/sessions/test_user_sessions.py",
        "tests/sessions/test_impersonation.py",
    ),
    "held response": (
        "tests/web/test_streaming.py",
        "tests/web/test_streaming_headers.py",
        "tests/web/test_saved_at_once.py",
        "tests/web/test_uploads.py",
        "tests/web/test_failed_saves.py",
        "tests/web/test_headers.py",
        "tests/web/test_detach.py",
        "tests/web/test_waiting.py",
        "tests/web/test_connections.py",
        "tests/web/test_odd_moments.py",
        "tests/fuzz",
    ),
    "protocol": (
        "tests/stores/test_pipeline.py",
        "tests/stores/test_faults.py",
        "tests/stores/test_memcached.py",
        "tests/stores/test_asked_twice.py",
        "tests/fuzz",
    ),
    "executor": (
        "tests/stores/executor",
        "tests/stores/test_asked_twice.py",
        "tests/stores/test_interrupted.py",
        "tests/stores/test_forgotten.py",
        "tests/stores/test_breaker.py",
        "tests/stores/test_fork.py",
        "tests/stores/test_faults.py",
    ),
    "cookie parsing": (
        "tests/web/test_cookie.py",
        "tests/web/test_two_cookies.py",
        "tests/web/test_transport.py",
        "tests/web/test_transports.py",
        "tests/security",
        "tests/fuzz",
    ),
    "interop": (
        "tests/interop/test_both_ways.py",
        "tests/interop/test_expiry.py",
        "tests/interop/test_cookies.py",
        "tests/interop/test_foreign.py",
        "tests/interop/test_placement.py",
    ),
}
"""What should notice the faults of an area: the likeliest first."""

MUTANTS = [
    Mutant(
        "cas loop",
        "sessions/repository.py",
        "if mine and (write := record.write_of(mine)):",
        "if False and (write := record.write_of(mine)):",
    ),
    Mutant(
        "cas loop",
        "sessions/repository.py",
        "if any(map(record.has_forgotten, lost_numbers)):",
        "if False:",
    ),
    Mutant(
        "cas loop",
        "sessions/repository.py",
        "result = CasResult.CONFLICT  # look whether it was done",
        "result = CasResult.MISSING",
    ),
    Mutant(
        "cas loop",
        "sessions/repository.py",
        "if result is CasResult.MISSING:\n                        raise lost or SessionGone(_ENDED)",
        "if result is CasResult.MISSING:\n                        raise SessionConflict(number)",
    ),
    Mutant(
        "cas loop",
        "sessions/repository.py",
        "if self.lifetime.is_over(record, self.clock()):\n                            raise SessionGone(_ENDED)",
        "if False:\n                            raise SessionGone(_ENDED)",
    ),
    Mutant(
        "cas loop",
        "sessions/repository.py",
        "if record.successor is None:\n                                    raise Replaced(found.id, record)",
        "if False:\n                                    raise Replaced(found.id, record)",
    ),
    Mutant(
        "cas loop",
        "sessions/repository.py",
        "if await turn.enter():\n                    found = None",
        "if await turn.enter():\n                    pass",
    ),
    Mutant(
        "cas loop",
        "sessions/repository.py",
        "record = self._stamped(record, at.record, now)",
        "record = self._stamped(record, None, now)",
    ),
    Mutant(
        "cas loop",
        "sessions/repository.py",
        "mine[attempt.record.writes[:WRITE]] = attempt.record\n",
        "mine = {attempt.record.writes[:WRITE]: attempt.record}\n",
    ),
    Mutant(
        "cas loop",
        "sessions/repository.py",
        "if not _is_of_unknown_outcome(error):",
        "if True:",
    ),
    Mutant(
        "cas loop",
        "sessions/repository.py",
        "                        lost = error\n                        if not attempt.record.retired:",
        "                        if not attempt.record.retired:",
    ),
    Mutant(
        "cas loop",
        "sessions/repository.py",
        "late.outcome_unknown = is_writing",
        "late.outcome_unknown = True",
    ),
    Mutant(
        "cas loop",
        "sessions/repository.py",
        "with _unwatched(scope):\n                                        edited = await edited",
        "if True:\n                                        edited = await edited",
    ),
    Mutant(
        "cas loop",
        "sessions/repository.py",
        "                                    turn.leave()\n                                    with",
        "                                    with",
    ),
    Mutant(
        "cas loop",
        "sessions/repository.py",
        "mine = found.record.write_of((record.writes[:WRITE],))\n                        return Stored(*at, record) if mine else None",
        "return None",
    ),
    Mutant(
        "cas loop",
        "sessions/record.py",
        "return (self.written - number) * WRITE >= len(self.writes)",
        "return False",
    ),
    Mutant(
        "cas loop",
        "sessions/record.py",
        "writes=writes, written=before.written + 1",
        "writes=writes, written=before.written",
    ),
    Mutant(
        "cas loop",
        "sessions/record.py",
        "_age(writes[end - WRITE : end], write) > memory",
        "_age(writes[end - WRITE : end], write) > 0",
    ),
    Mutant(
        "cas loop",
        "sessions/draft.py",
        "if record.data == self.base:\n                data = self.encoded",
        "if True:\n                data = self.encoded",
    ),
    Mutant(
        "cas loop",
        "sessions/draft.py",
        "if key not in base:\n                merged[key] = value",
        "merged[key] = value",
    ),
    Mutant("end", "sessions/rotation.py", "retired=True,", "retired=False,"),
    Mutant(
        "end",
        "sessions/rotation.py",
        "expires_at=now + TOMBSTONE_SECONDS,",
        "expires_at=record.expires_at,",
    ),
    Mutant(
        "end",
        "sessions/rotation.py",
        "principal=None,\n            successor",
        "principal=record.principal,\n            successor",
    ),
    Mutant(
        "end",
        "sessions/rotation.py",
        '            data=b"",\n            flashes=(),\n            principal',
        "            data=record.data,\n            flashes=(),\n            principal",
    ),
    Mutant(
        "end", "sessions/rotation.py", "if follow and error.has_new_id:", "if False:"
    ),
    Mutant(
        "end",
        "sessions/rotation.py",
        "follow=Follow.LOGIN if follow else Follow.NOWHERE,",
        "follow=Follow.NOWHERE,",
    ),
    Mutant("end", "sessions/rotation.py", "unreadable=blank,", "unreadable=None,"),
    Mutant(
        "end",
        "sessions/rotation.py",
        "except SessionGone:\n            return None\n        except SessionConflict",
        "except SessionGone:\n            return blank\n        except SessionConflict",
    ),
    Mutant(
        "end",
        "sessions/rotation.py",
        '"destroy", "", "other requests kept changing it", outcome_unknown=True',
        '"destroy", "", "other requests kept changing it", outcome_unknown=False',
    ),
    Mutant(
        "end", "sessions/rotation.py", "if len(self.ids) > self.LIMIT:", "if False:"
    ),
    Mutant("end", "sessions/rotation.py", "if until <= now]:", "if False]:"),
    Mutant(
        "end",
        "sessions/rotation.py",
        "                    if is_done:\n                        self.ids.pop(session_id, None)",
        "                    if True:\n                        self.ids.pop(session_id, None)",
    ),
    Mutant(
        "end",
        "sessions/rotation.py",
        "if self._is_busy:\n            self._is_asked = True",
        "if self._is_busy:\n            self._is_asked = False",
    ),
    Mutant(
        "end",
        "sessions/rotation.py",
        "if self._timer is None or self._loop is not loop:",
        "if self._timer is None:",
    ),
    Mutant(
        "end",
        "manager.py",
        "        except (StoreError, asyncio.CancelledError):\n            self.rotation.pending.add(session_id)\n            raise",
        "        except (StoreError, asyncio.CancelledError):\n            raise",
    ),
    Mutant(
        "end",
        "session.py",
        "            except StoreError as error:\n                clear, failure = True, error",
        "            except StoreError as error:\n                clear, failure = False, error",
    ),
    Mutant(
        "end",
        "web/request.py",
        "        if session._doomed:\n            return Plan(Step.DESTROY)",
        "        if False:\n            return Plan(Step.DESTROY)",
    ),
    Mutant(
        "rotation",
        "sessions/rotation.py",
        "elif record.writes != carried:",
        "elif False:",
    ),
    Mutant(
        "rotation",
        "sessions/rotation.py",
        "same_login=record.user == newer.user,",
        "same_login=True,",
    ),
    Mutant(
        "rotation",
        "sessions/rotation.py",
        "same_login=record.user == newer.user,",
        "same_login=False,",
    ),
    Mutant(
        "rotation",
        "sessions/rotation.py",
        "successor_until=now + grace if grace else None,",
        "successor_until=None,",
    ),
    Mutant(
        "rotation",
        "sessions/rotation.py",
        "follow = Follow.NOWHERE if grace else Follow.GRACE",
        "follow = Follow.GRACE",
    ),
    Mutant(
        "rotation",
        "sessions/rotation.py",
        "self.pending.add(at.id, follow=False)\n                unsure = error",
        "unsure = error",
    ),
    Mutant(
        "rotation",
        "sessions/rotation.py",
        "self.pending.add(at.id, follow=False)\n                unsure = error",
        "self.pending.add(at.id, follow=True)\n                unsure = error",
    ),
    Mutant(
        "rotation",
        "sessions/rotation.py",
        "if moved is not None:\n                    await self._drop(new_id)\n",
        "",
    ),
    Mutant(
        "rotation",
        "sessions/rotation.py",
        "        except StoreError:\n            self.pending.add(new_id, follow=False)",
        "        except StoreError:\n            pass",
    ),
    Mutant(
        "rotation",
        "sessions/repository.py",
        "leads = until is not None and self.clock() < until",
        "leads = until is not None",
    ),
    Mutant(
        "rotation",
        "sessions/repository.py",
        "leads = follow is Follow.LOGIN and record.same_login",
        "leads = follow is Follow.LOGIN",
    ),
    Mutant(
        "rotation",
        "session.py",
        "        if moved.failure is not None:\n            raise moved.failure",
        "",
    ),
    Mutant(
        "revocation",
        "sessions/revocation.py",
        "        if marker is None:\n            return Standing.DEAD",
        "        if marker is None:\n            return Standing.ALIVE",
    ),
    Mutant(
        "revocation",
        "sessions/revocation.py",
        "if self._knows_all and digest not in self._digests(principal):",
        "if False:",
    ),
    Mutant(
        "revocation",
        "sessions/revocation.py",
        "or marker.value in _values(values):",
        "or True:",
    ),
    Mutant(
        "revocation",
        "sessions/revocation.py",
        "if abs(age) < TOMBSTONE_SECONDS else Standing.DEAD",
        "if False else Standing.DEAD",
    ),
    Mutant(
        "revocation",
        "sessions/revocation.py",
        "if marker.until >= until + MARGIN:",
        "if True:",
    ),
    Mutant(
        "revocation",
        "sessions/revocation.py",
        "if marker is None or marker.value not in values:\n                raise SessionGone",
        "if False:\n                raise SessionGone",
    ),
    Mutant(
        "revocation",
        "sessions/revocation.py",
        "        for other in self._digests(record.principal):\n            if other != digest:\n                await self._end(other)",
        "",
    ),
    Mutant(
        "revocation",
        "sessions/revocation.py",
        "if not marker.used:\n                    return marker  # nobody",
        "if False:\n                    return marker  # nobody",
    ),
    Mutant(
        "revocation",
        "sessions/revocation.py",
        "_end(digest)\n            except (StoreError, SessionConflict) as error:\n",
        "_end(digest)\n            except (StoreError, SessionConflict) as error:\n"
        "                raise\n",
    ),
    Mutant(
        "revocation",
        "sessions/revocation.py",
        "        if not self._knows_all:\n            raise RuntimeError(",
        "        if False:\n            raise RuntimeError(",
    ),
    Mutant(
        "revocation",
        "sessions/revocation.py",
        "                    except StoreUnavailable as error:\n                        if not error.outcome_unknown:",
        "                    except StoreUnavailable as error:\n                        if True:",
    ),
    Mutant(
        "held response",
        "web/response.py",
        "            self._late = list(headers.get_all())\n",
        "",
    ),
    Mutant(
        "held response",
        "web/response.py",
        "self._head = Head(start_line, _headers(headers.get_all()))",
        "self._head = Head(start_line, headers)",
    ),
    Mutant(
        "held response",
        "web/response.py",
        "            self._loop.call_soon(self.commit)  # the handler may be far from its end\n",
        "",
    ),
    Mutant(
        "held response",
        "web/response.py",
        "            if not final and self._has_no_body(self._head):",
        "            if False:",
    ),
    Mutant(
        "held response",
        "web/response.py",
        "self._last_byte = chunk[-1:]\n        return chunk[:-1]",
        "return chunk",
    ),
    Mutant(
        "held response",
        "web/response.py",
        "        if not self._is_ended or self._stage is SENT:\n            return None",
        "        return None",
    ),
    Mutant(
        "held response",
        "web/response.py",
        "        elif self._is_ended:\n            self.commit()",
        "        elif False:\n            self.commit()",
    ),
    Mutant(
        "held response",
        "web/response.py",
        "            self._break_off(StreamClosedError())\n            raise\n        else:",
        "            raise\n        else:",
    ),
    Mutant(
        "held response",
        "web/response.py",
        "        if close is not None:\n            close()",
        "",
    ),
    Mutant(
        "held response",
        "web/response.py",
        "            self._request.finished()\n            self._request = None",
        "            self._request.finished()",
    ),
    Mutant(
        "held response",
        "web/response.py",
        "        if self._is_saving or not self._request.is_saved():",
        "        if not self._request.is_saved():",
    ),
    Mutant(
        "held response",
        "web/response.py",
        "        if self._was_replaced:\n            return\n        if self._stage is SENT:",
        "        if self._stage is SENT:",
    ),
    Mutant(
        "held response",
        "web/request.py",
        "            if pending.done():  # as a MemoryStore's always is\n                pending = self.settle(pending)",
        "            if pending.done():  # as a MemoryStore's always is\n                pending = None",
    ),
    Mutant(
        "held response",
        "web/request.py",
        "            or answer.result() is not CasResult.STORED\n",
        "",
    ),
    Mutant(
        "held response",
        "web/request.py",
        "failed = status >= 500 or self.failed",
        "failed = status >= 500",
    ),
    Mutant(
        "protocol",
        "stores/memcached/protocol.py",
        "if text[at:] == _END:",
        "if text[at:].startswith(_END):",
    ),
    Mutant(
        "protocol",
        "stores/memcached/protocol.py",
        "if name is None or name in found:",
        "if name is None:",
    ),
    Mutant(
        "protocol",
        "stores/memcached/protocol.py",
        'if text[end : end + 2] != b"\\r\\n":\n                raise MemcacheUnknownError',
        "",
    ),
    Mutant(
        "protocol",
        "stores/memcached/protocol.py",
        'if token == b"0":\n                raise CasDisabled',
        "",
    ),
    Mutant(
        "protocol",
        "stores/memcached/protocol.py",
        "if rest or len(lines) != count:",
        "if len(lines) < count:",
    ),
    Mutant(
        "protocol",
        "stores/memcached/protocol.py",
        "if not text or len(text) > _LONGEST_LINE * count:",
        "if not text:",
    ),
    Mutant(
        "protocol",
        "stores/memcached/protocol.py",
        "    if len(rest) > _LONGEST_LINE:\n        raise MemcacheUnknownError",
        "",
    ),
    Mutant(
        "protocol",
        "stores/memcached/protocol.py",
        "elif line.startswith(_SERVER_ERROR):",
        "elif False:",
    ),
    Mutant(
        "protocol",
        "stores/memcached/protocol.py",
        'b"NOT_FOUND": CasResult.MISSING',
        'b"NOT_FOUND": CasResult.CONFLICT',
    ),
    Mutant(
        "executor",
        "stores/memcached/executor.py",
        "if call.deadline <= now:",
        "if False:",
    ),
    Mutant(
        "executor",
        "stores/memcached/executor.py",
        "elif not call.future.cancelled():",
        "else:",
    ),
    Mutant(
        "executor",
        "stores/memcached/executor.py",
        "if self._pending + len(waiters.new) >= self._max_pending:",
        "if False:",
    ),
    Mutant(
        "executor",
        "stores/memcached/executor.py",
        "while self._queue and len(batch) < BATCH:",
        "while self._queue:",
    ),
    Mutant(
        "executor",
        "stores/memcached/executor.py",
        "if self._alive >= self._threads:",
        "if False:",
    ),
    Mutant(
        "executor",
        "stores/memcached/executor.py",
        'outcome_unknown=call.started and call.kind != "get",\n        )\n        error.__cause__',
        "outcome_unknown=False,\n        )\n        error.__cause__",
    ),
    Mutant(
        "executor",
        "stores/memcached/executor.py",
        "                if call.deadline > now:\n                    self.timer",
        "                if False:\n                    self.timer",
    ),
    Mutant(
        "executor",
        "stores/memcached/executor.py",
        "            self._replace(alarm, len(batch))\n",
        "",
    ),
    Mutant(
        "executor",
        "stores/memcached/executor.py",
        "        except RuntimeError:\n            pass  # a closed loop waits for nothing",
        "        except ZeroDivisionError:\n            pass  # a closed loop waits for nothing",
    ),
    Mutant(
        "executor",
        "stores/memcached/executor.py",
        "        if call.future.done():\n            continue  # it was cancelled",
        "        if False:\n            continue  # it was cancelled",
    ),
    Mutant(
        "executor",
        "stores/memcached/executor.py",
        "        self._given = None\n        self._begin()",
        "        self._begin()",
    ),
    Mutant(
        "executor",
        "stores/memcached/node.py",
        "elif call.sent and result in _AMBIGUOUS[call.kind]:",
        "elif False:",
    ),
    Mutant(
        "executor",
        "stores/memcached/node.py",
        "call.error = failure.of_unknown_outcome() if call.sent else failure",
        "call.error = failure",
    ),
    Mutant(
        "executor", "stores/memcached/node.py", "self._connector.distrust()", "pass"
    ),
    Mutant(
        "executor",
        "stores/memcached/node.py",
        "            if self._failures >= FAILURES:",
        "            if self._failures > FAILURES:",
    ),
    Mutant(
        "cookie parsing",
        "web/cookie.py",
        'if not equals or key.strip(" \\t") != name:',
        "if not equals or key.strip() != name:",
    ),
    Mutant(
        "cookie parsing",
        "web/cookie.py",
        'value = value.strip(" \\t")',
        "value = value.strip()",
    ),
    Mutant(
        "cookie parsing",
        "web/cookie.py",
        "if len(value) > 1 and value[0] == value[-1] == '\"':",
        "if False:",
    ),
    Mutant(
        "cookie parsing",
        "web/cookie.py",
        "if len(values) == MOST_VALUES:\n                return values",
        "",
    ),
    Mutant("cookie parsing", "web/cookie.py", "if not equals or key", "if key"),
    Mutant(
        "cookie parsing",
        "web/transport.py",
        "if ids.is_valid(session_id):\n                    found",
        "if True:\n                    found",
    ),
    Mutant("cookie parsing", "web/transport.py", "found[:MOST_IDS]", "found"),
    Mutant(
        "cookie parsing",
        "web/transport.py",
        "if session_id is not None and session_id not in found:",
        "if session_id is not None:",
    ),
    Mutant("cookie parsing", "web/transport.py", "min_version=2,", "min_version=1,"),
    Mutant(
        "cookie parsing",
        "web/transport.py",
        "0 <= now - known[1] < REMEMBERED_SECONDS",
        "now - known[1] < 1e12",
    ),
    Mutant(
        "cookie parsing",
        "web/transport.py",
        "if len(self._known) >= REMEMBERED:",
        "if False:",
    ),
    Mutant(
        "cookie parsing",
        "web/transport.py",
        "said, now = (options.name, *headers)",
        "said, now = (*headers,)",
    ),
    Mutant(
        "cookie parsing",
        "web/transport.py",
        "session_id = self._signer.unsign(name, value)",
        "session_id = value.split('|')[-1]",
    ),
    Mutant(
        "a user's sessions",
        "sessions/marker.py",
        "if ended.handle == handle and abs(now - ended.at) < TOMBSTONE_SECONDS:",
        "if False:",
    ),
    Mutant(
        "a user's sessions",
        "sessions/marker.py",
        "if new.handle in known:",
        "if False:",
    ),
    Mutant(
        "a user's sessions",
        "sessions/marker.py",
        "if each.handle != instead_of]",
        "]",
    ),
    Mutant(
        "a user's sessions",
        "sessions/marker.py",
        "counted.sort(key=lambda each: each.until > now)",
        "pass",
    ),
    Mutant(
        "a user's sessions",
        "sessions/marker.py",
        "tuple(ended[-_MOST_ENDED:])",
        "tuple(ended)",
    ),
    Mutant(
        "a user's sessions",
        "sessions/marker.py",
        "now >= self.until + max(self.until - self.used, 0)",
        "now >= self.until",
    ),
    Mutant(
        "a user's sessions",
        "sessions/marker.py",
        "now >= self.until + max(self.until - self.used, 0)",
        "False",
    ),
    Mutant(
        "a user's sessions",
        "sessions/marker.py",
        "if now - each.at < TOMBSTONE_SECONDS]",
        "]",
    ),
    Mutant(
        "a user's sessions",
        "sessions/marker.py",
        "used=max(used, each.used)",
        "used=each.used",
    ),
    Mutant(
        "a user's sessions",
        "sessions/marker.py",
        "until=end)",
        "until=each.until)",
    ),
    Mutant(
        "a user's sessions",
        "sessions/marker.py",
        "kept = tuple(each for each in self.sessions if each.handle == handle)",
        "kept = self.sessions",
    ),
    Mutant(
        "a user's sessions",
        "sessions/revocation.py",
        "if record.login is not None and record.aside is aside:",
        "if False:",
    ),
    Mutant(
        "a user's sessions",
        "sessions/revocation.py",
        "if record.login is not None and record.aside is aside:",
        "if record.login is not None:",
    ),
    Mutant(
        "a user's sessions",
        "sessions/revocation.py",
        "label[:LONGEST_LABEL]",
        "label",
    ),
    Mutant(
        "a user's sessions",
        "sessions/revocation.py",
        "self._codec.seal(label[:LONGEST_LABEL].encode(), key)",
        "label[:LONGEST_LABEL].encode()",
    ),
    Mutant(
        "a user's sessions",
        "sessions/revocation.py",
        "if marker.value == values[0]:",
        "if False:",
    ),
    Mutant(
        "a user's sessions",
        "sessions/revocation.py",
        "if handle is not None and not newer.sessions:",
        "if False:",
    ),
    Mutant(
        "a user's sessions",
        "sessions/revocation.py",
        "                sessions=(),\n                ended=(),\n",
        "",
    ),
    Mutant(
        "a user's sessions",
        "sessions/revocation.py",
        "return listed.is_over(self._clock())",
        "return False",
    ),
    Mutant(
        "a user's sessions",
        "sessions/revocation.py",
        "was_there = was_there or newer is not marker",
        "was_there = newer is not marker",
    ),
    Mutant(
        "a user's sessions",
        "sessions/revocation.py",
        "        yield digest, None\n",
        "        pass\n",
    ),
    Mutant(
        "a user's sessions",
        "sessions/revocation.py",
        "yield aside.digest, record.handle",
        "yield digest, record.handle",
    ),
    Mutant(
        "a user's sessions",
        "sessions/revocation.py",
        "if label is not None and self._most:",
        "if label is not None:",
    ),
    Mutant(
        "a user's sessions",
        "sessions/revocation.py",
        "if label is not None and self._most:",
        "if self._most:",
    ),
    Mutant(
        "a user's sessions",
        "sessions/revocation.py",
        "found[::-1]",
        "found",
    ),
    Mutant(
        "a user's sessions",
        "sessions/revocation.py",
        "if marker is not before:",
        "if True:",
    ),
    Mutant(
        "a user's sessions",
        "sessions/revocation.py",
        "                    return True\n            except (StoreError, SessionConflict) as error:\n",
        "                    return True\n            except (StoreError, SessionConflict) as error:\n                raise\n",
    ),
    Mutant(
        "a user's sessions",
        "sessions/record.py",
        "return None\n        return login.handle",
        "pass\n        return login and login.handle",
    ),
    Mutant(
        "a user's sessions",
        "sessions/record.py",
        "return None\n        return login.aside",
        "pass\n        return login and login.aside",
    ),
    Mutant(
        "a user's sessions",
        "sessions/record.py",
        "return self.principal if aside is None else aside.principal",
        "return self.principal",
    ),
    Mutant(
        "a user's sessions",
        "sessions/record.py",
        'Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{22}\\Z")]',
        "str",
    ),
    Mutant(
        "a user's sessions",
        "sessions/rotation.py",
        "            login=None,\n",
        "",
    ),
    Mutant(
        "a user's sessions",
        "sessions/rotation.py",
        "        if follow:\n            await self._revocation.forget",
        "        if False:\n            await self._revocation.forget",
    ),
    Mutant(
        "a user's sessions",
        "sessions/rotation.py",
        "        if follow:\n            await self._revocation.forget",
        "        if True:\n            await self._revocation.forget",
    ),
    Mutant(
        "a user's sessions",
        "sessions/rotation.py",
        "if at.record.login is not None and at.record.handle != moved.record.handle:",
        "if False:",
    ),
    Mutant(
        "a user's sessions",
        "sessions/lookup.py",
        "found = await self._judge_impersonator(found)",
        "pass",
    ),
    Mutant(
        "a user's sessions",
        "session.py",
        " and record.aside is None\n",
        "\n",
    ),
    Mutant(
        "a user's sessions",
        "session.py",
        "if identity.handle is not None and identity.handle != self._handle:",
        "if False:",
    ),
    Mutant(
        "a user's sessions",
        "session.py",
        "if identity.handle is not None and identity.handle != self._handle:",
        "if identity.handle is not None:",
    ),
    Mutant(
        "a user's sessions",
        "session.py",
        "who, until, label=label, instead_of=instead_of",
        "who, until, label=label, instead_of=None",
    ),
    Mutant(
        "a user's sessions",
        "session.py",
        "if moved.stored.record.login is not None:",
        "if False:",
    ),
    Mutant(
        "a user's sessions",
        "session.py",
        "login=None if handle is None else Login(since, handle),",
        "login=None,",
    ),
    Mutant(
        "a user's sessions",
        "session.py",
        "Login(own.authenticated_at, own.handle, left)",
        "Login(own.authenticated_at, None, left)",
    ),
    Mutant(
        "a user's sessions",
        "session.py",
        "data = self._manager.codec.empty()  # somebody",
        "pass  # somebody",
    ),
    Mutant(
        "a user's sessions",
        "session.py",
        "                flashes=aside.flashes,\n",
        "",
    ),
    Mutant(
        "a user's sessions",
        "session.py",
        "Login(since, handle),\n                **changes.options,\n",
        "Login(since, handle),\n",
    ),
    Mutant(
        "a user's sessions",
        "session.py",
        "if who == own.principal:",
        "if False:",
    ),
    Mutant(
        "a user's sessions",
        "session.py",
        "if own.aside is not None:",
        "if False:",
    ),
    Mutant(
        "interop", "interop/node.py", "tombstone_flags = _NUMBER", "tombstone_flags = 0"
    ),
    Mutant(
        "interop",
        "interop/node.py",
        "flags = _JSON\n    # Node",
        "flags = 0\n    # Node",
    ),
    Mutant("interop", "interop/node.py", '_MARK = b" "', '_MARK = b""'),
    Mutant(
        "interop", "interop/node.py", "expired_for: float = 1.0", "expired_for = 300.0"
    ),
    Mutant(
        "interop",
        "interop/node.py",
        "is_copy = key.startswith(prefix) and not",
        "is_copy = False and not",
    ),
    Mutant(
        "interop",
        "interop/node.py",
        "1000 * min(max(math.ceil(seconds), 1), _MONTH)",
        "1000 * max(math.ceil(seconds), 1)",
    ),
    Mutant(
        "interop",
        "interop/node.py",
        "1000 * min(max(math.ceil(seconds), 1), _MONTH)",
        "int(1000 * min(seconds, _MONTH))",
    ),
    Mutant(
        "interop",
        "interop/node.py",
        "if self.may_lack_age or not self._persistent:",
        "if True:",
    ),
    Mutant(
        "interop",
        "interop/node.py",
        "if cookie.get(self.age_name, 0) is None:",
        "if False:",
    ),
    Mutant("interop", "interop/node.py", 'if b"\\\\ud" in data:', "if False:"),
    Mutant(
        "interop",
        "interop/node.py",
        "            self._refuse_taken(data)",
        "            pass",
    ),
    Mutant(
        "interop",
        "interop/node.py",
        "template = record.cookie if isinstance(record, NodeRecord) else self._cookie",
        "template = self._cookie",
    ),
    Mutant("interop", "interop/node.py", "if flags != _JSON:", "if False:"),
    Mutant(
        "interop",
        "interop/node.py",
        "max_age = min(max(max_age, 1000), _LONGEST_AGE)",
        "pass",
    ),
    Mutant(
        "interop",
        "interop/node.py",
        "if own.created is None or max_age != own.max_age:",
        "if own.created is None:",
    ),
    Mutant(
        "interop",
        "interop/node.py",
        "persistent=None if persistent is self._persistent else persistent,",
        "persistent=None,",
    ),
    Mutant(
        "interop",
        "interop/node.py",
        "return self._lifetime.renewed(record, self._clock(), cookie=False)",
        "return record",
    ),
    Mutant("interop", "interop/node.py", "while known in taken:", "while False:"),
    Mutant(
        "interop",
        "interop/node.py",
        "if own.created is None and lifetime.choose is not None:",
        "if False:",
    ),
    Mutant(
        "interop",
        "interop/node.py",
        'label = host if port == "11211" else name',
        "label = name",
    ),
    Mutant("interop", "interop/node.py", "weight / total * 40 * len(nodes)", "40"),
    Mutant("interop", "interop/node.py", "if len(key) <= _LONGEST_KEY:", "if True:"),
    Mutant(
        "interop",
        "interop/node.py",
        "base64.b64encode(super().encode(Record(**fields), key))",
        "super().encode(Record(**fields), key)",
    ),
    Mutant("interop", "interop/koa.py", "may_lack_age = False", "may_lack_age = True"),
    Mutant(
        "interop",
        "interop/koa.py",
        "            for key in self._keys\n",
        "            for key in self._keys[:1]\n",
    ),
    Mutant(
        "interop",
        "interop/koa.py",
        "return self._signed(self._keys[0], text)",
        "return self._signed(self._keys[-1], text)",
    ),
    Mutant(
        "interop",
        "interop/koa.py",
        'signature = "" if is_removed else',
        'signature = "removed" if is_removed else',
    ),
    Mutant(
        "interop",
        "interop/express.py",
        'cookie["expires"] = None if max_age is None else _iso(expires_at)',
        "pass",
    ),
    Mutant("interop", "interop/express.py", 'safe="")', 'safe="+/:")'),
    Mutant(
        "interop",
        "interop/express.py",
        "for secret in self._secrets)",
        "for secret in self._secrets[:1])",
    ),
    Mutant(
        "interop",
        "sessions/repository.py",
        "codec.tombstone_flags if record.retired else codec.flags",
        "codec.flags",
    ),
]


@contextmanager
def copies(count: int) -> Iterator[SimpleQueue[Path]]:
    """Yield copies of the project, to be taken and put back."""
    free: SimpleQueue[Path] = SimpleQueue()
    with tempfile.TemporaryDirectory() as directory:
        for number in range(count):
            copy = Path(directory) / str(number)
            for name in COPIED:
                source = ROOT / name
                if source.is_dir():
                    ignore = shutil.ignore_patterns("__pycache__", "node_modules")
                    shutil.copytree(source, copy / name, ignore=ignore)
                else:
                    shutil.copy(source, copy / name)
            free.put(copy)
        yield free


def is_noticed(mutant: Mutant, free: SimpleQueue[Path]) -> bool:
    copy = free.get()
    command = [sys.executable, "-m", "pytest", "-qx", "-p", "no:cacheprovider"]
    try:
        with mutant.within(copy / PACKAGE):
            result = subprocess.run(
                [*command, *TESTS[mutant.area]],
                cwd=copy,
                env={**os.environ, "PYTHONPATH": str(copy)},
                capture_output=True,
                timeout=LONGEST,
            )
    except subprocess.TimeoutExpired:
        return True
    finally:
        free.put(copy)
    if result.returncode not in (0, 1, 2):
        raise RuntimeError(result.stdout.decode()[-2000:])
    return result.returncode != 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--area", choices=TESTS, help="only the faults of one area")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    chosen = [one for one in MUTANTS if options.area in (None, one.area)]
    noticed: Counter[str] = Counter()
    with copies(options.jobs) as free, ThreadPoolExecutor(options.jobs) as pool:
        outcomes = pool.map(lambda one: is_noticed(one, free), chosen)
        for number, (mutant, was) in enumerate(zip(chosen, outcomes, strict=True), 1):
            noticed[mutant.area] += was
            if not was:
                print(f"not noticed in {mutant.file}: {mutant.right!r}")
            print(f"{number} of {len(chosen)}", file=sys.stderr, flush=True)
    print("| area | faults | noticed |")
    print("|---|---|---|")
    for area in dict.fromkeys(one.area for one in chosen):
        count = sum(one.area == area for one in chosen)
        print(f"| {area} | {count} | {noticed[area]} |")
    return 0 if noticed.total() == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
