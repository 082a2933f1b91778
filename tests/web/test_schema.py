"""Sessions whose data has a declared shape."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import json
from datetime import UTC, datetime
from typing import Any, TypedDict
from uuid import UUID

import msgspec
import pytest
from tornado.web import RequestHandler

from tornado_mcsession import EncodeError, MemoryStore, SessionManager, SessionMixin

from ..support.site import is_cleared, session_cookie


class Item(msgspec.Struct):
    name: str
    price: int = 0


class Cart(msgspec.Struct):
    items: list[Item] = []
    coupon: str | None = None
    seen: set[str] = set()


class Color(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Profile:
    color: Color | None = None
    device: UUID | None = None
    since: datetime | None = None
    place: tuple[int, int] = (0, 0)
    raw: bytes = b""


class Plain(TypedDict, total=False):
    items: list[str]
    count: int


class Page(SessionMixin, RequestHandler):
    @property
    def cart(self) -> Cart:
        return self.session.typed(Cart)

    def tell(self, value):
        self.write(json.dumps(value))


class Add(Page):
    def get(self):
        self.cart.items.append(Item(self.get_query_argument("name")))


class Read(Page):
    def get(self):
        self.tell([item.name for item in self.cart.items])


class Mixed(Page):
    """Uses the object and the mapping in turn."""

    def get(self):
        cart = self.cart
        cart.coupon = "a"
        assert self.session["coupon"] == "a"
        self.session["coupon"] = "b"
        assert self.cart is cart
        assert cart.coupon == "b"
        self.session["items"] = [{"name": "pen"}]
        assert self.cart.items == [Item("pen")]
        cart.items[0].price = 3
        self.session["items"][0]["name"]
        del self.session["coupon"]
        assert self.cart.coupon is None
        self.session["other"] = 1


@pytest.fixture
def typed(serve):
    def start(*routes, **session):
        return serve(list(routes), session={"schema": Cart, **session})

    return start


@pytest.mark.gen_test
async def test_a_change_of_the_object_is_saved(typed):
    """Nested ones, too, of a session that begins and of one that is there."""
    site = typed(("/add", Add), ("/", Read))
    response = await site.get("/add?name=pen")
    assert await site.stored(response) == {"items": [{"name": "pen", "price": 0}]}
    client = {"Cookie": f"session={session_cookie(response).value}"}
    await site.get("/add?name=book", headers=client)
    assert (await site.get(headers=client)).json() == ["pen", "book"]


@pytest.mark.gen_test
async def test_reading_writes_nothing(typed, store):
    """No session begins, and the defaults are not stored."""
    site = typed(("/", Read))
    assert (await site.get()).json() == []
    assert store.calls == []
    client = await site.client(items=[{"name": "pen"}])
    assert (await site.get(headers=client)).json() == ["pen"]
    assert store.calls == ["get"]


@pytest.mark.gen_test
async def test_the_object_and_the_mapping_are_one(typed):
    """Keys that the schema does not know are left alone."""
    site = typed(("/", Mixed))
    client = await site.client(items=[], more=2)
    assert (await site.get(headers=client)).status == 200
    assert await site.stored(client) == {
        "items": [{"name": "pen", "price": 3}],
        "more": 2,
        "other": 1,
    }


@pytest.mark.gen_test
async def test_the_object_may_change_while_the_mapping_is_iterated(typed):
    """As the first change of a field adds its key."""

    class Walks(Page):
        def get(self):
            self.session["coupon"] = "a"
            cart, met = self.cart, []
            for key, _ in self.session.items():
                cart.seen.add("pen")
                met.append(key)
                self.session.get(key)
            self.tell([met, sorted(self.session)])

    assert (await typed(("/", Walks)).get()).json() == [["coupon"], ["coupon", "seen"]]


@pytest.mark.gen_test
async def test_parallel_changes_are_merged(typed, store):
    """And the object has the other request's change after a save."""
    seen = []

    class Slow(Page):
        async def get(self):
            cart = self.cart
            cart.coupon = "mine"
            await self.settings["other"](self)
            await self.session.save()
            seen.append((cart.coupon, [item.name for item in cart.items]))

    async def other(handler):
        await SessionManager.of(handler).set(
            handler.session.id, {"items": [{"name": "pen"}]}
        )

    site = typed(("/", Slow))
    site.seen["other"] = other
    client = await site.client(items=[])
    assert (await site.get(headers=client)).status == 200
    assert seen == [("mine", ["pen"])]
    assert await site.stored(client) == {"items": [{"name": "pen"}], "coupon": "mine"}


class Room(msgspec.Struct):
    width: int = 0
    tags: list[str] = []


class House(msgspec.Struct):
    room: Room = msgspec.field(default_factory=Room)
    rooms: list[Room] = []
    names: list[str] = []
    marks: set[str] = set()
    more: dict[str, Any] = {}
    count: int = 0


def grow(held):
    """Change a value that a handler holds."""
    if isinstance(held, list):
        held.append("held")
    elif isinstance(held, set):
        held.add("held")
    elif isinstance(held, dict):
        held["held"] = 1
    else:
        held.width = 9


class Holds(SessionMixin, RequestHandler):
    """Changes what it holds after another request has changed it, and saved."""

    async def get(self, path):
        house = self.session.typed(House)
        held = house
        for name in path.split("/"):
            held = held[name] if isinstance(held, dict) else getattr(held, name)
        await self.settings["other"](self.session.id)
        house.count = 1
        await self.session.save()
        grow(held)


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("path", "theirs", "stored"),
    [
        ("names", {"names": ["b"]}, {"names": ["b", "held"]}),
        ("marks", {"marks": []}, {"marks": ["held"]}),
        ("more", {"more": {"b": 1}}, {"more": {"b": 1, "held": 1}}),
        (
            "more/in",
            {"more": {"in": {"b": 1}}},
            {"more": {"in": {"b": 1, "held": 1}}},
        ),
        (
            "room",
            {"room": {"width": 2, "tags": ["b"]}},
            {"room": {"width": 9, "tags": ["b"]}},
        ),
        (
            "room/tags",
            {"room": {"width": 2, "tags": ["b"]}},
            {"room": {"width": 2, "tags": ["b", "held"]}},
        ),
    ],
)
async def test_what_is_held_of_the_object_stays_part_of_it(serve, path, theirs, stored):
    """After another request has changed it: a change of it is saved."""
    site = serve([("/(.*)", Holds)], session={"schema": House})
    client = await site.client(
        room={"width": 1, "tags": []}, names=["a"], marks=["a"], more={"in": {"a": 1}}
    )
    site.seen["other"] = lambda session_id: site._observer.set(session_id, theirs)
    assert (await site.get(f"/{path}", headers=client)).status == 200
    assert await site.stored(client) == {**theirs, **stored, "count": 1}


class Turns(SessionMixin, RequestHandler):
    """Changes the object and the mapping in turn, with what it holds of both."""

    def get(self, how):
        house = self.session.typed(House)
        if how == "list":
            held = self.session["names"]
            house.names.append("b")
            self.session.get("count")
            held.append("c")
            self.session.get("count")
            house.names.append("d")
        elif how == "dict":
            held, mine = self.session["more"]["in"], house.more["in"]
            mine["b"] = 1
            self.session.get("count")
            held["c"] = 1
            self.session.get("count")
            mine["d"] = 1
        elif how == "element":
            room = house.rooms[0]
            self.session["rooms"].append({"width": 5})
            self.session.get("count")
            room.width = 2
        elif how == "wrap":  # one side becomes part of the other
            house.more = {"in": self.session["more"]}
            self.session.get("count")
            self.session["more"] = {"in": house.more}
        elif how == "twice":
            both = {"x": 1}
            self.session["more"] = {"a": both, "b": both}
            self.session.get("count")
            house.more["a"]["y"] = 2
        elif how == "swap":
            more = self.session["more"] = {"a": {"x": 1}, "b": {"y": 1}}
            self.session.get("count")
            house.more = {"a": more["b"], "b": more["a"]}


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("how", "stored"),
    [
        ("list", {"names": ["a", "b", "c", "d"]}),
        ("dict", {"more": {"in": {"a": 1, "b": 1, "c": 1, "d": 1}}}),
        (
            "element",
            {"rooms": [{"width": 2, "tags": []}, {"width": 5, "tags": []}]},
        ),
        ("wrap", {"more": {"in": {"in": {"in": {"a": 1}}}}}),
        ("twice", {"more": {"a": {"x": 1, "y": 2}, "b": {"x": 1}}}),
        ("swap", {"more": {"a": {"y": 1}, "b": {"x": 1}}}),
    ],
)
async def test_what_is_held_of_both_is_saved(serve, how, stored):
    """Whichever was changed, and wherever a part of one was put into the other."""
    site = serve([("/(.*)", Turns)], session={"schema": House})
    before = {
        "names": ["a"],
        "more": {"in": {"a": 1}},
        "rooms": [{"width": 1, "tags": []}],
    }
    client = await site.client(**before)
    assert (await site.get(f"/{how}", headers=client)).status == 200
    assert await site.stored(client) == {**before, **stored}


@pytest.mark.gen_test
@pytest.mark.parametrize("serializer", ["msgpack", "json"])
async def test_values_of_more_types_come_back(serialize_site, serializer):
    """They are stored in the form that msgspec gives them."""
    site, told = serialize_site(serializer)
    client = await site.client(more=1)
    assert (await site.get("/write", headers=client)).status == 200
    assert (await site.get("/read", headers=client)).status == 200
    assert told == [
        Profile(
            Color.RED, UUID(int=7), datetime(2040, 1, 1, tzinfo=UTC), (1, 2), b"\xff"
        )
    ]


@pytest.fixture
def serialize_site(serve):
    told = []

    class Handler(SessionMixin, RequestHandler):
        def get(self, what):
            profile = self.session.typed(Profile)
            if what == "read":
                told.append(profile)
                return
            profile.color = Color.RED
            profile.device = UUID(int=7)
            profile.since = datetime(2040, 1, 1, tzinfo=UTC)
            profile.place = (1, 2)
            profile.raw = b"\xff"

    def start(serializer):
        settings = {"schema": Profile, "serializer": serializer}
        site = serve([("/(.*)", Handler)], session=settings)
        observer = SessionManager(
            store=site.store.inner, clock=site.clock, serializer=serializer
        )
        site._observer = observer
        return site, told

    return start


class Counts(SessionMixin, RequestHandler):
    def get(self):
        data = self.session.typed(Plain)
        data["count"] = data.get("count", 0) + 1
        self.write(str(data["count"]))


@pytest.mark.gen_test
async def test_a_typed_dict_is_the_data(serve):
    """What is changed in it is saved."""
    site = serve(Counts, session={"schema": Plain})
    client = await site.client(count=1)
    assert (await site.get(headers=client)).body == b"2"
    assert await site.stored(client) == {"count": 2}


class Ends(Page):
    """Ends its session with a change in the object, and may change it again."""

    async def get(self, how):
        cart = self.cart
        cart.coupon = "old"
        if how == "assign":
            self.session = None
        else:
            await self.session.destroy()
        assert self.cart is cart
        assert cart == Cart()
        if how == "again":
            cart.seen.add("new")


@pytest.mark.gen_test
@pytest.mark.parametrize("how", ["assign", "destroy", "again"])
async def test_a_logout_empties_the_object(typed, how):
    """What was changed in it before is gone, and later changes begin a new session."""
    site = typed(("/(.*)", Ends))
    client = await site.client(coupon="a")
    response = await site.get(f"/{how}", headers=client)
    assert response.status == 200
    assert await site.stored(client) is None
    if how == "again":
        assert await site.stored(response) == {"seen": ["new"]}
    else:
        assert is_cleared(response)


class Begins(Page):
    """Uses the verbs with changes in the object."""

    async def get(self, how):
        cart = self.cart
        cart.coupon = "mine"
        if how == "login":
            await self.session.login("ann")
        elif how == "reload":
            await self.session.reload()
        elif how == "clear":
            self.session.clear()
        elif how == "replace":
            self.session = {"coupon": "other"}
        elif how == "transact":
            await self.session.transact(lambda data: data.update(seen=["x"]))
        assert self.cart is cart
        self.tell([cart.coupon, sorted(cart.seen)])


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("login", ["mine", []]),
        ("reload", ["a", []]),
        ("clear", [None, []]),
        ("replace", ["other", []]),
        ("transact", ["mine", ["x"]]),
    ],
)
async def test_the_verbs_count_for_the_object(typed, how, told):
    """It is saved, dropped and changed with the mapping."""
    site = typed(("/(.*)", Begins))
    client = await site.client(coupon="a")
    response = await site.get(f"/{how}", headers=client)
    assert response.json() == told
    stored = await site.stored(response if how == "login" else client)
    assert stored.get("coupon") == told[0]
    assert stored.get("seen", []) == told[1]


# Data that does not fit.


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("stored", "told"),
    [
        ({"items": "planted"}, "expected `array`, got `str` at items"),
        ({"items": [{"name": 5}]}, "expected `str`, got `int` at items[0].name"),
        ({"items": [{}]}, "object missing required field `name` at items[0]"),
    ],
)
async def test_data_that_does_not_fit_counts_as_foreign(typed, caplog, stored, told):
    """The visitor gets an empty session, and the log says where it does not fit."""
    site = typed(("/", Read), ("/add", Add))
    client = await site.client(**stored)
    response = await site.get(headers=client)
    assert (response.status, response.json()) == (200, [])
    assert "data that is no Cart" in caplog.text
    assert told in caplog.text
    assert "planted" not in caplog.text
    assert site.manager.stats()["corrupt_records"] == 1
    response = await site.get("/add?name=pen", headers=client)
    assert session_cookie(response).value != client["Cookie"].removeprefix("session=")


@dataclasses.dataclass
class Order:
    items: list[str] = dataclasses.field(default_factory=list)
    number: int = 0


class Loses(SessionMixin, RequestHandler):
    """Deletes an attribute of the object."""

    def get(self):
        order = self.session.typed(Order)
        order.number = 5
        del order.items
        assert self.session["number"] == 5


@pytest.mark.gen_test
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("debug", [True, False])
async def test_a_deleted_attribute_is_told(serve, caplog, uncaught, known, debug):
    """By the save, also of a session that is watched; the connection goes on."""
    site = serve(Loses, session={"schema": Order}, debug=debug, autoreload=False)
    client = await site.client(number=1) if known else {}
    async with await site.open() as wire:
        for _ in range(2):
            assert (await wire.request("GET", "/", client)).status == 500
    told = "session holds a Order whose field 'items' was deleted"
    assert told in caplog.text
    assert "AttributeError" not in caplog.text
    if known:
        assert await site.stored(client) == {"number": 1}
    else:
        assert site.sessions() == 0


class Spoils(Page):
    """Saves what is no cart."""

    async def get(self, how):
        if how == "object":
            self.cart.coupon = 5
        elif how == "nested":
            self.cart.items.append(Item(5))
        elif how == "mapping":
            self.session["coupon"] = 5
        elif how == "foreign":
            self.cart.coupon = object()
        else:
            await self.session.transact(lambda data: data.update(coupon=5))


@pytest.mark.gen_test
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("object", "session['coupon'] holds a int that is none of Cart"),
        ("mapping", "session['coupon'] holds a int that is none of Cart"),
        ("transact", "session['coupon'] holds a int that is none of Cart"),
        ("nested", "expected `str`, got `int` at items[0].name"),
        ("foreign", "session['coupon'] holds a object that cannot be encoded"),
    ],
)
async def test_what_does_not_fit_is_not_saved(
    typed, caplog, uncaught, how, told, known
):
    """It is a mistake of the handler: an EncodeError, and what was stored stays."""
    site = typed(("/(.*)", Spoils))
    client = await site.client(coupon="a") if known else {}
    assert (await site.get(f"/{how}", headers=client)).status == 500
    assert told in caplog.text
    if known:
        assert await site.stored(client) == {"coupon": "a"}
    else:
        assert site.sessions() == 0


@pytest.mark.gen_test
async def test_a_job_is_checked_as_well():
    """Outside a request, too, what does not fit is neither stored nor returned."""
    store = MemoryStore()
    manager = SessionManager(store=store, schema=Cart)
    with pytest.raises(EncodeError, match="none of Cart"):
        await manager.set("a" * 43, {"coupon": 5})
    await SessionManager(store=store).set("b" * 43, {"coupon": 5})
    assert await manager.get("b" * 43) is None
    await manager.set("c" * 43, {"coupon": "x"})
    session = await manager.get("c" * 43)
    session.typed(Cart).coupon = "y"
    await session.save()
    assert await SessionManager(store=store).get("c" * 43) == {"coupon": "y"}
    await manager.close()


@pytest.mark.gen_test
async def test_an_object_cannot_begin_a_session_after_the_headers(typed, caplog):
    """Its cookie could not be sent: an error, and nothing is stored."""

    class Late(Page):
        async def get(self):
            cart = self.cart
            await self.flush()
            cart.coupon = "late"

    site = typed(("/", Late))
    async with await site.open() as wire:
        await wire.ask()
        with pytest.raises((asyncio.IncompleteReadError, EOFError, ConnectionError)):
            await wire.receive()
    assert "the headers have left" in caplog.text
    assert site.sessions() == 0


class Streams(SessionMixin, RequestHandler):
    """Writes to a new session that will not be stored, and goes on."""

    async def _answer(self):
        self.session["coupon"] = "a"
        self.write("a")
        await self.flush()
        self.write("b")

    get = post = _answer


class StreamsUnsaved(Streams):
    session_save = False


@pytest.mark.gen_test
@pytest.mark.parametrize("schema", [None, Cart])
async def test_a_stream_goes_on_where_no_session_is_to_begin(serve, caplog, schema):
    """The handler saves nothing, or the request came from another site."""
    routes = [("/unsaved", StreamsUnsaved), ("/", Streams)]
    site = serve(routes, session={"schema": schema})
    assert (await site.get("/unsaved")).body == b"ab"
    from_elsewhere = {"Sec-Fetch-Site": "cross-site"}
    response = await site.request("POST", "/", headers=from_elsewhere, body=b"")
    assert response.body == b"ab"
    assert site.sessions() == 0
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


# Older shapes.


def upgrade(data: dict[str, Any]) -> dict[str, Any]:
    if "basket" in data:
        data["items"] = [{"name": name} for name in data.pop("basket")]
    return data


@pytest.mark.gen_test
async def test_an_older_shape_is_upgraded(typed, store):
    """A request that changes nothing writes nothing; the next change is stored."""
    site = typed(("/", Read), ("/add", Add), upgrade=upgrade)
    client = await site.client(basket=["pen"], more=1)
    assert (await site.get(headers=client)).json() == ["pen"]
    assert store.calls == ["get"]
    assert await site.stored(client) == {"basket": ["pen"], "more": 1}
    await site.get("/add?name=book", headers=client)
    assert await site.stored(client) == {
        "items": [{"name": "pen", "price": 0}, {"name": "book", "price": 0}],
        "more": 1,
    }


@pytest.mark.gen_test
async def test_older_shapes_are_merged_in_the_newer_one(typed):
    """A request of an older process came in between."""

    class Slow(Page):
        async def get(self):
            self.cart.coupon = "mine"
            await self.settings["other"]()

    site = typed(("/", Slow), upgrade=upgrade)
    client = await site.client(basket=["pen"])
    session_id = client["Cookie"].removeprefix("session=")
    site.seen["other"] = lambda: site._observer.set(session_id, {"basket": ["book"]})
    assert (await site.get(headers=client)).status == 200
    assert await site.stored(client) == {"items": [{"name": "book"}], "coupon": "mine"}


def fails(data):
    raise KeyError("planted")


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (fails, "upgrade refuses (KeyError)"),
        (lambda data: None, "upgrade returned no dict"),
        (lambda data: {**data, "other": object()}, "upgrade made"),
    ],
)
async def test_an_upgrade_that_fails_counts_as_foreign(typed, caplog, wrong, told):
    """The visitor has an empty session, and the log tells why."""
    site = typed(("/", Read), upgrade=wrong)
    client = await site.client(basket=["planted"])
    response = await site.get(headers=client)
    assert (response.status, response.json()) == (200, [])
    assert told in caplog.text
    assert "planted" not in caplog.text


# Settings.


class Needs(msgspec.Struct):
    name: str


class NeedsKey(TypedDict):
    name: str


class Frozen(msgspec.Struct, frozen=True):
    name: str = ""


@dataclasses.dataclass(frozen=True)
class FrozenToo:
    name: str = ""


class Array(msgspec.Struct, array_like=True):
    name: str = ""


async def waits(data):
    return data


@pytest.mark.parametrize(
    ("settings", "error", "told"),
    [
        ({"schema": Needs}, TypeError, "schema Needs must have a default"),
        ({"schema": NeedsKey}, TypeError, "schema NeedsKey must .* total=False"),
        ({"schema": Frozen}, TypeError, "schema Frozen must not be frozen"),
        ({"schema": FrozenToo}, TypeError, "schema FrozenToo must not be frozen"),
        ({"schema": Array}, TypeError, "schema Array must not be array_like"),
        ({"schema": int}, TypeError, "a dataclass or a TypedDict, not int"),
        ({"schema": Cart()}, TypeError, "a dataclass or a TypedDict, not Cart"),
        ({"upgrade": upgrade}, ValueError, "upgrade needs schema"),
        ({"schema": Cart, "upgrade": 5}, TypeError, "upgrade must be a callable"),
        ({"schema": Cart, "upgrade": waits}, TypeError, "upgrade .* not async"),
    ],
)
def test_a_wrong_schema_is_told_at_the_start(settings, error, told):
    """With what it must have."""
    with pytest.raises(error, match=told):
        SessionManager(store="memory://", **settings)


@pytest.mark.gen_test
@pytest.mark.parametrize("schema", [None, Plain])
async def test_another_schema_than_the_managers_is_told(schema):
    """Two shapes of one session would refuse each other's data."""
    manager = SessionManager(store="memory://", schema=schema)
    await manager.set("a" * 43, {"count": 1})
    session = await manager.get("a" * 43)
    with pytest.raises(TypeError, match="Cart is not the schema of these sessions"):
        session.typed(Cart)
    await manager.close()
