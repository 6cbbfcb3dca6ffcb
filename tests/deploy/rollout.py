"""A rollout: instances that come and go behind a balancer, and clients that never pause.

    async with Balancer() as balancer, load(balancer.port, 20) as tally:
        balancer.add(old)
        ...

The balancer forwards TCP and knows of an instance only what its /readyz says, asked over and over,
as load balancers do. A client keeps its connection for as long as answers let it, so that it also
meets an instance that leaves in the middle of its conversation.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, Protocol, Self

import aiohttp

from tests.proxies import Client, request
from tests.upstreams import (
    LAST_CHUNK,
    PATIENCE,
    STREAM_HEAD,
    Script,
    Visit,
    chunk,
    completed,
    created,
    delta,
)

# How often an instance is asked. It must take requests for longer than that after its SIGTERM.
CHECK: Final = 0.05
DELAY: Final = 3.0

_ENDINGS: Final = (b"event: response.completed\n", b"event: response.failed\n", b"event: error\n")


class Instance(Protocol):
    """Where an instance listens."""

    port: int
    admin: int


class Balancer:
    """Spreads connections over the instances that are ready.

    refused: connections that an instance did not take although it had said that it is ready; the
        balancer went on to the next.
    """

    def __init__(self) -> None:
        self.port = 0
        self.refused = 0
        self.served: Counter[int] = Counter()
        self._ready: dict[int, bool] = {}
        self._checks: list[asyncio.Task[None]] = []
        self._pipes: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Condition()
        self._turn = 0

    def add(self, instance: Instance) -> None:
        """Follow an instance from now on."""
        self._ready[instance.port] = False
        self._checks.append(asyncio.create_task(self._check(instance)))

    async def until(self, instance: Instance, *, ready: bool) -> None:
        """Wait until an instance has been seen ready, or not."""
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: self._ready[instance.port] is ready)

    async def _check(self, instance: Instance) -> None:
        url = f"http://127.0.0.1:{instance.admin}/readyz"
        async with aiohttp.ClientSession() as session:
            while True:
                ready = False
                with suppress(aiohttp.ClientError):
                    async with session.get(url) as answer:
                        ready = answer.status == 200
                async with self._changed:
                    self._ready[instance.port] = ready
                    self._changed.notify_all()
                await asyncio.sleep(CHECK)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        ports = [port for port, ready in self._ready.items() if ready]
        self._turn += 1
        for place in range(len(ports)):
            port = ports[(self._turn + place) % len(ports)]
            try:
                connection = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:
                self.refused += 1
            else:
                self.served[port] += 1
                return connection
        raise ConnectionRefusedError

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pipes.add(task)
        try:
            to_reader, to_writer = await self._connect()
            async with asyncio.TaskGroup() as group:
                group.create_task(_pipe(reader, to_writer))
                group.create_task(_pipe(to_reader, writer))
        except (ConnectionError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._pipes.discard(task)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        tasks = [*self._checks, *self._pipes]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    finally:
        writer.close()


@dataclass(slots=True)
class Tally:
    """How streams ended: each once, or what else was seen."""

    completed: int = 0
    failed: int = 0
    wrong: list[str] = field(default_factory=list)

    def count(self, body: bytes, *, whole: bool) -> None:
        """Count a stream by its ending."""
        done, failed, errors = (body.count(ending) for ending in _ENDINGS)
        if whole and (done, failed, errors) == (1, 0, 0) and body.endswith(b"\n\n"):
            self.completed += 1
        elif whole and (done, failed, errors) == (0, 1, 1) and body.endswith(b"\n\n"):
            self.failed += 1
        else:
            self.wrong.append(f"{whole=} {done=} {failed=} {errors=} {body[-200:]!r}")


def a_while(words: int = 10, pause: float = 0.02) -> Script:
    """Answer with a stream that takes its time."""

    async def script(visit: Visit) -> None:
        await visit.body()
        await visit.send(STREAM_HEAD, chunk(created()))
        for number in range(words):
            await visit.send(chunk(delta("word ", 1 + number)))
            await asyncio.sleep(pause)
        await visit.send(chunk(completed(1 + words)), LAST_CHUNK)

    return script


async def _ask_on_and_on(port: int, tally: Tally, stop: asyncio.Event) -> None:
    while not stop.is_set():
        try:
            client = Client(*await asyncio.open_connection("127.0.0.1", port))
        except ConnectionError as error:
            tally.wrong.append(f"no connection: {error!r}")
            continue
        try:
            await _ask_while_kept(client, tally, stop)
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            tally.wrong.append(f"no answer: {error!r}")
        finally:
            client.leave()


async def _ask_while_kept(client: Client, tally: Tally, stop: asyncio.Event) -> None:
    kept = True
    while kept and not stop.is_set():
        await client.send(request(body=b'{"model": "any", "stream": true}'))
        answer = await client.answer()
        tally.count(answer.body, whole=answer.whole)
        kept = answer.headers.get("Connection") != "close"


@asynccontextmanager
async def load(port: int, clients: int) -> AsyncIterator[Tally]:
    """Keep so many clients asking while the block runs; then let their last streams end."""
    tally, stop = Tally(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(_ask_on_and_on(port, tally, stop))
        yield tally
        stop.set()


async def more(tally: Tally, count: int = 50) -> None:
    """Wait until so many more streams have come to their end."""
    enough = tally.completed + count
    async with asyncio.timeout(PATIENCE):
        while tally.completed < enough and not tally.wrong:
            await asyncio.sleep(0.02)
