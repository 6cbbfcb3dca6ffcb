"""An upstream's answer: its head, and the two ways to read its body."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

from aiohttp import hdrs
from aiohttp.http import RawResponseMessage
from aiohttp.streams import StreamReader
from multidict import CIMultiDictProxy

from proxy.transport.body import all_of
from proxy.transport.faults import READING, UpstreamFailureError, translate
from proxy.transport.wire import Arrivals, Wire, Wires

# Seconds and bytes for what may follow the last event: the last chunk, an end mark.
_FRAMING: Final = 1.0
_MOST_FRAMING: Final = 4096


class Answer:
    """An upstream's answer whose headers are here.

    Its body is read in one of two ways: waited for by `read`, or, where waiting is too slow,
    told of by `tell` and taken.

    connected_after: the seconds that connecting took; None on a connection that was kept.
    asked_at: when the request was on its way, by the monotonic clock.
    """

    def __init__(
        self,
        wire: Wire,
        wires: Wires,
        message: RawResponseMessage,
        body: StreamReader,
        sending: asyncio.Task[None] | None,
        idle: float,
        finishing: set[Answer],
    ) -> None:
        self._wire = wire
        self._wires = wires
        self._body = body
        self._sending = sending
        self._idle = idle
        self._finishing = finishing  # those of the same upstream that wait for their framing's end
        self._late: asyncio.TimerHandle | None = None
        self._waited = False
        self._is_closed = False
        self.connected_after: float | None = None
        self.asked_at = 0.0
        self.status = message.code
        self.headers: CIMultiDictProxy[str] = message.headers
        self.content_type = (
            message.headers.get(hdrs.CONTENT_TYPE, "").partition(";")[0].strip().lower()
        )
        wire.expect(body)

    async def read(self) -> bytes:
        """Wait for more and return it; b"" at the end.

        Raises UpstreamFailureError.
        """
        self._wire.read_on()
        if not self._waited and not self._body.is_eof():
            self._waited = True
            self._wire.read_timeout = self._idle
            self._wire.start_timeout()
        try:
            return await self._body.readany()
        except Exception as error:
            raise translate(error, READING) from error

    def at_once(self, most: int) -> bytes | None:
        """Return the whole body, where it is here already and no more than so many bytes."""
        self._wire.read_on()
        return all_of(self._body, most)

    @property
    def is_read(self) -> bool:
        """Tell whether the body was read to its end."""
        return self._body.at_eof()

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes."""
        while piece := await self.read():
            yield piece

    def tell(self, told: Callable[[], None]) -> Arrivals:
        """Call `told` after each arrival from now on; return what arrives, to be taken.

        It is then for the caller to wait, and to ask what is `broken` where that is over.
        """
        if self._waited:
            self._wire.read_timeout = None
            self._wire.start_timeout()
        self._body = arrivals = Arrivals.of(self._body, self._wire)
        self._wire.tell(told)
        return arrivals

    @property
    def broken(self) -> UpstreamFailureError | None:
        """What broke the body, if something did."""
        error = self._body.exception()
        return translate(error, READING) if error is not None else None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop; to ask asyncio for it is a system call."""
        return self._wire.loop

    def hold(self) -> None:
        """Let the upstream wait until `go_on`."""
        self._wire.hold()

    def go_on(self) -> None:
        """Read on."""
        self._wire.go_on()

    def close(self) -> None:
        """Give the connection back if the exchange on it is over, else close it; once.

        A second time it might be another's already.
        """
        if not self._is_closed:
            self._is_closed = True
            self.give_back()

    def finish(self) -> None:
        """Close it when the end of its framing is here, which may come behind the last event.

        Closed at once, the connection could not be used again.
        """
        arrivals = self._body
        if self._is_closed or not isinstance(arrivals, Arrivals) or arrivals.is_over:
            self.close()
            return
        self._is_closed = True
        self._finishing.add(self)
        self._late = self._wire.loop.call_later(_FRAMING, self.give_back)
        left = _MOST_FRAMING

        def look() -> None:
            nonlocal left
            left -= len(arrivals.take())
            if arrivals.is_over or left < 0:
                self.give_back()

        self._wire.told = look
        self._wire.go_on()

    def give_back(self) -> None:
        """Give the connection back, or close it, without waiting for anything."""
        if self._late is not None:
            self._late.cancel()
        self._finishing.discard(self)
        is_clean = self._wire.rest()
        if self._sending is not None and not self._sending.done():
            self._sending.cancel()
            self._wire.abort()  # to close it would wait for what it still has to send
        elif is_clean and self._body.is_eof():
            self._wires.keep(self._wire)
        else:
            self._wire.close()
