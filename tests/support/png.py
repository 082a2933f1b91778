"""Smaller PNG files: pictures of text and plain areas need no filters."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

HEAD = b"\x89PNG\r\n\x1a\n"
CHANNELS = {2: 3, 6: 4}  # by color type


def without_filters(png: bytes) -> bytes:
    """The same picture (8 bits, RGB or RGBA) with unfiltered rows, well compressed."""
    parts = list(chunks(png))
    (header,) = (data for kind, data in parts if kind == b"IHDR")
    width, _, depth, color, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    if depth != 8 or interlaced or color not in CHANNELS:
        raise ValueError("not a plain PNG of 8 bits for each color")
    packed = b"".join(data for kind, data in parts if kind == b"IDAT")
    size = CHANNELS[color]
    rows = unfiltered(zlib.decompress(packed), width * size, size)
    plain = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    made = [(b"IHDR", header), (b"IDAT", plain), (b"IEND", b"")]
    return HEAD + b"".join(chunk(kind, data) for kind, data in made)


def chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(HEAD)
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        at += 12 + length


def chunk(kind: bytes, data: bytes) -> bytes:
    checked = kind + data
    return (
        struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))
    )


def unfiltered(raw: bytes, length: int, size: int) -> Iterator[bytes]:
    """Undo what the PNG specification calls filters: rows without them."""
    above = bytes(length)
    for start in range(0, len(raw), length + 1):
        kind, row = raw[start], bytearray(raw[start + 1 : start + 1 + length])
        for at in range(length if kind else 0):
            left = row[at - size] if at >= size else 0
            corner = above[at - size] if at >= size else 0
            guess = (0, left, above[at], (left + above[at]) // 2)
            added = paeth(left, above[at], corner) if kind == 4 else guess[kind]
            row[at] = (row[at] + added) & 255
        above = bytes(row)
        yield above


def paeth(left: int, up: int, corner: int) -> int:
    sum_ = left + up - corner
    return min(left, up, corner, key=lambda each: abs(sum_ - each))
