"""Tests that log a secret each: `test_logs.py` runs them, and sees that found."""

from __future__ import annotations

import asyncio
import logging
import secrets
import sys
import warnings

import pytest

from tornado_mcsession import MemcachedStore, MemoryStore, SessionManager
from tornado_mcsession.web.transport import Signer

from .processes import Process, free_port

logger = logging.getLogger("tornado_mcsession")
VALUE = "planted-secret-value"
KEY = b"planted-secret-encryption-key-1!"
PASSWORD = "planted-secret-password"


class SpyStore(MemoryStore):
    """A store that can be asked what was last stored, and where."""

    async def add(self, key, data, ttl):
        self.key, self.data = key, data
        return await super().add(key, data, ttl)


def stored(**options):
    """A store with one session in it."""

    async def store_one():
        store = SpyStore()
        manager = SessionManager(store=store, **options)
        await manager.set(secrets.token_urlsafe(32), {"n": 1, "word": VALUE})
        return store

    return asyncio.run(store_one())


def test_id():
    logging.getLogger("anywhere").debug("found %s", secrets.token_urlsafe(32))


def test_signed_id():
    signer = Signer("planted-secret-of-cookies", None, None, lambda: 1.8e9)
    logger.info("sent %s", signer.sign("session", secrets.token_urlsafe(32)))


def test_store_key():
    logger.warning("moved %s", stored().key)


def test_value_in_an_error():
    stored()
    try:
        raise ValueError(f"not a number: {VALUE}")
    except ValueError:
        logger.exception("the form was refused")


def test_whole_session():
    stored()
    logger.debug("session is %s", {"n": 1, "word": VALUE})


def test_record():
    logger.error("cannot read %r", stored().data[30:])


def test_encryption_key():
    stored(encryption_keys=[KEY])
    logger.warning("opened with %r", KEY)


def test_cookie_secret():
    Signer({1: "planted-secret-of-cookies"}, 1, None, lambda: 1.8e9)
    logger.warning("signed with planted-secret-of-cookies")


def test_password():
    MemcachedStore("127.0.0.1:1", username="user", password=PASSWORD)
    logger.warning("user %s was refused", PASSWORD)


@pytest.mark.filterwarnings("always")
def test_warning():
    warnings.warn(f"{secrets.token_urlsafe(32)} is old", stacklevel=1)


# A server that prints its second argument.
SERVER = """
import socket, sys
print("listening for", sys.argv[2], flush=True)
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    server.accept()
"""


def test_process():
    port = free_port()
    told = secrets.token_urlsafe(32)
    Process([sys.executable, "-c", SERVER, str(port), told], port).terminate()


def test_nothing():
    session_id = secrets.token_urlsafe(32)
    logger.warning("a session of %d bytes ended", len(stored().data))
    try:
        raise ValueError(len("planted-secret-value"))  # as a test's source may say
    except ValueError:
        logger.exception("session begins with %s", session_id[:4])
