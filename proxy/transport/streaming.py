"""An event stream on its way to the client, and the gate before it.

The gate: the headers wait until the first event with content, or for the gate's time. What
comes before it (comments, `response.created`) is held and then sent in order; content is
never delayed. An error in that time becomes a real HTTP status, because that is what clients
retry on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from typing import Final

from aiohttp import hdrs, web

from proxy.core.errors import Reply
from proxy.core.failures import Failure
from proxy.core.sse import ENCODED_KEEP_ALIVE
from proxy.core.stream import StreamSanitizer
from proxy.operate.observer import Observer
from proxy.operate.record import Record
from proxy.transport.encoding import Decompressor, EncodingError
from proxy.transport.exchange import Exchange
from proxy.transport.limits import Limits
from proxy.transport.upstream import Answer, UpstreamFailureError

# Seconds for a client that reads slowly to take the ending; the drain's own last words are 2.
_LAST_WORDS: Final = 2.0


class ClientStream:
    """The client's side of a stream: held by the gate, then open."""

    def __init__(self, exchange: Exchange, status: int, headers: Mapping[str, str]) -> None:
        self._exchange = exchange
        self._response = web.StreamResponse(status=status, headers=headers)
        self._response.headers[hdrs.CONTENT_TYPE] = "text/event-stream"
        self._response.headers[hdrs.CACHE_CONTROL] = "no-cache"
        self._response.headers["X-Accel-Buffering"] = "no"  # nginx would hold events back
        self._held: list[bytes] = []
        self.held_size = 0

    @property
    def is_open(self) -> bool:
        """Tell whether the headers are out."""
        return self._exchange.begun

    def hold(self, data: bytes) -> None:
        """Keep `data` for when the stream opens."""
        self._held.append(data)
        self.held_size += len(data)

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


class _Waits:
    """How long to wait for the upstream, and for what."""

    def __init__(self, began: float, limits: Limits) -> None:
        self._limits = limits
        self._gate_until = began + limits.gate
        self._stream_until = began + limits.stream
        self._end_until: float | None = None

    def gate_is_over(self) -> bool:
        """Tell whether an error has had its time to become a status."""
        return time.monotonic() >= self._gate_until

    def stream_is_over(self) -> bool:
        """Tell whether the stream has lasted as long as it may."""
        return time.monotonic() >= self._stream_until

    def end_is_over(self) -> bool:
        """Tell whether what could follow a completed answer has had its time."""
        return self._end_until is not None and time.monotonic() >= self._end_until

    def seconds(self, sanitizer: StreamSanitizer, *, is_open: bool) -> float:
        """Return how long to wait for the next piece."""
        now = time.monotonic()
        until = self._stream_until if is_open else min(self._gate_until, self._stream_until)
        if sanitizer.ended or sanitizer.finished:
            rest = self._limits.after_end if sanitizer.ended else self._limits.after_finish
            self._end_until = min(self._end_until or now + rest, now + rest)
            until = min(until, self._end_until)
        elif self._limits.keep_alive and is_open:
            until = min(until, now + self._limits.keep_alive)
        return until - now


async def relay_stream(
    exchange: Exchange, answer: Answer, client: ClientStream, source: Source, limits: Limits
) -> web.StreamResponse:
    """Relay a stream to its one ending."""
    sanitizer = source.sanitizer
    try:
        response = await _relay_to_the_end(exchange, answer, client, source, limits)
    except asyncio.CancelledError:
        out = sanitizer.fail(exchange.ordered_failure())
    else:
        if response is not None:
            return response
        out = sanitizer.fail(Failure.TOO_LONG)
    if client.is_open or sanitizer.content_seen or sanitizer.reply is None:
        return await _last_words(exchange, client, out, answer)
    return _promote(exchange, answer, sanitizer.reply)


async def _relay_to_the_end(
    exchange: Exchange, answer: Answer, client: ClientStream, source: Source, limits: Limits
) -> web.StreamResponse | None:
    """Relay until the stream has ended or failed; None when its time is over."""
    record, sanitizer = exchange.record, source.sanitizer
    waits = _Waits(record.began, limits)
    out = source.begun()
    while True:
        source.note(record)
        if client.is_open:
            await client.write(out)
        elif sanitizer.reply is not None and not sanitizer.content_seen:
            return _promote(exchange, answer, sanitizer.reply)
        else:
            client.hold(out)
            full = client.held_size > limits.held
            if sanitizer.content_seen or sanitizer.closed or full or waits.gate_is_over():
                await client.open()
        if sanitizer.closed:
            break
        wait = waits.seconds(sanitizer, is_open=client.is_open)
        try:
            async with asyncio.timeout(wait):
                out = await source.read()
                # A stream that is open and goes on waits for nothing new: one timer will do.
                while client.is_open and source.goes_on and not limits.keep_alive:
                    await client.write(out)
                    out = await source.read()
        except TimeoutError:
            if waits.end_is_over():
                break
            if waits.stream_is_over():
                return None
            out = ENCODED_KEEP_ALIVE if client.is_open and not sanitizer.ended else b""
    # The upstream first: whatever it still generates, nobody reads.
    answer.close()
    if sanitizer.reply is not None:
        record.ending = "failed"
    if not client.is_open:
        await client.open()
    return await client.end()


def _promote(exchange: Exchange, answer: Answer, reply: Reply) -> web.StreamResponse:
    """Make an early error a real HTTP status."""
    exchange.record.gate = "promoted"
    answer.close()
    return exchange.say(reply, answer)


async def _last_words(
    exchange: Exchange, client: ClientStream, ending: bytes, answer: Answer
) -> web.StreamResponse:
    """Write the ending of a stream whose time is over, to a client that may not be reading."""
    answer.close()
    exchange.record.ending = "failed"
    try:
        async with asyncio.timeout(_LAST_WORDS):
            if not client.is_open:
                await client.open()
            await client.write(ending)
            return await client.end()
    except TimeoutError:
        if exchange.request.transport is not None:
            exchange.request.transport.abort()
        raise ConnectionError from None


class Source:
    """The upstream's side of a stream: pieces in, what the client gets out.

    first: what was already read of the body, decoded.
    """

    def __init__(
        self,
        answer: Answer,
        decoder: Decompressor,
        sanitizer: StreamSanitizer,
        observer: Observer,
        exchange: Exchange,
        first: bytes,
    ) -> None:
        self._answer = answer
        self._decoder = decoder
        self._observer = observer
        self._exchange = exchange
        self._first = first
        self._parts: Iterator[bytes] | None = None  # of the last piece, still to be dealt with
        self.sanitizer = sanitizer

    @property
    def goes_on(self) -> bool:
        """Tell whether the stream is in its midst: neither failed nor completed."""
        sanitizer = self.sanitizer
        return not (sanitizer.closed or sanitizer.ended or sanitizer.finished)

    def note(self, record: Record) -> None:
        """Note how far the stream has come."""
        record.events = self.sanitizer.events
        if self.sanitizer.reply is not None:
            record.last_events = self.sanitizer.last_events()
        if self.sanitizer.content_seen and record.first_event_after is None:
            record.first_event_after = record.elapsed()

    def begun(self) -> bytes:
        """Return what the client gets for what was already read."""
        return self._feed(iter((self._first,)))

    async def read(self) -> bytes:
        """Wait for more; return what the client gets for it, also for an upstream's fault."""
        if self._parts is not None:
            return self._feed(self._parts)
        try:
            piece = await self._answer.read()
        except UpstreamFailureError as error:
            self._exchange.record.detail = error.detail
            return self.sanitizer.fail(error.failure, error.detail)
        return self._feed(self._decoder.feed(piece)) if piece else self.sanitizer.close()

    def _feed(self, parts: Iterator[bytes]) -> bytes:
        """Deal with the next part; a compressed piece can have hundreds, each to be written."""
        try:
            part = next(parts, None)
            self._parts = None if part is None else parts
            return b"" if part is None else self.sanitizer.feed(part)
        except EncodingError as error:
            return self.sanitizer.fail(Failure.ENCODING, str(error))
        except Exception:
            self._observer.bug("the sanitizer failed", self._exchange.record.reference)
            return self.sanitizer.fail(Failure.INTERNAL)
