"""Requests that one page sends at once, over the connections of a browser."""

from __future__ import annotations

import asyncio

import pytest
from tornado.web import RequestHandler

from tornado_mcsession import SessionMixin

from .serving import PATIENCE, wait_for

pytestmark = [pytest.mark.browser, pytest.mark.integration]

REQUESTS = 20


class Page(SessionMixin, RequestHandler):
    async def get(self):
        self.session["begun"] = True
        self.write("<p>Hello</p>")


class Item(SessionMixin, RequestHandler):
    """Puts an item into the cart, and counts."""

    async def post(self, item):
        self.session.setdefault("cart", {})[item] = 1
        self.session["last"] = item
        # Others load the session before this one is saved.
        await asyncio.sleep(0)

        def count(data):
            data["n"] = data.get("n", 0) + 1

        if self.get_query_argument("count", None):
            await self.session.transact(count)


class Cart(SessionMixin, RequestHandler):
    def get(self):
        self.write({"n": self.session.get("n"), "cart": self.session.get("cart")})


class Order(SessionMixin, RequestHandler):
    """A form that may be sent once; the token is what allows it."""

    def get(self):
        self.session["token"] = "this form"
        self.write("<form method=post><button>Order</button></form>")

    async def post(self):
        def take(data):
            is_first = data.pop("token", None) is not None
            data["orders"] = data.get("orders", 0) + is_first
            return data["orders"]

        # The second click comes before the response to the first.
        self.settings["arrived"] = self.settings.get("arrived", 0) + 1
        async with asyncio.timeout(PATIENCE):
            while self.settings["arrived"] < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        self.write(f"<p>{await self.session.transact(take)}</p>")


ROUTES = [("/", Page), ("/item/(.*)", Item), ("/cart", Cart), ("/order", Order)]

SEND = """async ([count, query]) => {
    const send = n => fetch(`/item/${n}${query}`, {method: "POST"});
    const all = await Promise.all([...Array(count).keys()].map(send));
    return all.map(response => response.status);
}"""


@pytest.mark.parametrize("query", ["", "?count=1"])
def test_twenty_requests_of_a_page_all_keep_their_changes(serve, tab, memcached, query):
    """Each puts a key of its own, and counts exactly where it uses `transact`."""
    site = serve(ROUTES, session={"store": memcached.url + "/?timeout=10"})
    tab.goto(site.url())
    assert tab.evaluate(SEND, [REQUESTS, query]) == [200] * REQUESTS
    found = tab.evaluate("fetch('/cart').then(response => response.json())")
    assert found["cart"] == {str(n): 1 for n in range(REQUESTS)}
    assert found["n"] == (REQUESTS if query else None)
    assert len(tab.context.cookies()) == 1


def test_two_clicks_make_one_order(serve, tab, memcached):
    """A form that is sent twice, the second time before a response, counts once."""
    site = serve(ROUTES, session={"store": memcached.url + "/?timeout=10"})
    tab.goto(site.url("/order"))
    box = tab.locator("button").bounding_box()
    for clicks in (1, 2):
        tab.mouse.click(box["x"] + 5, box["y"] + 5)
        wait_for(lambda: site.seen.get("arrived") == clicks)  # noqa: B023
    assert tab.text_content("p") == "1"
