"""The servers that are measured, each a process of its own."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from .programs import is_importable

__all__ = ["OURS", "SUBJECTS", "Subject"]

HERE = Path(__file__).parent
NODE = HERE / "node"
BENCH = "pip install -e '.[test,bench]'"
NPM = "npm ci --prefix benchmarks/node"


@dataclass(frozen=True)
class Subject:
    """A server: what it is called, and how it is started."""

    name: str
    title: str
    site: str  # a function in benchmarks/sites, or a script in benchmarks/node
    needs: tuple[str, ...] = ()
    login: bool = False  # whether its users log in

    @property
    def is_node(self) -> bool:
        return ".js" in self.site

    @property
    def is_bare(self) -> bool:
        """Whether it keeps no sessions."""
        return self.name.endswith("bare")

    def command(self, port: int, memcached: str) -> list[str]:
        """Return how it is started."""
        if self.is_node:
            return ["node", *self.site.split(), str(port), memcached]
        module = ["-m", "benchmarks.server", self.site]
        return [sys.executable, *module, str(port), memcached]

    def missing(self) -> str | None:
        """Return why it cannot be started here, and how it could be."""
        if self.is_node and shutil.which("node") is None:
            return "Node.js is not installed"
        there = _is_node_package if self.is_node else is_importable
        absent = [name for name in self.needs if not there(name)]
        if not absent:
            return None
        how = NPM if self.is_node else BENCH
        return f"{', '.join(absent)} not installed; {how}"


def _is_node_package(name: str) -> bool:
    return (NODE / "node_modules" / name).is_dir()


OURS = "ours"
_AES = ("cryptography",)
_AIOMCACHE = ("aiomcache",)
_KOA = ("koa", "koa-generic-session", "koa-store-memcached")
_EXPRESS = ("express", "express-session", "connect-memcached")
_STARLETTE = ("starlette", "uvicorn", "starsessions", "aiomcache")
_AIOHTTP = ("aiohttp", "aiohttp_session", "aiomcache")


def peer(
    name: str, framework: str, title: str, needs: tuple[str, ...]
) -> tuple[Subject, Subject]:
    """Return another framework, without sessions and with them."""
    if needs in (_KOA, _EXPRESS):
        without, with_them = f"{name}.js bare", f"{name}.js sessions"
    else:
        without, with_them = f"peer_{name}.bare", f"peer_{name}.with_sessions"
    bare = Subject(f"{name}-bare", framework, without, needs)
    return bare, Subject(name, title, with_them, needs)


SUBJECTS = {
    subject.name: subject
    for subject in [
        Subject("bare", "Tornado, no session", "plain.bare"),
        Subject("dict", "Tornado, a dict", "plain.kept_in_a_dict"),
        Subject("hop", "Tornado, pymemcache by run_in_executor", "plain.hop"),
        Subject(OURS, "tornado-mcsession", "ours.memcached"),
        Subject("memory", "… over memory://", "ours.in_memory"),
        Subject("login", "… logged in", "ours.memcached", login=True),
        Subject("encrypted", "… with AES-GCM", "ours.encrypted", _AES),
        Subject("renewing", "… always due for renewal", "ours.renewing"),
        Subject("aiomcache", "… over aiomcache", "over_aiomcache.serve", _AIOMCACHE),
        Subject("emcache", "… over emcache", "over_emcache.serve", ("emcache",)),
        *peer("koa", "koa", "koa-generic-session + koa-store-memcached", _KOA),
        *peer("express", "express", "express-session + connect-memcached", _EXPRESS),
        *peer("starlette", "Starlette", "starsessions + aiomcache", _STARLETTE),
        *peer("aiohttp", "aiohttp", "aiohttp-session + aiomcache", _AIOHTTP),
    ]
}
