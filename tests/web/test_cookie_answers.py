"""What an answer tells the browser about its session."""

from __future__ import annotations

import pytest
from tornado.httputil import HTTPHeaders

from ..support.requests import FakeHandler, carried, cookie_of, written


@pytest.mark.parametrize(("protocol", "secure"), [("http", False), ("https", True)])
@pytest.mark.gen_test
async def test_secure_follows_the_protocol(build, protocol, secure):
    """By default the cookie is Secure where the request came over https."""
    line = (await written(build(), FakeHandler(protocol=protocol)))["Set-Cookie"]
    assert ("; Secure" in line) is secure


@pytest.mark.parametrize(
    ("options", "remember", "age"),
    [
        ({}, None, 1100),
        ({}, True, 1100),
        ({}, False, None),
        ({"persistent": False}, None, None),
        ({"persistent": False}, True, 1100),
    ],
)
@pytest.mark.gen_test
async def test_max_age_is_that_of_the_record(build, options, remember, age):
    """A persistent cookie ends with its session, another one with the browser."""

    def change(session):
        if remember is not None:
            session.remember(remember)

    headers = await written(build(cookie=options, idle_timeout=1000), None, change)
    attributes = headers["Set-Cookie"].split("; ")
    ages = [part for part in attributes if part.startswith("Max-Age")]
    assert ages == ([] if age is None else [f"Max-Age={age}"])


@pytest.mark.parametrize("name", ["__Host-s", "__Secure-s"])
@pytest.mark.gen_test
async def test_a_prefixed_cookie_is_not_sent_over_http(build, caplog, name):
    """Browsers would drop it: it is left out, with one warning."""
    manager = build(cookie={"name": name})
    for _ in range(2):
        assert "Set-Cookie" not in await written(manager)
    assert len(caplog.records) == 1
    assert "is not sent over http" in caplog.text
    line = (await written(manager, FakeHandler(protocol="https")))["Set-Cookie"]
    assert line.startswith(f"{name}=")
    assert "; Secure" in line


@pytest.mark.gen_test
async def test_a_prefixed_cookie_that_is_always_secure_is_sent(build):
    """``secure=True`` says that a proxy speaks https."""
    manager = build(cookie={"name": "__Host-s", "secure": True})
    assert "; Secure" in (await written(manager))["Set-Cookie"]


@pytest.mark.gen_test
async def test_an_unheeded_proxy_is_warned_of_once(build, caplog):
    """X-Forwarded-Proto says https, the request http: xheaders is missing."""
    manager = build()
    for _ in range(2):
        await written(manager, FakeHandler(X_Forwarded_Proto="https"))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "xheaders=True" in caplog.text


@pytest.mark.parametrize(
    ("protocol", "forwarded"), [("http", "http"), ("https", "https"), ("http", "")]
)
@pytest.mark.gen_test
async def test_a_proxy_that_agrees_is_not_warned_of(build, caplog, protocol, forwarded):
    """Where header and request say the same, there is nothing to say."""
    handler = FakeHandler(protocol=protocol, X_Forwarded_Proto=forwarded)
    await written(build(), handler)
    assert not caplog.records


@pytest.mark.gen_test
async def test_a_logout_removes_the_cookie_as_it_was_set(build):
    """The deletion has domain, path and flags of the cookie."""
    manager = build(cookie={"domain": "x.org", "path": "/a"})
    first = await written(manager)
    handler = FakeHandler(cookie_of(first))
    session = await manager.open(handler)
    await session.destroy()
    headers = HTTPHeaders()
    manager.deliver(handler, headers, session)
    assert headers["Set-Cookie"] == (
        "session=; Path=/a; Domain=x.org; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 "
        "GMT; HttpOnly; SameSite=Lax"
    )
    assert headers["Cache-Control"] == 'private, no-cache="Set-Cookie"'


@pytest.mark.gen_test
async def test_shared_caches_may_not_keep_the_cookie(build, caplog):
    """A handler that allows them is overruled, and told so once."""
    manager = build()
    for _ in range(2):
        handler = FakeHandler()
        session = await manager.open(handler)
        session["a"] = 1
        await manager.commit(session)
        headers = HTTPHeaders({"Cache-Control": "public, s-maxage=5, max-age=3"})
        manager.deliver(handler, headers, session)
        assert headers["Cache-Control"] == 'max-age=3, private, no-cache="Set-Cookie"'
        assert headers["Vary"] == "Cookie"
    assert len(caplog.records) == 1
    assert "FakeHandler" in caplog.text


@pytest.mark.gen_test
async def test_cookie_options_may_depend_on_the_request(build):
    """A callable gives each tenant a cookie of its own."""

    def cookie(handler):
        return {"name": handler.request.headers["X-Tenant"]}

    manager = build(cookie=cookie)
    headers = await written(manager, FakeHandler(X_Tenant="one"))
    assert headers["Set-Cookie"].startswith("one=")
    one = cookie_of(headers)
    assert carried(manager.transport, FakeHandler(one, X_Tenant="one")) is not None
    assert carried(manager.transport, FakeHandler(one, X_Tenant="two")) is None


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"nam": "x"}, ValueError, "did you mean 'name'"),
        ({"name": ["x"]}, TypeError, "cookie name must be text"),
        (None, TypeError, "what the cookie setting returns must be a dict"),
    ],
)
def test_what_a_cookie_callable_returns_is_checked(build, given, error, message):
    """Wrong attributes are the same errors as in a dict."""
    manager = build(cookie=lambda handler: given)
    with pytest.raises(error, match=message):
        carried(manager.transport, FakeHandler("session=x"))


def test_a_cookie_callables_results_are_kept_within_bounds(build):
    """Names that follow the request do not fill the memory."""
    names = iter(range(3000))
    transport = build(cookie=lambda handler: {"name": f"n{next(names)}"}).transport
    for _ in range(3000):
        carried(transport, FakeHandler("session=x"))
    assert len(transport._built) <= 1000
