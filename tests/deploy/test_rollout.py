"""A rollout under load, with real processes: no stream is cut without its ending."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

import pytest

from tests.deploy.rollout import DELAY, Balancer, Tally, a_while, load, more
from tests.proxies import Client, request
from tests.transport.test_shutdown import Command, paused, serving
from tests.upstreams import LAST_CHUNK, PATIENCE, Upstream

CLIENTS: Final = 16


@dataclass(slots=True)
class Process:
    """An instance that is a process of its own. Its log is read all the while: it is long."""

    command: Command
    port: int
    admin: int
    log: asyncio.Task[bytes]

    async def leave(self) -> list[str]:
        """End it with one SIGTERM; return how each of its exchanges ended."""
        self.command.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            lines = [json.loads(line) for line in (await self.log).splitlines()]
            assert await self.command.process.wait() == 0
        return [line["ending"] for line in lines if line["event"] == "exchange"]


@asynccontextmanager
async def instance(upstream: Upstream, *flags: str) -> AsyncIterator[Process]:
    delay = ("--drain-delay", str(DELAY))
    async with serving(upstream, "--admin", "127.0.0.1:0", *delay, *flags) as command:
        assert command.process.stderr is not None
        log = asyncio.create_task(command.process.stderr.read())
        try:
            yield Process(command, command.port, int(command.ready.rpartition(":")[2]), log)
        finally:
            log.cancel()
            with suppress(asyncio.CancelledError):
                await log


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.deploy)])
async def test_a_rollout_under_load_cuts_no_stream(workers: str) -> None:
    async with Upstream(a_while()) as upstream, Balancer() as balancer, AsyncExitStack() as stack:

        async def begin() -> Process:
            new = await stack.enter_async_context(instance(upstream, "--workers", workers))
            balancer.add(new)
            await balancer.until(new, ready=True)
            return new

        old = await begin()
        async with load(balancer.port, clients=CLIENTS) as tally:
            for _ in range(2):
                await more(tally)
                new = await begin()
                assert set(await old.leave()) == {"answered"}
                old = new
            await more(tally)
    assert tally.wrong == []
    assert (tally.failed, balancer.refused) == (0, 0)
    # Every client met each of the three.
    assert min(balancer.served.values()) >= CLIENTS
    assert len(balancer.served) == 3


async def test_a_stream_that_outlasts_its_drain_ends_once_and_its_client_goes_on() -> None:
    then = asyncio.Event()
    tally = Tally()
    async with (
        Upstream(paused(then=then)) as upstream,
        Balancer() as balancer,
        instance(upstream, "--drain-timeout", "0.2") as old,
        instance(upstream) as new,
    ):
        balancer.add(old)
        await balancer.until(old, ready=True)
        begun = [await beginning(balancer) for _ in range(10)]
        balancer.add(new)
        await balancer.until(new, ready=True)
        leaving = asyncio.create_task(old.leave())
        for client in begun:
            tally.count(await rest(client), whole=True)
        assert (tally.completed, tally.failed, tally.wrong) == (0, 10, [])
        assert await leaving == ["failed"] * 10
        again = [await beginning(balancer) for _ in range(10)]
        then.set()
        for client in again:
            tally.count(await rest(client), whole=True)
        assert balancer.served == {old.port: 10, new.port: 10}
    assert (tally.completed, tally.failed, tally.wrong) == (10, 10, [])


async def beginning(balancer: Balancer) -> Client:
    """Begin a stream and read its first word."""
    client = Client(*await asyncio.open_connection("127.0.0.1", balancer.port))
    await client.send(request(body=b'{"stream": true}'))
    await client.until(b"Hello")
    return client


async def rest(client: Client) -> bytes:
    """Read a stream that has begun to the end of its framing, and its connection to its end."""
    async with asyncio.timeout(PATIENCE):
        body = await client.reader.readuntil(LAST_CHUNK)
    client.leave()
    # Chunk sizes stand between events.
    return b"".join(line for line in body.splitlines(keepends=True) if not line.endswith(b"\r\n"))
