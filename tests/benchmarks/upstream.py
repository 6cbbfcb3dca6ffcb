"""The provider: `python -m tests.benchmarks.upstream`. Says its port, serves until it is ended.

Made to cost next to nothing beside what is measured. Each event is an HTTP chunk of its own.
An unpaced stream is written as fast as the socket takes it, as a server's writes are when events
are ready faster than the loop turns; a paced one with a write for each event.
"""

from __future__ import annotations

import gc
import random
import socket
import sys
import time
from contextlib import suppress
from functools import lru_cache, partial
from typing import Final, NamedTuple

from tests.benchmarks.answers import NO_STAMP, body, events, script_of
from tests.benchmarks.http import LAST_CHUNK, chunk, read_head
from tests.benchmarks.loop import Connection, Loop

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
    """An answer as it goes over the wire. at_once: all of it, or the head of a paced one."""

    rate: float
    at_once: bytes
    halves: tuple[tuple[bytes, bytes], ...]  # of each paced event: before its stamp, after it


@lru_cache(maxsize=16)
def prepared(target: str) -> Prepared:
    """Make the answer that a request's target asks for, once."""
    script = script_of(target)
    if script.api == "json":
        whole = body(script)
        head = _head(b"application/json", b"content-length: %d" % len(whole))
        return Prepared(0, head + whole, ())
    head = _head(b"text/event-stream; charset=utf-8", b"transfer-encoding: chunked")
    chunks = [chunk(event) for event in events(script)]
    if script.rate:
        return Prepared(script.rate, head, tuple(map(_halves, chunks)))
    return Prepared(0, head + b"".join(chunks) + LAST_CHUNK, ())


def _head(kind: bytes, framing: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n%b%b\r\n\r\n" % (kind, _HEADERS, framing)


def _halves(framed: bytes) -> tuple[bytes, bytes]:
    before, stamp, after = framed.partition(NO_STAMP)
    return (before + b"@", after) if stamp else (before, b"")


class Visit(Connection):
    """One connection to the provider."""

    def __init__(self, loop: Loop, connected: socket.socket, phases: random.Random) -> None:
        super().__init__(loop, connected)
        self._phases = phases
        self._received = b""
        self._known = b""  # a request that was whole; the next is often the same
        self._answer = b""  # to it

    def received(self, data: bytes) -> None:
        if data == self._known:
            self.send(self._answer)
            return
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = read_head(self._received[:end])
        size = len(self._received) - end - 4
        if not (self._received.endswith(LAST_CHUNK) if head.chunked else size >= head.length):
            return
        asked, self._received = self._received, b""
        answer = prepared(head.first.split(b" ")[1].decode())
        self.send(answer.at_once)
        if answer.rate:
            phase = self._phases.random() / answer.rate
            self._pace(answer, 0, time.monotonic() + phase)
        else:
            self._known, self._answer = asked, answer.at_once

    def _pace(self, answer: Prepared, number: int, began: float) -> None:
        """Write an event at its time, counted from the stream's beginning: nothing adds up."""
        if not self.is_open:
            return
        before, after = answer.halves[number]
        stamp = b"%019d" % time.monotonic_ns() if after else b""
        number += 1
        if number == len(answer.halves):
            self.send(before + stamp + after + LAST_CHUNK)
            return
        self.send(before + stamp + after)
        due = began + number / answer.rate
        self._loop.call_at(due, partial(self._pace, answer, number, began))


def _serve() -> None:
    loop = Loop()
    listening = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
    listening.setblocking(False)  # noqa: FBT003 - its only argument
    # Streams are of many users: their events come at any moment, and in each run at the same.
    phases = random.Random(1)  # noqa: S311 - no secret

    def accept(flags: int) -> None:
        del flags
        with suppress(BlockingIOError):  # it has gone again
            visitor, _ = listening.accept()
            Visit(loop, visitor, phases)

    loop.watch(listening.fileno(), accept)
    sys.stdout.write(f"{listening.getsockname()[1]}\n")
    sys.stdout.flush()
    gc.freeze()
    gc.disable()  # nothing here makes cycles, and a pause would look like the proxy's
    loop.run()


if __name__ == "__main__":
    _serve()
