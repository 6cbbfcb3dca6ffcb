"""The upstream's side: send a request, read its answer.

aiohttp makes the connections and parses what comes; its client's session above them would
cost as much as all the rest of an exchange, and answers nothing that a proxy asks.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from types import TracebackType
from typing import Final, Self

from aiohttp import hdrs
from aiohttp.http import StreamWriter
from aiohttp.http_writer import _serialize_headers
from multidict import CIMultiDict
from yarl import URL

from proxy.core.failures import Failure
from proxy.transport.answer import Answer
from proxy.transport.body import RequestBody
from proxy.transport.faults import (
    ASKING,
    CONNECTING,
    UpstreamFailureError,
    is_reset,
    translate,
    words_of,
)
from proxy.transport.limits import Limits
from proxy.transport.wire import Wire, Wires

# A request's body that fits into the socket's buffer: nobody need wait until it is taken.
_AT_ONCE: Final = 32 * 1024

# A header line of an upstream's can be long: Azure's content filter results.
_MAX_LINE: Final = 64 * 1024

# Sent again when a connection that was kept turns out to be closed (RFC 9110, section 9.2.2).
_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})


class Upstream:
    """The one upstream that everything is forwarded to.

    url: scheme, host and a path prefix. No part of it is ever taken from a request.
    """

    def __init__(self, url: URL, limits: Limits) -> None:
        self._secure = url.scheme == "https"
        self._host = url.host_port_subcomponent or ""
        self._prefix = url.raw_path.rstrip("/")
        self._limits = limits
        self.loop = asyncio.get_running_loop()
        self._wires = Wires(url.origin(), limits.connect, limits.upstream_unused)
        self._finishing: set[Answer] = set()
        self.host = (url.host or "").lower()
        """The upstream's host, as it might show in what it says."""

    async def open(
        self,
        method: str,
        target: str,
        headers: CIMultiDict[str],
        body: RequestBody | None,
    ) -> Answer:
        """Send a request and wait for the answer's headers.

        target: path and query below the prefix, percent-encoded, beginning with `/`.

        Raises UpstreamFailureError.
        """
        whole = b"" if body is None else body.at_once()
        while True:
            began = monotonic()
            wire = await self._connect()
            reused, wire.reused = wire.reused, True
            connected_after = None if reused else monotonic() - began
            try:
                answer = await self._ask(wire, method, target, headers, body, whole)
            except UpstreamFailureError as error:
                again = reused and body is None and method in _IDEMPOTENT
                if not again or error.failure is not Failure.RESET_BEFORE:
                    raise
            else:
                answer.connected_after = connected_after
                return answer

    async def _connect(self) -> Wire:
        try:
            return await self._wires.take()
        except Exception as error:
            if self._secure and is_reset(error):
                # Connected, but not yet open: it broke in the handshake.
                raise UpstreamFailureError(Failure.TLS, words_of(error)) from error
            raise translate(error, CONNECTING) from error

    async def _ask(
        self,
        wire: Wire,
        method: str,
        target: str,
        headers: CIMultiDict[str],
        body: RequestBody | None,
        whole: bytes | None,
    ) -> Answer:
        wire.asked = True
        wire.await_head()
        wire.set_response_params(
            skip_payload=method == "HEAD",
            read_until_eof=True,
            auto_decompress=False,
            max_line_size=_MAX_LINE,
            max_field_size=_MAX_LINE,
        )
        sending: asyncio.Task[None] | None = None
        wire.give(self._limits.response)
        try:
            head = self._head(method, target, headers, body, whole)
            if body is None or (whole is not None and len(whole) <= _AT_ONCE):
                wire.send(head + (whole or b""))
            else:
                wire.send(head)
                sending = self.loop.create_task(self._send(wire, headers, body, whole))
            asked_at = monotonic()
            message, payload = await wire.read()
            while 100 <= message.code < 200 and message.code != 101:
                wire.await_head()
                message, payload = await wire.read()
        except BaseException as error:
            if sending is not None:
                sending.cancel()
            wire.abort()  # to close it would wait for what it still has to send
            if not isinstance(error, Exception):
                raise
            if body is not None and body.failure is not None:
                raise UpstreamFailureError(body.failure, words_of(error)) from error
            raise translate(error, ASKING) from error
        finally:
            wire.give(None)
        answer = Answer(
            wire, self._wires, message, payload, sending, self._limits.idle, self._finishing
        )
        answer.asked_at = asked_at
        if message.code == 101:
            answer.close()
            raise UpstreamFailureError(Failure.PROTOCOL, "101, which nobody asked for")
        return answer

    def _head(
        self,
        method: str,
        target: str,
        headers: CIMultiDict[str],
        body: RequestBody | None,
        whole: bytes | None,
    ) -> bytes:
        """Write a request's head; `headers` then say how its body is framed."""
        headers.setdefault(hdrs.HOST, self._host)
        if hdrs.CONTENT_LENGTH not in headers:
            if body is None:
                if method in _WITH_BODY:
                    headers[hdrs.CONTENT_LENGTH] = "0"
            elif whole is not None:
                headers[hdrs.CONTENT_LENGTH] = str(len(whole))
            else:
                headers[hdrs.TRANSFER_ENCODING] = "chunked"
        return bytes(_serialize_headers(f"{method} {self._prefix}{target} HTTP/1.1", headers))

    async def _send(
        self,
        wire: Wire,
        headers: CIMultiDict[str],
        body: RequestBody,
        whole: bytes | None,
    ) -> None:
        """Send a request's body as it comes; the wait for the answer begins at its end."""
        writer = StreamWriter(wire, self.loop)
        if hdrs.TRANSFER_ENCODING in headers:
            writer.enable_chunking()
        try:
            if whole is not None:
                await writer.write(whole)
            else:
                async for piece in body:
                    await writer.write(piece)
                    if wire.is_given:
                        wire.give(self._limits.response)
            await writer.write_eof()
        except Exception as error:
            if body.failure is None and isinstance(error, OSError):
                return  # the upstream closed it; what it said before that counts
            wire.abort()
            failure = body.failure or Failure.INTERNAL
            wire.set_exception(UpstreamFailureError(failure, words_of(error)))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for answer in tuple(self._finishing):
            answer.give_back()
        await self._wires.end()
