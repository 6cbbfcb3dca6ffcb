"""The client's side: aiohttp's server, with every reply of its own replaced by ours.

aiohttp answers a request that it cannot parse with text/plain, the parser's words and a
Server header that names versions. Here each of these is a failure that takes the same way
through the table as any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from aiohttp import HttpVersion, HttpVersion10, HttpVersion11, http_exceptions, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader

from proxy.core.failures import Failure
from proxy.transport.limits import Limits

# Request heads: OpenAI's SDKs send 1 KiB; a gateway's signed headers may take 8.
_MAX_LINE: Final = 16 * 1024
_MAX_FIELD: Final = 16 * 1024
_MAX_HEADERS: Final = 128

# A connection that is told why it is refused costs a buffer and a request's head.
_FAR_OVER: Final = 2


def bound_address(listener: asyncio.Server) -> tuple[str, int]:
    """Return where a server listens: host and port."""
    host, port, *_ = listener.sockets[0].getsockname()
    return host, port


Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Refuse = Callable[[web.BaseRequest, Failure, str], web.StreamResponse]


class Request(web.BaseRequest):
    """A client's request, whose answer never names the server's software.

    On a server that is leaving, an answer also says that its connection takes no further request:
    a client that sent one just as it is closed would get no answer.
    """

    _protocol: Protocol

    @property
    def version(self) -> HttpVersion:
        """The version to answer in: a request line without one is HTTP/0.9 to aiohttp."""
        version = self._version
        return version if version is HttpVersion11 else max(version, HttpVersion10)

    @property
    def has_version(self) -> bool:
        """Tell whether the request line named a version."""
        return self._version >= HttpVersion10

    @property
    def keep_alive(self) -> bool:
        """Tell whether another request may follow on this connection."""
        return not (self._message.should_close or self._protocol.is_leaving)

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        response.headers.pop("Server", None)


class Protocol(web.RequestHandler):
    """One client's connection.

    over_limit: it is one too many; its request is told so.
    on_writable: called when a client that was full has room again.
    """

    __slots__ = (
        "_head_timer",
        "_limits",
        "_refuse",
        "_send_timer",
        "_served",
        "_socket",
        "on_writable",
        "over_limit",
    )

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # what turns it off
            auto_decompress=False,
            keepalive_timeout=server.limits.client_unused,
            max_line_size=_MAX_LINE,
            max_field_size=_MAX_FIELD,
            max_headers=_MAX_HEADERS,
        )
        self._refuse = server.refuse
        self._limits = server.limits
        self._served = server
        self._head_timer: asyncio.TimerHandle | None = None
        self._send_timer: asyncio.TimerHandle | None = None
        self.over_limit = False
        self.on_writable: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; a connection over the limit gets an answer, one far over it gets none."""
        super().connection_made(transport)
        # aiohttp forgets its own while it is still being closed.
        self._socket = cast("asyncio.Transport", transport)
        count = len(self._served.connections)
        self.over_limit = count > self._limits.connections
        if count > _FAR_OVER * self._limits.connections:
            self.force_close()
            return
        wait = self._limits.request_head
        self._head_timer = self._loop.call_later(wait, self._close_without_request)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End."""
        for timer in (self._head_timer, self._send_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    @property
    def is_leaving(self) -> bool:
        """Tell whether this connection is to take no further request."""
        return self._served.is_leaving

    def pause_writing(self) -> None:
        """Begin to wait for a client that reads slowly, also after its answer has ended."""
        super().pause_writing()
        self._await_reading(None)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Write an answer to its end; also what is below the buffer's mark must be taken."""
        finished = await super().finish_response(request, resp, start_time)
        if not self.writing_paused and self._socket.get_write_buffer_size():
            self._await_reading(None)
        return finished

    def resume_writing(self) -> None:
        """The client has taken most of what was written."""
        super().resume_writing()
        if self._send_timer is not None:
            self._send_timer.cancel()
        if self.on_writable is not None:
            self.on_writable()

    async def written(self) -> None:
        """Wait until the client has taken most of what was written.

        Raises ConnectionError where it has left.
        """
        await self._drain_helper()

    def abort(self) -> None:
        """Close the connection at once."""
        if self.transport is not None:
            self.transport.abort()

    def _await_reading(self, before: int | None) -> None:
        """Close the connection when the client took nothing for the whole time."""
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None
        left = self._socket.get_write_buffer_size()
        if not left:
            return
        if self._current_request is not None and not self.writing_paused:
            before = None  # more was written meanwhile: what is left says nothing
        if before is not None and left >= before:
            self._socket.abort()
            return
        self._send_timer = self._loop.call_later(self._limits.send, self._await_reading, left)

    def _close_without_request(self) -> None:
        """Close a connection on which no request's head came in time (a slow loris).

        On a connection kept alive, aiohttp's own keep-alive timer does the same.
        """
        if not self._request_count and self.transport is not None:
            self.force_close()

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
        if isinstance(exc, http_exceptions.LineTooLong) or "Too many headers" in str(exc):
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
    is_leaving: every answer from now on is the last on its connection.
    """

    def __init__(self, handle: Handler, refuse: Refuse, limits: Limits) -> None:
        super().__init__(handle, handler_cancellation=True)
        self.refuse = refuse
        self.limits = limits
        self.is_leaving = False

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
