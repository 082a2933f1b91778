"""The pages under docs/reference that list what is in the code."""

from __future__ import annotations

import re
from typing import Any

import pytest

import tornado_mcsession
from tornado_mcsession import MsgpackSerializer, SessionManager
from tornado_mcsession.__main__ import main
from tornado_mcsession.sessions.record import Record

from ..support.memcached import Memcached
from ..support.pages import blocks, text_of

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
