"""The client's request body on its way up: streamed, counted, and not waited for for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from aiohttp import StreamReader

from proxy.core.failures import Failure


class RequestBody:
    """Yields the pieces of a request's body.

    size: the most bytes it may have.
    idle: the most seconds between two pieces.
    failure: why it ended early, if it did; the exchange fails with it.
    """

    def __init__(self, content: StreamReader, *, size: int, idle: float) -> None:
        self._content = content
        self._size = size
        self._idle = idle
        self.failure: Failure | None = None

    def at_once(self) -> bytes | None:
        """Return the whole body where it is here already, as most are; else None."""
        content = self._content
        whole = content.is_eof() and content.exception() is None
        return content.read_nowait() if whole and content.total_bytes <= self._size else None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield what the client sends, as it comes."""
        sent = 0
        while True:
            try:
                async with asyncio.timeout(self._idle):
                    piece = await self._content.readany()
            except TimeoutError:
                self.failure = Failure.REQUEST_TIMEOUT
                raise
            except Exception:
                self.failure = Failure.BAD_REQUEST
                raise
            if not piece:
                return
            sent += len(piece)
            if sent > self._size:
                self.failure = Failure.REQUEST_TOO_LARGE
                raise BodyTooLargeError
            yield piece


class BodyTooLargeError(Exception):
    """A request body without a length turned out to be over the limit."""
