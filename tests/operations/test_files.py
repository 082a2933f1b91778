"""The files of demo/deploy fit together; what cannot run here is at least read."""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tornado_mcsession import MemcachedStore
from tornado_mcsession.doctor import Doctor

from ..support.memcached import Memcached
from ..support.nginx import whole
from ..support.pages import ROOT
from ..support.pages import text_of as page_text
from ..support.processes import find_server
from .deployed import DEPLOY, replaced, text_of

COMPOSE = yaml.safe_load(text_of("compose.yaml"))
KUBERNETES = list(yaml.safe_load_all(text_of("kubernetes.yaml")))
SHOP = runpy.run_path(str(DEPLOY / "shop.py"))
ENDS_WITHIN = SHOP["HANDLERS_END"] + SHOP["SAVES_END"]  # after it has lingered


def of_kind(kind: str, name: str) -> Any:
    """An object of kubernetes.yaml."""
    (found,) = [
        each
        for each in KUBERNETES
        if (each["kind"], each["metadata"]["name"]) == (kind, name)
    ]
    return found


def container_of(kind: str, name: str) -> Any:
    (container,) = of_kind(kind, name)["spec"]["template"]["spec"]["containers"]
    return container


def environment_of(container: Any) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container["env"]}


def routes() -> set[str]:
    """The paths of the shop."""
    return set(re.findall(r'\("(/\w*)", ', text_of("shop.py")))


def test_systemd_gives_the_shop_the_time_that_it_takes() -> None:
    """As compose and Kubernetes do; it is killed after that."""
    (stop,) = re.findall(r"^TimeoutStopSec=(\d+)$", text_of("shop@.service"), re.M)
    assert int(stop) > SHOP["LINGER"] + ENDS_WITHIN
    for name in ("shop1", "shop2"):
        grace = COMPOSE["services"][name]["stop_grace_period"]
        assert int(grace.removesuffix("s")) > SHOP["LINGER"] + ENDS_WITHIN
    shop = of_kind("Deployment", "shop")["spec"]["template"]["spec"]
    linger = float(environment_of(shop["containers"][0])["LINGER"])
    assert shop["terminationGracePeriodSeconds"] > linger + ENDS_WITHIN


@pytest.mark.parametrize("name", ["nginx.conf", "compose.yaml"])
def test_nginx_closes_idle_connections_before_the_shop_does(name: str) -> None:
    """So that no request meets a connection that is being closed."""
    (seconds,) = re.findall(r"keepalive_timeout (\d+)s;", text_of(name))
    assert int(seconds) < SHOP["LINGER"]


def test_the_addresses_of_nginx_are_those_of_the_sockets() -> None:
    """For the ports that the service file names."""
    assert "ListenStream=127.0.0.1:%i\n" in text_of("shop@.socket")
    assert "Requires=shop@%i.socket\n" in text_of("shop@.service")
    ports = re.findall(r"server 127\.0\.0\.1:(\d+) ", text_of("nginx.conf"))
    assert ports == ["8001", "8002"]


def test_the_image_has_all_that_it_copies() -> None:
    """From the project's top folder; and the port that is asked for."""
    copied = re.findall(r"^COPY (.*) \S+$", text_of("Dockerfile"), re.M)
    sources = [source for line in copied for source in line.split()]
    assert len(sources) == 7
    for source in sources:
        assert (ROOT / source).exists(), source
    (port,) = re.findall(r"^EXPOSE (\d+)$", text_of("Dockerfile"), re.M)
    assert f"PORT={port} " in text_of("Dockerfile")
    assert f"127.0.0.1:{port}/healthz" in text_of("Dockerfile")
    assert container_of("Deployment", "shop")["ports"][0]["containerPort"] == int(port)


def test_the_nginx_of_compose_starts(tmp_path: Path) -> None:
    """nginx accepts what compose hands to it."""
    content = COMPOSE["configs"]["nginx"]["content"].replace("$$", "$")
    content = replaced(
        content,
        ("shop1:8000", "127.0.0.1:8001"),
        ("shop2:8000", "127.0.0.1:8002"),
    )
    (tmp_path / "shop.conf").write_text(content)
    (tmp_path / "nginx.conf").write_text(
        whole(tmp_path, f"include {tmp_path}/shop.conf;")
    )
    command = [find_server("nginx"), "-t", "-e", "stderr", "-p", str(tmp_path)]
    done = subprocess.run(
        [*command, "-c", str(tmp_path / "nginx.conf")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_what_compose_names_is_there() -> None:
    """The store is one of its services, and all secrets come from outside."""
    store = COMPOSE["services"]["shop1"]["environment"]["STORE"]
    assert store == "memcached://memcached:11211"
    assert "memcached" in COMPOSE["services"]
    assert "ports" not in COMPOSE["services"]["memcached"]
    assert COMPOSE["services"]["shop1"]["environment"]["COOKIE_SECRET"].startswith("$")


@pytest.mark.integration
@pytest.mark.parametrize("where", ["compose", "Kubernetes", "systemd"])
def test_memcached_takes_its_arguments(where: str) -> None:
    """And can keep sessions then, as the doctor says."""
    if where == "compose":
        arguments = COMPOSE["services"]["memcached"]["command"][1:]
    elif where == "Kubernetes":
        arguments = container_of("StatefulSet", "memcached")["args"]
    else:
        (line,) = re.findall(r"^ExecStart=(/.*)$", text_of("memcached.conf"), re.M)
        arguments = shlex.split(line)[5:-2]
    with Memcached(*arguments) as server:
        (findings,) = Doctor(server.url).examine()
    assert findings.ok
    assert {remark.kind for remark in findings.remarks} <= {"note"}
    # "-X -F" are what this remark would advise.
    assert "open" not in {remark.code for remark in findings.remarks}


@pytest.mark.parametrize(
    ("kind", "name"), [("Deployment", "shop"), ("StatefulSet", "memcached")]
)
def test_the_objects_of_kubernetes_find_each_other(kind: str, name: str) -> None:
    """Selectors have the labels of the pods."""
    spec = of_kind(kind, name)["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"] == labels
    assert of_kind("Service", name)["spec"]["selector"] == labels
    budget = of_kind("PodDisruptionBudget", name)["spec"]["selector"]
    assert budget["matchLabels"] == labels


def test_the_policy_lets_the_shop_reach_memcached() -> None:
    """And nobody else."""
    spec = of_kind("NetworkPolicy", "memcached")["spec"]
    assert spec["podSelector"]["matchLabels"] == {"app": "memcached"}
    (rule,) = spec["ingress"]
    assert rule["from"] == [{"podSelector": {"matchLabels": {"app": "shop"}}}]


def test_kubernetes_asks_pages_that_there_are() -> None:
    """The readiness probe asks for memcached, the liveness probe does not."""
    container = container_of("Deployment", "shop")
    ready = container["readinessProbe"]["httpGet"]["path"]
    alive = container["livenessProbe"]["httpGet"]["path"]
    assert (ready, alive) == ("/readyz", "/healthz")
    assert {ready, alive} <= routes()
    assert "livenessProbe" not in container_of("StatefulSet", "memcached")


def test_kubernetes_names_each_memcached() -> None:
    """As many as there are, by the names that the cluster gives them."""
    store = environment_of(container_of("Deployment", "shop"))["STORE"]
    servers = re.findall(r"(mc\d)=(memcached-(\d))\.memcached:11211", store)
    replicas = of_kind("StatefulSet", "memcached")["spec"]["replicas"]
    assert [int(number) for *_, number in servers] == list(range(replicas))
    assert of_kind("StatefulSet", "memcached")["spec"]["serviceName"] == "memcached"
    assert of_kind("Service", "memcached")["spec"]["clusterIP"] == "None"
    nodes = MemcachedStore.from_url(store).stats()["nodes"]
    assert set(nodes) == {name for name, *_ in servers}


def test_memcached_has_more_memory_than_it_fills() -> None:
    """Else the cluster would kill it."""
    container = container_of("StatefulSet", "memcached")
    arguments = container["args"]
    fills = int(arguments[arguments.index("-m") + 1])
    limit = int(container["resources"]["limits"]["memory"].removesuffix("Mi"))
    assert limit >= fills * 1.25


def test_the_file_for_twemproxy_is_that_of_the_page(tmp_path: Path) -> None:
    """And nutcracker takes it."""
    file = DEPLOY / "nutcracker.yml"
    (advised,) = re.findall(r"```yaml\n(.*?)```", page_text("twemproxy.md"), re.S)
    assert yaml.safe_load(advised) == yaml.safe_load(file.read_text())
    command = [find_server("nutcracker"), "-t", "-c", str(file)]
    subprocess.run(command, check=True, capture_output=True)


def test_prometheus_finds_the_alerts() -> None:
    """Under the name that they have in the documentation."""
    named = yaml.safe_load(text_of("prometheus.yml"))["rule_files"]
    folder = ROOT / "docs" / "operations" / "monitoring"
    assert all((folder / name).exists() for name in named)


def test_each_file_is_explained() -> None:
    """A page of docs/operations leads to it."""
    pages = (ROOT / "docs" / "operations").glob("*.md")
    text = "".join(page.read_text() for page in pages)
    for path in DEPLOY.iterdir():
        if path.is_file():
            assert f"../../demo/deploy/{path.name})" in text, path.name
