"""Connections are accepted by one process and served by others, in turn."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from proxy.transport.door import Door, Entrance, door_pair, send_through
from tests.upstreams import PATIENCE


class Echo(asyncio.Protocol):
    """Answers with what it gets, and its name."""

    def __init__(self, name: bytes) -> None:
        self._name = name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data + self._name)


class Worker:
    """A worker in this process; `open` is whether it takes what it is given."""

    def __init__(self, name: bytes) -> None:
        self.ours, theirs = door_pair()
        self.door = Door(theirs, lambda: Echo(name))
        self.open = True

    def take(self, connection: socket.socket) -> bool:
        return self.open and send_through(self.ours, connection)

    def close(self) -> None:
        self.door.close()
        self.ours.close()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def enter(stack: ExitStack, *names: bytes) -> tuple[int, list[Worker], Entrance]:
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    listener.settimeout(0)
    workers = [Worker(name) for name in names]
    entrance = Entrance(listener, workers)
    for worker in workers:
        stack.callback(worker.close)
    stack.callback(entrance.close)
    port: int = listener.getsockname()[1]
    return port, workers, entrance


async def ask(port: int) -> bytes:
    """Connect and return who answers; b"" where nobody will."""
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"it is ")
        try:
            return await reader.read(100)
        except ConnectionError:
            return b""
        finally:
            writer.close()


async def test_each_is_the_next_ones(stack: ExitStack) -> None:
    port, _, _ = enter(stack, b"one", b"two", b"three")
    answers = [await ask(port) for _ in range(6)]
    assert answers == [b"it is one", b"it is two", b"it is three"] * 2


async def test_who_takes_none_is_passed_over(stack: ExitStack) -> None:
    port, workers, _ = enter(stack, b"one", b"two")
    workers[0].door.close()
    assert [await ask(port) for _ in range(3)] == [b"it is two"] * 3


async def test_a_connection_waits_until_somebody_takes_it(stack: ExitStack) -> None:
    port, (worker,), _ = enter(stack, b"one")
    worker.open = False
    waiting = [asyncio.create_task(ask(port)) for _ in range(3)]
    await asyncio.sleep(0.2)
    assert not any(task.done() for task in waiting)
    worker.open = True
    assert await asyncio.gather(*waiting) == [b"it is one"] * 3


async def test_what_was_given_before_the_door_shut_is_served(stack: ExitStack) -> None:
    port, (worker,), _ = enter(stack, b"one")
    asked = asyncio.create_task(ask(port))
    while not worker.door._coming:  # accepted and given; not served yet
        await asyncio.sleep(0)
    worker.door.close()
    assert await asked == b"it is one"


async def test_the_other_side_hears_of_a_door_that_shuts(stack: ExitStack) -> None:
    _, (worker,), _ = enter(stack, b"one")
    heard = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(worker.ours, heard.set)
    worker.door.close()
    async with asyncio.timeout(PATIENCE):
        await heard.wait()
    loop.remove_reader(worker.ours)


async def test_nobody_is_let_in_once_it_is_closed(stack: ExitStack) -> None:
    port, (worker,), entrance = enter(stack, b"one")
    worker.open = False
    held = asyncio.create_task(ask(port))
    await asyncio.sleep(0.1)  # accepted, and offered in vain
    entrance.close()
    assert await held == b""
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_a_door_may_be_closed_in_the_moment_in_which_its_supervisor_goes(
    stack: ExitStack,
) -> None:
    _, (worker,), _ = enter(stack, b"one")
    worker.ours.close()
    worker.door.close()
    worker.door.close()
    assert worker.door._end.fileno() < 0


async def test_a_door_whose_supervisor_is_gone_is_shut(stack: ExitStack) -> None:
    _, (worker,), _ = enter(stack, b"one")
    worker.ours.close()
    async with asyncio.timeout(PATIENCE):
        while worker.door._end.fileno() >= 0:
            await asyncio.sleep(0.001)
