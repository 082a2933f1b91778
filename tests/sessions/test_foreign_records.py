"""Records that cannot be read, many at a time."""

from __future__ import annotations

import pytest

from tornado_mcsession import MemoryStore, SessionManager

from ..support.requests import begin


@pytest.mark.gen_test
async def test_a_burst_of_foreign_records_is_one_line(caplog):
    """All are counted, and the log is not filled."""
    store = MemoryStore()
    manager = SessionManager(store=store)
    session_id = await begin(manager, a=1)
    key = manager.codec.key(session_id)
    await store.delete(key)
    await store.add(key, b"\x00foreign", 60)
    for _ in range(1000):
        assert await manager.get(session_id) is None
    assert manager.stats()["corrupt_records"] == 1000
    assert [record.getMessage() for record in caplog.records] == [
        "a session record was taken as empty: of another version"
    ]
