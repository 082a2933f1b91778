"""What the panel beside the shop tells of a session. Its id is never shown.

python -m demo
curl -s -c jar -b jar http://127.0.0.1:8888/ | grep -A3 '<dt>'
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tornado_mcsession import Session

__all__ = ["Panel", "Process", "describe"]


@dataclass(frozen=True)
class Process:
    """Which of the demo's processes this is, and on which ports all of them are."""

    port: int
    ports: Sequence[int]

    @property
    def name(self) -> str:
        return f"port {self.port}, pid {self.pid}"

    @property
    def pid(self) -> int:
        return os.getpid()

    @property
    def number(self) -> int:
        """Counts from 0; the style sheet has a colour for each."""
        return self.ports.index(self.port)

    @property
    def others(self) -> list[int]:
        return [port for port in self.ports if port != self.port]


@dataclass(frozen=True)
class Panel:
    """A session as a visitor may see it."""

    exists: bool
    is_new: bool
    modified: bool
    principal: str | None
    created: datetime | None
    expires_at: datetime | None
    idle: str
    keys: int
    data: str


def describe(session: Session) -> Panel:
    """Tell what there is to tell of ``session``, as it is at this moment."""
    data: dict[str, Any] = dict(session)
    return Panel(
        exists=session.id is not None,
        is_new=session.is_new,
        modified=session.modified,
        principal=session.principal,
        created=session.created,
        expires_at=session.expires_at,
        idle=_duration(session.idle_timeout),
        keys=len(data),
        data=json.dumps(data, indent=2, ensure_ascii=False),
    )


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "however long you stay away"
    days, rest = divmod(timedelta(seconds=seconds), timedelta(days=1))
    if days:
        return f"after {days} day{'s' if days > 1 else ''} without a visit"
    return f"after {round(rest.total_seconds() / 60)} min without a visit"
