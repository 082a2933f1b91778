"""Faults of what is stored, and the end of the site's own process."""

from __future__ import annotations

import asyncio
import base64
import os
from typing import Any

from tests.support.memcached import Memcached

from .fault import fault
from .stage import Stage
from .users import User

RECORDS = (
    b"",
    b"\x01",
    b"plain text of another program",
    b'{"json": true}',
    b"\x01\xc0",  # MessagePack: nothing at all
    b"\x01" + b"\x91" * 5000 + b"\xc0",  # 5,000 lists in each other
    b"\x01\x9c" + b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00" * 12,  # infinite times
    b"\x02" + bytes(100),  # as if encrypted
    b"\x09" + bytes(100),  # of a version that does not exist
    os.urandom(1_000_000),
)


@fault(
    "records",
    f"garbage in single records ({len(RECORDS)} kinds, and halves)",
    statuses=(),
    loses=True,
)
async def records(stage: Stage) -> None:
    node = await stage.memcached()
    await stage.open(node)
    stage.hit()
    keys = await stage.blocking(stage.keys, node)
    for (key, user), record in zip(keys.items(), RECORDS, strict=False):
        await overwrite(stage, node, key, user, record)
    for key, user in list(keys.items())[len(RECORDS) :][:3]:
        half = node.get(key) or b""
        await overwrite(stage, node, key, user, half[: len(half) // 2])
    await stage.last()
    await stage.over()


async def overwrite(
    stage: Stage, node: Memcached, key: str, user: User, record: bytes
) -> None:
    """Put ``record`` where a user's session is."""
    stage.lose(user)
    await stage.blocking(node.set, key, record)
    stage.lose(user)


@fault(
    "copied",
    "another user's record copied over one",
    statuses=(),
    loses=True,
)
async def copied(stage: Stage) -> None:
    # It says whose it is, which is not whose key it has. Who goes about it with
    # more care is noticed with ``encryption_keys`` only: docs/security.md.
    await copy_one(stage)


@fault(
    "copied-sealed",
    "another user's record copied over one, with `encryption_keys`",
    statuses=(),
    loses=True,
)
async def copied_sealed(stage: Stage) -> None:
    key = base64.urlsafe_b64encode(os.urandom(32)).decode()
    await copy_one(stage, encryption_keys=[key])


async def copy_one(stage: Stage, **settings: Any) -> None:
    """Let one user's key hold what is under another's."""
    node = await stage.memcached()
    await stage.open(node, **settings)
    stage.hit()
    keys = await stage.blocking(stage.keys, node)
    # An anonymous session's key may change, by a login.
    logged_in = [pair for pair in keys.items() if pair[1].expected.state.principal]
    (mine, user), (others, _) = logged_in[:2]
    await overwrite(stage, node, mine, user, node.get(others) or b"")
    await stage.last(0.6)
    await stage.over()


# What the kernel had accepted for a process that stops listening has no answer.
@fault(
    "sigterm",
    "one of two processes after the other ended (SIGTERM) and started again",
    statuses=(0,),
)
async def sigterm(stage: Stage) -> None:
    await stage.open(await stage.memcached())
    stage.hit()
    for site in stage.sites:
        await stage.end(site)
        await asyncio.sleep(0.2)
        await stage.blocking(site.start)
    await stage.last(0.3)
    await stage.over()
