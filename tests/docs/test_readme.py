"""What the README shows is what happens: its code runs, its transcript is real."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ..support.memcached import Memcached
from ..support.processes import SERVER_PATH, Process, free_port

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()

PYTHON = re.findall(r"```python\n(.*?)```", README, re.S)
(TRANSCRIPT,) = re.findall(r"```console\n(.*?)```", README, re.S)
(PROGRAM,) = PYTHON
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
