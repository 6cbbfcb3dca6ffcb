"""A rollout behind a real load balancer that follows /readyz, as its file says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from tests.deploy.engine import PATIENCE, free_port
from tests.deploy.rollout import a_while, load, more
from tests.deploy.test_rollout import CLIENTS, Process, instance
from tests.deploy.tools import DEPLOY, need
from tests.upstreams import Upstream

pytestmark = pytest.mark.deploy

FILE = DEPLOY / "haproxy" / "discreet.cfg"


@dataclass(slots=True)
class HAProxy:
    """A running HAProxy."""

    port: int
    stats: str

    async def until(self, server: str, status: str) -> None:
        """Wait until it says so of one of its servers."""
        async with asyncio.timeout(PATIENCE), aiohttp.ClientSession() as session:
            while await self._status(session, server) != status:
                await asyncio.sleep(0.05)

    async def _status(self, session: aiohttp.ClientSession, server: str) -> str:
        try:
            async with session.get(self.stats) as answer:
                rows = [line.split(",") for line in (await answer.text()).splitlines()]
        except aiohttp.ClientError:
            return "it starts"
        (status,) = (row[rows[0].index("status")] for row in rows if row[1:2] == [server])
        return status


@asynccontextmanager
async def haproxy(addresses: dict[str, int], folder: Path) -> AsyncIterator[HAProxy]:
    """Run HAProxy with other ports than the file's."""
    need("haproxy")
    port, stats = free_port(), free_port()
    text = FILE.read_text()
    for name, here in {"127.0.0.1:8000": f"127.0.0.1:{port}", **_as_text(addresses)}.items():
        assert text.count(name) == 1
        text = text.replace(name, here)
    text += f"\nfrontend stats\n    bind 127.0.0.1:{stats}\n    stats enable\n    stats uri /\n"
    config = folder / "haproxy.cfg"
    config.write_text(text)
    process = await asyncio.create_subprocess_exec(
        *("/usr/sbin/haproxy", "-db", "-q", "-f", str(config)), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield HAProxy(port, f"http://127.0.0.1:{stats}/;csv")
    finally:
        process.terminate()
        await process.wait()


def _as_text(addresses: dict[str, int]) -> dict[str, str]:
    return {name: name.rpartition("808")[0] + str(port) for name, port in addresses.items()}


async def test_a_rollout_under_load_cuts_no_stream(tmp_path: Path) -> None:
    names = ("127.0.0.1:8080", "port 8081", "127.0.0.1:8082", "port 8083")
    ports = [free_port() for _ in names]
    addresses = dict(zip(names, ports, strict=True))

    def flags(port: int, admin: int) -> tuple[str, ...]:
        here = ("--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}")
        return (*here, "--drain-delay", "5")  # as the file says

    old: Process
    async with (
        Upstream(a_while()) as upstream,
        instance(upstream, *flags(*ports[:2])) as old,
        instance(upstream, *flags(*ports[2:])) as new,
        haproxy(addresses, tmp_path) as balancer,
    ):
        await balancer.until("one", "UP")
        await balancer.until("two", "UP")
        async with load(balancer.port, clients=CLIENTS) as tally:
            await more(tally)
            assert set(await old.leave()) == {"answered"}
            await balancer.until("one", "DOWN")
            await more(tally)
        assert set(await new.leave()) == {"answered"}
    assert (tally.failed, tally.wrong) == (0, [])
