"""What a user may be told, and how an answer is held against it.

A session's state as a page shows it is a `View`. What was acknowledged must be
seen; what was tried and not acknowledged may be, or may be later. Whatever else
is told is a wrong answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

__all__ = ["EMPTY", "Change", "Expectation", "View"]


class View(NamedTuple):
    """What a session holds: whose it is, who is logged in, and what they wrote.

    ``n`` is the last of rising numbers, ``counted`` how many increments were made.
    """

    owner: str | None
    principal: str | None
    n: int
    counted: int

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> View:
        """Return the view in a page's answer."""
        return cls(told["owner"], told["principal"], told["n"], told["count"])

    def may_become(self, other: View) -> bool:
        """Return whether no change of the session's was undone in ``other``."""
        return self.n <= other.n and self.counted <= other.counted


EMPTY = View(None, None, 0, 0)
Change = Callable[[View], View]


class Expectation:
    """What one user may see of their session.

    ``views`` begins with what is known to be stored at least; what was tried
    since is there with and without each change.
    """

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.views = [EMPTY]
        self.losses = 0
        """How often the session was gone because the server had lost it."""
        self._lost_at = -math.inf

    @property
    def state(self) -> View:
        """The view that is the least that must be stored."""
        return self.views[0]

    def may_be_lost(self, at: float) -> None:
        """Note that the server lost its data at that time, or may lose them."""
        self._lost_at = at

    def tried(self, change: Change) -> None:
        """Note a change that nobody acknowledged."""
        self.views = list(dict.fromkeys([*self.views, *map(change, self.views)]))

    def acknowledged(self, change: Change, began: float) -> None:
        """Note a change that is done, asked for at that time."""
        self.views = list(dict.fromkeys(map(change, self.views)))
        if began > self._lost_at:
            self._lost_at = -math.inf

    def verdict(self, seen: View) -> str:
        """Return why ``seen`` is wrong, or ``""``; expect no less from now on."""
        wrong = self.objection(seen)
        if wrong:
            return wrong
        if seen == EMPTY and EMPTY not in self.views:
            self.losses += 1
            self.views = [EMPTY]
        else:
            # What was tried and is not there may be on its way.
            later = [view for view in self.views if seen.may_become(view)]
            self.views = [seen, *(view for view in later if view != seen)]
        return ""

    def objection(self, seen: View) -> str:
        """Return why ``seen`` is wrong, or ``""``."""
        if seen in self.views or (seen == EMPTY and self._lost_at > -math.inf):
            return ""
        if seen == EMPTY:
            return "told that there is no session, though there is"
        if {seen.owner, seen.principal} - {self.owner, None}:
            return "another user's data"
        if self.state == EMPTY:
            return "alive after its logout"
        if all(seen.may_become(view) for view in self.views):
            return "older than what was acknowledged"
        return "changes that nobody made, or one made twice"
