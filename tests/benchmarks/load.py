"""The load: raw clients that keep their connections, and judge every answer as it came.

    saturate    answers one after another on each connection, for some seconds
    pace        a paced stream on each connection, all at a time
    one_by_one  one request after another: the time to the first byte of the body

An answer counts only when its body is the provider's, byte for byte.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Final

from tests.benchmarks.answers import NO_STAMP, STAMP, Script, body
from tests.benchmarks.http import END_OF_CHUNKS, BrokenError, Head, read_head, unchunk
from tests.benchmarks.loop import Connection, Loop

# Longer than any answer takes that will ever come.
_PATIENCE: Final = 60.0
# Paced streams begin one after another, as those of many users do: seconds for each, and at most.
_BETWEEN: Final = 0.005
_STAGGER: Final = 0.5
_GOLDEN: Final = (5**0.5 - 1) / 2

_OK: Final = b"HTTP/1.1 200 "
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

    def takes(self, answer: Answer, piece: bytes) -> bool:
        """Take a piece of an answer; tell whether it was the last, and the answer is counted."""
        if self._is_known(answer, piece):
            answer.first_byte = time.monotonic_ns()
            self.whole += 1
            return True
        if not answer.feed(piece):
            return False
        self.judge(answer)
        return True

    def _is_known(self, answer: Answer, piece: bytes) -> bool:
        """Tell whether this is a whole answer, with a body that was found to be whole before."""
        known = self._known
        return (
            bool(known)
            and not answer.pieces
            and piece.endswith(known)
            and piece.startswith(_OK)
            and piece.find(b"\r\n\r\n") + 4 + len(known) == len(piece)
        )

    def judge(self, answer: Answer) -> None:
        """Count an answer."""
        first, framed, chunked = answer.framed()
        if not first.startswith(_OK):
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


class Client(Connection):
    """One connection of a client, that asks as often as it is told to.

    again: takes a whole answer, and tells whether to ask again. leave: called when it asks no more.
    """

    asking: bytes
    judge: Judge
    again: Callable[[Answer], bool]
    leave: Callable[[], None]

    def __init__(self, loop: Loop, connected: socket.socket) -> None:
        super().__init__(loop, connected)
        self._answer: Answer | None = None

    def ask(self) -> None:
        """Ask."""
        self._answer = Answer()
        if self.is_open:
            self.send(self.asking)
        else:
            self.closed()

    def received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None:
            self.close()  # nobody asked: the next question will tell
        elif self.judge.takes(answer, data):
            self._answer = None
            if self.again(answer):
                self.ask()
            else:
                self.leave()

    def closed(self) -> None:
        if self._answer is not None:
            self._answer = None
            self.judge.fail("the connection was closed")
            self.leave()


class Load:
    """Clients that ask side by side."""

    def __init__(self, loop: Loop, clients: list[Client]) -> None:
        self._loop = loop
        self._clients = clients

    def saturate(self, script: Script, seconds: float) -> Judge:
        """Ask on every connection, again and again, until the time is over."""
        until = time.monotonic() + seconds

        def again(answer: Answer) -> bool:
            del answer
            return time.monotonic() < until

        return self._ask(script, again, (0.0,) * len(self._clients), seconds)

    def pace(
        self, script: Script, seconds: float, began: Callable[[], None], ended: Callable[[], None]
    ) -> tuple[Judge, list[Answer]]:
        """Open a stream on every connection, and wait for their ends.

        began: called when all are open. ended: so many seconds later.
        """
        answers: list[Answer] = []

        def keep(answer: Answer) -> bool:
            answers.append(answer)
            return False

        streams = len(self._clients)
        begin = time.monotonic() + _until_all_are_open(script.rate, streams)
        self._loop.call_at(begin, began)
        self._loop.call_at(begin + seconds, ended)
        # Spread so that no two streams send at the same moment, at whatever rate.
        delays = (_stagger(streams) * (i * _GOLDEN % 1) for i in range(streams))
        judge = self._ask(script, keep, delays, script.events / script.rate)
        # Where all failed, their end came before the time's.
        self._loop.call_at(begin + seconds, self._loop.stop)
        self._loop.run()
        return judge, answers

    def one_by_one(self, script: Script, count: int) -> tuple[Judge, list[int]]:
        """Ask `count` times on one connection; return how long each first byte took."""
        waits: list[int] = []

        def again(answer: Answer) -> bool:
            waits.append(answer.first_byte - answer.asked)
            return len(waits) < count

        return self._ask(script, again, (0.0,), 0), waits

    def _ask(
        self,
        script: Script,
        again: Callable[[Answer], bool],
        delays: Iterable[float],
        seconds: float,
    ) -> Judge:
        """Ask on a connection for each delay, and again as long as that is wanted."""
        judge, asking = Judge(script), request(script)
        busy = 0

        def leave() -> None:
            nonlocal busy
            busy -= 1
            if not busy:
                self._loop.stop()

        def give_up() -> None:
            if busy:
                self._loop.stop()

        now = time.monotonic()
        for client, delay in zip(self._clients, delays, strict=False):
            busy += 1
            client.asking, client.judge, client.again, client.leave = asking, judge, again, leave
            self._loop.call_at(now + delay, client.ask)
        self._loop.call_at(now + seconds + _PATIENCE, give_up)
        self._loop.run()
        if busy:
            judge.fail("an answer never ended")
            for client in self._clients:
                client.close()
        return judge


@contextmanager
def connected(port: int, count: int) -> Iterator[Load]:
    """Connect `count` clients."""
    with closing(Loop()) as loop, ExitStack() as stack:
        clients: list[Client] = []
        for _ in range(count):
            opened = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE)
            clients.append(stack.enter_context(closing(Client(loop, opened))))
        yield Load(loop, clients)


def paced_events(rate: float, seconds: float, streams: int) -> int:
    """Return how many events streams have that are open while `seconds` are watched."""
    return int(rate * (_until_all_are_open(rate, streams) + seconds + _stagger(streams))) + 4


def _until_all_are_open(rate: float, streams: int) -> float:
    """Return when every stream has begun, and its first text has come."""
    return 2 * _stagger(streams) + 2 / rate


def _stagger(streams: int) -> float:
    return min(_STAGGER, _BETWEEN * streams)
