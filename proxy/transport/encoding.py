"""Content encodings, taken off piece by piece.

We ask for identity; some upstreams compress all the same. A piece of 64 KiB can hold 64 MiB
and more, so what it holds comes out in parts, each of which is dealt with before the next.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator
from typing import Final, Protocol

import brotli

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# One part's size: as large as the reads of a busy stream, small against every limit.
_PART: Final = 256 * 1024


class EncodingError(Exception):
    """The encoding is unknown, or the bytes are not what it says."""


class Decompressor(Protocol):
    """Takes an encoding off."""

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield what `piece` decodes to, in parts. Raises EncodingError."""


class Identity:
    """No encoding."""

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield it as it is."""
        yield piece


class _Zlib:
    """gzip and zlib. window: as zlib's `wbits`."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._inner = zlib.decompressobj(window)

    def feed(self, piece: bytes) -> Iterator[bytes]:
        while piece:
            try:
                part = self._inner.decompress(piece, _PART)
            except zlib.error as error:
                raise EncodingError(str(error)) from None
            yield part
            piece = self._inner.unconsumed_tail
            if self._inner.eof:  # a gzip stream may have members, each its own
                piece = self._inner.unused_data
                self._inner = zlib.decompressobj(self._window)


class _Deflate:
    """A zlib stream by the standard, a bare one by custom (RFC 9110, section 8.4.1.2)."""

    def __init__(self) -> None:
        self._head = b""
        self._inner: _Zlib | None = None

    def feed(self, piece: bytes) -> Iterator[bytes]:
        if self._inner is None:
            self._head += piece
            if len(self._head) < 2:
                return
            # RFC 1950, section 2.2: method 8, and a multiple of 31 over both bytes.
            is_zlib = self._head[0] & 15 == 8 and int.from_bytes(self._head[:2], "big") % 31 == 0
            self._inner = _Zlib(zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS)
            piece = self._head
        yield from self._inner.feed(piece)


class _Brotli:
    def __init__(self) -> None:
        self._inner = brotli.Decompressor()

    def feed(self, piece: bytes) -> Iterator[bytes]:
        try:
            part = self._inner.process(piece, output_buffer_limit=_PART)
            # At the stream's end it says that it can accept more while it still holds output.
            while part:
                yield part
                if self._inner.is_finished():
                    return
                part = self._inner.process(b"", output_buffer_limit=_PART)
        except brotli.error as error:
            raise EncodingError(str(error)) from None


class _Zstd:
    def __init__(self) -> None:
        self._inner = zstd.ZstdDecompressor()

    def feed(self, piece: bytes) -> Iterator[bytes]:
        while piece or not self._inner.needs_input:
            if self._inner.eof:  # frames may follow one another
                self._inner = zstd.ZstdDecompressor()
            try:
                yield self._inner.decompress(piece, _PART)
            except zstd.ZstdError as error:
                raise EncodingError(str(error)) from None
            piece = self._inner.unused_data if self._inner.eof else b""
            if self._inner.eof and not piece:
                return


_IDENTITY: Final = Identity()
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS


def decompressor(encoding: str) -> Decompressor:
    """Return what takes `encoding` (the header's value) off. Raises EncodingError."""
    if not encoding:
        return _IDENTITY
    match encoding.strip().lower():
        case "" | "identity":
            return _IDENTITY
        case "gzip" | "x-gzip":
            return _Zlib(_GZIP_WINDOW)
        case "deflate":
            return _Deflate()
        case "br":
            return _Brotli()
        case "zstd":
            return _Zstd()
        case other:
            msg = f"unknown content encoding {other[:100]!r}"
            raise EncodingError(msg)
