"""What the targets have in common: secrets, a store, a loop, and an ear."""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from tornado_mcsession import CasResult, Entry, Store

_T = TypeVar("_T")

NOW = 1_800_000_000.0
PLANTED = "planted-secret-5e1d"
KEY, OLD_KEY = b"planted-secret-encryption-key-1!", b"planted-secret-encryption-key-2!"
COOKIE_SECRETS = {1: f"{PLANTED}-cookie-1", 2: f"{PLANTED}-cookie-2"}

# The form of an id and of a store key, told apart from the code that checks them.
ID = re.compile(r"[A-Za-z0-9_-]{22,200}(\.([A-Za-z0-9_-]{22})?)?")
STORE_KEY = re.compile(r"mcsession:(\{[A-Za-z0-9_-]{22}\}([0-9a-f]{64})?|[0-9a-f]{64})")


def session_id(number: int, more: str = "") -> str:
    """An id that is the same in each run, so that what fails can be run again."""
    hashed = hashlib.sha256(b"%d" % number).digest()
    return base64.urlsafe_b64encode(hashed).decode("ascii").rstrip("=") + more


DIGEST = "d" * 22
IDS = [session_id(1), session_id(2, DIGEST), "i" * 200 + "." + DIGEST, "i" * 65 + "."]
STRANGER = session_id(3)


class FoundStore(Store):
    """Finds what a target says under every key, and counts what it is asked."""

    keeps_deadline = True

    def __init__(self, find: Callable[[str], bytes | None] = lambda key: None) -> None:
        self.find = find
        self.calls: list[tuple[str, str]] = []

    async def get(self, key: str) -> Entry | None:
        self.calls.append(("get", key))
        data = self.find(key)
        return None if data is None else Entry(data, b"1")

    async def get_many(self, keys: Sequence[str]) -> dict[str, Entry]:
        found = {key: await self.get(key) for key in keys}
        return {key: entry for key, entry in found.items() if entry is not None}

    async def add(self, key: str, data: bytes, ttl: float) -> bool:
        self.calls.append(("add", key))
        return True

    async def cas(self, key: str, data: bytes, ttl: float, token: Any) -> CasResult:
        self.calls.append(("cas", key))
        return CasResult.STORED

    async def touch(self, key: str, ttl: float) -> bool:
        self.calls.append(("touch", key))
        return True

    async def delete(self, key: str) -> bool:
        self.calls.append(("delete", key))
        return True

    async def close(self) -> None:
        return


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    # One for all inputs: to make and close one takes longer than most of them.
    return asyncio.new_event_loop()


def wait_for(awaitable: Awaitable[_T]) -> _T:
    """What comes of ``awaitable``, which nothing but this module waits for."""

    async def waiting() -> _T:
        return await awaitable

    return _loop().run_until_complete(waiting())


def close_loop() -> None:
    """Close the loop of `wait_for`; the next use makes another."""
    _loop().close()
    _loop.cache_clear()


class _Ear(logging.Handler):
    """Keeps what the library logs, until somebody looks."""

    def __init__(self) -> None:
        super().__init__(level=0)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(self.format(record))


_EAR = _Ear()
_SECRETS = [PLANTED, "planted-secret", *(text[:22] for text in (*IDS, STRANGER))]


def listen() -> None:
    """Hear what the library logs, and print none of it."""
    logger = logging.getLogger("tornado_mcsession")
    if _EAR not in logger.handlers:
        logger.addHandler(_EAR)
        logger.propagate = False


def stop_listening() -> None:
    """Let the logs go where they went before `listen`."""
    logger = logging.getLogger("tornado_mcsession")
    logger.removeHandler(_EAR)
    logger.propagate = True


def assert_silent(*errors: BaseException | None) -> None:
    """Nothing that is secret was logged since the last look, or is in ``errors``."""
    texts, _EAR.heard = _EAR.heard, []
    for error in errors:
        chain = error
        while chain is not None:
            texts.append(f"{chain} {chain!r} {vars(chain)}")
            hidden = chain.__suppress_context__
            chain = chain.__cause__ or (None if hidden else chain.__context__)
    for text in texts:
        assert not any(secret in text for secret in _SECRETS), "a secret was told"
