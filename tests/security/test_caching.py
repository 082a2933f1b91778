"""Whatever a request does to its session, caches are told that its answer depends
on it; and with the cookie, that it is for its user alone."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta

import pytest
from tornado.web import HTTPError, RequestHandler, StaticFileHandler

from tornado_mcsession import Session, SessionMixin

from .target import HEADER

SHARED = "public, s-maxage=60, max-age=30"
PRIVATE = 'private, no-cache="Set-Cookie"'
SOON = datetime.fromtimestamp(1_800_000_000, UTC) + timedelta(hours=1)


def refuses_typed(session):
    """These sessions have no schema; to ask for it is a use all the same."""
    with pytest.raises(TypeError):
        session.typed(dict)


READS = {
    "typed": refuses_typed,
    "getitem": lambda s: s["a"],
    "get": lambda s: s.get("a"),
    "get missing": lambda s: s.get("missing"),
    "in": lambda s: "a" in s,
    "not in": lambda s: "missing" not in s,
    "len": len,
    "bool": bool,
    "not": lambda s: not s,
    "iter": lambda s: next(iter(s), None),
    "list": list,
    "dict": dict,
    "unpacked": lambda s: {**s},
    "keys": lambda s: list(s.keys()),
    "in keys": lambda s: "a" in s.keys(),
    "values": lambda s: list(s.values()),
    "items": lambda s: list(s.items()),
    "eq": lambda s: s == {},
    "ne": lambda s: s != {},
    "eq reversed": lambda s: {} == s,
    "copy": lambda s: s.copy(),
    "exists": lambda s: s.exists,
    "presented": lambda s: s.presented,
    "or": lambda s: s | {},
    "ror": lambda s: {} | s,
    "flashes": lambda s: s.flashes(),
    "flashes of": lambda s: s.flashes("none"),
    "id": lambda s: s.id,
    "is_new": lambda s: s.is_new,
    "created": lambda s: s.created,
    "expires_at": lambda s: s.expires_at,
    "last_used": lambda s: s.last_used,
    "idle_timeout": lambda s: s.idle_timeout,
    "principal": lambda s: s.principal,
    "impersonator": lambda s: s.impersonator,
    "authenticated_at": lambda s: s.authenticated_at,
    "persistent": lambda s: s.persistent,
}
CHANGES = {
    "setitem": lambda s: s.__setitem__("b", 1),
    "delitem": lambda s: s.__delitem__("a"),
    "setdefault": lambda s: s.setdefault("b", 1),
    "setdefault there": lambda s: s.setdefault("a", 1),
    "update": lambda s: s.update(b=1),
    "ior": lambda s: s.__ior__({"b": 1}),
    "pop": lambda s: s.pop("a"),
    "pop default": lambda s: s.pop("missing", None),
    "popitem": lambda s: s.popitem(),
    "clear": lambda s: s.clear(),
    "replace": lambda s: s.replace({"b": 1}),
    "flash": lambda s: s.flash("hello"),
    "nested": lambda s: s["list"].append(1),
}
SENDS = {
    "remember": lambda s: s.remember(True),
    "set_idle_timeout": lambda s: s.set_idle_timeout(60),
    "set_expiry": lambda s: s.set_expiry(SOON),
}


async def revoke_others(session):
    with contextlib.suppress(RuntimeError):  # nobody is logged in
        await session.revoke_others()


async def stop_impersonating(session):
    with contextlib.suppress(RuntimeError):  # nobody acts as another user
        await session.stop_impersonating()


async def impersonate(session):
    await session.login("ann")
    await session.impersonate("bob")


AWAITED = {
    "save": lambda s: s.save(),
    "reload": lambda s: s.reload(),
    "transact": lambda s: s.transact(lambda data: None),
    "revoke_others": revoke_others,
    "stop_impersonating": stop_impersonating,
}
AWAITED_SENDS = {
    "touch": lambda s: s.touch(),
    "regenerate": lambda s: s.regenerate(),
    "login": lambda s: s.login("ann"),
    "impersonate": impersonate,
    "destroy": lambda s: s.destroy(),
    "logout": lambda s: s.logout(),
}
USES = {**READS, **CHANGES, **SENDS, **AWAITED, **AWAITED_SENDS}
TELLS = {**SENDS, **AWAITED_SENDS}
# What they tell is about the request, or is the application's to forbid.
NO_USE = {"accessed", "available", "modified"}


class Page(SessionMixin, RequestHandler):
    """Uses its session as the query says, then ends as its path says."""

    def loads(self):
        return self.session

    async def get(self, *_):
        self.set_header("Cache-Control", SHARED)
        session = self.loads()
        if self.session_load == "lazy":
            session = await self.load_session()
        if use := self.get_query_argument("use", None):
            done = USES[use](session)
            if use in AWAITED or use in AWAITED_SENDS:
                await done
        await getattr(self, self.request.path[1:])()

    async def page(self):
        self.write("body")

    async def redirect_(self):
        self.redirect("/elsewhere")

    async def missing(self):
        raise HTTPError(404)

    async def broken(self):
        raise ZeroDivisionError

    async def streams(self):
        self.write("bo")
        await self.flush()
        self.write("dy")

    async def empty(self):
        self.set_status(204)

    async def through_manager(self):
        session_id = self.session_id
        manager = self.settings["session_manager"]
        self.write(str(await manager.get(session_id)))


class LazyPage(Page):
    session_load = "lazy"

    def loads(self):
        return None


DATA = {"a": 1, "list": []}


def cache_headers(response):
    return response.header("Vary"), response.header("Cache-Control")


async def ask(target, path, use=None, **headers):
    session_id = await target.begin(**DATA)
    query = f"?use={use.replace(' ', '%20')}" if use else ""
    return await target.ask(path + query, {**target.carrying(session_id), **headers})


def test_each_name_of_a_session_is_tried():
    """A new verb or property has to be added here, and so to be thought of."""
    public = {name for name in dir(Session) if not name.startswith("_")}
    tried = {name.split()[0] for name in USES}
    assert public - tried == NO_USE


@pytest.mark.parametrize("handler", [Page, LazyPage], ids=["eager", "lazy"])
@pytest.mark.parametrize("use", USES)
@pytest.mark.gen_test
async def test_each_use_makes_the_answer_vary(attack, handler, use):
    """And where it brings a cookie, no shared cache may keep the answer."""
    target = attack(handler)
    vary, cache = cache_headers(response := await ask(target, "/page", use))
    assert response.status == 200
    assert vary == "Cookie"
    assert (target.told(response) is not None) is (use in TELLS)
    assert cache == ("max-age=30, " + PRIVATE if use in TELLS else SHARED)


@pytest.mark.parametrize("handler", [Page, LazyPage], ids=["eager", "lazy"])
@pytest.mark.parametrize("use", READS)
@pytest.mark.gen_test
async def test_an_answer_to_a_visitor_varies_too(attack, handler, use):
    """Else caches would show it to those who have a session."""
    target = attack(handler)
    if use == "getitem":
        use = "get"  # there is nothing
    response = await target.ask(f"/page?use={use.replace(' ', '%20')}")
    assert cache_headers(response) == ("Cookie", SHARED)


@pytest.mark.parametrize("handler", [Page, LazyPage], ids=["eager", "lazy"])
@pytest.mark.gen_test
async def test_only_loading_it_is_no_use(attack, handler):
    """An answer that has nothing of the session may be shared as it is."""
    response = await ask(attack(handler), "/page")
    assert cache_headers(response) == (None, SHARED)


ENDS = {
    "/redirect_": (302, SHARED),
    "/missing": (404, None),
    "/broken": (500, None),
    "/streams": (200, SHARED),
    "/empty": (204, SHARED),
}


@pytest.mark.parametrize("handler", [Page, LazyPage], ids=["eager", "lazy"])
@pytest.mark.parametrize(("path", "expected"), ENDS.items(), ids=ENDS)
@pytest.mark.parametrize("use", ["in", "set_idle_timeout", "login"])
@pytest.mark.gen_test
async def test_each_kind_of_answer_varies(attack, handler, path, expected, use):
    """Redirects, error pages and streams as well."""
    status, cache = expected
    target = attack(handler)
    response = await ask(target, path, use)
    assert (response.status, response.header("Vary")) == (status, "Cookie")
    # What a broken request did is dropped, but a login was done before.
    told = use == "login" or (use in TELLS and status < 500)
    assert (target.told(response) is not None) is told
    if told:
        assert response.header("Cache-Control").endswith(PRIVATE)
        assert "public" not in response.header("Cache-Control")
    else:
        assert response.header("Cache-Control") == cache


@pytest.mark.parametrize("use", ["in", "flashes", "len", "principal"])
@pytest.mark.gen_test
async def test_not_modified_varies_as_its_page_does(attack, use):
    """A 304 has the Vary of the 200 that it stands for (RFC 9110, 15.4.5)."""
    target = attack(Page)
    etag = (await ask(target, "/page", use)).header("Etag")
    response = await ask(target, "/page", use, **{"If-None-Match": etag})
    assert (response.status, response.header("Vary")) == (304, "Cookie")


@pytest.mark.gen_test
async def test_a_session_through_the_manager_varies(attack):
    """Its id is the session's: asking for it is a use."""
    response = await ask(attack(Page), "/through_manager")
    assert "loaded" in response.text
    assert response.header("Vary") == "Cookie"


@pytest.mark.parametrize("use", ["in", "set_idle_timeout"])
@pytest.mark.gen_test
async def test_a_versioned_file_that_uses_the_session(attack, tmp_path, use):
    """StaticFileHandler lets caches keep ?v= for ten years: not with the cookie."""
    (tmp_path / "file.txt").write_text("body")

    class Static(SessionMixin, StaticFileHandler):
        def set_extra_headers(self, path):
            USES[use](self.session)

    target = attack([("/(.*)", Static, {"path": str(tmp_path)})])
    session_id = await target.begin(**DATA)
    response = await target.ask("/file.txt?v=1", target.carrying(session_id))
    assert response.header("Vary") == "Cookie"
    expected = "max-age=315360000" + (f", {PRIVATE}" if use in TELLS else "")
    assert response.header("Cache-Control") == expected


@pytest.mark.parametrize("use", ["in", "setitem", "login"])
@pytest.mark.gen_test
async def test_an_id_in_a_header_is_not_stored(attack, use):
    """Vary names that header; an answer that tells an id is kept by no cache."""
    target = attack(Page, "header")
    response = await ask(target, "/page", use)
    assert response.header("Vary") == HEADER
    told = target.told(response) is not None
    assert told is (use == "login")
    assert response.header("Cache-Control") == ("no-store" if told else SHARED)
