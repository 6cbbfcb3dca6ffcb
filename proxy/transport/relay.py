"""The relay: the path of one request.

    target → surface → upstream → what came?
        an error status     → evidence → reply
        an event stream     → gate → sanitizer → client
        JSON                → the surface's judgement → as it is, cleaned, or a reply
        anything else       → as it is

Every way out that is not the provider's own answer ends in the table.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from aiohttp import hdrs, web

from proxy.core.errors import Credentials, Origin
from proxy.core.evidence import MAX_RAW
from proxy.core.failures import Failure
from proxy.core.incident import Ledger
from proxy.core.stream import StreamSanitizer
from proxy.core.surfaces import surface_of
from proxy.core.surfaces.surface import Target
from proxy.core.table import Context, Table
from proxy.operate.observer import Observer
from proxy.operate.record import Record
from proxy.transport import headers
from proxy.transport.answer import Answer
from proxy.transport.bodies import (
    first_part,
    is_json,
    is_json_lines,
    is_opaque,
    relay_bytes,
    relay_error,
    relay_head,
    relay_json,
    relay_lines,
)
from proxy.transport.body import RequestBody
from proxy.transport.encoding import Decompressor, EncodingError, decompressor
from proxy.transport.exchange import Exchange
from proxy.transport.faults import UpstreamFailureError
from proxy.transport.limits import Limits
from proxy.transport.server import Protocol, Request
from proxy.transport.streaming import Stream
from proxy.transport.target import safe_target
from proxy.transport.upstream import Upstream

_NOT_PROXIED: Final = frozenset({"CONNECT", "TRACE"})
# Failures after which the connection cannot be used: a body is left unread, or it is one too many.
_CLOSING: Final = frozenset(
    {Failure.OVERLOADED, Failure.REQUEST_TOO_LARGE, Failure.REQUEST_TIMEOUT, Failure.UPGRADE}
)
# RFC 4648's base 32, in lower case: any byte to the letter of its last five bits.
_ALPHABET: Final = b"abcdefghijklmnopqrstuvwxyz234567" * 8
_EVENT_STREAM: Final = "text/event-stream"
_STREAM_BEGINS: Final = (b"data:", b"event:", b":", b"id:", b"retry:")


@dataclass(frozen=True, slots=True)
class Sending:
    """What every request to the upstream is sent with."""

    added: Mapping[str, str]
    forwarded: headers.Forwarded
    credentials: Credentials


class Relay:
    """Answers requests.

    table: returns the table in force; an exchange keeps the one it began with.
    """

    def __init__(
        self,
        upstream: Upstream,
        table: Callable[[], Table],
        sending: Sending,
        limits: Limits,
        observer: Observer,
    ) -> None:
        self._upstream = upstream
        self._table = table
        self._sending = sending
        self._limits = limits
        self._observer = observer
        self._running: set[Exchange] = set()
        self._all_ended = asyncio.Event()

    @property
    def running(self) -> int:
        """How many exchanges are under way."""
        return len(self._running)

    async def idle(self, seconds: float) -> bool:
        """Wait until nothing is under way, at most so long; tell whether that is so."""
        if self._running:
            self._all_ended.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._all_ended.wait()
        return not self._running

    def end_all(self, failure: Failure) -> None:
        """Give every running exchange its ending now."""
        for exchange in tuple(self._running):
            exchange.order(failure)

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        exchange = self._begin(request)
        self._running.add(exchange)
        try:
            return await self._answer(exchange)
        except (asyncio.CancelledError, ConnectionError):
            if exchange.record.ending == "answered":
                exchange.record.ending = "client_gone"
            raise
        finally:
            self._running.discard(exchange)
            if not self._running:
                self._all_ended.set()
            self._close(exchange)

    def refuse(self, request: web.BaseRequest, failure: Failure, detail: str) -> web.StreamResponse:
        """Answer a request that could not be read, or whose handler failed."""
        exchange = self._begin(request)
        exchange.record.detail = detail
        response = exchange.fail(failure)
        self._close(exchange)
        return response

    def _begin(self, request: web.BaseRequest) -> Exchange:
        self._observer.began()
        target = _target_of(request)
        surface = surface_of(target)
        context = Context(surface.name, self._sending.credentials, new_reference())
        record = Record(
            reference=context.reference,
            method=request.method[:32],
            path=target.path[:500],
            surface=surface.name,
            credentials=context.credentials,
            client_request_id=request.headers.get(headers.REFERENCE, ""),
            traceparent=request.headers.get("traceparent", ""),
        )
        ledger = Ledger(self._table(), context, int(time.time()))
        host, loop = self._upstream.host, self._upstream.loop
        return Exchange(request, surface, target, ledger, record, host, loop)

    def _close(self, exchange: Exchange) -> None:
        exchange.record.ended_after = exchange.record.elapsed()
        exchange.record.incidents = exchange.ledger.incidents
        exchange.record.dropped_incidents = exchange.ledger.dropped
        self._observer.ended(exchange.record)

    async def _answer(self, exchange: Exchange) -> web.StreamResponse:
        """Answer an exchange: every way that it can fail ends in the table."""
        answer: Answer | None = None
        try:
            answer = await self._open(exchange)
            return await self._relay(exchange, answer)
        except UpstreamFailureError as error:
            exchange.record.detail = error.detail
            response = exchange.fail(error.failure)
            if error.failure in _CLOSING:
                response.force_close()
            return response
        except EncodingError as error:
            exchange.record.detail = str(error)
            return exchange.fail(Failure.ENCODING)
        except asyncio.CancelledError:
            if exchange.begun:
                raise
            return exchange.fail(exchange.ordered_failure())
        except ConnectionError:
            raise
        except Exception:
            if exchange.begun:
                raise
            self._observer.bug("the relay failed", exchange.record.reference)
            return exchange.fail(Failure.INTERNAL)
        finally:
            if answer is not None:
                answer.close()

    async def _open(self, exchange: Exchange) -> Answer:
        request = exchange.request
        target = self._accepted_target(request)
        if len(self._running) > self._limits.in_flight:
            raise UpstreamFailureError(Failure.OVERLOADED, f"{len(self._running)} exchanges")
        if isinstance(request.protocol, Protocol) and request.protocol.over_limit:
            raise UpstreamFailureError(Failure.OVERLOADED, "too many connections")
        if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue" and request.transport:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        sent = headers.to_upstream(
            request, added=self._sending.added, forwarded=self._sending.forwarded
        )
        body = None
        if request.can_read_body:
            limits = self._limits
            body = RequestBody(request.content, size=limits.request, idle=limits.request_idle)
        record = exchange.record
        try:
            answer = await self._upstream.open(request.method, target, sent, body)
        finally:
            if body is not None:
                record.model = body.model
        record.status_in = answer.status
        record.headers_after = record.elapsed()
        record.connected_after = answer.connected_after
        record.asked_in = answer.asked_at - record.began - (answer.connected_after or 0.0)
        record.upstream_request_id = answer.headers.get(headers.REFERENCE, "")
        return answer

    def _accepted_target(self, request: web.BaseRequest) -> str:
        """Return the target of a request that may be forwarded. Raises UpstreamFailureError."""
        if request.method in _NOT_PROXIED:
            raise UpstreamFailureError(Failure.METHOD, request.method)
        if isinstance(request, Request) and not request.has_version:
            raise UpstreamFailureError(Failure.BAD_REQUEST, "no HTTP version")
        if hdrs.UPGRADE in request.headers:
            raise UpstreamFailureError(Failure.UPGRADE, request.headers[hdrs.UPGRADE])
        if (request.content_length or 0) > self._limits.request:
            raise UpstreamFailureError(Failure.REQUEST_TOO_LARGE, f"{request.content_length} bytes")
        target = safe_target(request.raw_path)
        if target is None:
            raise UpstreamFailureError(Failure.TARGET, request.raw_path[:500])
        return target

    async def _relay(self, exchange: Exchange, answer: Answer) -> web.StreamResponse:
        """Decide by what came."""
        limits = self._limits
        if answer.status == 304 and _is_conditional(exchange.request):
            return relay_head(exchange, answer)
        if answer.status >= 300:
            return await relay_error(exchange, answer, limits)
        if exchange.target.method == "HEAD" or answer.status == 204:
            return relay_head(exchange, answer)
        if is_opaque(exchange, answer.content_type):
            return await relay_bytes(exchange, answer)
        decoder = decompressor(answer.headers.get(hdrs.CONTENT_ENCODING, ""))
        if is_json_lines(exchange, answer.content_type):
            return await relay_lines(exchange, answer, decoder, limits)
        if answer.content_type == _EVENT_STREAM:
            return await self._stream(exchange, answer, decoder, b"")
        if is_json(answer.content_type):
            return await relay_json(exchange, answer, decoder, b"", limits)
        # JSON or events were due: believe the first bytes more than the content type.
        begun = await first_part(answer, decoder, limits)
        if not begun and not exchange.answer_is_due():
            return relay_head(exchange, answer)  # a health check, a call that was hung up
        start = begun.lstrip(b"\xef\xbb\xbf \t\r\n")
        if start.startswith((b"{", b"[")):
            return await relay_json(exchange, answer, decoder, begun, limits)
        if start.startswith(_STREAM_BEGINS):
            return await self._stream(exchange, answer, decoder, begun)
        failure, status = Failure.CONTENT_TYPE, answer.status
        reader = exchange.ledger.reader
        error = reader.read_bytes(begun[:MAX_RAW], Origin.PROXY, failure=failure, status=status)
        return exchange.reply(error, answer)

    async def _stream(
        self, exchange: Exchange, answer: Answer, decoder: Decompressor, first: bytes
    ) -> web.StreamResponse:
        stream = exchange.surface.open(exchange.ledger, exchange.target)
        sanitizer = StreamSanitizer(stream, exchange.ledger, self._limits.event)
        return await Stream(
            exchange, answer, decoder, sanitizer, self._limits, self._observer, first
        ).relay()


def _target_of(request: web.BaseRequest) -> Target:
    path, _, query = request.raw_path.partition("?")
    if "%" in path or not path.startswith("/"):
        path, query = request.path, request.query_string
    return Target(request.method, path, query)


def _references() -> Iterator[str]:
    """Make references: 80 random bits each, in letters and digits that can be read aloud."""
    while True:
        # Asking the kernel costs more than all else of a reference: for many at a time.
        letters = secrets.token_bytes(4096).translate(_ALPHABET).decode("ascii")
        yield from map("".join, zip(*[iter(letters)] * 16, strict=True))


new_reference: Final = _references().__next__


def _is_conditional(request: web.BaseRequest) -> bool:
    return hdrs.IF_NONE_MATCH in request.headers or hdrs.IF_MODIFIED_SINCE in request.headers
