"""A connection to the upstream that can tell of each arrival.

aiohttp hands a body to whoever awaits it. That is a task switch for each read, which costs
about as much as everything that is done to the events in it. Whoever relays a stream is told
instead, in the same turn of the loop, and takes what came.

Invariant: whoever is told, is told of everything: of bytes, of the end, of what broke.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.streams import EmptyStreamReader, StreamReader
from yarl import URL

_DNS_TTL: Final = 30

# What may follow a head before somebody reads it: that takes one turn of the event loop.
_MOST_BEHIND: Final = 256 * 1024


class Wire(ResponseHandler):
    """One connection.

    told: called after each arrival, while a stream is relayed from this connection.
    asked: a request is under way on it; without one, nothing may come.
    reused: it is not the first.
    connection: aiohttp's own word for it, once it is made.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.loop = loop
        self.told: Callable[[], None] | None = None
        self.asked = False
        self.reused = False
        self.connection: aiohttp.connector.Connection | None = None
        self._body: StreamReader | None = None
        self._awaits_head = False
        self._is_held = False  # what follows the head waits for someone to read it
        self._behind = b""  # it
        self._late_at: float | None = None
        self._alarm: asyncio.TimerHandle | None = None

    def give(self, seconds: float | None) -> None:
        """Break the connection after so many seconds, whatever comes; None takes that back.

        Not by aiohttp's read timeout, which a head that comes byte by byte never meets, nor by
        asyncio's, which asks for the loop and the task again and again. One timer serves many
        exchanges, all with as many seconds: when it rings too early it is set again, which is rare.
        """
        if seconds is None:
            self._late_at = None
            return
        self._late_at = self.loop.time() + seconds
        if self._alarm is None:
            self._alarm = self.loop.call_at(self._late_at, self._look_at_the_time)

    @property
    def is_given(self) -> bool:
        """Tell whether it has a deadline."""
        return self._late_at is not None

    def _look_at_the_time(self) -> None:
        self._alarm = None
        if self._late_at is None:
            return
        if self.loop.time() < self._late_at:
            self._alarm = self.loop.call_at(self._late_at, self._look_at_the_time)
        else:
            self.set_exception(TimeoutError("the answer's head did not come in time"))

    def send(self, data: bytes) -> None:
        """Write without waiting. Raises ClientConnectionResetError where it is closed."""
        if self.transport is None or self.transport.is_closing():
            raise aiohttp.ClientConnectionResetError
        self.transport.write(data)

    def expect(self, body: StreamReader) -> None:
        """Note the body that is read from now on; what breaks the connection breaks it too."""
        self._body = body
        broken = self.exception()  # by what came with the head
        if broken is not None and not body.is_eof() and body.exception() is None:
            body.set_exception(broken)

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        if not self.asked:
            self.abort()  # or it would be taken for the next request's answer
            return
        if self._is_held:
            self._keep(data)
            return
        if self._awaits_head:
            # The head by itself: a fault of what follows must not take it along. The parser makes
            # the body with the head, and fills it at once: with chunks one by one, which is slow
            # where nobody has said yet how it will be read. (The word's first letter is of either
            # case; where it is written in another way, only time is lost.)
            end = data.find(b"\r\n\r\n")
            if end >= 0:
                self._awaits_head = False
                behind, data = data[end + 4 :], data[: end + 4]
                if data.find(b"hunked") >= 0 or data[9:10] == b"1":
                    self._is_held = True
                    self._keep(behind)
                elif behind:
                    super().data_received(data)
                    data = behind
        super().data_received(data)
        if self._awaits_head and self._buffer:
            self._awaits_head = False  # its end came in two pieces
        if self.told is not None:
            self.told()

    def _keep(self, data: bytes) -> None:
        self._behind += data
        if len(self._behind) > _MOST_BEHIND:
            self.hold()

    def await_head(self) -> None:
        """Read a head next, of an answer or of one more of it."""
        self._awaits_head = not self._buffer  # it may have come with the one before
        self._let_go()

    def read_on(self) -> None:
        """Read the body, which somebody waits for now."""
        if self._is_held:
            self._let_go()

    def rest(self) -> bool:
        """End an exchange; tell whether another may follow."""
        is_clean = not self._behind
        self._awaits_head = self._is_held = self.asked = False
        self._behind = b""
        self.told = None
        self.go_on()
        return is_clean

    def _let_go(self) -> None:
        behind, self._behind, self._is_held = self._behind, b"", False
        if behind:
            self.go_on()
            self.data_received(behind)

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """Note what broke; aiohttp's parser tells the connection of it and never the body."""
        super().set_exception(exc, *cause)
        body = self._body
        if body is not None and not body.is_eof() and body.exception() is None:
            body.set_exception(exc)
        if self.told is not None:
            self.told()

    def connection_lost(self, exc: BaseException | None) -> None:
        """End; where the body goes on until the connection's end, that is its end."""
        self.read_on()
        super().connection_lost(exc)
        if self._alarm is not None:
            self._alarm.cancel()
        if self.connection is not None:
            self.connection.close()  # or the connector would count it for ever
        if self.told is not None:
            self.told()

    def tell(self, told: Callable[[], None]) -> None:
        """Call `told` after each arrival from now on."""
        self.told = told
        self.read_on()
        if self._reading_paused:  # by a body that was full
            self.resume_reading()

    def hold(self) -> None:
        """Read no more until `go_on`."""
        if not self._buffer_paused:
            self._pause_reading_for_buffer()

    def go_on(self) -> None:
        """Read again."""
        if self._buffer_paused:
            self._resume_reading_for_buffer()


class Arrivals(StreamReader):
    """A body that is taken whole after each arrival, so it counts and wakes nothing."""

    __slots__ = ()

    @classmethod
    def of(cls, body: StreamReader, wire: Wire) -> Arrivals:
        """Make a body one of these. aiohttp's parser names its class and cannot be told another."""
        if isinstance(body, EmptyStreamReader):  # there is one for all empty bodies
            body = StreamReader(wire, 1, loop=wire.loop)
            body.feed_eof()
        body.__class__ = cls
        assert isinstance(body, cls)  # noqa: S101 - it is now
        return body

    def feed_data(self, data: bytes, size: int = 0) -> bool:
        """Keep what came."""
        del size
        self._buffer.append(data)
        return False

    def feed_eof(self) -> None:
        """Note the end: nobody waits for it, and nothing was paused."""
        self._eof = True

    def begin_http_chunk_receiving(self) -> None:
        """Note nothing: nobody asks where a chunk ended."""

    def end_http_chunk_receiving(self) -> None:
        """Note nothing."""

    @property
    def is_over(self) -> bool:
        """Tell whether nothing more can come: it ended, or it broke."""
        return self._eof or self._exception is not None

    def take(self) -> bytes:
        """Return what came since; b"" where nothing did."""
        buffer = self._buffer
        if len(buffer) == 1:
            return buffer.popleft()
        taken = b"".join(buffer)
        buffer.clear()
        return taken


class Wires(aiohttp.TCPConnector):
    """The connections to one place: makes them, and keeps those that nobody uses.

    aiohttp's connector keeps connections to many places, each found by all that it was asked
    with. There is one here, and the connection that was used last is the least likely to be old.

    place: its scheme, host and port.
    unused: seconds for which a connection that nobody uses is kept.
    """

    def __init__(self, place: URL, connect: float, unused: float) -> None:
        super().__init__(limit=0, ttl_dns_cache=_DNS_TTL)
        # No parameter of aiohttp's names the protocol's class.
        self._factory = partial(Wire, loop=self._loop)  # type: ignore[assignment]
        self._place = aiohttp.ClientRequest("GET", place, loop=self._loop)
        self._times = aiohttp.ClientTimeout(connect=connect)
        self._unused = unused
        self._kept: deque[tuple[Wire, float]] = deque()  # with since when, the oldest first
        self._look: asyncio.TimerHandle | None = None

    async def take(self) -> Wire:
        """Return a connection, made anew where none is kept. Raises what aiohttp raises."""
        now = self._loop.time()
        while self._kept:
            wire, since = self._kept.pop()
            if wire.is_connected() and now - since < self._unused:
                return wire
            wire.close()
        connection = await self.connect(self._place, [], self._times)
        protocol = connection.protocol
        assert isinstance(protocol, Wire)  # noqa: S101 - what the factory makes
        protocol.connection = connection
        return protocol

    def keep(self, wire: Wire) -> None:
        """Keep a connection that is not used any more, or close it where it cannot be."""
        if wire.should_close or self.closed:
            wire.close()
            return
        self._kept.append((wire, self._loop.time()))
        if self._look is None:
            self._look = self._loop.call_later(self._unused, self._close_unused)

    def _close_unused(self) -> None:
        self._look = None
        before = self._loop.time() - self._unused
        while self._kept:
            wire, since = self._kept[0]
            if wire.is_connected() and since > before:
                self._look = self._loop.call_later(since - before, self._close_unused)
                break
            self._kept.popleft()
            wire.close()

    async def end(self) -> None:
        """Close all."""
        if self._look is not None:
            self._look.cancel()
        while self._kept:
            wire, _ = self._kept.pop()
            wire.close()
        await self.close()
