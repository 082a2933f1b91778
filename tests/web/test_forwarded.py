"""What a proxy says of https, and Tornado does not see."""

from __future__ import annotations

import logging

import pytest
from tornado.web import RequestHandler

from tornado_mcsession import SessionMixin

from ..support.site import session_cookie


class Writes(SessionMixin, RequestHandler):
    def get(self):
        self.session["n"] = self.session.get("n", 0) + 1


class Reads(SessionMixin, RequestHandler):
    def get(self):
        len(self.session)


HTTPS = [
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Proto", "HTTPS"),
    ("X-Forwarded-Proto", "https,http"),
    ("X-Forwarded-Proto", "https, http"),
    ("X-Forwarded-Proto", "http, https"),
    ("Forwarded", "proto=https"),
    ("Forwarded", 'for=192.0.2.1;proto="https";by=203.0.113.4'),
    ("Forwarded", "for=192.0.2.1;Proto=HTTPS, for=198.51.100.1;proto=http"),
    ("X-Forwarded-Scheme", "https"),
    ("X-Forwarded-Ssl", "on"),
    ("Front-End-Https", "on"),
    ("X-Scheme", "https"),
]


@pytest.mark.gen_test
@pytest.mark.parametrize(("name", "value"), HTTPS)
async def test_a_proxy_with_https_is_warned_of(serve, name, value, logged):
    """Once, with the header's name and what to do."""
    site = serve(Writes)
    for _ in range(3):
        response = await site.get(headers={name: value})
        assert session_cookie(response) is not None
    warnings = logged(logging.WARNING)
    assert len(warnings) == 1
    assert name in warnings[0]
    assert "secure=True" in warnings[0]


# Tornado takes the last value of a list, so that xheaders do not help here.
@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Forwarded-Proto", "https,http"),
        ("X-Forwarded-Proto", "https, http"),
        ("Forwarded", "proto=https"),
        ("X-Forwarded-Ssl", "on"),
    ],
)
async def test_xheaders_that_do_not_help_are_warned_of(serve, name, value, logged):
    """The request counts as http all the same."""
    site = serve(Writes, xheaders=True)
    response = await site.get(headers={name: value})
    assert "secure" not in session_cookie(response).attributes
    warnings = logged(logging.WARNING)
    assert len(warnings) == 1
    assert name in warnings[0]
    assert "secure=True" in warnings[0]


@pytest.mark.gen_test
@pytest.mark.parametrize("name", ["X-Forwarded-Proto", "X-Scheme"])
async def test_xheaders_that_help_are_not(serve, name, logged):
    """The cookie is Secure."""
    site = serve(Writes, xheaders=True)
    response = await site.get(headers={name: "https"})
    assert "secure" in session_cookie(response).attributes
    assert not logged(logging.WARNING)


@pytest.mark.gen_test
@pytest.mark.parametrize(("name", "value"), HTTPS)
async def test_a_secure_cookie_is_not(serve, name, value, logged):
    """``secure=True`` is what the warning asks for."""
    site = serve(Writes, session={"cookie": {"secure": True}})
    response = await site.get(headers={name: value, "Host": "example.com"})
    assert "secure" in session_cookie(response).attributes
    assert not logged(logging.WARNING)


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Proto", "http, http"),
        ("Forwarded", "for=192.0.2.1;proto=http"),
        ("Forwarded", "for=https"),
        ("X-Forwarded-Ssl", "off"),
        ("X-Forwarded-For", "192.0.2.1"),
    ],
)
async def test_a_proxy_with_http_is_not(serve, name, value, logged):
    """Nothing says https."""
    site = serve(Writes)
    assert session_cookie(await site.get(headers={name: value})) is not None
    assert not logged(logging.WARNING)


@pytest.mark.gen_test
async def test_where_no_cookie_is_set_nothing_is_said(serve, logged):
    """Any client may send such a header."""
    site = serve(Reads)
    await site.get(headers={"X-Forwarded-Proto": "https,http"})
    assert not logged(logging.WARNING)
