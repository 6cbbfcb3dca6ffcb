"""Ready where the upstream's host answers, for those who want it so."""

from __future__ import annotations

import aiohttp
import pytest
from aioresponses import aioresponses
from yarl import URL

from proxy.transport.reach import Reach
from tests.operate.test_admin import ADMIN, ask
from tests.proxies import proxy_for, relaying
from tests.upstreams import CANARY, Script, answer, says

CHECKED = {**ADMIN, "ready_check": True}
UPSTREAM = URL("http://upstream.example/v1")


@pytest.mark.parametrize("status", [200, 302, 401, 404, 500])
async def test_any_answer_will_do(status: int) -> None:
    script: Script = says(answer(b"", status, Location="/elsewhere"))
    async with relaying(script, **CHECKED) as (upstream, proxy):
        assert (await ask(proxy, "/readyz")).status == 200
        assert upstream.visit.head.startswith(b"HEAD / ")


async def test_a_host_that_refuses_is_none() -> None:
    async with proxy_for("http://127.0.0.1:9", **CHECKED) as proxy:
        got = await ask(proxy, "/readyz")
        assert (got.status, got.body) == (503, b"the upstream does not answer\n")
        for path in ("/livez", "/startupz"):
            assert (await ask(proxy, path)).status == 200


async def test_nobody_is_asked_unless_that_is_wanted() -> None:
    async with relaying(says(answer(b""))) as (upstream, _):
        async with proxy_for("http://127.0.0.1:9", **ADMIN) as proxy:
            assert (await ask(proxy, "/readyz")).status == 200
        assert upstream.connections == 0


async def test_probes_in_a_row_ask_once() -> None:
    async with relaying(says(answer(b"")), **CHECKED) as (upstream, proxy):
        for _ in range(5):
            await ask(proxy, "/readyz")
        assert len(upstream.visits) == 1


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError(CANARY),
        aiohttp.ClientConnectionError(CANARY),
        aiohttp.ServerDisconnectedError(CANARY),
        aiohttp.ClientPayloadError(CANARY),
        ConnectionResetError(CANARY),
    ],
)
async def test_whatever_goes_wrong_is_no_answer(error: Exception) -> None:
    with aioresponses() as mocked:
        mocked.head(UPSTREAM, exception=error)
        assert not await Reach(UPSTREAM).answers()
