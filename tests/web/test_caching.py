"""What a session changes in an answer's headers.

Tried by themselves: no response has so many headers.
"""

from __future__ import annotations

import pytest
from tornado.httputil import HTTPHeaders

from tornado_mcsession.web import caching


def headers_of(*lines):
    headers = HTTPHeaders()
    for name, value in lines:
        headers.add(name, value)
    return headers


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], "Cookie"),
        (["Accept"], "Accept, Cookie"),
        (["Accept, Origin"], "Accept, Origin, Cookie"),
        (["Accept", "Origin"], "Accept, Origin, Cookie"),
        (["cookie"], "cookie"),
        (["Accept", "COOKIE"], "Accept,COOKIE"),
        (["*"], "*"),
        ([""], "Cookie"),
        (["X-Cookie"], "X-Cookie, Cookie"),
    ],
)
def test_vary_is_appended_once(before, after):
    """What a handler varies on stays; a name that is there is not repeated."""
    headers = headers_of(*(("Vary", value) for value in before))
    caching.add_vary(headers, "Cookie")
    assert headers["Vary"] == after


@pytest.mark.parametrize(
    ("before", "after", "was_shared"),
    [
        ([], 'private, no-cache="Set-Cookie"', False),
        (["public"], 'private, no-cache="Set-Cookie"', True),
        (["private"], 'private, no-cache="Set-Cookie"', False),
        (["no-store"], 'no-store, private, no-cache="Set-Cookie"', False),
        (
            ["Public, max-age=3", "S-MaxAge=9"],
            'max-age=3, private, no-cache="Set-Cookie"',
            True,
        ),
        (['no-cache="Set-Cookie"'], 'private, no-cache="Set-Cookie"', False),
        (
            ['no-cache="Set-Cookie, X", max-age=1'],
            'no-cache="Set-Cookie, X", max-age=1, private, no-cache="Set-Cookie"',
            False,
        ),
        (['ext="a, public"'], 'ext="a, public", private, no-cache="Set-Cookie"', False),
    ],
)
def test_shared_caches_are_forbidden(before, after, was_shared):
    """``public`` and ``s-maxage`` go, all other directives stay."""
    headers = headers_of(*(("Cache-Control", value) for value in before))
    assert caching.forbid_shared_caching(headers) is was_shared
    assert headers["Cache-Control"] == after


def test_an_error_page_keeps_what_is_not_the_pages():
    """Of a replaced answer only what described its body or target is dropped."""
    dropped = (
        "Content-Type Content-Length Content-Encoding Content-Disposition Etag "
        "Last-Modified Expires Location Cache-Control Transfer-Encoding"
    ).split()
    kept = (
        "Access-Control-Allow-Origin Strict-Transport-Security Server Set-Cookie "
        "Content-Security-Policy Content-Security-Policy-Report-Only Vary"
    ).split()
    headers = headers_of(*((name, "x") for name in dropped + kept))
    caching.drop_representation(headers)
    assert sorted(headers) == sorted(kept)
