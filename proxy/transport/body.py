"""The client's request body on its way up: streamed, counted, and not waited for for ever."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import StreamReader

from proxy.core.failures import Failure

# The key's closing quote has no backslash before it, so that it cannot stand inside a string,
# such as the prompt: this is a key, if perhaps that of another object.
_MODEL: Final = re.compile(rb'"model"\s{0,9}:\s{0,9}"([\w.:/@-]{1,128})"')


def _model_in(piece: bytes) -> str:
    at = piece.find(b'"model"')
    found = _MODEL.match(piece, at) if at >= 0 else None
    return found[1].decode("ascii") if found else ""


def all_of(content: StreamReader, most: int) -> bytes | None:
    """Return the whole of a body, where all of it is here and no more than so many bytes."""
    if not content.is_eof() or content.exception() is not None or content.total_bytes > most:
        return None
    return content.read_nowait()


class RequestBody:
    """Yields the pieces of a request's body.

    size: the most bytes it may have.
    idle: the most seconds between two pieces.
    failure: why it ended early, if it did; the exchange fails with it.
    model: which model the request names, as far as its first piece tells.
    """

    def __init__(self, content: StreamReader, *, size: int, idle: float) -> None:
        self._content = content
        self._size = size
        self._idle = idle
        self.failure: Failure | None = None
        self.model = ""

    def at_once(self) -> bytes | None:
        """Return the whole body where it is here already, as most are; else None."""
        body = all_of(self._content, self._size)
        if body is not None:
            self.model = _model_in(body)
        return body

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
            if not sent:
                self.model = _model_in(piece)
            sent += len(piece)
            if sent > self._size:
                self.failure = Failure.REQUEST_TOO_LARGE
                raise BodyTooLargeError
            yield piece


class BodyTooLargeError(Exception):
    """A request body without a length turned out to be over the limit."""
