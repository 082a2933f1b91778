"""What the README shows is what happens: its code runs, its transcript is real."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tornado.web import Application, RequestHandler, authenticated

from tornado_mcsession import SessionMixin

from ..support.browser import Browser
from ..support.memcached import Memcached
from ..support.processes import SERVER_PATH, Process, free_port

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()

PYTHON = re.findall(r"```python\n(.*?)```", README, re.S)
(TRANSCRIPT,) = re.findall(r"```console\n(.*?)```", README, re.S)
PROGRAM, HANDLERS, PAGE = PYTHON
(COMMANDS,) = re.findall(r"```sh\n(.*?)```", README, re.S)


def with_ports(text: str, port: int, memcached: Memcached) -> str:
    """Return ``text`` with the ports of this test in the place of the usual ones."""
    assert "8888" in text or "11211" in text
    return text.replace("8888", str(port)).replace("11211", str(memcached.port))


def without_chance(line: str) -> str:
    """Return a line of the transcript without what differs each time."""
    return re.sub(r"session=2\|[^;]*", "session=…", line)


def test_the_first_program_is_the_smallest_demo() -> None:
    """The README's program is demo/hello.py, line by line, but for its docstring."""
    demo = (ROOT / "demo" / "hello.py").read_text()
    assert demo.endswith(PROGRAM)


@pytest.mark.integration
def test_the_first_program_answers_as_the_transcript_says(
    memcached: Memcached, tmp_path: Path
) -> None:
    """The README's program, started as it stands, gives the README's transcript."""
    port = free_port()
    program = tmp_path / "hello.py"
    program.write_text(with_ports(PROGRAM, port, memcached))
    shown = re.split(r"^\$ (.*)\n", TRANSCRIPT, flags=re.M)[1:]
    server = Process([sys.executable, str(program)], port, cwd=ROOT)
    try:
        for command, expected in zip(shown[::2], shown[1::2], strict=True):
            printed = subprocess.run(
                ["bash", "-c", with_ports(command, port, memcached)],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=True,
                timeout=30,
            ).stdout
            got = [without_chance(line.rstrip()) for line in printed.splitlines()]
            assert got == [without_chance(line) for line in expected.splitlines()]
    finally:
        server.kill()


@pytest.mark.integration
def test_memcached_starts_as_it_says() -> None:
    """The README's command works for root as well, as in a container."""
    port = free_port()
    command = COMMANDS.splitlines()[0].partition(" &")[0].replace("11211", str(port))
    server = Process(["env", f"PATH={SERVER_PATH}", *command.split()], port)
    server.kill()


class Show(SessionMixin, RequestHandler):
    """Shows what the README's handlers left in the session."""

    def get(self) -> None:
        session = self.session
        self.write(
            {
                "cart": session.get("cart"),
                "votes": session.get("votes"),
                "flashes": session.flashes(),
                "principal": session.principal,
            }
        )


@pytest.fixture
def app() -> Application:
    names: dict[str, Any] = {
        "SessionMixin": SessionMixin,
        "RequestHandler": RequestHandler,
    }
    exec(HANDLERS + PAGE, names)

    class Secret(names["Page"]):
        @authenticated
        def get(self) -> None:
            self.write("secret")

    routes: list[Any] = [
        (f"/{name.lower()}", names[name])
        for name in ("Cart", "Login", "Logout", "Vote")
    ]
    return Application(
        [*routes, ("/", Show), ("/secret", Secret)],
        login_url="/login",
        cookie_secret="s",
        session={"store": "memory://"},
    )


@pytest.mark.gen_test
async def test_the_handlers_do_what_their_comments_say(browser: Browser) -> None:
    """The README's handlers keep a cart over a login, and end it at a logout."""
    for item in ("book", "pen"):
        await browser.post("/cart", form={"item": item})
    assert (await browser.get("/secret")).status == 302
    for path in ("/login", "/vote", "/vote"):
        await browser.post(path, form={})
    assert (await browser.get("/secret")).text == "secret"
    assert (await browser.get("/")).json() == {
        "cart": ["book", "pen"],
        "votes": 2,
        "flashes": [["info", "Added to your cart"]] * 2,
        "principal": "user-7",
    }
    await browser.post("/logout", form={})
    assert browser.cookie("session") is None
    assert (await browser.get("/")).json()["cart"] is None
