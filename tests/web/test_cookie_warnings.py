"""Cookies that no browser would keep, or send back."""

from __future__ import annotations

import logging

import pytest
from tornado.web import RequestHandler

from tornado_mcsession import SessionManager, SessionMixin

from ..support.site import Site, session_cookie


class Writes(SessionMixin, RequestHandler):
    def get(self):
        self.session["n"] = self.session.get("n", 0) + 1


@pytest.mark.parametrize(
    "domain",
    [
        "example.com:8080",
        "https://example.com",
        "*.example.com",
        "example.com/",
        "example.com/app",
        "user@example.com",
        "example..com",
    ],
)
def test_a_domain_is_a_host_name(domain):
    """No browser keeps a cookie of another one."""
    with pytest.raises(ValueError, match="cookie domain"):
        SessionManager(cookie={"domain": domain})


@pytest.mark.parametrize(
    "domain", ["example.com", ".example.com", "EXAMPLE.com", "a-b.example.com", "x.org"]
)
def test_a_host_name_is_taken(domain):
    """With a leading dot or without one."""
    SessionManager(cookie={"domain": domain})


@pytest.mark.gen_test
async def test_a_callables_domain_is_checked_too(serve, uncaught):
    """With the first request that it is for."""
    session = {"cookie": lambda handler: {"domain": "example.com:8080"}}
    site = serve(Writes, session=session)
    assert (await site.get()).status == 500
    assert site.sessions() == 0
    assert len(uncaught()) == 1


async def visited(site: Site, host: str, path: str = "/") -> None:
    """Ask three times; the cookie is set, and the session stored, each time."""
    for _ in range(3):
        response = await site.get(path, headers={"Host": host})
        assert response.status == 200
        assert session_cookie(response) is not None
        assert await site.stored(response) == {"n": 1}


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("cookie", "host", "path", "named"),
    [
        ({"domain": "example.org"}, "app.example.com", "/", "example.org"),
        ({"domain": "example.org"}, "notexample.org", "/", "example.org"),
        ({"domain": "app.example.com"}, "example.com", "/", "app.example.com"),
        ({"domain": "example.org"}, "127.0.0.1", "/", "example.org"),
    ],
)
async def test_a_host_outside_the_domain_is_warned_of(
    serve, cookie, host, path, named, logged
):
    """One warning that names both; a proxy may have rewritten the host."""
    site = serve(Writes, session={"cookie": cookie})
    await visited(site, host, path)
    (warning,) = logged(logging.WARNING)
    assert named in warning
    assert host in warning


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("cookie_path", "path"),
    [("/app", "/other"), ("/app", "/apple"), ("/app/", "/app"), ("/a/b", "/a")],
)
async def test_a_path_outside_is_warned_of(serve, cookie_path, path, logged):
    """One warning that names both paths."""
    site = serve(Writes, session={"cookie": {"path": cookie_path}})
    await visited(site, "example.com", path)
    (warning,) = logged(logging.WARNING)
    assert cookie_path in warning
    assert path in warning


@pytest.mark.gen_test
async def test_a_secure_cookie_over_http_is_warned_of(serve, logged):
    """One warning that names the setting and the protocol."""
    site = serve(Writes, session={"cookie": {"secure": True}})
    await visited(site, "example.com")
    (warning,) = logged(logging.WARNING)
    assert "secure=True" in warning
    assert "http" in warning


@pytest.mark.gen_test
@pytest.mark.parametrize("prefix", ["__Host-", "__Secure-"])
async def test_a_prefix_over_http_is_warned_of(serve, prefix, logged):
    """Also at localhost, where Chromium takes Secure cookies of other names only."""
    name = f"{prefix}session"
    site = serve(Writes, session={"cookie": {"name": name, "secure": True}})
    for _ in range(3):
        response = await site.get(headers={"Host": "localhost:8888"})
        assert response.header("Set-Cookie").startswith(f"{name}=")
    (warning,) = logged(logging.WARNING)
    assert name in warning
    assert "http to 'localhost'" in warning


@pytest.mark.gen_test
async def test_http_after_https_is_warned_of(serve, logged):
    """A browser does not replace its Secure cookie by one that is not."""
    site = serve(Writes, xheaders=True)
    secure = {"Host": "example.com", "X-Forwarded-Proto": "https"}
    assert "secure" in session_cookie(await site.get(headers=secure)).attributes
    assert not logged(logging.WARNING)
    await visited(site, "example.com")
    (warning,) = logged(logging.WARNING)
    assert "https" in warning
    assert "secure=True" in warning


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("cookie", "host", "path"),
    [
        ({}, "example.com", "/"),
        ({}, "127.0.0.1:8888", "/any/path"),
        ({"domain": "example.com"}, "example.com", "/"),
        ({"domain": "example.com"}, "app.example.com:8080", "/"),
        ({"domain": ".example.com"}, "app.example.com", "/"),
        ({"domain": "example.com"}, "APP.EXAMPLE.COM", "/"),
        ({"path": "/app"}, "example.com", "/app"),
        ({"path": "/app"}, "example.com", "/app/page"),
        ({"path": "/app/"}, "example.com", "/app/page"),
        ({"secure": True}, "localhost:8888", "/"),
    ],
)
async def test_a_cookie_that_comes_back_is_not(serve, cookie, host, path, logged):
    """Also over http to this machine, where browsers keep Secure cookies."""
    site = serve(Writes, session={"cookie": cookie})
    await visited(site, host, path)
    assert not logged(logging.WARNING)


@pytest.mark.gen_test
async def test_a_callable_warns_once_for_each_domain(serve, logged):
    """Tenants are configured one by one."""

    def cookie(handler):
        return {"domain": handler.request.host.removeprefix("bad.")}

    site = serve(Writes, session={"cookie": cookie})
    await visited(site, "one.example")
    assert not logged(logging.WARNING)
