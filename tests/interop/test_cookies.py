"""The cookies of a shared session: signatures, attributes, and what is refused."""

from __future__ import annotations

import pytest

from ..support.browser import Cookie
from .conftest import EXPRESS, KEYS, KOA

pytestmark = pytest.mark.integration

NEWER, OLDER = KEYS
only_koa = pytest.mark.parametrize("framework", [KOA], ids=["koa"])


@pytest.mark.gen_test
async def test_python_accepts_an_older_key_of_nodes(meet):
    """And signs with the newest one, when it sends the cookie again."""
    user = meet(node={"keys": [OLDER]})
    await user.node("change", a=1)
    assert await user.python("read") == {"a": 1}
    renewed = meet(node={"keys": [NEWER]})
    renewed.browser.jar = user.browser.jar
    assert await renewed.node("read") == {"a": 1}


@pytest.mark.gen_test
async def test_node_accepts_an_older_key_of_pythons(meet):
    """As after a new key was put first at Node's side."""
    user = meet(python={"keys": [OLDER]})
    await user.python("change", a=1)
    assert await user.node("read") == {"a": 1}


@pytest.mark.gen_test
async def test_a_foreign_signature_counts_for_neither(meet):
    """Each treats the request as one without a session, and begins a new one."""
    user = meet(node={"keys": ["another"]}, python={"keys": ["yet another"]})
    await user.node("change", a=1)
    of_node = user.cookie
    assert await user.python("read") == {}
    assert user.cookie == of_node
    await user.python("change", b=1)
    assert user.cookie != of_node
    assert await user.node("read") == {}


@pytest.mark.gen_test
async def test_an_altered_or_missing_signature_counts_for_nothing(user):
    """Whatever is changed of the id or of its signature."""
    await user.python("change", a=1)
    names = {user.framework.cookie, f"{user.framework.cookie}.sig"}
    sent = {name: user.browser.cookie(name) for name in names}
    sent = {name: cookie.value for name, cookie in sent.items() if cookie}
    for name, value in sent.items():
        for altered in (
            value[:-8] + "AAAAAAAA",
            value.replace(".", "x").replace("%3A", "x"),
            value[1:],
            "%FF%00.é".encode().decode("latin-1"),
            "",
        ):
            pairs = "; ".join(f"{k}={v}" for k, v in {**sent, name: altered}.items())
            user.browser.port = user.python_port
            shown = await user.browser.post("/read", headers={"Cookie": pairs})
            assert shown.json() == ({} if altered != value else {"a": 1})
    if user.framework is KOA:
        only = {"Cookie": f"koa.sid={sent['koa.sid']}"}
        assert (await user.browser.post("/read", headers=only)).json() == {}


@only_koa
@pytest.mark.gen_test
async def test_both_lines_are_sent_and_removed(user):
    """With the same attributes."""
    user.browser.port = user.python_port
    begun = await user.browser.post("/change", json={"a": 1})
    first, second = begun.all_headers("Set-Cookie")
    assert first.startswith("koa.sid=")
    assert second.startswith("koa.sid.sig=")
    assert first.partition("; ")[2] == second.partition("; ")[2]
    ended = await user.browser.post("/logout")
    assert [line.partition(";")[0] for line in ended.all_headers("Set-Cookie")] == [
        "koa.sid=",
        "koa.sid.sig=",
    ]
    assert user.browser.cookie_header() == ""


@pytest.mark.gen_test
async def test_path_and_name_are_the_same_at_both(meet, framework):
    """And the cookie is removed from the path that it was set for."""
    word = "key" if framework is KOA else "name"
    node = {word: "shop.sid", "cookie": {"path": "/quiet"}}
    user = meet(node=node, python={"cookie": {"name": "shop.sid", "path": "/quiet"}})
    await user.python("quiet/change", a=1)
    assert user.browser.cookie("shop.sid") is None
    assert user.browser.cookie("shop.sid", "/quiet/x") is not None
    await user.python("quiet/logout")
    assert user.browser.cookie_header("/quiet/x") == ""


@pytest.mark.gen_test
async def test_all_attributes_go_with_the_session(meet, framework):
    """Node sends the cookie as Python did."""
    attributes = {"httponly": False, "samesite": "Strict", "priority": "High"}
    attributes |= {"domain": "127.0.0.1", "persistent": True}
    user = meet(python={"cookie": attributes})
    await user.python("change", a=1)
    user.browser.port = user.node_process.port
    response = await user.browser.post("/change", json={"a": 2})
    sent = Cookie.parse(response.all_headers("Set-Cookie")[0]).attributes
    assert sent["samesite"].lower() == "strict"
    assert sent["priority"].lower() == "high"
    assert sent["domain"] == "127.0.0.1"
    assert "httponly" not in sent


@only_koa
@pytest.mark.gen_test
async def test_unsigned_cookies(meet):
    """koa's ``signed: false``: one line, and any id of good form is looked up."""
    user = meet(node={"cookie": {"signed": False}}, python={"signed": False})
    await user.node("change", a=1)
    assert await user.python("change", b=2) == {"a": 1, "b": 2}
    await user.python("regenerate")
    assert user.browser.cookie("koa.sid.sig") is None
    await user.node("change", c=3)
    assert user.browser.cookie("koa.sid.sig") is None
    await user.python("logout")
    assert await user.node("read") == {}


@only_koa
@pytest.mark.gen_test
async def test_another_hash_of_keygrip(meet):
    """What Python signs with it is told from what another hash signs."""
    user = meet(python={"algorithm": "sha256"})
    await user.python("change", a=1)
    assert len(user.browser.cookie("koa.sid.sig").value) == 43
    assert await user.python("read") == {"a": 1}
    assert await user.node("read") == {}


@pytest.mark.gen_test
async def test_a_prefix_of_ones_own(meet, framework, memcached):
    """Both keep their sessions under it."""
    user = meet(node={"prefix": "shop:"}, python={"prefix": "shop:"})
    await user.node("change", a=1)
    assert await user.python("change", b=2) == {"a": 1, "b": 2}
    (key,) = memcached.keys()
    assert key.startswith("shop:")


@pytest.mark.gen_test
async def test_several_cookies_of_the_name(user):
    """The one living session is used, as with any cookie of the package."""
    await user.python("change", a=1)
    good = user.browser.cookie_header()
    other = user.another()
    await other.python("change", b=1)
    ended = other.browser.cookie_header()
    await other.python("logout")
    user.browser.port = user.python_port
    headers = {"Cookie": f"{ended}; {good}"}
    assert (await user.browser.post("/read", headers=headers)).json() == {"a": 1}


@pytest.mark.gen_test
async def test_another_sites_form_begins_no_session(user):
    """The setting cross_site holds for these cookies, too."""
    user.browser.port = user.python_port
    headers = {"Sec-Fetch-Site": "cross-site"}
    response = await user.browser.post("/change", headers=headers, json={"a": 1})
    assert response.all_headers("Set-Cookie") == []
    assert user.manager.stats()["withheld_sessions"] == 1


@pytest.mark.parametrize("framework", [EXPRESS], ids=["express"])
@pytest.mark.gen_test
async def test_signs_that_express_escapes(user):
    """Among forty signatures some have a slash, a plus, or both."""
    seen = ""
    for _ in range(40):
        other = user.another()
        await other.python("change", a=1)
        seen += other.cookie
        assert await other.node("read") == {"a": 1}
        other = user.another()
        await other.node("change", a=2)
        assert await other.python("read") == {"a": 2}
    assert "%2B" in seen
    assert "%2F" in seen
