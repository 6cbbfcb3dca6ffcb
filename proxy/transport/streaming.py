"""An event stream on its way to the client, and the gate before it.

    the upstream's bytes arrive → decoder → sanitizer → client, in one turn of the event loop

The gate: the headers wait until the first event with content, or for the gate's time. What
comes before it (comments, `response.created`) is held and then sent in order; content is
never delayed. An error in that time becomes a real HTTP status, because that is what clients
retry on.

Rule 1. Bytes are taken in the order they came, and none while the client is full.
Rule 2. Whatever happens, `_over` is set once: the sanitizer has closed the stream, or it is whole.
Rule 3. One timer waits for the nearest of all deadlines. What comes does not set it anew: when
        it rings too early it is set again, which is rare.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Final

from aiohttp import hdrs, web

from proxy.core.failures import Failure
from proxy.core.sse import ENCODED_KEEP_ALIVE
from proxy.core.stream import StreamSanitizer
from proxy.operate.observer import Observer
from proxy.transport.answer import Answer
from proxy.transport.deadlines import Deadlines, Due, State
from proxy.transport.encoding import Decompressor, EncodingError, Identity
from proxy.transport.exchange import Exchange
from proxy.transport.limits import Limits
from proxy.transport.response import StreamedResponse
from proxy.transport.server import Protocol
from proxy.transport.wire import Arrivals

# Seconds for a client to take the ending of a stream whose time is over; the drain's own are 2.
_LAST_WORDS: Final = 2.0


class Stream:
    """One event stream.

    first: what was already read of the body, decoded.
    """

    def __init__(
        self,
        exchange: Exchange,
        answer: Answer,
        decoder: Decompressor,
        sanitizer: StreamSanitizer,
        limits: Limits,
        observer: Observer,
        first: bytes,
    ) -> None:
        headers = exchange.success_headers(answer, decoded=True)
        headers[hdrs.CONTENT_TYPE] = "text/event-stream"
        headers[hdrs.CACHE_CONTROL] = "no-cache"
        headers["X-Accel-Buffering"] = "no"  # nginx would hold events back
        self._exchange = exchange
        self._answer = answer
        self._decoder = decoder
        self._sanitizer = sanitizer
        self._limits = limits
        self._observer = observer
        self._client = StreamedResponse(exchange.request, answer.status, headers)
        self._protocol: Protocol = exchange.request.protocol  # type: ignore[assignment]
        self._parts: Iterator[bytes] = iter((first,) if first else ())
        self._is_encoded = not isinstance(decoder, Identity)
        self._arrivals: Arrivals | None = None
        self._held: list[bytes] = []
        self._held_size = 0
        self._loop = answer.loop
        self._over = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._deadlines = Deadlines(self._loop.time(), limits)
        self._arrived_after = 0.0
        self._patience: float | None = None  # with a client that does not take the ending

    async def relay(self) -> web.StreamResponse:
        """Relay it to its one ending."""
        self._protocol.on_writable = self._on_writable
        try:
            if not self._limits.gate:
                self._open()
            self._arrivals = self._answer.tell(self._on_arrival)
            self._on_arrival()
            if not self._over.done():
                self._arm()
                await self._over
        except asyncio.CancelledError:
            self._give_up(self._exchange.ordered_failure())
            self._patience = _LAST_WORDS
        finally:
            self._protocol.on_writable = None
            if self._timer is not None:
                self._timer.cancel()
            # The upstream first: whatever it still generates, nobody reads.
            if self._sanitizer.ended and self._sanitizer.closed:
                self._answer.finish()
            else:
                self._answer.close()
            self._note()
        return await self._finish()

    def _note(self) -> None:
        record, sanitizer = self._exchange.record, self._sanitizer
        record.events = sanitizer.events
        record.dropped_events = sanitizer.dropped
        if sanitizer.reply is not None:
            record.ending = "failed"
            record.last_events = sanitizer.last_events()

    async def _finish(self) -> web.StreamResponse:
        client, reply = self._client, self._sanitizer.reply
        if not client.is_open:
            if reply is not None:
                self._exchange.record.gate = "promoted"
                return self._exchange.say(reply, self._answer)
            self._open()
        client.end()
        client.flush()
        if self._protocol.writing_paused:
            try:
                async with asyncio.timeout(self._patience):
                    await self._protocol.written()
            except TimeoutError:
                self._protocol.abort()
                raise ConnectionError from None
        return client

    # What happens: bytes arrive, the client has room again, time passes

    def _on_arrival(self) -> None:
        self._deadlines.heard_at = self._loop.time()
        if not self._sanitizer.content_seen:
            self._arrived_after = self._exchange.record.elapsed()
        self._guarded(self._take)

    def _on_writable(self) -> None:
        self._deadlines.heard_at = self._loop.time()  # it was we who did not listen
        self._answer.go_on()
        self._arm()
        self._guarded(self._take)

    def _on_time(self) -> None:
        self._timer = None
        self._guarded(self._look_at_the_time)

    def _guarded(self, act: Callable[[], None]) -> None:
        """Do one of the above; our own bug is a failure like any other."""
        if self._over.done():
            return
        try:
            act()
            self._client.flush()
        except EncodingError as error:
            self._fail(Failure.ENCODING, str(error))
            self._client.flush()
        except Exception:
            self._observer.bug("a stream failed", self._exchange.record.reference)
            self._fail(Failure.INTERNAL)
            self._client.flush()

    def _take(self) -> None:
        """Deal with what has come, until nothing is left or the client is full."""
        arrivals, paused = self._arrivals, self._protocol.writing_paused
        if arrivals is None or self._over.done():
            return
        while not paused and (part := next(self._parts, None)) is not None:
            paused = self._pass(part)
        if not paused and (piece := arrivals.take()):
            if self._is_encoded:
                self._parts = self._decoder.feed(piece)
                self._take()
                return
            paused = self._pass(piece)
        if self._over.done():
            return
        if paused:
            self._answer.hold()
        elif arrivals.is_over:
            self._come_to_the_end()

    def _come_to_the_end(self) -> None:
        broken = self._answer.broken
        if broken is not None:
            self._fail(broken.failure, broken.detail)
        else:
            self._give(self._sanitizer.close())
            self._end()

    def _pass(self, part: bytes) -> bool:
        """Give the client what it gets for a part; tell whether it is full, or all is over."""
        sanitizer = self._sanitizer
        self._give(sanitizer.feed(part))
        if sanitizer.closed:
            self._end()
        elif (sanitizer.ended or sanitizer.finished) and self._deadlines.await_end(
            self._loop.time(), ended=sanitizer.ended
        ):
            self._arm()
        self._client.flush()
        return self._protocol.writing_paused or sanitizer.closed

    def _give(self, out: bytes) -> None:
        """Write it, or hold it while the gate is shut."""
        sanitizer, record = self._sanitizer, self._exchange.record
        if record.first_event_after is None and sanitizer.content_seen:
            record.first_event_after = record.elapsed()
            record.judged_in = record.first_event_after - self._arrived_after
        if self._client.is_open:
            self._write(out)
        elif sanitizer.content_seen:
            self._held.append(out)
            self._open()
        elif out:
            self._held.append(out)
            self._held_size += len(out)
            if self._held_size > self._limits.held and sanitizer.reply is None:
                self._open()

    def _open(self) -> None:
        """Send the headers and what was held."""
        self._exchange.begun = True
        self._client.open()
        self._write(b"".join(self._held))
        self._held.clear()
        if self._limits.keep_alive and self._timer is not None:
            self._arm()  # from now on the client is to hear something

    def _write(self, out: bytes) -> None:
        if out:
            self._exchange.record.bytes_out += len(out)
            self._client.push(out)

    def _fail(self, failure: Failure, detail: str = "") -> None:
        if detail:
            self._exchange.record.detail = detail
        self._give_up(failure, detail)
        self._end()

    def _give_up(self, failure: Failure, detail: str = "") -> None:
        """Let the sanitizer write the ending; without content it may still become a status."""
        out = self._sanitizer.fail(failure, detail)
        if self._client.is_open or self._sanitizer.content_seen:
            if not self._client.is_open:
                self._open()
            self._write(out)

    def _end(self) -> None:
        if self._client.is_open:
            self._client.end()
        if not self._over.done():
            self._over.set_result(None)

    # Time

    def _state(self) -> State:
        sanitizer = self._sanitizer
        is_full = self._protocol.writing_paused
        return State(self._client.is_open, is_full, sanitizer.content_seen, sanitizer.ended)

    def _look_at_the_time(self) -> None:
        now = self._loop.time()
        match self._deadlines.due(now, self._state()):
            case Due.END:
                self._end()
                return
            case Failure() as failure:
                if failure is Failure.TOO_LONG:
                    self._patience = _LAST_WORDS
                self._fail(failure)
                return
            case Due.OPEN:
                self._open()
            case Due.COMMENT:
                self._deadlines.commented(now)
                self._write(ENCODED_KEEP_ALIVE)
        self._arm()

    def _arm(self) -> None:
        """Set the timer to the nearest deadline."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._deadlines.nearest(self._state()), self._on_time)
