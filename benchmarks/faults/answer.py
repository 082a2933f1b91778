"""What comes back from a request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.support.browser import Cookie
from tests.support.http import Response

__all__ = ["Answer"]


@dataclass
class Answer:
    """What came back from one request, and what is wrong with it."""

    user: str
    path: str
    presented: str | None
    """The session id that the request carried."""
    began: float
    port: int = 0
    """Which process of the site it was asked of."""
    seconds: float = 0.0
    status: int = 0
    """0: no answer."""
    retry_after: str | None = None
    cookie: str | None = None
    """Another id that it sets; ``""``: it clears the cookie."""
    told: dict[str, Any] = field(default_factory=dict)
    wrong: str = ""

    @property
    def is_ok(self) -> bool:
        """Whether what was asked for was done."""
        return 200 <= self.status < 300

    @property
    def is_available(self) -> bool:
        """Whether the page knew the session; the store could tell."""
        return bool(self.told.get("available", True))

    @property
    def is_of_store(self) -> bool:
        """Whether it could only be given by asking the store."""
        asked = self.presented is not None or bool(self.cookie)
        return self.is_ok and self.is_available and asked

    def take(self, response: Response) -> None:
        """Note the response."""
        self.status = response.status
        self.retry_after = response.header("Retry-After")
        for line in response.all_headers("Set-Cookie"):
            cookie = Cookie.parse(line)
            is_cleared = cookie.attributes.get("max-age") == "0"
            if is_cleared or cookie.value != self.presented:
                self.cookie = "" if is_cleared else cookie.value
        if self.is_ok:
            self.told = response.json()
