"""Content encodings, taken off piece by piece.

We ask for identity; some upstreams compress all the same.
"""

from __future__ import annotations

import zlib
from typing import Final, Protocol


class EncodingError(Exception):
    """The encoding is unknown, or the bytes are not what it says."""


class Decompressor(Protocol):
    """Takes an encoding off."""

    def feed(self, piece: bytes) -> bytes:
        """Return what `piece` decodes to."""


class _Identity:
    def feed(self, piece: bytes) -> bytes:
        return piece


class _Zlib:
    def __init__(self, window: int) -> None:
        self._window = window
        self._inner = zlib.decompressobj(window)
        self._begun = False

    def feed(self, piece: bytes) -> bytes:
        out = []
        while piece:
            try:
                out.append(self._inner.decompress(piece))
            except zlib.error as error:
                # "deflate" is a zlib stream by the standard and a bare one by custom.
                if self._begun or self._window != zlib.MAX_WBITS:
                    raise EncodingError(str(error)) from None
                self._window = -zlib.MAX_WBITS
                self._inner = zlib.decompressobj(self._window)
                continue
            self._begun = True
            piece = self._inner.unused_data
            if piece:  # a gzip stream may have members, each its own
                self._inner = zlib.decompressobj(self._window)
        return b"".join(out)


_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS


def decompressor(encoding: str) -> Decompressor:
    """Return what takes `encoding` (the header's value) off. Raises EncodingError."""
    match encoding.strip().lower():
        case "" | "identity":
            return _Identity()
        case "gzip" | "x-gzip":
            return _Zlib(_GZIP_WINDOW)
        case "deflate":
            return _Zlib(zlib.MAX_WBITS)
        case other:
            msg = f"unknown content encoding {other[:100]!r}"
            raise EncodingError(msg)
