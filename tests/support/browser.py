"""A browser as far as sessions see one: it keeps cookies by the rules, and lies not."""

from __future__ import annotations

import json as json_module
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from .http import RawConnection, Response

# Each request may come over another connection, as from a browser; a server that
# keeps one open would otherwise be left with it.
HEADERS = {"Connection": "close"}


@dataclass(frozen=True)
class Cookie:
    """A cookie as it was set; ``attributes`` has lower-case names."""

    name: str
    value: str
    attributes: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, line: str) -> Cookie:
        """Read a Set-Cookie line; the value stays as it is, quotes included."""
        pair, *rest = line.split(";")
        name, _, value = pair.partition("=")
        attributes = {}
        for part in rest:
            key, _, attribute = part.partition("=")
            attributes[key.strip().lower()] = attribute.strip()
        return cls(name.strip(), value.strip(), attributes)

    @property
    def domain(self) -> str:
        return self.attributes.get("domain", "").lower().lstrip(".")

    def path(self, request_path: str) -> str:
        """Its Path; without one, the folder of the path that set it."""
        path = self.attributes.get("path", "")
        if path.startswith("/"):
            return path
        return request_path[: request_path.rfind("/")] or "/"

    def expires(self, now: float) -> float | None:
        """When it ends; None for the end of the browser's session."""
        if "max-age" in self.attributes:
            return now + int(self.attributes["max-age"])
        if "expires" in self.attributes:
            return parsedate_to_datetime(self.attributes["expires"]).timestamp()
        return None

    def is_allowed(self, host: str, is_secure: bool) -> bool:
        """Whether a browser takes it from ``host`` (RFC 6265bis, section 5.7)."""
        if self.domain and not is_within(host, self.domain):
            return False
        if "secure" in self.attributes:
            if not is_secure:
                return False
        elif self.name.startswith(("__Host-", "__Secure-")):
            return False
        elif self.attributes.get("samesite", "").lower() == "none":
            return False
        if self.name.startswith("__Host-"):
            return not self.domain and self.attributes.get("path") == "/"
        return True


def is_within(host: str, domain: str) -> bool:
    """Whether a cookie of ``domain`` belongs to ``host`` as well."""
    return host == domain or host.endswith("." + domain)


class CookieJar:
    """Cookies of several hosts and paths, until they expire or are deleted."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        # Under (name, domain or host, host only, path), as browsers tell them apart.
        self._kept: dict[tuple[str, str, bool, str], tuple[Cookie, float | None]] = {}

    def store(self, line: str, host: str, path: str, is_secure: bool) -> None:
        """Take what one Set-Cookie line of an answer says."""
        cookie = Cookie.parse(line)
        if not cookie.is_allowed(host, is_secure):
            return
        now = self._clock()
        expires = cookie.expires(now)
        place = cookie.domain or host, not cookie.domain, cookie.path(path)
        if expires is not None and expires <= now:
            self._kept.pop((cookie.name, *place), None)
        else:
            self._kept[cookie.name, *place] = cookie, expires

    def cookies(self, host: str, path: str, is_secure: bool) -> list[Cookie]:
        """What goes with a request: longest path first."""
        now = self._clock()
        found = []
        for (_, domain, host_only, cookie_path), (cookie, end) in self._kept.items():
            if (
                (host == domain if host_only else is_within(host, domain))
                and (path + "/").startswith(cookie_path.rstrip("/") + "/")
                and (is_secure or "secure" not in cookie.attributes)
                and (end is None or end > now)
            ):
                found.append((cookie_path, cookie))
        found.sort(key=lambda pair: -len(pair[0]))
        return [cookie for _, cookie in found]

    def forget_session_cookies(self) -> None:
        """Drop what has no end of its own, as when a browser is closed."""
        self._kept = {key: kept for key, kept in self._kept.items() if kept[1]}


class Browser:
    """Sends requests to a port of 127.0.0.1 and keeps the cookies it is given.

    With ``secure=True`` it is one that speaks https to a proxy which tells so in
    X-Forwarded-Proto. To be used in a coroutine::

        browser = Browser(http_port)
        response = await browser.post("/login", form={"name": "ann"})
        assert browser.cookie("session") is not None
    """

    def __init__(
        self,
        port: int,
        *,
        host: str = "127.0.0.1",
        secure: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.port = port
        self.host = host
        self.is_secure = secure
        self.jar = CookieJar(clock)

    def cookie(self, name: str, path: str = "/") -> Cookie | None:
        """The cookie that goes with requests for ``path``, if there is one."""
        for cookie in self.jar.cookies(self.host, path, self.is_secure):
            if cookie.name == name:
                return cookie
        return None

    def cookie_header(self, path: str = "/") -> str:
        """The Cookie header of a request for ``path``; empty without cookies."""
        cookies = self.jar.cookies(self.host, path, self.is_secure)
        return "; ".join(f"{cookie.name}={cookie.value}" for cookie in cookies)

    def set_cookie(self, line: str) -> None:
        """Take a Set-Cookie line that no answer has sent, as an attacker may."""
        self.jar.store(line, self.host, "/", self.is_secure)

    async def get(self, target: str, **options: Any) -> Response:
        return await self.request("GET", target, **options)

    async def post(self, target: str, **options: Any) -> Response:
        return await self.request("POST", target, **options)

    async def request(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        form: Mapping[str, str] | None = None,
        json: Any = None,
        follow: bool = False,
    ) -> Response:
        """Send one request; with ``follow``, go where redirects lead (at most 10)."""
        sent = {"Host": self.host, **HEADERS}
        if form is not None:
            sent["Content-Type"] = "application/x-www-form-urlencoded"
            body = urlencode(form).encode()
        elif json is not None:
            sent["Content-Type"] = "application/json"
            body = json_module.dumps(json).encode()
        response = await self._send(method, target, {**sent, **(headers or {})}, body)
        for _ in range(10):
            if not follow or response.status not in (301, 302, 303, 307, 308):
                return response
            if response.status not in (307, 308):
                method, body = "GET", None
            target = urljoin(target, response.header("Location"))
            response = await self._send(
                method, target, {**sent, **(headers or {})}, body
            )
        raise AssertionError(f"more than 10 redirects, the last to {target}")

    async def _send(
        self, method: str, target: str, headers: dict[str, str], body: bytes | None
    ) -> Response:
        parts = urlsplit(target)
        target = parts._replace(scheme="", netloc="", fragment="").geturl()
        if cookies := self.cookie_header(parts.path):
            headers.setdefault("Cookie", cookies)
        if self.is_secure:
            headers["X-Forwarded-Proto"] = "https"
        async with await RawConnection.open(self.port) as connection:
            response = await connection.request(method, target, headers, body)
        for line in response.all_headers("Set-Cookie"):
            self.jar.store(line, self.host, parts.path, self.is_secure)
        return response
