"""The Set-Cookie line, and the values that a browser sends back.

Read and written without a server: some of these lines no client would send.
"""

from __future__ import annotations

import pytest

from tornado_mcsession.settings import Settings
from tornado_mcsession.web.cookie import CookieOptions, cookie_values

EPOCH = "Thu, 01 Jan 1970 00:00:00 GMT"


@pytest.mark.parametrize(
    ("options", "protocol", "max_age", "line"),
    [
        ({}, "http", 60, "session=v; Path=/; Max-Age=60; HttpOnly; SameSite=Lax"),
        ({}, "http", None, "session=v; Path=/; HttpOnly; SameSite=Lax"),
        ({}, "https", None, "session=v; Path=/; HttpOnly; Secure; SameSite=Lax"),
        (
            {"secure": True},
            "http",
            None,
            "session=v; Path=/; HttpOnly; Secure; SameSite=Lax",
        ),
        ({"secure": False}, "https", None, "session=v; Path=/; HttpOnly; SameSite=Lax"),
        (
            {"name": "__Host-s"},
            "http",
            None,
            "__Host-s=v; Path=/; HttpOnly; Secure; SameSite=Lax",
        ),
        (
            {"domain": "x.org", "path": "/a", "httponly": False, "samesite": None},
            "http",
            5,
            "session=v; Path=/a; Domain=x.org; Max-Age=5",
        ),
        (
            {"samesite": "none", "secure": True, "partitioned": True},
            "https",
            None,
            "session=v; Path=/; HttpOnly; Secure; SameSite=None; Partitioned",
        ),
        (
            {"partitioned": True},
            "http",
            None,
            "session=v; Path=/; HttpOnly; SameSite=Lax",
        ),
        (
            {"priority": "high", "secure": True, "partitioned": True},
            "https",
            None,
            "session=v; Path=/; HttpOnly; Secure; SameSite=Lax; Partitioned; "
            "Priority=High",
        ),
    ],
)
def test_the_line_has_the_attributes(options, protocol, max_age, line):
    """Each option is one attribute; ``secure="auto"`` follows the protocol."""
    assert CookieOptions(**options).line("v", protocol, max_age) == line


def test_a_deletion_keeps_the_attributes():
    """Browsers drop a cookie only for the same domain, path and partition."""
    options = CookieOptions(domain="x.org", path="/a", partitioned=True)
    assert options.line("", "https", 0) == (
        f"session=; Path=/a; Domain=x.org; Max-Age=0; Expires={EPOCH}; HttpOnly; "
        "Secure; SameSite=Lax; Partitioned"
    )


@pytest.mark.parametrize(
    ("headers", "values"),
    [
        ([], []),
        (["other=1"], []),
        (["session=a"], ["a"]),
        (["x=1; session=a; y=2"], ["a"]),
        (["x=1;session = a ;y=2"], ["a"]),
        (['session="a"'], ["a"]),
        (['session="'], ['"']),
        (["session=a=b=="], ["a=b=="]),
        (["session=a; session=b"], ["a", "b"]),
        (["session=a", "session=b"], ["a", "b"]),
        (["xsession=a; sessionx=b; Session=c"], []),
        (["session"], []),
        (["\xa0session=a; \x85session=b; session\xa0=c"], []),
        (["session=" + "; session=".join("abcdefghij")], list("abcdefgh")),
        (["x=session; session=a"], ["a"]),
    ],
)
def test_each_value_of_the_name_is_found(headers, values):
    """Every cookie of exactly this name counts, quoted or not."""
    assert cookie_values(headers, "session") == values


# The attributes are checked when the manager is built.


def build(cookie):
    return Settings.build({"cookie": cookie}, name="session").cookie


COOKIE_WRONG = [
    ({"nam": "x"}, ValueError, "unknown cookie setting 'nam'; did you mean 'name'"),
    ({"name": 5}, TypeError, "cookie name must be text"),
    ({"name": "a b"}, ValueError, "cookie name must be an RFC 9110 token"),
    ({"name": ""}, ValueError, "cookie name must be an RFC 9110 token"),
    ({"path": None}, TypeError, "cookie path must be text"),
    ({"path": "shop"}, ValueError, "cookie path must begin with /"),
    ({"path": "/a;b"}, ValueError, "cookie path must be printable"),
    ({"domain": 5}, TypeError, "cookie domain must be text or None"),
    ({"domain": "a\r\nb"}, ValueError, "cookie domain must be printable"),
    ({"secure": "yes"}, ValueError, "cookie secure must be True, False or 'auto'"),
    ({"secure": 1}, TypeError, "cookie secure must be True, False or 'auto'"),
    ({"httponly": 1}, TypeError, "cookie httponly must be True or False"),
    ({"partitioned": 1}, TypeError, "cookie partitioned must be True or False"),
    ({"persistent": 1}, TypeError, "cookie persistent must be True or False"),
    ({"samesite": 5}, TypeError, "cookie samesite must be 'Strict', .* or None"),
    ({"samesite": "laxx"}, ValueError, "cookie samesite must be .*'Lax'"),
    ({"priority": 5}, TypeError, "cookie priority must be 'Low', .* or None"),
    ({"priority": "hihg"}, ValueError, "cookie priority must be .*'High'"),
    ({"samesite": "None"}, ValueError, "samesite='None' needs secure=True"),
    ({"samesite": "none", "secure": False}, ValueError, "needs secure=True"),
    ({"partitioned": True, "secure": False}, ValueError, "partitioned=True needs"),
    ({"name": "__Host-a", "secure": False}, ValueError, "needs secure=True or"),
    ({"name": "__Secure-a", "secure": False}, ValueError, "needs secure=True or"),
    ({"name": "__Host-a", "domain": "x.org"}, ValueError, "needs domain=None"),
    ({"name": "__host-a", "path": "/x"}, ValueError, "needs path='/'"),
]


@pytest.mark.parametrize(("cookie", "error", "message"), COOKIE_WRONG)
def test_a_wrong_cookie_attribute_is_named(cookie, error, message):
    """A cookie that browsers would refuse, or that makes no sense, is an error."""
    with pytest.raises(error, match=message):
        build(cookie)


@pytest.mark.parametrize(
    "cookie",
    [
        {"samesite": "None", "secure": True},
        {"samesite": "strict"},
        {"samesite": None},
        {"name": "__Host-a"},
        {"name": "__Secure-a", "domain": "x.org", "path": "/x"},
        {"partitioned": True},
        {"priority": "Low"},
        CookieOptions(name="own"),
        lambda handler: {},
    ],
)
def test_a_sensible_cookie_is_accepted(cookie):
    """Attributes may be a dict, built before, or a callable's."""
    assert build(cookie)


def test_samesite_is_spelt_as_browsers_do():
    """Any case is accepted, and sent in the usual one."""
    assert CookieOptions(samesite="STRICT").samesite == "Strict"
