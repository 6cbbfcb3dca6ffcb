"""An event stream on its way to the client, and the gate before it.

The gate: the headers wait until the first event with content, or for the gate's time. What
comes before it (comments, `response.created`) is held and then sent in order; content is
never delayed. An error in that time becomes a real HTTP status, because that is what clients
retry on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from aiohttp import hdrs, web

from proxy.core.failures import Failure
from proxy.core.stream import StreamSanitizer
from proxy.operate.log import Log
from proxy.transport.encoding import Decompressor, EncodingError
from proxy.transport.exchange import Exchange
from proxy.transport.limits import Limits
from proxy.transport.upstream import Answer, UpstreamFailureError


class ClientStream:
    """The client's side of a stream: held by the gate, then open."""

    def __init__(self, exchange: Exchange, status: int, headers: Mapping[str, str]) -> None:
        self._exchange = exchange
        self._response = web.StreamResponse(status=status, headers=headers)
        self._response.headers[hdrs.CONTENT_TYPE] = "text/event-stream"
        self._response.headers[hdrs.CACHE_CONTROL] = "no-cache"
        self._response.headers["X-Accel-Buffering"] = "no"  # nginx would hold events back
        self._held: list[bytes] = []

    @property
    def is_open(self) -> bool:
        """Tell whether the headers are out."""
        return self._exchange.begun

    def hold(self, data: bytes) -> None:
        """Keep `data` for when the stream opens."""
        self._held.append(data)

    async def open(self) -> None:
        """Send the headers and what was held."""
        self._exchange.begun = True
        await self._response.prepare(self._exchange.request)
        held = b"".join(self._held)
        self._held.clear()
        await self.write(held)

    async def write(self, data: bytes) -> None:
        """Send `data`; waits while the client reads slowly."""
        if data:
            self._exchange.record.bytes_out += len(data)
            await self._response.write(data)

    async def end(self) -> web.StreamResponse:
        """End the body."""
        await self._response.write_eof()
        return self._response


async def relay_stream(
    exchange: Exchange,
    answer: Answer,
    client: ClientStream,
    source: Source,
    limits: Limits,
) -> web.StreamResponse:
    """Relay a stream to its one ending."""
    record, sanitizer = exchange.record, source.sanitizer
    gate_until = record.began + limits.gate
    stream_until = record.began + limits.stream
    out = source.begun()
    while True:
        if sanitizer.content_seen and record.first_event_after is None:
            record.first_event_after = record.elapsed()
        record.events = sanitizer.events
        if not client.is_open:
            if sanitizer.reply is not None and not sanitizer.content_seen:
                record.gate = "promoted"
                answer.close()
                return exchange.say(sanitizer.reply, answer)
            client.hold(out)
            if sanitizer.content_seen or sanitizer.closed or time.monotonic() >= gate_until:
                await client.open()
        else:
            await client.write(out)
        if sanitizer.closed:
            break
        until = stream_until if client.is_open else min(gate_until, stream_until)
        if sanitizer.ended:
            until = min(until, time.monotonic() + limits.after_end)
        try:
            async with asyncio.timeout(until - time.monotonic()):
                out = await source.read()
        except TimeoutError:
            if sanitizer.ended:
                break
            over = time.monotonic() >= stream_until
            out = sanitizer.fail(Failure.TOO_LONG) if over else b""
        except asyncio.CancelledError:
            out = sanitizer.fail(exchange.ordered_failure())
    # The upstream first: whatever it still generates, nobody reads.
    answer.close()
    if sanitizer.reply is not None:
        record.ending = "failed"
    return await client.end()


class Source:
    """The upstream's side of a stream: pieces in, what the client gets out.

    first: what was already read of the body, decoded.
    """

    def __init__(
        self,
        answer: Answer,
        decoder: Decompressor,
        sanitizer: StreamSanitizer,
        log: Log,
        exchange: Exchange,
        first: bytes,
    ) -> None:
        self._answer = answer
        self._decoder = decoder
        self._log = log
        self._exchange = exchange
        self._first = first
        self.sanitizer = sanitizer

    def begun(self) -> bytes:
        """Return what the client gets for what was already read."""
        return self._feed(self._first, decode=False)

    async def read(self) -> bytes:
        """Wait for more; return what the client gets for it, also for an upstream's fault."""
        try:
            piece = await self._answer.read()
        except UpstreamFailureError as error:
            self._exchange.record.detail = error.detail
            return self.sanitizer.fail(error.failure, error.detail)
        return self._feed(piece) if piece else self.sanitizer.close()

    def _feed(self, piece: bytes, *, decode: bool = True) -> bytes:
        try:
            return self.sanitizer.feed(self._decoder.feed(piece) if decode else piece)
        except EncodingError as error:
            return self.sanitizer.fail(Failure.ENCODING, str(error))
        except Exception:
            self._log.bug("the sanitizer failed", self._exchange.record.reference)
            return self.sanitizer.fail(Failure.INTERNAL)
