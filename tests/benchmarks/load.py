"""The load: raw clients that keep their connections, and judge every answer as it came.

    saturate    answers one after another on each connection, for some seconds
    pace        a paced stream on each connection, all at a time
    one_by_one  one request after another: the time to the first byte of the body

An answer counts only when its body is the provider's, byte for byte.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Final, cast

from tests.benchmarks.answers import NO_STAMP, STAMP, Script, body
from tests.benchmarks.http import END_OF_CHUNKS, BrokenError, Head, read_head, unchunk

# Longer than any answer takes that will ever come.
_PATIENCE: Final = 60.0
# Paced streams begin one after another, as those of many users do: seconds for each, and at most.
_BETWEEN: Final = 0.005
_STAGGER: Final = 0.5
_GOLDEN: Final = (5**0.5 - 1) / 2
# What one event loop turn may open at once without a listener's queue running over.
_CONNECTS: Final = 50

_QUESTION: Final = (
    b'{"messages":[{"role":"system","content":"You are a helpful assistant."},{"role":"user",'
    b'"content":"Say in a few sentences what a sanitizing reverse proxy does, and why anyone '
    b'would want one."}],"model":"gpt-5.2","stream":true,"stream_options":{"include_usage":true}}'
)


def request(script: Script) -> bytes:
    """Return a request as the provider's SDK sends it."""
    lines = (
        f"POST {script.target} HTTP/1.1",
        "Host: 127.0.0.1",
        "Accept: application/json",
        "Accept-Encoding: gzip, deflate",
        "Connection: keep-alive",
        "User-Agent: OpenAI/Python 3.54.0",
        "X-Stainless-Lang: python",
        "X-Stainless-Package-Version: 3.54.0",
        "X-Stainless-Runtime: CPython",
        "X-Stainless-Retry-Count: 0",
        "Authorization: Bearer sk-bench-0123456789abcdef0123456789abcdef",
        "Content-Type: application/json",
        f"Content-Length: {len(_QUESTION)}",
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + _QUESTION


class Answer:
    """An answer as it came. Times are nanoseconds of the monotonic clock."""

    def __init__(self) -> None:
        self.asked = time.monotonic_ns()
        self.pieces: list[bytes] = []
        self.times: list[int] = []
        self.first_byte = 0  # of the body
        self._head: Head | None = None
        self._body_from = 0
        self._size = 0
        self._tail = b""

    def feed(self, piece: bytes) -> bool:
        """Take a piece; tell whether the answer is whole."""
        now = time.monotonic_ns()
        self.pieces.append(piece)
        self.times.append(now)
        if self._head is None:
            joined = b"".join(self.pieces)
            end = joined.find(b"\r\n\r\n")
            if end < 0:
                return False
            self._head = read_head(joined[:end])
            self._body_from = end + 4
            piece = joined[end + 4 :]
        if piece and not self.first_byte:
            self.first_byte = now
        self._size += len(piece)
        if self._head.chunked:
            # No event holds a carriage return, so this is only ever the end.
            self._tail = (self._tail + piece[-7:])[-7:]
            return self._tail == END_OF_CHUNKS
        return self._size >= self._head.length

    def framed(self) -> tuple[bytes, bytes, bool]:
        """Return the status line, the body as it was framed, and whether it is in chunks."""
        assert self._head is not None
        return self._head.first, b"".join(self.pieces)[self._body_from :], self._head.chunked

    def delays(self, since: int, until: int) -> Iterator[int]:
        """Yield how long each event took that came in this time.

        The few whose stamp was cut in two are left out.
        """
        for piece, came in zip(self.pieces, self.times, strict=True):
            if since <= came < until:
                for stamp in STAMP.finditer(piece):
                    yield came - int(stamp[1])


class Judge:
    """Counts the answers to a script that came whole, and why others did not."""

    def __init__(self, script: Script) -> None:
        self.whole = 0
        self.failures = 0
        self.first_failure = ""
        self._script = script
        self._known = b""  # a framed body that was found to be whole; the next is often the same

    def judge(self, answer: Answer) -> None:
        """Count an answer."""
        first, framed, chunked = answer.framed()
        if not first.startswith(b"HTTP/1.1 200 "):
            self.fail(first.decode("latin-1"))
            return
        try:
            if framed != self._known:
                self._compare(unchunk(framed) if chunked else framed)
                self._known = framed
            self.whole += 1
        except BrokenError as error:
            self.fail(str(error))

    def fail(self, why: str) -> None:
        """Count an answer that did not come, or not whole."""
        self.failures += 1
        self.first_failure = self.first_failure or why

    def _compare(self, data: bytes) -> None:
        expected = body(self._script)
        if self._script.rate:
            data = STAMP.sub(NO_STAMP, data)
        if data != expected:
            pairs = enumerate(zip(data, expected, strict=False))
            at = next((i for i, (a, b) in pairs if a != b), min(len(data), len(expected)))
            why = f"byte {at} of {len(expected)}: {data[at : at + 40]!r}"
            raise BrokenError(why)


class Client(asyncio.Protocol):
    """One connection of a client."""

    def __init__(self) -> None:
        self._answer: Answer | None = None
        self._whole: asyncio.Future[Answer] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are of no such class

    def connection_lost(self, exc: Exception | None) -> None:
        if self._whole is not None and not self._whole.done():
            self._whole.set_exception(BrokenError(f"the connection was closed: {exc}"))

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._whole is None:
            self.transport.abort()  # nobody asked: the next exchange will tell
        elif self._answer.feed(data) and not self._whole.done():
            self._whole.set_result(self._answer)
            self._answer = None

    async def exchange(self, asking: bytes) -> Answer:
        """Ask, and wait for the whole answer. Raises BrokenError."""
        if self.transport.is_closing():
            why = "the connection is closed"
            raise BrokenError(why)
        self._whole = asyncio.get_running_loop().create_future()
        self._answer = Answer()
        self.transport.write(asking)
        return await self._whole


@asynccontextmanager
async def connected(port: int, count: int) -> AsyncIterator[list[Client]]:
    """Connect `count` clients."""
    loop = asyncio.get_running_loop()
    clients: list[Client] = []
    try:
        async with asyncio.timeout(_PATIENCE):
            while len(clients) < count:
                some = min(_CONNECTS, count - len(clients))
                opening = (loop.create_connection(Client, "127.0.0.1", port) for _ in range(some))
                clients += [client for _, client in await asyncio.gather(*opening)]
        yield clients
    finally:
        for client in clients:
            client.transport.abort()


async def saturate(clients: list[Client], script: Script, seconds: float) -> Judge:
    """Ask on every connection, again and again, until the time is over."""
    judge, asking = Judge(script), request(script)
    until = time.monotonic() + seconds

    async def ask(client: Client) -> None:
        try:
            while time.monotonic() < until:
                judge.judge(await client.exchange(asking))
        except BrokenError as error:
            judge.fail(str(error))

    await _all(judge, *map(ask, clients), seconds=seconds)
    return judge


async def pace(
    clients: list[Client], script: Script, watch: Callable[[], Awaitable[None]]
) -> tuple[Judge, list[Answer]]:
    """Open a stream on every connection; `watch` while all are open; wait for their ends."""
    judge, asking = Judge(script), request(script)
    answers: list[Answer] = []

    async def ask(client: Client, delay: float) -> None:
        await asyncio.sleep(delay)
        try:
            answers.append(await client.exchange(asking))
        except BrokenError as error:
            judge.fail(str(error))

    async def watched() -> None:
        await asyncio.sleep(_until_all_are_open(script.rate, len(clients)))
        await watch()

    # Spread so that no two streams send at the same moment, at whatever rate.
    delays = (_stagger(len(clients)) * (i * _GOLDEN % 1) for i in range(len(clients)))
    asked = [ask(client, delay) for client, delay in zip(clients, delays, strict=True)]
    await _all(judge, watched(), *asked, seconds=script.events / script.rate)
    for answer in answers:
        judge.judge(answer)
    return judge, answers


def paced_events(rate: float, seconds: float, streams: int) -> int:
    """Return how many events streams have that are open while `watch` takes `seconds`."""
    return int(rate * (_until_all_are_open(rate, streams) + seconds + _stagger(streams))) + 4


def _until_all_are_open(rate: float, streams: int) -> float:
    """Return when every stream has begun, and its first text has come."""
    return 2 * _stagger(streams) + 2 / rate


def _stagger(streams: int) -> float:
    return min(_STAGGER, _BETWEEN * streams)


async def one_by_one(client: Client, script: Script, count: int) -> tuple[Judge, list[int]]:
    """Ask `count` times; return how long each took to the body's first byte."""
    judge, asking = Judge(script), request(script)
    waits: list[int] = []

    async def ask() -> None:
        try:
            for _ in range(count):
                answer = await client.exchange(asking)
                waits.append(answer.first_byte - answer.asked)
                judge.judge(answer)
        except BrokenError as error:
            judge.fail(str(error))

    await _all(judge, ask(), seconds=0)
    return judge, waits


async def _all(judge: Judge, *working: Awaitable[None], seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds + _PATIENCE):
            await asyncio.gather(*working)
    except TimeoutError:
        judge.fail("an answer never ended")
