"""The pictures of the documentation lose nothing when they are made smaller."""

from __future__ import annotations

import struct
import zlib

from .png import HEAD, chunk, chunks, paeth, without_filters

WIDTH, SIZE = 3, 3
ROWS = [bytes((7 * at * row + 3) % 256 for at in range(9)) for row in range(1, 6)]


def filtered(kind: int, row: bytes, above: bytes) -> bytes:
    """A row as the PNG specification filters it."""
    made = bytearray([kind])
    for at, value in enumerate(row):
        left = row[at - SIZE] if at >= SIZE else 0
        corner = above[at - SIZE] if at >= SIZE else 0
        up = above[at]
        less = [0, left, up, (left + up) // 2, paeth(left, up, corner)][kind]
        made.append((value - less) % 256)
    return bytes(made)


def test_each_filter_is_undone():
    """Rows with each of the five filters come out as they were before."""
    above = [bytes(9), *ROWS]
    data = b"".join(filtered(kind, row, above[kind]) for kind, row in enumerate(ROWS))
    header = struct.pack(">IIBBBBB", WIDTH, len(ROWS), 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    png = HEAD + b"".join(chunk(kind, data) for kind, data in parts)
    plain = dict(chunks(without_filters(png)))
    assert plain[b"IHDR"] == header
    assert zlib.decompress(plain[b"IDAT"]) == b"".join(b"\0" + row for row in ROWS)
