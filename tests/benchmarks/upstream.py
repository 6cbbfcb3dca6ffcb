"""The provider: `python -m tests.benchmarks.upstream`. Says its port, serves until it is ended.

Made to cost next to nothing beside what is measured. Each event is an HTTP chunk of its own.
An unpaced stream is written in blocks of many events, as a server's socket writes them when
events are ready faster than the loop turns; a paced one with a write for each event.
"""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import time
from collections.abc import Iterator
from functools import lru_cache, partial
from typing import Final, NamedTuple, cast

import uvloop

from tests.benchmarks.answers import NO_STAMP, body, events, script_of
from tests.benchmarks.clock import Clock
from tests.benchmarks.http import LAST_CHUNK, chunk, read_head

_BLOCK: Final = 64 * 1024
# More than any workload's connections that come at once.
_BACKLOG: Final = 4096

_HEADERS: Final = (
    b"date: Mon, 02 Nov 2026 10:00:00 GMT\r\n"
    b"x-request-id: req_2f0a9c61d5e84b7f9e3b8c1d6a7f5042\r\n"
    b"openai-version: 2020-10-01\r\n"
    b"openai-processing-ms: 312\r\n"
    b"x-ratelimit-limit-requests: 10000\r\n"
    b"x-ratelimit-remaining-requests: 9999\r\n"
    b"x-ratelimit-reset-requests: 6ms\r\n"
    b"strict-transport-security: max-age=31536000; includeSubDomains; preload\r\n"
)


class Prepared(NamedTuple):
    """An answer as it goes over the wire."""

    rate: float
    head: bytes
    blocks: tuple[bytes, ...]  # of an unpaced one
    halves: tuple[tuple[bytes, bytes], ...]  # of each paced event: before its stamp, after it


@lru_cache(maxsize=16)
def prepared(target: str) -> Prepared:
    """Make the answer that a request's target asks for, once."""
    script = script_of(target)
    if script.api == "json":
        whole = body(script)
        head = _head(b"application/json", b"content-length: %d" % len(whole))
        return Prepared(0, b"", (head + whole,), ())
    head = _head(b"text/event-stream; charset=utf-8", b"transfer-encoding: chunked")
    chunks = [chunk(event) for event in events(script)]
    if script.rate:
        return Prepared(script.rate, head, (), tuple(map(_halves, chunks)))
    framed = head + b"".join(chunks) + LAST_CHUNK
    starts = range(0, len(framed), _BLOCK)
    return Prepared(0, b"", tuple(framed[start : start + _BLOCK] for start in starts), ())


def _head(kind: bytes, framing: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n%b%b\r\n\r\n" % (kind, _HEADERS, framing)


def _halves(framed: bytes) -> tuple[bytes, bytes]:
    before, stamp, after = framed.partition(NO_STAMP)
    return (before + b"@", after) if stamp else (before, b"")


class Provider(asyncio.Protocol):
    """One connection to the provider."""

    def __init__(self, clock: Clock, phases: random.Random) -> None:
        self._clock = clock
        self._phases = phases
        self._received = b""
        self._paused = False
        self._is_open = True
        self._blocks: Iterator[bytes] = iter(())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are of no such class

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._blocks = iter(())
        self._is_open = False

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._write_on()

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = read_head(self._received[:end])
        sent = self._received[end + 4 :]
        if not (sent.endswith(LAST_CHUNK) if head.chunked else len(sent) >= head.length):
            return
        self._received = b""
        answer = prepared(head.first.split(b" ")[1].decode())
        if answer.rate:
            self._transport.write(answer.head)
            phase = self._phases.random() / answer.rate
            self._pace(answer, 0, time.monotonic() + phase)
        else:
            self._blocks = iter(answer.blocks)
            self._write_on()

    def _write_on(self) -> None:
        while not self._paused and (block := next(self._blocks, None)) is not None:
            self._transport.write(block)

    def _pace(self, answer: Prepared, number: int, began: float) -> None:
        """Write an event at its time, counted from the stream's beginning: nothing adds up."""
        if not self._is_open:
            return
        before, after = answer.halves[number]
        stamp = b"%019d" % time.monotonic_ns() if after else b""
        number += 1
        if number == len(answer.halves):
            self._transport.write(before + stamp + after + LAST_CHUNK)
            return
        self._transport.write(before + stamp + after)
        due = began + number / answer.rate
        self._clock.call_at(due, partial(self._pace, answer, number, began))


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    # Streams are of many users: their events come at any moment, and in each run at the same.
    make = partial(Provider, Clock(loop), random.Random(1))  # noqa: S311 - no secret
    server = await loop.create_server(make, "127.0.0.1", 0, backlog=_BACKLOG)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    gc.freeze()
    gc.disable()  # nothing here makes cycles, and a pause would look like the proxy's
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve())
