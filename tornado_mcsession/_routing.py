"""Which node a key is placed on."""

from __future__ import annotations

import hashlib
import math
import struct
import zlib
from collections.abc import Mapping

__all__ = ["Router"]

# A look-up costs one CRC and one index. With 4,096 slots a node's share is
# typically within 2 % of the mean on 3 nodes, 5 % on 10, and 16 % on 100.
SLOTS = 4096
_PER_DIGEST = 8
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
        self._names = sorted(nodes)
        self._weights = dict(nodes)
        self._only = self._names[0] if len(self._names) == 1 else None
        self._slots: list[str] | None = None

    def node_for(self, key: str) -> str:
        """Return the name of the node that ``key`` is placed on."""
        if self._only is not None:
            return self._only
        slots = self._slots
        if slots is None:
            slots = self._slots = self._fill()
        return slots[zlib.crc32(_placing_part(key)) % SLOTS]

    def _fill(self) -> list[str]:
        best = [-math.inf] * SLOTS
        owner = [""] * SLOTS
        for name in self._names:
            for slot, score in enumerate(_scores(name, self._weights[name])):
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


def _scores(name: str, weight: float) -> list[float]:
    # Weighted rendezvous: with u uniform in (0, 1), the largest of
    # -weight / ln(u) falls on each node in proportion to its weight.
    scores = []
    seed = name.encode("utf-8")
    for block in range(SLOTS // _PER_DIGEST):
        digest = hashlib.blake2b(seed, salt=struct.pack(">Q", block)).digest()
        for value in struct.unpack(">8Q", digest):
            scores.append(-weight / math.log((value + 0.5) * _UNIT))
    return scores
