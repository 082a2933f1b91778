"""What the shop sells, and what a cart costs: plain functions, no web, no session.

python -c 'from demo.catalogue import PRODUCTS; print(*PRODUCTS, sep="\\n")'
curl http://127.0.0.1:8888/
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

__all__ = [
    "MAX_QUANTITY",
    "PRODUCTS",
    "Line",
    "Product",
    "add",
    "count",
    "lines",
    "total",
]

MAX_QUANTITY = 99


@dataclass(frozen=True)
class Product:
    """One thing to buy; its picture is ``static/<sku>.svg``."""

    sku: str
    name: str
    about: str
    cents: int


@dataclass(frozen=True)
class Line:
    """One line of a cart, as a page shows it."""

    product: Product
    quantity: int
    gift: bool

    @property
    def cents(self) -> int:
        return self.product.cents * self.quantity


_ALL = (
    Product("notebook", "Notebook", "96 dotted pages, lies flat", 950),
    Product("pencil", "Pencil", "Cedar, soft, sharpened", 180),
    Product("envelope", "Envelope", "Ten of them, lined in blue", 420),
    Product("ruler", "Ruler", "Brass, 15 cm and honest", 1250),
    Product("tape", "Washi tape", "Seven metres of stripes", 340),
    Product("stamp", "Stamp", "For a letter to anywhere", 120),
)
PRODUCTS = {product.sku: product for product in _ALL}


def add(data: MutableMapping[str, Any], sku: str, quantity: int = 1) -> int:
    """Put ``quantity`` more of ``sku`` into the cart in ``data``.

    Return how many there are now; a line that reaches nought is taken out. The
    cart is a dict of dicts: what changes lies two levels below the session.
    """
    cart = data.setdefault("cart", {})
    line = cart.setdefault(sku, {"quantity": 0, "gift": False})
    line["quantity"] = min(line["quantity"] + quantity, MAX_QUANTITY)
    if line["quantity"] <= 0:
        del cart[sku]
        return 0
    return int(line["quantity"])


def lines(cart: Mapping[str, Any]) -> list[Line]:
    """Return the cart's lines, in the order of the catalogue."""
    return [
        Line(product, cart[sku]["quantity"], cart[sku]["gift"])
        for sku, product in PRODUCTS.items()
        if sku in cart
    ]


def count(cart: Mapping[str, Any]) -> int:
    """Return how many things are in the cart."""
    return sum(line["quantity"] for line in cart.values())


def total(cart: Mapping[str, Any]) -> int:
    """Return what the cart costs, in cents."""
    return sum(line.cents for line in lines(cart))
