"""The quick start and the tutorial: their programs run, their transcripts are real."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ..support.browser import Browser
from ..support.pages import ROOT, blocks, programs
from ..support.processes import SERVER_PATH, Process, free_port

README = (ROOT / "README.md").read_text()
# What differs each time, or with the release of Tornado.
CHANCE = [
    (r"session=2\|[^;]*", "session=…"),
    (r"^(Server|Date): .*", r"\1: …"),
]


def without_chance(text: str) -> list[str]:
    for pattern, put in CHANCE:
        text = re.sub(pattern, put, text, flags=re.M)
    return [line.rstrip() for line in text.splitlines()]


# docs/start/quick-start.md


def test_the_first_program_is_the_smallest_demo() -> None:
    """It is demo/hello.py, line by line, but for its docstring."""
    demo = (ROOT / "demo" / "hello.py").read_text()
    (program,) = programs("quick-start.md")
    assert demo.endswith(program)


def test_the_first_page_of_the_site_shows_the_same_program() -> None:
    """So the tests of the quick start run it, too."""
    assert programs("index.md") == programs("quick-start.md")


@pytest.mark.integration
def test_the_transcript_is_what_curl_prints(
    start: Callable[..., Process], shell: Callable[..., str]
) -> None:
    """Line by line, from the program as it stands on the page."""
    (transcript,) = blocks("quick-start.md", "console")
    shown = re.split(r"^\$ (.*)\n", transcript, flags=re.M)[1:]
    assert len(shown) == 4
    server = start("quick-start.md")
    for command, expected in zip(shown[::2], shown[1::2], strict=True):
        printed = shell(command.replace("curl ", "curl -s "), server.port)
        assert without_chance(printed) == without_chance(expected)


@pytest.mark.integration
def test_memcached_starts_as_it_says() -> None:
    """The command of the page works for root as well, as in a container."""
    port = free_port()
    run = blocks("quick-start.md", "sh")[1]
    command = run.splitlines()[0].partition(" &")[0].replace("11211", str(port))
    server = Process(["env", f"PATH={SERVER_PATH}", *command.split()], port)
    server.kill()


def test_it_is_installed_as_the_readme_says() -> None:
    """The commands are the same."""
    for line in blocks("quick-start.md", "sh")[0].splitlines():
        assert re.sub(" +", " ", line) in re.sub(" +", " ", README)


# docs/start/tutorial.md


_, *PARTS, BOARD, TEST = blocks("tutorial.md")


@pytest.mark.integration
@pytest.mark.gen_test
async def test_the_first_step_remembers_a_visitor(
    start: Callable[..., Process],
) -> None:
    """As it stands there."""
    browser = Browser(start("tutorial.md", 0).port)
    pages = [(await browser.get("/")).text for _ in range(2)]
    assert pages == [f"{n} new since your last visit\n" for n in (1, 0)]


@pytest.mark.parametrize("number", range(len(PARTS)))
def test_each_part_is_in_the_whole_program(number: int) -> None:
    """Word for word."""
    assert PARTS[number].rstrip("\n") in BOARD


@pytest.mark.integration
@pytest.mark.gen_test
async def test_the_whole_program_keeps_the_roles(start: Callable[..., Process]) -> None:
    """Strangers read, users write, editors remove, and a logout ends that."""
    browser = Browser(start("tutorial.md").port)

    async def post(path: str, **fields: str) -> int:
        page = (await browser.get("/")).text
        (token, *_) = re.findall(r'name="_xsrf" value="([^"]*)"', page)
        form = {"_xsrf": token, **fields}
        return (await browser.post(path, form=form)).status

    async def shows(text: str) -> bool:
        return text in (await browser.get("/")).text

    assert await post("/write", text="<Hi>") == 403
    await post("/login", name="bob", password="pen")
    assert await shows("That was wrong.")
    await post("/login", name="bob", password="ink")
    assert await shows("Hello bob.")
    assert await post("/write", text="<Hi>") == 303
    assert await shows("Your notice is on the board.")
    assert await shows("&lt;Hi&gt;")
    assert not await shows("Remove</button>")
    assert await post("/remove", text="<Hi>") == 403
    await post("/logout")
    assert await post("/write", text="again") == 403
    await post("/login", name="ann", password="pen")
    assert await shows("Remove</button>")
    assert await post("/remove", text="<Hi>") == 303
    assert await shows("Removed &lt;Hi&gt;.")
    assert (await browser.post("/remove", form={"text": "Welcome"})).status == 403


def test_the_test_passes(tmp_path: Path) -> None:
    """As it stands there, beside the program, with pytest alone."""
    (tmp_path / "board.py").write_text(BOARD)
    (tmp_path / "test_board.py").write_text(TEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "test_board.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
