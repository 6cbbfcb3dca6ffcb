"""The upstream's side: open an exchange, read its answer.

The one border where aiohttp's exceptions are named. Each becomes a `Failure`; its text holds
hosts and ports and goes to the operator only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Final, Self

import aiohttp
from aiohttp import hdrs
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from proxy.core.failures import Failure
from proxy.transport.body import RequestBody
from proxy.transport.limits import Limits

# Shorter than the 60 seconds after which common servers close an idle connection: a request
# sent on one that is just closing is lost.
_KEEP_ALIVE: Final = 15.0
_DNS_TTL: Final = 30


class UpstreamFailureError(Exception):
    """The upstream failed; `detail` is for the operator."""

    def __init__(self, failure: Failure, detail: str) -> None:
        super().__init__(detail)
        self.failure = failure
        self.detail = detail


class Answer:
    """An upstream's answer whose headers are here."""

    def __init__(self, response: aiohttp.ClientResponse, idle: float) -> None:
        self._response = response
        self._closed: asyncio.Future[None] | None = None
        self.status = response.status
        self.headers: CIMultiDictProxy[str] = response.headers
        self.content_type = (
            response.headers.get(hdrs.CONTENT_TYPE, "").partition(";")[0].strip().lower()
        )
        connection = response.connection
        if connection is not None and connection.protocol is not None:
            connection.protocol.read_timeout = idle
            # The timer that runs is still the one for the headers; it is set anew only when
            # data comes, and an upstream that hangs may have sent all it ever will.
            connection.protocol.start_timeout()
            # A chunk size that is none closes the connection and tells the body nothing: who
            # reads it would wait for the idle timeout.
            self._closed = connection.protocol.closed
            if self._closed is not None:
                self._closed.add_done_callback(self._on_connection_closed)

    async def read(self) -> bytes:
        """Return what has come since; b"" at the end.

        Raises UpstreamFailureError.
        """
        try:
            return await self._response.content.readany()
        except Exception as error:
            raise _translate(error, answered=True) from error

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes."""
        while piece := await self.read():
            yield piece

    def _on_connection_closed(self, closed: asyncio.Future[None]) -> None:
        cause = None if closed.cancelled() else closed.exception()
        content = self._response.content
        if not content.is_eof() and content.exception() is None:
            content.set_exception(aiohttp.ClientPayloadError(f"connection closed: {cause}"))

    def close(self) -> None:
        """Give the connection back if the body was read to its end, else close it."""
        if self._closed is not None:
            self._closed.remove_done_callback(self._on_connection_closed)
            self._closed = None
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()


class Upstream:
    """The one upstream that everything is forwarded to.

    url: scheme, host and a path prefix. No part of it is ever taken from a request.
    """

    def __init__(self, url: URL, limits: Limits) -> None:
        self._origin = url.origin()
        self._prefix = url.raw_path.rstrip("/")
        self._limits = limits
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, keepalive_timeout=_KEEP_ALIVE, ttl_dns_cache=_DNS_TTL
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=limits.connect, sock_read=limits.response
            ),
            skip_auto_headers=(hdrs.USER_AGENT, hdrs.CONTENT_TYPE, hdrs.ACCEPT),
            # A header line of an upstream's can be long: Azure's content filter results.
            max_field_size=64 * 1024,
            max_line_size=64 * 1024,
        )

    @property
    def host(self) -> str:
        """The upstream's host, as it might show in what it says."""
        return (self._origin.host or "").lower()

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
        url = URL(f"{self._origin}{self._prefix}{target}", encoded=True)
        try:
            async with asyncio.timeout(self._limits.connect + self._limits.response):
                response = await self._session.request(
                    method, url, headers=headers, data=body, allow_redirects=False
                )
        except Exception as error:
            if body is not None and body.failure is not None:
                raise UpstreamFailureError(body.failure, _words(error)) from error
            if self._origin.scheme == "https" and _is_reset(error):
                # Connected, but not yet open: it broke in the handshake.
                raise UpstreamFailureError(Failure.TLS, _words(error)) from error
            raise _translate(error, answered=False) from error
        return Answer(response, self._limits.idle)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._session.close()


# The first class that fits decides, so the narrower ones come first.
_BEFORE: Final[tuple[tuple[type[BaseException], Failure], ...]] = (
    (aiohttp.ClientConnectorDNSError, Failure.DNS),
    (aiohttp.ClientConnectorCertificateError, Failure.TLS),
    (aiohttp.ClientSSLError, Failure.TLS),
    (aiohttp.ServerFingerprintMismatch, Failure.TLS),
    (aiohttp.ConnectionTimeoutError, Failure.CONNECT_TIMEOUT),
    (aiohttp.ClientConnectorError, Failure.CONNECT),
    (aiohttp.ServerTimeoutError, Failure.RESPONSE_TIMEOUT),
    (TimeoutError, Failure.RESPONSE_TIMEOUT),
    (aiohttp.ServerDisconnectedError, Failure.RESET_BEFORE),
    (aiohttp.ClientOSError, Failure.RESET_BEFORE),
    (aiohttp.ClientResponseError, Failure.PROTOCOL),
    (aiohttp.ClientPayloadError, Failure.PROTOCOL),
    (aiohttp.ClientConnectionError, Failure.RESET_BEFORE),
    (aiohttp.ClientError, Failure.PROTOCOL),
    (OSError, Failure.RESET_BEFORE),
)
_AFTER: Final[tuple[tuple[type[BaseException], Failure], ...]] = (
    (TimeoutError, Failure.IDLE),
    (aiohttp.ServerTimeoutError, Failure.IDLE),
    (aiohttp.ClientError, Failure.RESET_AFTER),
    (OSError, Failure.RESET_AFTER),
    (RuntimeError, Failure.RESET_AFTER),  # aiohttp's "Connection closed." from under a reader
)


def _translate(error: Exception, *, answered: bool) -> UpstreamFailureError:
    for kind, failure in _AFTER if answered else _BEFORE:
        if isinstance(error, kind):
            return UpstreamFailureError(failure, _words(error))
    return UpstreamFailureError(Failure.INTERNAL, _words(error))


def _is_reset(error: Exception) -> bool:
    return isinstance(error, aiohttp.ClientConnectorError) and isinstance(
        error.os_error, ConnectionResetError | BrokenPipeError
    )


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
