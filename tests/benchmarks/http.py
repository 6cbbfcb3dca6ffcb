"""As much of HTTP/1.1 as both ends of the benchmark speak: heads, and chunked bodies."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

LAST_CHUNK: Final = b"0\r\n\r\n"
END_OF_CHUNKS: Final = b"\r\n" + LAST_CHUNK

_FRAMING: Final = re.compile(
    rb"\r\n(?:transfer-encoding: *(chunked)|content-length: *(\d+))", re.IGNORECASE
)


class BrokenError(Exception):
    """An answer did not arrive as it was sent."""


class Head(NamedTuple):
    """A message's first line, and what its head says of its body."""

    first: bytes
    chunked: bool
    length: int


def read_head(head: bytes) -> Head:
    """Read a head, without the empty line that ends it."""
    first, _, _ = head.partition(b"\r\n")
    framing = _FRAMING.search(head)
    if framing is None:
        return Head(first, chunked=False, length=0)
    return Head(first, chunked=framing[1] is not None, length=int(framing[2] or 0))


def chunk(data: bytes) -> bytes:
    """Frame one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def unchunk(framed: bytes) -> bytes:
    """Return the data of a whole chunked body. Raises BrokenError."""
    parts: list[bytes] = []
    at = 0
    while True:
        end = framed.find(b"\r\n", at)
        try:
            size = int(framed[at:end], 16)
        except ValueError:
            why = "no chunk size"
            raise BrokenError(why) from None
        at = end + 2
        if not size:
            break
        parts.append(framed[at : at + size])
        at += size + 2
    if framed[at:] != b"\r\n":
        why = "the chunks do not end"
        raise BrokenError(why)
    return b"".join(parts)
