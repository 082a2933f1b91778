"""What one session must hold, and what is wrong with what a page showed of it.

A 2xx response confirms a change: it must be seen from then on. After a 503, or
without a response, the change may be there or not, and may arrive late; but it must
never be there twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = ["Before", "Ledger", "View"]

Report = Callable[[str, str], None]


class View(NamedTuple):
    """What a page showed of its session, as it was when the request came."""

    owner: str | None
    principal: str | None
    n: int
    marks: list[str]
    slots: dict[str, int]

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> View:
        slots = {f"nest.{name}": n for name, n in told["nest"].items()} | told["slots"]
        return cls(told["owner"], told["principal"], told["n"], told["marks"], slots)

    @property
    def is_empty(self) -> bool:
        return self.owner is None and self.principal is None


class Before(NamedTuple):
    """What was known when a request began: its response must show no less."""

    began: float
    n: int
    slots: dict[str, int]
    flashes: set[str]
    principals: set[str | None]
    unsettled: bool
    confirmed: float


@dataclass
class Ledger:
    """The account of one session, through all its ids.

    Numbers in a slot only rise, and one request at a time writes to a slot. Each
    increment leaves a mark of its own, so that a lost one and a double one show.
    """

    owner: str
    report: Report
    confirmed: float
    """When the last request began that found the session."""
    principals: set[str | None] = field(default_factory=lambda: {None})
    """Who may be logged in: two entries after a login of unknown outcome."""
    unsettled: bool = False
    """Whether an end or a new id was asked for, and nobody knows what came of it."""
    nodes: set[str] = field(default_factory=set)
    """The nodes that may hold the session; empty: not known."""
    _n: int = 0
    _asked: set[str] = field(default_factory=set)
    _numbers: dict[int, str] = field(default_factory=dict)
    _marks: dict[str, int] = field(default_factory=dict)
    _slots: dict[str, int] = field(default_factory=dict)
    _tried: dict[str, int] = field(default_factory=dict)
    _flashes: dict[str, str] = field(default_factory=dict)
    _wrong: set[tuple[int, str]] = field(default_factory=set)

    def before(self, now: float) -> Before:
        """Return what is known at the beginning of a request."""
        stored = {text for text, state in self._flashes.items() if state == "stored"}
        return Before(
            now,
            self._n,
            dict(self._slots),
            stored,
            set(self.principals),
            self.unsettled,
            self.confirmed,
        )

    # What users do.

    def next_value(self, slot: str) -> int:
        """Return the value of the next write to ``slot``, and expect it."""
        self._tried[slot] = self._tried.get(slot, 0) + 1
        return self._tried[slot]

    def wrote(self, slot: str, value: int) -> None:
        """Note that a write was confirmed."""
        self._slots[slot] = max(value, self._slots.get(slot, 0))

    def asks_increment(self, mark: str) -> None:
        """Expect an increment, at most once."""
        self._asked.add(mark)

    def counted(self, mark: str, number: int) -> None:
        """Note that an increment was confirmed: it has made the count ``number``."""
        self._mark(number, mark)
        self._n = max(self._n, number)

    def flashed(self, text: str, *, confirmed: bool) -> None:
        """Note a flash message that was, or may have been, stored."""
        self._flashes.setdefault(text, "stored" if confirmed else "maybe")

    def read_flashes(self, shown: Iterable[str], before: Before, *, firm: bool) -> None:
        """Check the messages that a page showed; they are not shown again.

        Where it is not ``firm`` that they were taken out, they may be.
        """
        shown = list(shown)
        for text in shown:
            if self._flashes.get(text) is None:
                self.report("a flash message of somebody else", text)
            elif self._flashes[text] == "read" or shown.count(text) > 1:
                self.report("a flash message was shown twice", text)
            if firm:
                self._flashes[text] = "read"
        for text in before.flashes.difference(shown):
            self.report("a flash message was lost", text)
            self._flashes[text] = "maybe"
        if not firm:
            self.flashes_unknown()

    def flashes_unknown(self) -> None:
        """Note that nobody knows whether messages were taken out."""
        for text, state in self._flashes.items():
            if state == "stored":
                self._flashes[text] = "maybe"

    # What pages show.

    def check(
        self, view: View, before: Before, *, may_be_gone: bool, is_lost: bool = False
    ) -> bool:
        """Report what is wrong with ``view``; return whether the session is there.

        With ``is_lost``, its node may have lost it. A login that comes just then
        begins another session with less in it.
        """
        if view.principal not in (None, *self.principals, *before.principals):
            self.report("another user's data", f"{view.principal} to {self.owner}")
            return False
        if is_lost and (view.owner is None or self._has_less(view, before)):
            return False
        if view.owner is None:
            if not may_be_gone:
                self.report("a session was lost", f"{self.owner}, n={self._n}")
            return False
        if view.owner != self.owner:
            self.report("another user's data", f"{view.owner} shown to {self.owner}")
            return False
        principals = self.principals | before.principals
        if view.principal not in principals:
            allowed = "/".join(sorted(map(str, principals)))
            self.report("a login was lost", f"{view.principal}, not {allowed}")
        self._check_slots(view, before)
        self._check_count(view, before)
        self.confirmed = max(self.confirmed, before.began)
        return True

    def _has_less(self, view: View, before: Before) -> bool:
        slots = before.slots.items()
        return view.n < before.n or any(view.slots.get(s, 0) < n for s, n in slots)

    def _check_slots(self, view: View, before: Before) -> None:
        for slot in view.slots.keys() | before.slots.keys():
            value, least = view.slots.get(slot, 0), before.slots.get(slot, 0)
            if value < least:
                what = f"{self.owner} {slot}: {value} after {least}"
                self.report("a confirmed write was lost", what)
            elif value > self._tried.get(slot, 0):
                what = f"{self.owner} {slot}: {value}"
                self.report("a value that nobody wrote", what)
            else:
                self.wrote(slot, value)

    def _check_count(self, view: View, before: Before) -> None:
        if view.n < before.n:
            what = f"{self.owner}: count {view.n} after {before.n}"
            self.report("a confirmed increment was lost", what)
        for number, mark in enumerate(view.marks, view.n - len(view.marks) + 1):
            self._mark(number, mark)
        self._n = max(self._n, view.n)

    def _mark(self, number: int, mark: str) -> None:
        if (number, mark) in self._wrong:
            return
        if mark not in self._asked:
            self.report("an increment that nobody made", f"{self.owner}: {mark}")
        if (first := self._marks.setdefault(mark, number)) != number:
            what = f"{self.owner}: {mark} is number {first} and {number}"
            self.report("an increment was done twice", what)
            self._wrong.add((number, mark))
        elif (known := self._numbers.setdefault(number, mark)) != mark:
            what = f"{self.owner}: number {number} was {known}, and is {mark}"
            self.report("a confirmed increment was lost", what)
            self._wrong.add((number, mark))
