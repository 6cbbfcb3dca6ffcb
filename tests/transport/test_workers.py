"""Several processes behind one address: as one, also when one of them dies."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from tests.transport.test_shutdown import FINE, serving
from tests.upstreams import PATIENCE, Upstream


def workers_of(supervisor: int) -> list[int]:
    """Return the supervisor's children that serve, by /proc; a helper of Python's is one too."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            is_worker = b"spawn_main" in (folder / "cmdline").read_bytes()
        except (OSError, IndexError):
            continue
        if parent == supervisor and is_worker:
            found.append(int(folder.name))
    return sorted(found)


async def test_a_worker_that_dies_is_started_again() -> None:
    async with Upstream(FINE) as upstream, serving(upstream, "--workers", "2") as command:
        first = workers_of(command.process.pid)
        assert len(first) == 2
        os.kill(first[0], signal.SIGKILL)
        async with asyncio.timeout(PATIENCE):
            while len(now := workers_of(command.process.pid)) != 2 or first[0] in now:
                await asyncio.sleep(0.01)
        async with asyncio.timeout(PATIENCE):
            for _ in range(20):  # some of them to either
                client = await command.connect()
                assert (await client.ask()).status == 200
        command.process.send_signal(signal.SIGTERM)
        code, _, log = await command.ended()
    assert code == 0
    (died,) = [line for line in log if "died" in line["event"]]
    assert (died["level"], died["exit_code"]) == ("warning", -signal.SIGKILL)
    assert workers_of(command.process.pid) == []


def sockets_of(process: int) -> int:
    """Return how many sockets a process has open."""
    count = 0
    for link in Path(f"/proc/{process}/fd").iterdir():
        try:
            count += str(link.readlink()).startswith("socket:")
        except OSError:  # closed meanwhile
            continue
    return count


async def test_connections_are_given_to_the_workers_in_turn() -> None:
    async with Upstream(FINE) as upstream, serving(upstream, "--workers", "2") as command:
        async with asyncio.timeout(PATIENCE):
            while len(workers := workers_of(command.process.pid)) != 2:
                await asyncio.sleep(0.01)
        before = [sockets_of(worker) for worker in workers]
        clients = [await command.connect() for _ in range(8)]
        for client in clients:
            assert (await client.ask()).status == 200
        after = [sockets_of(worker) for worker in workers]
    # Each client's connection, and its own to the upstream, which answered it in its turn.
    added = [now - then for then, now in zip(before, after, strict=True)]
    assert added[0] == added[1] >= 4


async def test_workers_do_not_outlive_their_supervisor() -> None:
    async with Upstream(FINE) as upstream, serving(upstream, "--workers", "2") as command:
        workers = workers_of(command.process.pid)
        command.process.kill()
        async with asyncio.timeout(PATIENCE):
            while any(Path(f"/proc/{worker}").exists() for worker in workers):
                await asyncio.sleep(0.01)
