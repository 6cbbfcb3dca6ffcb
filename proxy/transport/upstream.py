"""The upstream's side: send a request, read its answer.

aiohttp makes the connections and parses what comes; its client's session above them would
cost as much as all the rest of an exchange, and answers nothing that a proxy asks.

The one border where aiohttp's exceptions are named. Each becomes a `Failure`; its text holds
hosts and ports and goes to the operator only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from time import monotonic
from types import TracebackType
from typing import Final, Self

import aiohttp
from aiohttp import hdrs
from aiohttp.http import RawResponseMessage, StreamWriter
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from proxy.core.failures import Failure
from proxy.transport.body import RequestBody
from proxy.transport.limits import Limits
from proxy.transport.wire import Arrivals, Wire, Wires

# A header line of an upstream's can be long: Azure's content filter results.
_MAX_LINE: Final = 64 * 1024

# Sent again when a connection that was kept turns out to be closed (RFC 9110, section 9.2.2).
_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})


class UpstreamFailureError(Exception):
    """The upstream failed; `detail` is for the operator."""

    def __init__(self, failure: Failure, detail: str) -> None:
        super().__init__(detail)
        self.failure = failure
        self.detail = detail


class Answer:
    """An upstream's answer whose headers are here.

    Its body is read in one of two ways: waited for by `read`, or, where waiting is too slow,
    told of by `tell` and taken.

    connected_after: the seconds that connecting took; None on a connection that was kept.
    asked_at: when the request was on its way, by the monotonic clock.
    """

    def __init__(
        self,
        connection: aiohttp.connector.Connection,
        message: RawResponseMessage,
        body: StreamReader,
        sending: asyncio.Task[None] | None,
        idle: float,
    ) -> None:
        self._connection = connection
        self._wire = _wire_of(connection)
        self._body = body
        self._sending = sending
        self._idle = idle
        self._waited = False
        self.connected_after: float | None = None
        self.asked_at = 0.0
        self.status = message.code
        self.headers: CIMultiDictProxy[str] = message.headers
        self.content_type = (
            message.headers.get(hdrs.CONTENT_TYPE, "").partition(";")[0].strip().lower()
        )
        self._wire.expect(body)

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
            raise _translate(error, _READING) from error

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
        return _translate(error, _READING) if error is not None else None

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
        """Give the connection back if the exchange on it is over, else close it."""
        is_clean = self._wire.rest()
        if self._sending is not None and not self._sending.done():
            self._sending.cancel()
            self._connection.close()
        elif is_clean and self._body.is_eof():
            self._connection.release()
        else:
            self._connection.close()


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
        self._wires = Wires(limits.upstream_unused)
        # What the connector is asked with: where to, and nothing of any request.
        self._place = aiohttp.ClientRequest("GET", url.origin(), loop=self.loop)
        self._times = aiohttp.ClientTimeout(connect=limits.connect)
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
        while True:
            began = monotonic()
            connection = await self._connect()
            wire = _wire_of(connection)
            reused, wire.reused = wire.reused, True
            connected_after = None if reused else monotonic() - began
            try:
                answer = await self._ask(connection, method, target, headers, body)
            except UpstreamFailureError as error:
                again = reused and body is None and method in _IDEMPOTENT
                if not again or error.failure is not Failure.RESET_BEFORE:
                    raise
            else:
                answer.connected_after = connected_after
                return answer

    async def _connect(self) -> aiohttp.connector.Connection:
        try:
            return await self._wires.connect(self._place, [], self._times)
        except Exception as error:
            if self._secure and _is_reset(error):
                # Connected, but not yet open: it broke in the handshake.
                raise UpstreamFailureError(Failure.TLS, _words(error)) from error
            raise _translate(error, _CONNECTING) from error

    async def _ask(
        self,
        connection: aiohttp.connector.Connection,
        method: str,
        target: str,
        headers: CIMultiDict[str],
        body: RequestBody | None,
    ) -> Answer:
        wire = _wire_of(connection)
        wire.asked = True
        wire.await_head()
        wire.set_response_params(
            skip_payload=method == "HEAD",
            read_until_eof=True,
            auto_decompress=False,
            max_line_size=_MAX_LINE,
            max_field_size=_MAX_LINE,
        )
        headers.setdefault(hdrs.HOST, self._host)
        whole = b"" if body is None else body.at_once()
        if body is None and method in _WITH_BODY:
            headers.setdefault(hdrs.CONTENT_LENGTH, "0")
        elif body is not None and hdrs.CONTENT_LENGTH not in headers:
            headers[hdrs.TRANSFER_ENCODING] = "chunked"
        writer = StreamWriter(wire, self.loop)
        sending: asyncio.Task[None] | None = None
        wire.give(self._limits.response)
        try:
            if hdrs.TRANSFER_ENCODING in headers:
                writer.enable_chunking()
            await writer.write_headers(f"{method} {self._prefix}{target} HTTP/1.1", headers)
            if whole is not None:
                await writer.write_eof(whole)
            else:
                assert body is not None  # noqa: S101 - without one, all of it is here
                sending = self.loop.create_task(self._send(writer, wire, body))
            asked_at = monotonic()
            message, payload = await wire.read()
            while 100 <= message.code < 200 and message.code != 101:
                wire.await_head()
                message, payload = await wire.read()
        except BaseException as error:
            if sending is not None:
                sending.cancel()
            connection.close()
            if not isinstance(error, Exception):
                raise
            if body is not None and body.failure is not None:
                raise UpstreamFailureError(body.failure, _words(error)) from error
            raise _translate(error, _ASKING) from error
        finally:
            wire.give(None)
        answer = Answer(connection, message, payload, sending, self._limits.idle)
        answer.asked_at = asked_at
        if message.code == 101:
            answer.close()
            raise UpstreamFailureError(Failure.PROTOCOL, "101, which nobody asked for")
        return answer

    async def _send(self, writer: StreamWriter, wire: Wire, body: RequestBody) -> None:
        """Send a request's body as it comes; the wait for the answer begins at its end."""
        try:
            writer.send_headers()
            async for piece in body:
                await writer.write(piece)
                if wire.is_given:
                    wire.give(self._limits.response)
            await writer.write_eof()
        except Exception as error:
            if body.failure is None and isinstance(error, OSError):
                return  # the upstream closed it; what it said before that counts
            wire.abort()
            wire.set_exception(error)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._wires.close()


# The first class that fits decides, so the narrower ones come first.
_Table = tuple[tuple[type[BaseException], Failure], ...]
_CONNECTING: Final[_Table] = (
    (aiohttp.ClientConnectorDNSError, Failure.DNS),
    (aiohttp.ClientConnectorCertificateError, Failure.TLS),
    (aiohttp.ClientSSLError, Failure.TLS),
    (aiohttp.ServerFingerprintMismatch, Failure.TLS),
    (TimeoutError, Failure.CONNECT_TIMEOUT),
    (aiohttp.ClientConnectorError, Failure.CONNECT),
    (OSError, Failure.CONNECT),
)
_ASKING: Final[_Table] = (
    (TimeoutError, Failure.RESPONSE_TIMEOUT),
    (HttpProcessingError, Failure.PROTOCOL),
    (aiohttp.ClientPayloadError, Failure.PROTOCOL),
    (aiohttp.ClientConnectionError, Failure.RESET_BEFORE),
    (aiohttp.ClientError, Failure.PROTOCOL),
    (OSError, Failure.RESET_BEFORE),
)
_READING: Final[_Table] = (
    (TimeoutError, Failure.IDLE),
    (aiohttp.ClientError, Failure.RESET_AFTER),
    (HttpProcessingError, Failure.RESET_AFTER),
    (OSError, Failure.RESET_AFTER),
    (RuntimeError, Failure.RESET_AFTER),  # aiohttp's "Connection closed." from under a reader
)


def _translate(error: BaseException, table: _Table) -> UpstreamFailureError:
    for kind, failure in table:
        if isinstance(error, kind):
            return UpstreamFailureError(failure, _words(error))
    return UpstreamFailureError(Failure.INTERNAL, _words(error))


def _wire_of(connection: aiohttp.connector.Connection) -> Wire:
    wire = connection.protocol
    assert isinstance(wire, Wire)  # noqa: S101 - it is what the pool makes
    return wire


def _is_reset(error: Exception) -> bool:
    return isinstance(error, aiohttp.ClientConnectorError) and isinstance(
        error.os_error, ConnectionResetError | BrokenPipeError
    )


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
