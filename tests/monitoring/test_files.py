"""The dashboard, the alert rules and the guide name only metrics that there are."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry
from tornado.httpclient import AsyncHTTPClient
from tornado.web import Application

from tornado_mcsession import MemcachedStore, SessionManager, access_log
from tornado_mcsession.metrics import SessionMetrics

from ..support.memcached import Memcached
from ..support.pages import page, text_of
from ..support.processes import Process, free_port

FILES = page("monitoring.md").parent / "monitoring"
DASHBOARD = FILES / "dashboard.json"
ALERTS = FILES / "alerts.yml"
PREFIX = "tornado_mcsession_"
LABELS = {"manager", "kind", "node", "outcome", "phase", "reason", "state", "le"}


@pytest.fixture(scope="module")
def known() -> set[str]:
    """The names of all samples, as Prometheus gets them."""
    registry = CollectorRegistry()
    manager = SessionManager(store=MemcachedStore("127.0.0.1:11211"))
    SessionMetrics(manager, registry=registry)
    names = set()
    for family in registry.collect():
        if family.type == "histogram":
            names |= {f"{family.name}{end}" for end in ("_bucket", "_count", "_sum")}
        else:
            names.add(family.name + "_total" * (family.type == "counter"))
    return names


def expressions(path: Path) -> list[str]:
    if path.suffix == ".json":
        panels = json.loads(path.read_text())["panels"]
        return [target["expr"] for panel in panels for target in panel["targets"]]
    return [path.read_text()]


@pytest.mark.parametrize("path", [DASHBOARD, ALERTS], ids=lambda path: path.name)
def test_each_metric_exists(path, known):
    """With the labels that are asked for."""
    found = set(re.findall(rf"{PREFIX}\w+", path.read_text()))
    assert len(found) > 6
    assert found <= known
    for expression in expressions(path):
        for names in re.findall(r"by \(([^)]*)\)", expression):
            assert set(re.split(r",\s*", names)) <= LABELS
        for asked in re.findall(
            r"\{([^{}]*)\}", re.sub(r"\{\{.*?\}\}", "", expression)
        ):
            assert set(re.findall(r"(\w+)[=!]", asked)) <= LABELS


def test_each_metric_is_in_the_reference(known):
    """And on the dashboard, which shows all that there is."""
    table = text_of("metrics.md").partition("## Prometheus")[2].partition("\n## ")[0]
    told = {PREFIX + name for name in re.findall(r"`(\w+)`", table)}
    shown = DASHBOARD.read_text()
    for name in known:
        family = re.sub("(_bucket|_count|_sum)$", "", name)
        assert {name, family} & told, name
        assert family in shown, name


@pytest.mark.integration
@pytest.mark.gen_test
async def test_the_program_of_the_guide(
    tmp_path: Path, io_loop: object, own_memcached: Memcached
) -> None:
    """It runs, and its metrics are those that the guide shows."""
    guide = text_of("monitoring.md")
    program = re.search(r"```python\n(.*?)```", guide, re.S)[1]
    shown = re.search(r"```console\n.*?\n(.*?)```", guide, re.S)[1].splitlines()
    ports = {"8888": free_port(), "9100": free_port(), "11211": own_memcached.port}
    for port, own in ports.items():
        assert port in program
        program = program.replace(port, str(own))
    path = tmp_path / "program.py"
    path.write_text(program)
    client = AsyncHTTPClient()
    server = Process([sys.executable, str(path)], ports["8888"])
    try:
        base = f"http://127.0.0.1:{ports['8888']}"
        page = await client.fetch(f"{base}/")
        assert page.body == b"visit 1\n"
        ready = json.loads((await client.fetch(f"{base}/ready")).body)
        assert ready["status"] == "ok"
        metrics = await client.fetch(f"http://127.0.0.1:{ports['9100']}/")
        lines = metrics.body.decode().splitlines()
        assert "INFO:tornado.access:200 GET / (127.0.0.1)" in server.output()
    finally:
        server.terminate()
    for line in shown:
        assert line.replace("11211", str(ports["11211"])) in lines


def test_the_other_code_of_the_guide(capsys):
    """One line for OpenTelemetry, and an access log of one's own format."""
    guide = text_of("monitoring.md")
    _, one_line, own_format = re.findall(r"```python\n(.*?)```", guide, re.S)
    app = Application()
    exec(one_line, {"SessionManager": SessionManager, "app": app})
    names = {"Application": Application, "access_log": access_log, "handlers": []}
    exec(own_format, names)
    handler = SimpleNamespace(request=SimpleNamespace(path="/a"))
    names["as_json"](handler, 503)
    assert json.loads(capsys.readouterr().out) == {"path": "/a", "status": 503}
    assert names["app"].settings["log_function"]
