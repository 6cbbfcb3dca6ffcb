"""A provider that fails in every way, as each request asks it to.

A request's body names its fault and a seed. What a client must get for a fault stands beside
it: the whole answer or a failure. Nothing that a client must never see is without a canary.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import zlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Self

from tests.chaos.dialects import DIALECTS, Dialect
from tests.upstreams import (
    CANARY,
    CHUNKED,
    DONE,
    LAST_CHUNK,
    STREAM_HEAD,
    STREAM_HEAD_UNTIL_CLOSE,
    Upstream,
    Visit,
    answer,
    chunk,
    head,
)

MAX_EVENT: Final = 64 * 1024
"""The bound on an event that the proxy is to be started with."""

_HIDDEN: Final = {
    "Server": CANARY,
    "Via": f"1.1 {CANARY}",
    "Set_Cookie": f"session={CANARY}",
    "X_Amzn_Trace": CANARY,
}


@dataclass(slots=True)
class Scene:
    """One request to be answered in some way."""

    visit: Visit
    dialect: Dialect
    random: random.Random

    def content(self, most: int = 6) -> list[bytes]:
        """Return the first events of a healthy stream, up to its end."""
        texts = [self.dialect.text(i) for i in range(self.random.randint(1, most))]
        return [*self.dialect.begin, *texts]

    def whole(self) -> list[bytes]:
        return [*self.content(), *self.dialect.end]

    async def say(self, *events: bytes) -> None:
        """Send events, each as a chunk."""
        await self.visit.send(*map(chunk, events))

    async def pause(self, longest: float = 0.01) -> None:
        await asyncio.sleep(self.random.uniform(0, longest))


Play = Callable[[Scene], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to answer. goes_well: a client gets the whole answer for it."""

    play: Play
    goes_well: bool
    often: int
    streams: bool


FAULTS: Final[dict[str, Fault]] = {}


def _fault(
    *, goes_well: bool = False, often: int = 4, streams: bool = True
) -> Callable[[Play], Play]:
    def add(play: Play) -> Play:
        FAULTS[play.__name__.strip("_")] = Fault(play, goes_well, often, streams)
        return play

    return add


# What goes well


@_fault(goes_well=True, often=20)
async def healthy(scene: Scene) -> None:
    await scene.visit.send(head(200, "text/event-stream", CHUNKED, **_HIDDEN))
    for event in scene.whole():
        await scene.say(event)
        await scene.pause(0.005)
    await scene.visit.send(LAST_CHUNK)


@_fault(goes_well=True)
async def cut_anywhere_into_chunks(scene: Scene) -> None:
    stream = b"".join(scene.whole())
    await scene.visit.send(STREAM_HEAD)
    while stream:
        size = scene.random.randint(1, 200)
        await scene.say(stream[:size])
        stream = stream[size:]
    await scene.visit.send(LAST_CHUNK)


@_fault(goes_well=True, often=2)
async def slow_trickle(scene: Scene) -> None:
    await scene.visit.send(STREAM_HEAD)
    for event in scene.whole():
        await scene.say(event[:9], event[9:])
        await scene.pause(0.1)
    await scene.visit.send(LAST_CHUNK)


@_fault(goes_well=True)
async def until_the_connection_closes(scene: Scene) -> None:
    await scene.visit.send(STREAM_HEAD_UNTIL_CLOSE, *scene.whole())
    scene.visit.close()


@_fault(goes_well=True)
async def compressed(scene: Scene) -> None:
    packed = _gzip(b"".join(scene.whole()))
    await scene.visit.send(answer(packed, 200, "text/event-stream", Content_Encoding="gzip"))


@_fault(goes_well=True, often=1)
async def a_large_stream(scene: Scene) -> None:
    await scene.visit.send(STREAM_HEAD)
    await scene.say(*scene.dialect.begin)
    for i in range(40):
        await scene.say(scene.dialect.text(i, "long " * 5000))
    await scene.say(*scene.dialect.end)
    await scene.visit.send(LAST_CHUNK)


@_fault(goes_well=True)
async def with_comments_and_stray_lines(scene: Scene) -> None:
    dirt = f": {CANARY}\n\n{CANARY}\n\nid: {CANARY}\nretry: {CANARY}\n\n".encode()
    await scene.visit.send(STREAM_HEAD)
    for event in scene.whole():
        await scene.say(dirt + event)
    await scene.visit.send(LAST_CHUNK)


@_fault(goes_well=True)
async def cut_after_the_end(scene: Scene) -> None:
    await scene.visit.send(STREAM_HEAD)
    await scene.say(*scene.whole())
    scene.visit.close()


@_fault(goes_well=True, often=1)
async def open_after_the_end(scene: Scene) -> None:
    await scene.visit.send(STREAM_HEAD)
    await scene.say(*scene.whole())
    await scene.visit.left()


# Before an answer


@_fault()
async def reset_before_headers(scene: Scene) -> None:
    scene.visit.reset()


@_fault()
async def closed_before_headers(scene: Scene) -> None:
    scene.visit.close()


@_fault()
async def closed_in_headers(scene: Scene) -> None:
    await scene.visit.send(STREAM_HEAD[:30])
    scene.visit.close()


@_fault(often=1)
async def silent_before_headers(scene: Scene) -> None:
    await scene.visit.left()


@_fault()
async def no_http(scene: Scene) -> None:
    await scene.visit.send(f"SSH-2.0-{CANARY}\r\n\r\n".encode())
    scene.visit.close()


# Another answer


@_fault(often=10)
async def an_error_status(scene: Scene) -> None:
    status = scene.random.choice((400, 401, 403, 404, 409, 413, 422, 429, 500, 502, 503, 529))
    error = {"message": CANARY, "type": CANARY, "param": CANARY, "code": CANARY}
    body = json.dumps({"error": error}).encode()
    raw = b"HTTP/1.1 %d %b\r\n" % (status, CANARY.encode())
    raw += f"X-Debug: {CANARY}\r\nServer: {CANARY}\r\nRetry-After: 1\r\n".encode()
    raw += b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    await scene.visit.send(raw + body)


@_fault()
async def a_truncated_error(scene: Scene) -> None:
    await scene.visit.send(answer(CANARY.encode() * 9, 500)[:-40])
    scene.visit.close()


@_fault()
async def a_redirect(scene: Scene) -> None:
    status = scene.random.choice((301, 302, 303, 307, 308))
    await scene.visit.send(answer(b"", status, Location=f"http://{CANARY}.example/"))


@_fault()
async def a_page(scene: Scene) -> None:
    page = f"<html><title>{CANARY}</title></html>".encode()
    await scene.visit.send(answer(page, 200, scene.random.choice(("text/html", "text/plain"))))


@_fault()
async def a_page_said_to_be_a_stream(scene: Scene) -> None:
    page = f"<html>\n<title>{CANARY}</title>\n\n</html>\n".encode()
    await scene.visit.send(answer(page, 200, "text/event-stream"))


@_fault()
async def no_gzip(scene: Scene) -> None:
    await scene.visit.send(
        answer(CANARY.encode(), 200, "text/event-stream", Content_Encoding="gzip")
    )


@_fault()
async def truncated_gzip(scene: Scene) -> None:
    packed = _gzip(b"".join(scene.whole()))
    raw = answer(packed[: len(packed) // 2], 200, "text/event-stream", Content_Encoding="gzip")
    await scene.visit.send(raw)


# In the middle of a stream


async def _begin(scene: Scene) -> None:
    await scene.visit.send(STREAM_HEAD)
    await scene.say(*scene.content())
    await scene.pause()


@_fault()
async def reset_after_headers(scene: Scene) -> None:
    await scene.visit.send(STREAM_HEAD)
    await scene.pause()
    scene.visit.reset()


@_fault()
async def reset_between_events(scene: Scene) -> None:
    await _begin(scene)
    scene.visit.reset()


@_fault()
async def cut_between_events(scene: Scene) -> None:
    await _begin(scene)
    scene.visit.close()


@_fault()
async def cut_in_an_event(scene: Scene) -> None:
    await _begin(scene)
    await scene.say(f'data: {{"x": "{CANARY}'.encode())
    scene.visit.close()


@_fault()
async def cut_in_a_chunk(scene: Scene) -> None:
    await _begin(scene)
    await scene.visit.send(chunk(scene.dialect.text(9))[:-20])
    scene.visit.close()


@_fault()
async def a_chunk_size_that_is_none(scene: Scene) -> None:
    await _begin(scene)
    await scene.visit.send(f"{CANARY}\r\n".encode())
    await scene.visit.left()


@_fault()
async def closed_without_the_end(scene: Scene) -> None:
    await scene.visit.send(STREAM_HEAD_UNTIL_CLOSE, *scene.content())
    scene.visit.close()


@_fault()
async def ended_without_the_end(scene: Scene) -> None:
    await _begin(scene)
    await scene.visit.send(LAST_CHUNK)


@_fault()
async def shorter_than_its_length(scene: Scene) -> None:
    raw = answer(b"".join(scene.whole()), 200, "text/event-stream")
    await scene.visit.send(raw[: -len(scene.dialect.end[-1]) - 30])
    scene.visit.close()


@_fault()
async def done_early(scene: Scene) -> None:
    await _begin(scene)
    await scene.say(DONE)
    await scene.visit.send(LAST_CHUNK)


@_fault(often=1)
async def idle(scene: Scene) -> None:
    await _begin(scene)
    await scene.visit.left()


@_fault()
async def a_malformed_event(scene: Scene) -> None:
    await _begin(scene)
    data = scene.random.choice((CANARY, f'{{"a": "{CANARY}"', f'"{CANARY}"', f'["{CANARY}"]'))
    await scene.say(f"data: {data}\n\n".encode())
    await scene.visit.left()


@_fault(often=2)
async def a_huge_event(scene: Scene) -> None:
    await _begin(scene)
    await scene.say(scene.dialect.text(9, "huge" * MAX_EVENT))
    await scene.visit.left()


@_fault(often=8)
async def an_error_event(scene: Scene) -> None:
    await _begin(scene)
    await scene.say(scene.dialect.error)
    if scene.random.random() < 0.5:
        await scene.say(scene.dialect.error, *scene.dialect.end)
    await scene.visit.send(LAST_CHUNK)


@_fault(often=6)
async def an_error_event_first(scene: Scene) -> None:
    await scene.visit.send(STREAM_HEAD)
    await scene.say(*scene.dialect.begin[: scene.random.randint(0, 2)], scene.dialect.error)
    await scene.visit.send(LAST_CHUNK)


# Plain JSON


@_fault(goes_well=True, often=12, streams=False)
async def an_object(scene: Scene) -> None:
    body = scene.dialect.object
    raw = head(200, "application/json", f"Content-Length: {len(body)}", **_HIDDEN)
    await scene.visit.send(raw + body)


@_fault(streams=False)
async def half_an_object(scene: Scene) -> None:
    await scene.visit.send(answer(scene.dialect.object)[:-5])
    scene.visit.close()


@_fault(streams=False)
async def an_object_that_is_an_error(scene: Scene) -> None:
    await scene.visit.send(answer(json.dumps({"error": {"message": CANARY}}).encode()))


@_fault(streams=False)
async def no_json(scene: Scene) -> None:
    await scene.visit.send(answer(f'{{"id": {CANARY}'.encode()))


class Provider(Upstream):
    """Plays the faults, and shuts its door now and then."""

    def __init__(self) -> None:
        super().__init__(_play)
        self.closings = 0
        self.is_open = False
        self._arriving: set[asyncio.Task[object]] = set()

    def open(self) -> None:
        """Listen."""
        self._listener = _socket_at(self.port)
        self._listener.listen(1024)
        asyncio.get_running_loop().add_reader(self._listener, self._accept)
        self.is_open = True

    def shut(self) -> None:
        """Refuse connections; those that are there go on."""
        self.is_open = False
        self.closings += 1
        self._stop_listening()

    def _stop_listening(self) -> None:
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()

    def _accept(self) -> None:
        """Take a connection.

        asyncio's own server forgets one that it accepted just before it was closed: nobody
        ever closes that socket.
        """
        loop = asyncio.get_running_loop()
        with suppress(BlockingIOError):
            connection, _ = self._listener.accept()
            connection.settimeout(0)
            reader = asyncio.StreamReader(limit=2**20, loop=loop)
            protocol = asyncio.StreamReaderProtocol(reader, self._serve, loop=loop)
            task = loop.create_task(loop.connect_accepted_socket(lambda: protocol, connection))
            self._arriving.add(task)
            task.add_done_callback(self._arriving.discard)

    async def hang_up(self) -> None:
        """Close every connection."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self.visits.clear()

    async def __aenter__(self) -> Self:
        # The port stays ours also while nobody listens.
        self._reserved = _socket_at(0)
        self.port = self._reserved.getsockname()[1]
        self.open()
        return self

    async def __aexit__(self, *error: object) -> None:
        self._stop_listening()
        if self._arriving:
            await asyncio.wait(self._arriving)
        await self.hang_up()
        self._reserved.close()


def _socket_at(port: int) -> socket.socket:
    one = socket.socket()
    one.settimeout(0)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    one.bind(("127.0.0.1", port))
    return one


async def _play(visit: Visit) -> None:
    asked = json.loads(await visit.body())
    scene = Scene(visit, DIALECTS[asked["dialect"]], random.Random(asked["seed"]))  # noqa: S311
    with suppress(OSError):  # the proxy has left already
        await FAULTS[asked["fault"]].play(scene)


def _gzip(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()
