"""People who use the site from two devices, and hold it to what it confirmed."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from hashlib import sha256
from typing import Any, NamedTuple

from tornado_mcsession import MemcachedStore, Session

from .ledger import Before, Ledger, View
from .machines import Node
from .web import Reply, Socket, Web

__all__ = ["Dead", "User", "World"]

PAUSE = (0.02, 0.25)
SLOTS = [f"slot{n}" for n in range(4)]
# A package without `Session.exists` does not merge different keys of one nested
# mapping that are written in parallel, and leaves no tombstone after a logout.
IS_NEWER = hasattr(Session, "exists")
NESTED = [f"nest.{n}" for n in range(4 if IS_NEWER else 1)]


class Dead(NamedTuple):
    """An id that must not be alive; ``reply`` is the one that ended it."""

    session_id: str
    why: str
    reply: Reply

    @property
    def is_confirmed(self) -> bool:
        return not self.reply.is_unknown


class World:
    """What users know of the servers: which sessions may have been lost."""

    def __init__(
        self, nodes: Mapping[str, Node], store: MemcachedStore | None = None
    ) -> None:
        self._nodes = nodes
        self._store = store

    def nodes_of(self, session_id: str) -> set[str]:
        """Return the name of the node that keeps a session; nothing if unknown."""
        node_of = getattr(self._store, "node_of", None)
        if node_of is None:
            return set()
        # The key is that of the package's documentation; the id of a login ends
        # with what its user's sessions have in common.
        user = f"{{{session_id[43:]}}}" if len(session_id) == 65 else ""
        digest = sha256(session_id.encode()).hexdigest()
        return {node_of(f"mcsession:{user}{digest}")} & self._nodes.keys()

    def may_have_lost(self, ledger: Ledger, since: float) -> bool:
        """Return whether a session's node lost its data since that time."""
        names = ledger.nodes or self._nodes.keys()
        return any(self._nodes[name].lost_at >= since for name in names)


class Device:
    """A browser: its cookie, and the account of its session."""

    def __init__(self) -> None:
        self.session_id: str | None = None
        self.ledger: Ledger | None = None

    def forget(self) -> None:
        self.session_id = None
        self.ledger = None


class User:
    """One user, who does by chance what users do, often several things at once.

    Where a 2xx does not confirm a write, ``confirms`` is false.
    """

    def __init__(
        self,
        name: str,
        web: Web,
        world: World,
        chance: random.Random,
        *,
        confirms: bool = True,
    ) -> None:
        self.name = name
        self.losses = 0
        """How often a session was gone without a logout."""
        self.size = 0
        """How many characters a write puts into the session besides."""
        self.bursts = [1, 2, 4, 12]
        """How many increments are made at once."""
        self._confirms = confirms
        self.dead: list[Dead] = []
        self.is_leaving = False
        self._ends_are_done = False
        self._web = web
        self._world = world
        self._chance = chance
        self.devices = [Device(), Device()]
        self._principal = f"{name}.0"
        self._marks = 0
        self._acts: list[tuple[int, Callable[[Device], Awaitable[None]]]] = [
            (20, self.read),
            (20, self.count_up),
            (20, self.write),
            (8, self.flash),
            (6, self.login),
            (5, self.regenerate),
            (4, self.logout),
            (2, self.revoke),
            (8, self.race),
            (4, self.use_socket),
            (8, self.try_dead),
        ]

    async def work(self) -> None:
        """Use the site until told to leave."""
        weights = [weight for weight, _ in self._acts]
        while not self.is_leaving:
            await asyncio.sleep(self._chance.uniform(*PAUSE))
            device = self._chance.choice(self.devices)
            if device.ledger is None:
                await self.begin(device)
            else:
                [(_, act)] = self._chance.choices(self._acts, weights)
                await act(device)

    async def look_again(self) -> None:
        """Look at everything once more, when no fault is left and no end is pending."""
        self._ends_are_done = True
        for device in self.devices:
            if device.ledger is not None:
                await self._must_be_there(device)
        for dead in self.dead:
            # An end that was not confirmed is tried again by the process that was
            # asked, as long as it lives.
            application = dead.reply.application
            lives = application.is_up and application.starts == dead.reply.starts
            if dead.is_confirmed or (lives and dead.reply.status == 503):
                await self._replay(dead)

    async def _must_be_there(self, device: Device) -> None:
        reply = await self._visit(device, "/read")
        if not reply.ok:
            self._web.report("no session when all is well", f"{reply.status}")

    # What users do.

    async def begin(self, device: Device) -> None:
        """Begin a session, by a first write or by a login."""
        if self._chance.random() < 0.4:
            await self.login(device)
            return
        device.session_id = None
        ledger = self._new_ledger()
        slot = SLOTS[0]
        value = ledger.next_value(slot)
        form = {"owner": self.name, "slot": slot, "value": value}
        reply = await self._web.ask("/slot", None, form, self.name)
        if not reply.ok or not (reply.set_id or self._confirms):
            return
        self._expect_empty(reply, "a visitor without a cookie")
        if not reply.set_id:
            self._web.report("a first save set no cookie", reply.path)
            return
        ledger.wrote(slot, value)
        self._settle(device, ledger, reply.set_id)

    async def read(self, device: Device) -> None:
        await self._together(device, [self._visit(device, "/read")])

    async def count_up(self, device: Device) -> None:
        """Count up, several times at once."""
        times = self._chance.choice(self.bursts)
        await self._together(device, [self._count(device) for _ in range(times)])

    async def write(self, device: Device) -> None:
        """Write to several keys at once."""
        slots = self._chance.sample(SLOTS + NESTED, self._chance.randint(1, 4))
        await self._together(device, [self._write(device, slot) for slot in slots])

    async def flash(self, device: Device) -> None:
        """Leave messages, and read them."""
        leave = [self._flash(device) for _ in range(self._chance.randint(1, 2))]
        if await self._together(device, leave):
            await self._together(device, [self._read_flashes(device)])

    async def login(self, device: Device) -> None:
        """Log in: the id is new, and the old one is dead."""
        ledger = device.ledger or self._new_ledger()
        form = {"owner": self.name, "principal": self._principal}
        reply = await self._visit(device, "/login", form, moves=True)
        if device.ledger is None and reply.sent and reply.ok:
            self._expect_empty(reply, "a session that was gone")
        if reply.alive is False:
            self.losses += 1
            ledger = self._new_ledger()  # it was gone: the login began another
        if reply.set_id:
            ledger.principals = {self._principal}
            self._moved(device, ledger, reply)
        elif reply.is_unknown:
            ledger.principals.add(self._principal)
            ledger.unsettled = True
        else:
            self._web.report("a login set no cookie", f"{reply.status}")
            device.forget()

    async def regenerate(self, device: Device) -> None:
        """Get a new id: the old one is dead."""
        ledger = device.ledger
        assert ledger is not None
        reply = await self._visit(device, "/regenerate", moves=True)
        if reply.alive is False:
            device.forget()
        elif reply.set_id:
            self._moved(device, ledger, reply)
        elif reply.is_unknown:
            ledger.unsettled = True
        else:
            self._web.report("a new id set no cookie", f"{reply.status}")

    async def logout(self, device: Device) -> None:
        """Log out: the id is dead."""
        page = self._chance.choice(["/logout", "/destroy"])
        reply = await self._visit(device, page, moves=True)
        if reply.status == 0:
            if device.ledger is not None:
                device.ledger.unsettled = True
            return
        if reply.status != 409:  # which says that another login has replaced it
            self._bury(reply.sent, "logged out", reply)
        device.forget()
        if self._chance.random() < 0.5 and self.dead:
            await self._replay(self.dead[-1])

    async def revoke(self, device: Device) -> None:
        """Log out everywhere."""
        form = {"principal": self._principal}
        reply = await self._visit(device, "/revoke", form, moves=True)
        known = reply.ok
        for each in self.devices:
            ledger = each.ledger
            if ledger is None or self._principal not in ledger.principals:
                continue
            if known and ledger.principals == {self._principal}:
                self._bury(each.session_id, "revoked", reply)
                each.forget()
            elif known:
                ledger.unsettled = True
            else:
                each.forget()
        if not known:
            # It may still arrive, and would end what begins now.
            number = int(self._principal.rpartition(".")[2]) + 1
            self._principal = f"{self.name}.{number}"

    async def race(self, device: Device) -> None:
        """Let a slow request meet a new id, a login or a logout."""
        ledger = device.ledger
        assert ledger is not None
        before = ledger.before(time.monotonic())
        wait = self._chance.uniform(0.1, 0.5)
        slow = self._chance.choice([self._write, self._count])
        slot = self._chance.choice(SLOTS)
        args = (device, slot) if slow == self._write else (device,)
        act = self._chance.choice([self.login, self.regenerate, self.logout])

        async def meanwhile() -> None:
            await asyncio.sleep(wait * self._chance.random())
            await act(device)

        request = slow(*args, wait=wait, overlapped=True)  # type: ignore[operator]
        reply, _ = await asyncio.gather(request, meanwhile())
        lost = self._world.may_have_lost(ledger, before.confirmed)
        excused = lost or (act == self.logout and not IS_NEWER)
        if reply.set_id and reply.set_id != reply.sent and not excused:
            trail = self._web.trail(reply.sent)
            self._web.report("an older id set a cookie", f"{reply.path}{trail}")
        if reply.sent and any(dead.session_id == reply.sent for dead in self.dead):
            [*_, dead] = (dead for dead in self.dead if dead.session_id == reply.sent)
            await self._replay(dead)

    async def try_dead(self, device: Device) -> None:
        """Come with an id that has ended, to read or to write."""
        if self.dead:
            dead = self._chance.choice(self.dead[-20:])
            if self._chance.random() < 0.3:
                form = {"owner": self.name, "slot": SLOTS[0], "value": 1}
                await self._replay(dead, "/slot", form)
            await self._replay(dead)

    async def use_socket(self, device: Device) -> None:
        """Count and write over a WebSocket."""
        ledger = device.ledger
        assert ledger is not None
        before = ledger.before(time.monotonic())
        reply, socket = await self._web.open_socket(device.session_id)
        self._judge(reply, ledger, before, overlapped=False)
        self._drop_if_gone(device, [reply])
        for _ in range(self._chance.randint(1, 4)):
            if device.ledger is None or socket is None or reply.status == 0:
                break
            if self._chance.random() < 0.5:
                reply = await self._count(device, socket=socket)
            else:
                reply = await self._write(device, SLOTS[0], socket=socket)
            self._drop_if_gone(device, [reply])
        if socket is not None:
            socket.close()

    # How they do it.

    async def _write(
        self, device: Device, slot: str, *, wait: float = 0.0, **options: Any
    ) -> Reply:
        ledger = device.ledger
        assert ledger is not None
        value = ledger.next_value(slot)
        form = {"owner": self.name, "slot": slot, "value": value, "wait": wait}
        if self.size:
            form["size"] = self.size
        reply = await self._visit(device, "/slot", form, **options)
        if reply.alive and self._is_firm(ledger, options):
            ledger.wrote(slot, value)
        return reply

    async def _count(
        self, device: Device, *, wait: float = 0.0, **options: Any
    ) -> Reply:
        ledger = device.ledger
        assert ledger is not None
        self._marks += 1
        mark = f"{self.name}-{self._marks}"
        ledger.asks_increment(mark)
        unsettled = ledger.unsettled
        form = {"owner": self.name, "mark": mark, "wait": wait}
        reply = await self._visit(device, "/count", form, **options)
        if reply.alive:
            ledger.counted(mark, int(reply.told["result"]))
            if unsettled and not options.get("overlapped"):
                ledger.unsettled = False  # what was on its way comes too late now
        return reply

    async def _flash(self, device: Device) -> Reply:
        ledger = device.ledger
        assert ledger is not None
        self._marks += 1
        text = f"{self.name}-{self._marks}"
        reply = await self._visit(device, "/flash", {"text": text})
        firm = bool(reply.alive) and self._is_firm(ledger, {})
        ledger.flashed(text, confirmed=firm)
        return reply

    async def _read_flashes(self, device: Device) -> Reply:
        ledger = device.ledger
        assert ledger is not None
        before = ledger.before(time.monotonic())
        reply = await self._visit(device, "/flashes")
        if reply.alive:
            firm = self._is_firm(ledger, {})
            ledger.read_flashes(reply.told["result"], before, firm=firm)
        else:
            ledger.flashes_unknown()
        return reply

    def _is_firm(self, ledger: Ledger, options: dict[str, Any]) -> bool:
        """Return whether a 2xx confirms a plain write.

        Where the session gets a new id or ends meanwhile, the write is dropped.
        """
        overlapped = options.get("overlapped", False)
        return self._confirms and not ledger.unsettled and not overlapped

    async def _together(
        self, device: Device, requests: Iterable[Awaitable[Reply]]
    ) -> bool:
        """Send requests at once; return whether the session is still there."""
        self._drop_if_gone(device, await asyncio.gather(*requests))
        return device.ledger is not None

    def _drop_if_gone(self, device: Device, replies: list[Reply]) -> None:
        for reply in replies:
            if reply.alive is False:
                self.losses += device.ledger is not None
                if reply.told.get("principal"):
                    device.forget()
                else:
                    self._bury(reply.sent, "gone", reply)
                    device.ledger = None  # the next login still brings the cookie

    async def _visit(
        self,
        device: Device,
        path: str,
        form: dict[str, Any] | None = None,
        *,
        overlapped: bool = False,
        moves: bool = False,
        socket: Socket | None = None,
    ) -> Reply:
        """Send a request of a device, and check what it shows of the session."""
        ledger = device.ledger
        before = ledger.before(time.monotonic()) if ledger else None
        if socket is not None:
            reply = await socket.ask(path, device.session_id, form or {})
        else:
            reply = await self._web.ask(path, device.session_id, form, self.name)
        if ledger is not None and before is not None:
            self._judge(reply, ledger, before, overlapped)
        if reply.set_id and reply.set_id != reply.sent and not moves:
            if reply.alive is not False and not overlapped:
                self._web.report("a new id without a login", f"{reply.status} {path}")
            reply.alive = False  # what it shows is another session
        return reply

    def _judge(
        self, reply: Reply, ledger: Ledger, before: Before, overlapped: bool
    ) -> None:
        lost = self._world.may_have_lost(ledger, before.confirmed)
        excused = overlapped or lost or ledger.unsettled or before.unsettled
        if reply.status == 409:
            reply.alive = False
            if not excused:
                self._web.report("told that a session is gone", reply.path)
        elif reply.ok and not reply.told.get("available", True):
            if not View.of(reply.told).is_empty or reply.set_id is not None:
                what = "a session that could not be loaded was replaced"
                self._web.report(what, reply.path)
        elif reply.ok and "owner" in reply.told:
            view = View.of(reply.told)
            reply.alive = ledger.check(view, before, may_be_gone=excused, is_lost=lost)
            if reply.alive and reply.sent and not overlapped:
                ledger.nodes = self._world.nodes_of(reply.sent)
        elif reply.ok and reply.path.startswith("ws:"):
            reply.alive = True

    def _new_ledger(self) -> Ledger:
        return Ledger(self.name, self._web.report, time.monotonic())

    def _settle(self, device: Device, ledger: Ledger, session_id: str) -> None:
        ledger.nodes |= self._world.nodes_of(session_id)
        device.session_id = session_id
        device.ledger = ledger

    def _moved(self, device: Device, ledger: Ledger, reply: Reply) -> None:
        """Take the new id; the old one is dead."""
        assert reply.set_id
        if reply.sent:
            self._bury(reply.sent, "replaced", reply)
        if reply.ok:
            ledger.unsettled = False
        self._settle(device, ledger, reply.set_id)

    def _bury(self, session_id: str | None, why: str, reply: Reply) -> None:
        if session_id:
            self.dead.append(Dead(session_id, why, reply))

    async def _replay(
        self, dead: Dead, path: str = "/read", form: dict[str, Any] | None = None
    ) -> None:
        """Come with a dead id: nothing must be there."""
        if not dead.is_confirmed and not self._ends_are_done:
            return
        reply = await self._web.ask(path, dead.session_id, form, self.name)
        if reply.ok and not (view := View.of(reply.told)).is_empty:
            what = "an ended session is alive"
            if not dead.is_confirmed:
                what = "an end that was not confirmed was never done"
            trail = self._web.trail(dead.session_id)
            what_for = f"{dead.why} by {dead.reply.path}: {view}{trail}"
            self._web.report(what, what_for)

    def _expect_empty(self, reply: Reply, who: str) -> None:
        view = View.of(reply.told)
        if not view.is_empty:
            self._web.report("another user's data", f"{view.owner} shown to {who}")
