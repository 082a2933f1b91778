"""Records that cannot be read, many at a time."""

from __future__ import annotations

from collections import Counter

from tornado_mcsession import DecodeError
from tornado_mcsession._foreign import QUIET, ForeignRecords

from ..support.clock import ManualClock


def lines(caplog):
    return [record.getMessage() for record in caplog.records]


def test_a_burst_of_foreign_records_is_one_line(caplog):
    """All are counted; the next line, a minute later, tells how many it stands for."""
    counts, clock = Counter(), ManualClock()
    foreign = ForeignRecords(counts, clock)
    for _ in range(1000):
        foreign.note(DecodeError("not encrypted"))
    assert counts["corrupt_records"] == 1000
    assert lines(caplog) == ["a session record was taken as empty: not encrypted"]
    clock.advance(QUIET)
    foreign.note(DecodeError("not a record"))
    assert lines(caplog)[1:] == [
        "a session record was taken as empty: not a record; "
        "999 more since the last line"
    ]


def test_the_first_record_of_each_burst_is_logged_at_once(caplog):
    """However long the process has been up, and with no number where none was left."""
    clock = ManualClock()
    foreign = ForeignRecords(Counter(), clock)
    for _ in range(3):
        foreign.note(DecodeError("not a record"))
        clock.advance(2 * QUIET)
    assert lines(caplog) == ["a session record was taken as empty: not a record"] * 3
