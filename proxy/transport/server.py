"""The client's side: aiohttp's server, with every reply of its own replaced by ours.

aiohttp answers a request that it cannot parse with text/plain, the parser's words and a
Server header that names versions. Here each of these is a failure that takes the same way
through the table as any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import http_exceptions, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader

from proxy.core.failures import Failure

# Request heads: OpenAI's SDKs send 1 KiB; a gateway's signed headers may take 8.
_MAX_LINE: Final = 16 * 1024
_MAX_FIELD: Final = 16 * 1024
_MAX_HEADERS: Final = 128

# Longer than the upstream's side and than the load balancers that stand before sidecars.
_KEEP_ALIVE: Final = 75.0

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Refuse = Callable[[web.BaseRequest, Failure, str], web.StreamResponse]


class Request(web.BaseRequest):
    """A client's request, whose answer never names the server's software."""

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        response.headers.pop("Server", None)


class Protocol(web.RequestHandler):
    """One client's connection."""

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # what turns it off
            auto_decompress=False,
            keepalive_timeout=_KEEP_ALIVE,
            max_line_size=_MAX_LINE,
            max_field_size=_MAX_FIELD,
            max_headers=_MAX_HEADERS,
        )
        self._refuse = server.refuse

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what aiohttp found wrong: an unreadable request, or a bug of ours."""
        del message
        if request.writer.output_size > 0:
            # A response has begun; anything more would be inside its body.
            raise ConnectionError
        if isinstance(exc, http_exceptions.LineTooLong):
            failure = Failure.HEADERS_TOO_LARGE
        elif status < 500:
            failure = Failure.BAD_REQUEST
        else:
            failure = Failure.INTERNAL
        response = self._refuse(request, failure, f"{type(exc).__name__}: {exc}")
        response.force_close()
        return response


class Server(web.Server):
    """Makes a `Protocol` for each connection.

    handle: answers a request.
    refuse: answers one that could not be read.
    """

    def __init__(self, handle: Handler, refuse: Refuse) -> None:
        super().__init__(handle, handler_cancellation=True)
        self.refuse = refuse

    def __call__(self) -> Protocol:
        """Make the protocol of a new connection."""
        return Protocol(self, self._loop)

    def _make_request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: Any,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> Request:
        return Request(message, payload, protocol, writer, task, self._loop)
