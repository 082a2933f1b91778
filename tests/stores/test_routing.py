"""Placing keys on nodes: the same everywhere, evenly, and moving few.

Placed by the router itself: a thousand nodes need no thousand servers.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tornado_mcsession.stores.memcached import Router

ROOT = Path(__file__).parents[2]
KEYS = [f"mcsession:{number:064x}" for number in range(40_000)]
# What other processes may have stored must be found by a later version too.
GOLDEN = {
    "mcsession:a": "cache3:11211",
    "mcsession:b": "cache1:11211",
    "mcsession:c": "cache3:11211",
    "mcsession:{user}a": "cache1:11211",
    "mcsession:{user}b": "cache1:11211",
    "x": "cache2:11211",
}


def names(count: int) -> list[str]:
    return [f"cache{number}:11211" for number in range(1, count + 1)]


def router(count: int) -> Router:
    return Router(dict.fromkeys(names(count), 1.0))


def test_placing_never_changes():
    """Keys are where the first version put them."""
    placed = router(3)
    assert {key: placed.node_for(key) for key in GOLDEN} == GOLDEN


@pytest.mark.parametrize("seed", ["1", "2"])
def test_every_process_places_alike(seed):
    """Neither the process nor its hash seed has a say."""
    script = (
        "import json, sys\n"
        "from tornado_mcsession.stores.memcached import Router\n"
        "names, keys = json.load(sys.stdin); placed = Router(dict.fromkeys(names, 1))\n"
        "print(json.dumps([placed.node_for(key) for key in keys]))"
    )
    keys = [*GOLDEN, *KEYS[:500]]
    output = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps([names(5), keys]),
        env={**os.environ, "PYTHONHASHSEED": seed},
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    here = router(5)
    assert json.loads(output) == [here.node_for(key) for key in keys]


def test_the_order_of_listing_does_not_matter():
    """Processes may list the same nodes in any order."""
    shuffled = names(7)
    random.Random(1).shuffle(shuffled)
    here, there = router(7), Router(dict.fromkeys(shuffled, 1.0))
    assert all(here.node_for(key) == there.node_for(key) for key in KEYS[:5000])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("p{abc}1", "p{abc}2"),
        ("{abc}", "zzz{abc}yyy{def}"),
        ("{abc}", "abc"),
        ("a{b{c}", "{b{c}x"),
    ],
)
def test_braces_decide_alone(one, other):
    """Keys with the same part in braces are on one node, of any number."""
    for count in (1, 2, 3, 5, 8, 13):
        placed = router(count)
        assert placed.node_for(one) == placed.node_for(other)


@pytest.mark.parametrize("pattern", ["{{}}{}", "{}{{}}", "{{{}", "}}{}{{", "{}}}"])
def test_braces_that_hold_nothing_decide_nothing(pattern):
    """Empty, open or reversed braces are like any other characters."""
    placed = router(8)
    nodes = {placed.node_for(pattern.format(number)) for number in range(500)}
    assert nodes == set(names(8))


@pytest.mark.parametrize(
    ("count", "tolerance"), [(1, 0), (2, 0.03), (3, 0.03), (10, 0.06)]
)
def test_nodes_share_evenly(count, tolerance):
    """Each node has its share of the keys, within a few per cent."""
    placed = router(count)
    shares = Counter(map(placed.node_for, KEYS))
    assert set(shares) == set(names(count))
    for share in shares.values():
        assert share == pytest.approx(len(KEYS) / count, rel=tolerance)


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_a_new_node_takes_its_share_and_moves_nothing_else(count):
    """Of n + 1 nodes the last takes one key in n + 1; all others stay."""
    before, after = router(count), router(count + 1)
    moved = [key for key in KEYS if before.node_for(key) != after.node_for(key)]
    assert {after.node_for(key) for key in moved} == {names(count + 1)[-1]}
    assert len(moved) == pytest.approx(len(KEYS) / (count + 1), rel=0.1)


def test_a_weight_is_a_share():
    """A node with weight 2 gets twice the keys of one with weight 1."""
    placed = Router({"a": 1.0, "b": 2.0, "c": 1.0})
    shares = Counter(map(placed.node_for, KEYS))
    assert shares["b"] == pytest.approx(len(KEYS) / 2, rel=0.1)
    assert shares["a"] == pytest.approx(len(KEYS) / 4, rel=0.1)


def test_shares_are_told():
    """Those that the keys show, adding up to 1."""
    placed = Router({"a": 1.0, "b": 2.0, "never": 1e-9})
    shares = placed.shares()
    assert sum(shares.values()) == pytest.approx(1)
    counts = Counter(map(placed.node_for, KEYS))
    for name, share in shares.items():
        assert counts[name] / len(KEYS) == pytest.approx(share, abs=0.01)
    assert Router({"a": 1.0}).shares() == {"a": 1.0}


def test_a_thousand_nodes_cost_no_more_to_ask(monkeypatch):
    """All that depends on their number is done at the start; each gets some keys."""
    placed = router(1000)
    monkeypatch.delattr("hashlib.shake_128")
    assert set(map(placed.node_for, KEYS)) == set(names(1000))


def test_no_nodes_is_an_error():
    """There is no place on no node."""
    with pytest.raises(ValueError, match="at least one node"):
        Router({})
