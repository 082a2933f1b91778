"""``python -m tornado_mcsession``, as an operator or a script runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tornado_mcsession import MemcachedStore
from tornado_mcsession.doctor import examination

from ..support.pages import page
from ..support.processes import free_port
from ..support.tls import tls_url
from .doctoring import ENVIRONMENT, QUOTED, SECRET, USER, run, run_process, start

pytestmark = pytest.mark.integration

DOCS = page("doctor.md")

TEXT, WHOLE, NUMBER, TRUTH = (str,), (int,), (int, float), (bool,)
REMARK = {"kind": TEXT, "code": TEXT, "text": TEXT, "advice": TEXT}
# What the output is made of; a fact that could not be found out is null.
NODE: dict[str, Any] = {
    "ok": TRUTH,
    "name": TEXT,
    "share": NUMBER,
    "version": TEXT,
    "uptime": WHOLE,
    "round_trip": {"median": NUMBER, "worst": NUMBER, "reads": WHOLE},
    "commands": dict.fromkeys(["gets", "add", "cas"], TRUTH),
    "cas": TRUTH,
    "same_server": TRUTH,
    "item_size_max": WHOLE,
    "memory": {
        "used": WHOLE,
        "limit": WHOLE,
        "evicts": TRUTH,
        "evictions": WHOLE,
        "refused": WHOLE,
    },
    "connections": {"now": WHOLE, "limit": WHOLE, "refused": WHOLE},
    "authentication": TEXT,
    "tls": {
        "protocol": TEXT,
        "cipher": TEXT,
        "certificate_ends": TEXT,
        "certificate_left": NUMBER,
    },
    "clock": {"difference": NUMBER, "uncertainty": NUMBER},
    "remarks": [REMARK],
}
SURE = {"ok", "name", "share", "commands", "remarks", *REMARK}
WORDS = {
    "kind": {"problem", "warning", "note"},
    "authentication": {"none", "accepted", "not asked for", "refused", "missing"},
}


def check(value: Any, shape: Any, name: str = "") -> None:
    """``value`` has this shape; but for what is `SURE`, it may be null."""
    if value is None:
        assert name not in SURE
    elif isinstance(shape, dict):
        assert list(value) == list(shape)
        for key, part in shape.items():
            check(value[key], part, key)
    elif isinstance(shape, list):
        for item in value:
            check(item, shape[0])
    else:
        assert type(value) in shape
        assert name not in WORDS or value in WORDS[name]


def report(*urls: str) -> tuple[int, dict[str, Any]]:
    """The exit status and the JSON object for a URL, whose shape is right."""
    done = run("doctor", *urls, "--json")
    assert done.stderr == ""
    told = json.loads(done.stdout)
    assert list(told) == ["ok", "nodes"]
    assert told["ok"] is all(node["ok"] for node in told["nodes"])
    check(told["nodes"], [NODE])
    return done.returncode, told


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["doctor", "--help"]])
def test_alone_it_says_what_there_is(arguments):
    """Without arguments, and with --help, it tells the ways to call it."""
    done = run(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert "doctor URL" in done.stdout
    assert "standard input" in done.stdout
    assert "Every user of the machine can read the arguments" in done.stdout


def test_the_version_is_the_package_s():
    """--version names the package that is installed."""
    done = run("--version")
    assert done.returncode == 0
    assert done.stdout == f"tornado-mcsession {version('tornado-mcsession')}\n"


def test_a_healthy_node_is_status_0(memcached):
    """Warnings and notes do not change the status."""
    url = f"memcached://{USER}:{QUOTED}@127.0.0.1:{memcached.port}"
    done = run_process("doctor", url)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"127.0.0.1:{memcached.port}  can keep sessions" in done.stdout
    assert 0 < done.stdout.index("  warning ") < done.stdout.index("  note ")
    assert "The node can keep sessions." in done.stdout
    assert max(map(len, done.stdout.splitlines())) < 80


def test_a_node_that_cannot_is_status_1(memcached):
    """One of two is enough; the last line says what share of the sessions it has."""
    dead = free_port()
    url = f"memcached://127.0.0.1:{memcached.port},127.0.0.1:{dead}"
    done = run_process("doctor", url)
    assert (done.returncode, done.stderr) == (1, "")
    assert f"127.0.0.1:{memcached.port}  can keep sessions" in done.stdout
    assert f"127.0.0.1:{dead}  CANNOT KEEP SESSIONS" in done.stdout
    assert "  PROBLEM " in done.stdout
    last = done.stdout.splitlines()[-1]
    assert last.startswith("1 of 2 nodes cannot keep sessions: ")


def test_two_healthy_nodes_are_told_together(memcached, own_memcached):
    """Each node's share is told where there are more than one."""
    url = f"memcached://127.0.0.1:{memcached.port},127.0.0.1:{own_memcached.port}"
    done = run("doctor", url)
    assert done.returncode == 0
    assert done.stdout.count("% of the sessions") == 2
    assert done.stdout.endswith("All 2 nodes can keep sessions.\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["doctor"],
        ["docter", "memcached://127.0.0.1"],
        ["doctor", "memcached://127.0.0.1", "more"],
        ["doctor", "memcached://127.0.0.1", "--jso"],
        ["doctor", "127.0.0.1:11211"],
        ["doctor", ""],
        ["doctor", "memory://"],
    ],
)
def test_wrong_usage_is_status_2(arguments):
    """Whatever is wrong with the arguments, nothing is examined."""
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: python -m tornado_mcsession" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "url",
    ["http://host", "memcached://", "memcached://host?tiemout=1", "memcached://a,a"],
)
def test_a_wrong_url_has_the_store_s_own_text(url):
    """What MemcachedStore would say of a URL, the doctor says."""
    with pytest.raises(ValueError, match=r"store URL|servers") as raised:
        MemcachedStore.from_url(url)
    done = run("doctor", url)
    assert done.returncode == 2
    assert done.stderr.endswith(f"error: {raised.value}\n")


def test_memory_has_no_node():
    """memory:// is told apart from a URL that is wrong."""
    assert "in the application itself" in run("doctor", "memory://").stderr


def test_the_url_may_come_from_standard_input(memcached):
    """With - no other user of the machine sees the URL."""
    done = run("doctor", "-", input=f"{memcached.url}\n")
    assert done.returncode == 0
    assert "can keep sessions" in done.stdout


def test_no_url_from_standard_input_is_status_2():
    """An empty standard input is no URL."""
    assert run_process("doctor", "-", stdin=subprocess.DEVNULL).returncode == 2


def test_json_has_all_keys_of_a_healthy_node(memcached):
    """For a plain healthy node only TLS is null."""
    status, told = report(memcached.url)
    assert (status, told["ok"]) == (0, True)
    (node,) = told["nodes"]
    assert [key for key, value in node.items() if value is None] == ["tls"]


def test_json_has_the_same_keys_for_a_dead_node(memcached):
    """A node that is down has null where nothing is known, in the URL's order."""
    dead = free_port()
    status, told = report(f"memcached://127.0.0.1:{memcached.port},127.0.0.1:{dead}")
    assert (status, told["ok"]) == (1, False)
    names = [node["name"] for node in told["nodes"]]
    assert names == [f"127.0.0.1:{memcached.port}", f"127.0.0.1:{dead}"]
    _, told = report(f"memcached://127.0.0.1:{dead},127.0.0.1:{memcached.port}")
    assert [node["name"] for node in told["nodes"]] == names[::-1]


def test_json_tells_tls(tls_memcached):
    """The keys under tls are those that are documented."""
    status, told = report(tls_memcached.url)
    assert status == 0
    assert told["nodes"][0]["tls"]["certificate_left"] > 0


def test_json_of_a_proxy_has_nulls(memcached, twemproxy_factory):
    """What a proxy does not tell is null, in the same keys."""
    status, told = report(twemproxy_factory([memcached]).url)
    assert status == 0
    assert told["nodes"][0]["memory"] is None


def test_each_key_is_documented():
    """doctor.md explains every key of the JSON object, and each status."""
    text = DOCS.read_text(encoding="utf-8")

    def explained(shape: dict[str, Any]) -> None:
        for key, part in shape.items():
            assert f"`{key}`" in text
            if key != "commands" and isinstance(part, dict):
                explained(part)

    explained({**NODE, **REMARK})
    for word in set().union(*WORDS.values()):
        assert f'`"{word}"`' in text
    for status in ("0", "1", "2", "130"):
        assert f"| {status} |" in text


def test_each_code_is_documented():
    """docs/operations/doctor.md lists every code that a remark may have."""
    text = DOCS.read_text(encoding="utf-8")
    codes = {code for _, code, _, _ in examination.DIAGNOSES}
    for module in Path(examination.__file__).parent.glob("*.py"):
        source = module.read_text(encoding="utf-8")
        codes |= set(
            re.findall(r'(?:problem|warn|note|return )\(\s*"([a-z-]+)"', source)
        )
    assert len(codes) > 20
    for code in codes:
        assert f"`{code}`" in text, code


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["text", "json"])
@pytest.mark.parametrize(
    "case", ["accepted", "refused", "ignored", "dead", "tls", "wrong"]
)
def test_credentials_are_in_no_output(
    guarded, memcached, tls_memcached, certificates, case, form
):
    """Whatever comes of it, user name and password are in no line."""
    server = {
        "accepted": f"{USER}:{QUOTED}@127.0.0.1:{guarded.port}",
        "refused": f"nobody:{QUOTED}@127.0.0.1:{guarded.port}",
        "ignored": f"nobody:{QUOTED}@127.0.0.1:{memcached.port}",
        "dead": f"nobody:{QUOTED}@127.0.0.1:{free_port()}",
        "tls": f"nobody:{QUOTED}@127.0.0.1:{tls_memcached.port}",
        "wrong": f"nobody:{QUOTED}@127.0.0.1:{memcached.port}/path",
    }[case]
    done = run("doctor", "-", *form, input=f"memcached://{server}")
    assert done.returncode in (0, 1, 2)
    assert_quiet(done)
    if case == "tls":
        url = tls_url(tls_memcached.port, tls_ca=certificates.ca)
        assert_quiet(run("doctor", url.replace("://", f"://nobody:{QUOTED}@"), *form))


@pytest.mark.parametrize(
    "arguments",
    [
        ["memcached://nobody:{}@127.0.0.1"],
        ["doctor", "memcached://127.0.0.1", "--password={}"],
        ["doctor", "memcached://nobody:", "{}@127.0.0.1"],
        ["doctor", "memcached://nobody@127.0.0.1:{}"],
    ],
)
def test_wrong_arguments_are_not_repeated(arguments):
    """What does not belong there may be a password: it is not printed."""
    done = run(*(argument.format(QUOTED) for argument in arguments))
    assert done.returncode == 2
    assert_quiet(done)


def assert_quiet(done: subprocess.CompletedProcess[str]) -> None:
    for secret in ("nobody", SECRET, QUOTED, "s3cret"):
        assert secret not in done.stdout + done.stderr


def test_pages_come_as_they_are_known(memcached, proxy):
    """A node that hangs does not hold up the page of one that answers."""
    proxy.hang()
    url = f"{proxy.url},127.0.0.1:{memcached.port}?timeout=20"
    with start("doctor", url, stdout=subprocess.PIPE) as process:
        first = process.stdout.readline().decode()
        assert first.startswith(f"127.0.0.1:{memcached.port} ")
        proxy.pass_through()
        assert b"All 2 nodes can keep sessions." in process.stdout.read()
    assert process.returncode == 0


def test_who_reads_no_further_gets_the_status(memcached):
    """A closed pipe is no traceback, and hides no problem."""
    urls = {memcached.url: 0, f"{memcached.url},127.0.0.1:{free_port()}": 1}
    for url, status in urls.items():
        for form in ([], ["--json"]):
            reading, writing = os.pipe()
            os.close(reading)
            done = run_process("doctor", url, *form, stdout=writing)
            os.close(writing)
            assert (done.returncode, done.stderr) == (status, "")


def test_ctrl_c_ends_it_at_once(proxy):
    """An interrupt waits for no node, and is no traceback."""
    proxy.hang()
    process = start(
        "doctor",
        proxy.url + "?timeout=600",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Where the tests run in a shell's background, it would be ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 20
    while proxy.connections == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30) == (b"", b"")
    assert process.returncode == 130


def test_a_terminal_that_knows_few_characters_is_enough():
    """A host's name that cannot be printed is escaped."""
    environment = {**ENVIRONMENT, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = run_process("doctor", "memcached://h\u00f6st.invalid", env=environment)
    assert (done.returncode, done.stderr) == (1, "")
    assert "xn--hst-sna.invalid:11211" in done.stdout
