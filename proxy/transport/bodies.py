"""Answers that are no event stream: an error, JSON, bytes, or a head alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final, NoReturn

from aiohttp import hdrs, web

from proxy.core.errors import Origin, UpstreamError
from proxy.core.evidence import MAX_RAW
from proxy.core.failures import Failure
from proxy.core.jsontext import parse_json
from proxy.core.lines import LinesSanitizer
from proxy.transport import headers
from proxy.transport.answer import Answer
from proxy.transport.encoding import Decompressor, EncodingError, Identity, decompressor
from proxy.transport.exchange import Exchange
from proxy.transport.faults import UpstreamFailureError
from proxy.transport.limits import Limits
from proxy.transport.response import WholeResponse

# With `response_format: text` these answer in plain text; no other POST does.
_ANSWER_IN_TEXT: Final = ("/audio/transcriptions", "/audio/translations")
_MEDIA: Final = ("audio/", "image/", "video/")
_JSON_PATHS: Final = frozenset(
    {
        "assistants",
        "batches",
        "containers",
        "conversations",
        "embeddings",
        "evals",
        "files",
        "fine_tuning",
        "images",
        "models",
        "moderations",
        "threads",
        "uploads",
        "vector_stores",
        "videos",
    }
)
_NOT_OPAQUE: Final = ("", "text/event-stream", "text/html", "application/xhtml+xml")


def is_json(content_type: str) -> bool:
    """Tell whether an answer says that it is JSON."""
    return content_type.endswith(("/json", "+json", "/x-json"))


def is_json_lines(exchange: Exchange, content_type: str) -> bool:
    """Tell whether an answer is JSON, a value a line; a file's content is its owner's."""
    lines = content_type.endswith(("ndjson", "jsonl", "json-lines", "jsonlines"))
    results = exchange.target.path.rstrip("/").endswith("/results")  # Anthropic's batches
    is_file = exchange.target.path.rstrip("/").endswith("/content")
    return (lines or (results and content_type == "application/binary")) and not is_file


def is_opaque(exchange: Exchange, content_type: str) -> bool:
    """Tell whether the body is neither JSON nor events, and rightly so."""
    path = exchange.target.path.rstrip("/")
    if path.endswith("/content"):
        return True
    if exchange.surface.name != "other" or is_json(content_type) or content_type in _NOT_OPAQUE:
        return False
    if is_json_lines(exchange, content_type):
        return False
    if content_type.startswith(_MEDIA) or path.endswith(_ANSWER_IN_TEXT):
        return True
    # These paths answer with JSON, whatever the answer calls itself.
    return _JSON_PATHS.isdisjoint(path.split("/"))


async def relay_error(exchange: Exchange, answer: Answer, limits: Limits) -> web.StreamResponse:
    """Answer with what the table says of an error status, or of a redirect."""
    if answer.status < 400:
        failure = Failure.REDIRECT
        error = UpstreamError(origin=Origin.PROXY, failure=failure, status=answer.status)
        return exchange.reply(error, answer)
    body = await _error_body(answer, limits)
    delay = headers.retry_after_of(answer.headers, time.time())
    error = exchange.ledger.reader.read_http(answer.status, body, retry_after=delay)
    kind = answer.headers.get("x-amzn-errortype", "").partition(":")[0]
    if kind and not (error.code or error.type):
        error = replace(error, type=kind[:200])  # AWS says it there, and only there
    return exchange.reply(error, answer)


async def _error_body(answer: Answer, limits: Limits) -> bytes:
    """Read what can be read of an error: a status alone is evidence enough."""
    body = bytearray()
    try:
        decoder = decompressor(answer.headers.get(hdrs.CONTENT_ENCODING, ""))
        async with asyncio.timeout(limits.error_body_time):
            while len(body) <= limits.error_body and (piece := await answer.read()):
                for part in decoder.feed(piece):
                    body += part
                    if len(body) > limits.error_body:
                        break
    except (UpstreamFailureError, EncodingError, TimeoutError):
        pass
    return bytes(body[: limits.error_body])


async def relay_json(
    exchange: Exchange, answer: Answer, decoder: Decompressor, begun: bytes, limits: Limits
) -> web.StreamResponse:
    """Pass JSON as it is or cleaned, or answer with what the table says of it.

    begun: what was already read, decoded.
    """
    body = None if begun or not isinstance(decoder, Identity) else answer.at_once(limits.body)
    if body is None:
        body = await _whole(answer, decoder, begun, limits)
    whole_after = exchange.record.elapsed()
    value = parse_json(body)
    reader = exchange.ledger.reader
    if value is None and body.strip() not in (b"null", b""):
        failure = Failure.MALFORMED_BODY
        return exchange.reply(reader.read_bytes(body, Origin.PROXY, failure=failure), answer)
    verdict = exchange.surface.read_body(value, exchange.ledger, exchange.target)
    if isinstance(verdict, UpstreamError):
        if verdict.retry_after is None:
            delay = headers.retry_after_of(answer.headers, time.time())
            verdict = replace(verdict, retry_after=delay)
        return exchange.reply(replace(verdict, raw=body[:MAX_RAW]), answer)
    out = body if verdict.body is None else verdict.body
    exchange.record.bytes_out = len(out)
    passed = exchange.success_headers(answer, decoded=True)
    exchange.record.judged_in = exchange.record.elapsed() - whole_after
    return WholeResponse(answer.status, passed, out)


async def _whole(answer: Answer, decoder: Decompressor, begun: bytes, limits: Limits) -> bytes:
    pieces = [begun]
    size = len(begun)
    while not answer.is_read and (piece := await answer.read()):
        for part in decoder.feed(piece):
            size += len(part)
            if size > limits.body:
                raise UpstreamFailureError(Failure.BODY_TOO_LARGE, f"more than {limits.body} bytes")
            pieces.append(part)
    return b"".join(pieces)


async def first_part(answer: Answer, decoder: Decompressor, limits: Limits) -> bytes:
    """Read until something was said; return it, decoded."""
    parts: list[bytes] = []
    size = 0
    said = False
    while not said:
        piece = await answer.read()
        if not piece:
            break
        for part in decoder.feed(piece):
            parts.append(part)
            size += len(part)
            said = said or not part.isspace()
            # Compressed, a piece may hold a thousand times its size.
            if size > (limits.body if said else limits.error_body):
                raise UpstreamFailureError(Failure.BODY_TOO_LARGE, f"{size} bytes at once")
    return b"".join(parts)


async def relay_bytes(exchange: Exchange, answer: Answer) -> web.StreamResponse:
    """Pass what is not JSON and no event stream: audio, a file's content."""
    passed = exchange.success_headers(answer, decoded=False)
    response = web.StreamResponse(status=answer.status, headers=passed)
    if length := answer.headers.get(hdrs.CONTENT_LENGTH):
        response.headers[hdrs.CONTENT_LENGTH] = length
    exchange.begun = True
    await response.prepare(exchange.request)
    try:
        async for piece in answer.pieces():
            exchange.record.bytes_out += len(piece)
            await response.write(piece)
    except UpstreamFailureError as error:
        exchange.record.detail = error.detail
        _break_off(exchange, error.failure)
    except asyncio.CancelledError:
        _break_off(exchange, exchange.ordered_failure())
    await response.write_eof()
    return response


async def relay_lines(
    exchange: Exchange, answer: Answer, decoder: Decompressor, limits: Limits
) -> web.StreamResponse:
    """Relay JSON lines, each judged by itself."""
    sanitizer = LinesSanitizer(exchange.ledger, limits.event)
    passed = exchange.success_headers(answer, decoded=True)
    response = web.StreamResponse(status=answer.status, headers=passed)
    exchange.begun = True
    await response.prepare(exchange.request)

    async def write(out: bytes) -> None:
        exchange.record.bytes_out += len(out)
        await response.write(out)

    try:
        async for part in _parts(answer, decoder):
            await write(sanitizer.feed(part))
            if sanitizer.closed:
                break
        out = sanitizer.close()
    except UpstreamFailureError as error:
        exchange.record.detail = error.detail
        out = sanitizer.fail(error.failure)
    except EncodingError as error:
        exchange.record.detail = str(error)
        out = sanitizer.fail(Failure.ENCODING)
    except asyncio.CancelledError:
        out = sanitizer.fail(exchange.ordered_failure())
    answer.close()
    await write(out)
    if sanitizer.reply is not None:
        exchange.record.ending = "failed"
    await response.write_eof()
    return response


def _break_off(exchange: Exchange, failure: Failure) -> NoReturn:
    """End what has no way to say that it failed, such as an audio file: a broken transfer."""
    exchange.record.ending = "failed"
    exchange.ledger.answer(UpstreamError(origin=Origin.PROXY, failure=failure))
    if exchange.request.transport is not None:
        exchange.request.transport.abort()
    raise ConnectionError


def relay_head(exchange: Exchange, answer: Answer) -> web.StreamResponse:
    """Pass an answer that has no body."""
    passed = exchange.success_headers(answer, decoded=False)
    response = web.Response(status=answer.status, headers=passed)
    length = answer.headers.get(hdrs.CONTENT_LENGTH)
    if exchange.target.method == "HEAD" and length:
        response.headers[hdrs.CONTENT_LENGTH] = length
    return response


async def _parts(answer: Answer, decoder: Decompressor) -> AsyncIterator[bytes]:
    """Yield an answer's body, decoded, in parts of bounded size."""
    async for piece in answer.pieces():
        for part in decoder.feed(piece):
            yield part
