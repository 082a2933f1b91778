"""Which node a key is placed on."""

from __future__ import annotations

import hashlib
import math
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping

__all__ = ["Router"]

# A look-up costs one CRC and one index, for any number of nodes. How even the
# shares are: python -m benchmarks.routing.
SLOTS = 16_384
_UNIT = 2.0**-64


class Router:
    """Places keys on nodes by rendezvous: each slot's node has the highest weight.

    The place depends on the nodes' names and weights alone: it is the same in
    every process, whatever the order in which the nodes are listed, and whether
    they answer or not. Adding a node to ``n`` moves one key in ``n + 1``.

    ``nodes`` maps names to weights; a node with weight 2 gets twice the keys.
    """

    def __init__(self, nodes: Mapping[str, float]) -> None:
        if not nodes:
            raise ValueError("a store needs at least one node")
        self._names = list(nodes)
        self._only = next(iter(nodes)) if len(nodes) == 1 else None
        # At once, not at the first request: a thousand nodes take 1 s.
        self._slots = [] if self._only else _filled(nodes)

    def shares(self) -> dict[str, float]:
        """Return which part of the keys is placed on each node, from 0 to 1."""
        if self._only is not None:
            return {self._only: 1.0}
        counts = Counter(self._slots)
        return {name: counts[name] / SLOTS for name in self._names}

    def node_for(self, key: str) -> str:
        """Return the name of the node that ``key`` is placed on."""
        if self._only is not None:
            return self._only
        return self._slots[zlib.crc32(_placing_part(key)) % SLOTS]


def _filled(nodes: Mapping[str, float]) -> list[str]:
    """Return the node of each slot."""
    scores = _draws if len(set(nodes.values())) == 1 else _scores
    best = [-math.inf] * SLOTS
    owner = [""] * SLOTS
    for name in sorted(nodes):
        for slot, score in enumerate(scores(name, nodes[name])):
            if score > best[slot]:
                best[slot] = score
                owner[slot] = name
    return owner


def _placing_part(key: str) -> bytes:
    start = key.find("{")
    if start >= 0:
        end = key.find("}", start)
        if end > start + 1:
            return key[start + 1 : end].encode("ascii")
    return key.encode("ascii")


def _draws(name: str, _: float) -> Iterable[int]:
    """Return a number for each slot, uniform over 64 bits."""
    stream = hashlib.shake_128(name.encode("utf-8")).digest(8 * SLOTS)
    return struct.unpack(f">{SLOTS}Q", stream)


def _scores(name: str, weight: float) -> Iterable[float]:
    # Weighted rendezvous: with u uniform in (0, 1), the largest of
    # -weight / ln(u) falls on each node in proportion to its weight. It rises
    # with u, so that the draws alone decide where all weights are the same.
    for draw in _draws(name, weight):
        yield -weight / math.log((draw + 0.5) * _UNIT)
