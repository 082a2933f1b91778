"""The pages under docs/reference that list what is in the code."""

from __future__ import annotations

import re
from typing import Any

import pytest
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler

import tornado_mcsession
from tornado_mcsession import MsgpackSerializer, SessionManager, SessionMixin
from tornado_mcsession.__main__ import main
from tornado_mcsession.sessions.record import Record
from tornado_mcsession.sessions.state import TRANSITIONS

from ..support.browser import Browser
from ..support.memcached import Memcached
from ..support.pages import blocks, figure, text_of

(LOOK,) = blocks("storage-format.md")
ID = "a" * 43


def rows(text: str) -> list[str]:
    """The names in code in the first cells of the tables."""
    return re.findall(r"^\| `([^`]+)`", text, re.M)


def test_each_public_name_is_listed() -> None:
    """docs/reference/api.md has all that the package exports."""
    listed = set(re.findall(r"^\.\. auto\w+:: ([\w.]+)", text_of("api.md"), re.M))
    assert set(tornado_mcsession.__all__) <= listed


def test_the_fields_of_a_record_are_listed_in_their_order() -> None:
    """docs/reference/storage-format.md has them all."""
    _, _, text = text_of("storage-format.md").partition("fields of the record -->")
    assert rows(text.partition("<!-- end")[0]) == list(Record.__struct_fields__)


@pytest.mark.integration
@pytest.mark.gen_test
async def test_a_record_can_be_looked_at(memcached: Memcached) -> None:
    """By the code of the page, with the fields where the table has them."""
    host, port = memcached.server
    manager = SessionManager(store=f"memcached://{host}:{port}")
    await manager.set(ID, {"n": 1})
    names: dict[str, Any] = {}
    exec(LOOK.replace("11211", str(port)), names)
    fields = dict(zip(Record.__struct_fields__, names["stored"](ID), strict=False))
    assert MsgpackSerializer().loads(fields["data"]) == {"n": 1}
    assert fields["principal"] is None
    await manager.close()


def test_the_arguments_of_the_command_are_listed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """docs/reference/command-line.md has each option that --help shows."""
    with pytest.raises(SystemExit):
        main(["--help"])
    options = set(re.findall(r"--\w+", capsys.readouterr().out))
    assert options == set(re.findall(r"`(--\w+)`", text_of("command-line.md")))


def test_the_states_are_drawn_as_they_are() -> None:
    """docs/figures/states.svg has the transitions of the code, and no others."""
    drawn = re.findall(r"<title>(\w+)&#45;&gt;(\w+)</title>", figure("states.svg"))
    wanted = {
        (phase.name, target.name)
        for phase, transitions in TRANSITIONS.items()
        for target in transitions.values()
    }
    assert {pair for pair in drawn if pair[0] != "start"} == wanted


class Visit(SessionMixin, RequestHandler):
    """Does what the query says."""

    async def get(self) -> None:
        match self.get_argument("do"):
            case "read":
                self.session.get("n")
            case "change":
                self.session["n"] = self.session.get("n", 0) + 1
            case "login":
                await self.session.login("bob")
            case "logout":
                await self.session.logout()


@pytest.mark.gen_test
async def test_a_request_asks_for_no_more_than_the_page_says(io_loop: Any) -> None:
    """docs/concepts/request.md has the operations of each kind of request."""
    app = Application([("/", Visit)], cookie_secret=ID, session={})
    manager = SessionManager(app)
    seen: list[str] = []
    manager.observe(lambda kind, *_: seen.append(kind))
    server = HTTPServer(app)
    socket, port = bind_unused_port()
    server.add_socket(socket)
    browser = Browser(port)

    async def asked(what: str) -> list[str]:
        seen.clear()
        await browser.get(f"/?do={what}")
        return [kind for kind in seen if kind not in ("begin", "end")]

    assert await asked("read") == []
    assert await asked("change") == ["add"]
    assert await asked("read") == ["get"]
    assert await asked("change") == ["get", "cas"]
    assert await asked("login") == ["get", "get", "add", "add", "cas"]
    assert await asked("read") == ["get_many"]
    assert await asked("change") == ["get_many", "cas"]
    assert await asked("login") == ["get_many", "get", "add", "cas"]
    assert await asked("logout") == ["get_many", "cas"]
    server.stop()
    await server.close_all_connections()
