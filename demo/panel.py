"""What the panel beside the shop tells of a session. Its id is never shown.

python -m demo
curl -s -c jar -b jar http://127.0.0.1:8888/ | grep -A3 '<dt>'
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from demo.fingerprint import Fingerprint, fingerprint
from tornado_mcsession import Session

__all__ = ["Panel", "Process", "describe", "device_of", "when"]


@dataclass(frozen=True)
class Process:
    """Which of the demo's processes this is, and the port that they share."""

    port: int

    @property
    def name(self) -> str:
        return f"port {self.port}, pid {self.pid}"

    @property
    def pid(self) -> int:
        return os.getpid()


@dataclass(frozen=True)
class Panel:
    """A session as a visitor may see it."""

    exists: bool
    was_ended: bool
    is_new: bool
    modified: bool
    principal: str | None
    created: datetime | None
    expires_at: datetime | None
    idle: str
    keys: int
    data: str
    fingerprint: Fingerprint | None


def describe(session: Session, fingerprint_key: bytes) -> Panel:
    """Tell what there is to tell of ``session``, as it is at this moment."""
    data: dict[str, Any] = dict(session)
    return Panel(
        exists=session.id is not None,
        was_ended=session.presented == "ended",
        is_new=session.is_new,
        modified=session.modified,
        principal=session.principal,
        created=session.created,
        expires_at=session.expires_at,
        idle=_duration(session.idle_timeout),
        keys=len(data),
        data=json.dumps(data, indent=2, ensure_ascii=False),
        fingerprint=fingerprint(session.id, fingerprint_key),
    )


def _duration(seconds: float | None) -> str:
    """Say how long a session is kept; it is renewed when a tenth of that has passed."""
    if seconds is None:
        return "however long you stay away"
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        if seconds >= 2 * length or (seconds >= length and unit != "minute"):
            break
    number = int(seconds // length)
    return f"at least {number} {unit}{'' if number == 1 else 's'} after your last visit"


def device_of(agent: str) -> str:
    """Return a name for the device that sent this User-Agent."""
    browsers = ("Edg", "Firefox", "Chrome", "Safari")
    systems = ("Windows", "Android", "iPhone", "Mac OS", "Linux")
    browser = next((name for name in browsers if name in agent), "A browser")
    system = next((name for name in systems if name in agent), "an unknown system")
    return f"{'Edge' if browser == 'Edg' else browser} on {system}"


def when(time: datetime) -> str:
    """Return a time for a page, whose script shows it in the visitor's own zone."""
    return time.strftime("%d %b, %H:%M UTC")
