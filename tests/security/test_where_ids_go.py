"""A session's cookie is in no log and no URL, whatever becomes of its request."""

from __future__ import annotations

import logging

import pytest
from tornado.web import HTTPError, RequestHandler, authenticated

from tornado_mcsession import SessionMixin

from ..support.scripted import down
from ..unit.test_secrecy import Ear
from .target import HEADER, SECRET, WAYS

ways = pytest.mark.parametrize("way", WAYS)


@pytest.fixture
def heard():
    """All that is logged during a test, at every level, with tracebacks."""
    ear, root = Ear(), logging.getLogger()
    level = root.level
    root.addHandler(ear)
    root.setLevel(logging.DEBUG)
    yield ear.heard
    root.setLevel(level)
    root.removeHandler(ear)


class Troubled(SessionMixin, RequestHandler):
    """Ends as the path says, with a session that was read and written."""

    async def get(self):
        self.session["n"] = self.session.get("n", 0) + 1
        act = getattr(self, self.request.path.strip("/"))()
        if act is not None:  # @authenticated may redirect instead
            await act

    post = get

    def get_current_user(self):
        return self.session.principal

    def get_login_url(self):
        return "/login"

    async def fine(self):
        self.write("body")

    async def breaks(self):
        raise ZeroDivisionError(f"in {self.request!r}")

    async def refuses(self):
        raise HTTPError(403, "refused %s", self.request.uri)

    async def login(self):
        await self.session.login("ann")
        self.redirect("/fine")

    @authenticated
    async def secret(self):
        self.write("secret")

    async def logout(self):
        self.session = None
        self.redirect("/fine")

    async def unsaved(self):
        self.session["n"] = {1, 2}

    async def twice(self):
        await self.finish()
        self.session["n"] = 0


PATHS = "fine breaks refuses secret unsaved twice login logout".split()


def wrong_values(target, session_id):
    """What a client may make of the cookie that it was given."""
    signed = target.sign(session_id)
    return [signed[:-1], signed + "x", f"3{signed[1:]}", f"1|2|{session_id}", "|||"]


async def trouble(target):
    """Requests of all kinds; returns the answers and what must be in no log."""
    answers, secrets = [], []
    session_id = await target.begin()
    secrets.append(session_id)
    for path in PATHS:
        for fault in (None, "get", "cas"):
            if fault:
                target.store.script(fault, down)
            carried = target.carrying(session_id)
            secrets += [value.removeprefix("session=") for value in carried.values()]
            answers.append(await target.ask(f"/{path}?q=1", carried))
            target.store.scripts.clear()
            told = target.told(answers[-1])
            if told:
                session_id = told
                secrets.append(told)
    if target.way == "signed":
        for value in wrong_values(target, session_id):
            headers = {"Cookie": f"session={value}"}
            answers.append(await target.ask("/fine", headers))
    return answers, secrets


@ways
@pytest.mark.gen_test
async def test_no_log_has_a_cookie(attack, way, heard):
    """Through errors, outages, redirects and forgeries, also at level DEBUG."""
    target = attack(Troubled, way)
    _, secrets = await trouble(target)
    text = "\n".join(heard)
    for expected in ("ZeroDivisionError", "503", "refused /refuses?q=1", "302 GET"):
        assert expected in text
    assert len(secrets) > 20
    assert not [secret for secret in {*secrets, SECRET} if secret in text]


@ways
@pytest.mark.gen_test
async def test_an_answer_has_the_id_in_its_own_header_alone(attack, way):
    """No Location, no other header and no body has it, nor has an error page."""
    target = attack(Troubled, way, debug=False)
    answers, secrets = await trouble(target)
    places = []
    for answer in answers:
        for name, value in answer.headers.items():
            if any(secret in value for secret in secrets):
                places.append(name.lower())
        assert not [secret for secret in secrets if secret.encode() in answer.body]
    assert set(places) == {HEADER.lower() if way == "header" else "set-cookie"}
    assert {answer.status for answer in answers} >= {200, 302, 403, 500, 503}
