"""The real command ends cleanly: what runs gets its time, then its ending."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.proxies import Client, request
from tests.upstreams import (
    CHUNKED,
    LAST_CHUNK,
    PATIENCE,
    STREAM_HEAD,
    Script,
    Upstream,
    Visit,
    chunk,
    completed,
    created,
    delta,
    head,
    says_json,
)

FINE = says_json({"id": "resp_1", "object": "response", "status": "completed", "error": None})


class Command:
    """`python -m proxy serve`, once it is ready."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.port = 0
        self.ready = ""
        self._clients: list[Client] = []

    async def connect(self, port: int = 0) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", port or self.port))
        self._clients.append(client)
        return client

    def leave(self) -> None:
        for client in self._clients:
            client.leave()

    async def refuses(self) -> None:
        """Wait until it takes no more connections."""
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    (await self.connect()).leave()
                except ConnectionRefusedError:
                    return
                except ConnectionResetError:
                    pass  # it was just closing
                await asyncio.sleep(0.01)

    async def ended(self) -> tuple[int, str, list[dict[str, Any]]]:
        """Wait for its end; return its exit code, output and log."""
        async with asyncio.timeout(PATIENCE):
            out, log = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, out.decode(), [*map(json.loads, log.splitlines())]


@asynccontextmanager
async def serving(upstream: Upstream, *flags: str) -> AsyncIterator[Command]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", "serve", "--upstream", upstream.url),
        *("--listen", "127.0.0.1:0", *flags),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={k: v for k, v in os.environ.items() if not k.startswith("DISCREET_")},
    )
    command = Command(process)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            ready = (await process.stdout.readline()).decode()
        command.ready = ready
        command.port = int(ready.split("http://127.0.0.1:")[1].split()[0])
        yield command
    finally:
        command.leave()
        if process.returncode is None:
            process.kill()
            await process.communicate()


def paused(*, then: asyncio.Event) -> Script:
    async def script(visit: Visit) -> None:
        await visit.send(STREAM_HEAD, chunk(created() + delta("Hello")))
        await then.wait()
        await visit.send(chunk(completed()), LAST_CHUNK)

    return script


SIGNALS = [signal.SIGTERM, signal.SIGINT]


@pytest.mark.parametrize("number", SIGNALS)
async def test_an_idle_proxy_ends_at_once(number: int) -> None:
    async with Upstream(FINE) as upstream, serving(upstream) as command:
        assert command.ready.startswith("discreet is ready: http://127.0.0.1:")
        assert upstream.url in command.ready
        client = await command.connect()
        assert (await client.ask()).status == 200
        command.process.send_signal(number)
        assert await client.rest() == b""  # a connection that is only kept alive
        code, out, log = await command.ended()
    assert (code, out) == (0, "")
    assert [line["status"] for line in log if line["event"] == "exchange"] == [200]
    assert all(line["level"] != "error" for line in log)


@pytest.mark.parametrize("number", SIGNALS)
async def test_a_running_stream_finishes(number: int) -> None:
    then = asyncio.Event()
    async with Upstream(paused(then=then)) as upstream, serving(upstream) as command:
        client = await command.connect()
        await client.send(request())
        await client.until(b"Hello")
        command.process.send_signal(number)
        await command.refuses()
        then.set()
        ending = await client.until(b"0\r\n\r\n")
        code, _, log = await command.ended()
    assert b"response.completed" in ending
    assert code == 0
    assert [line["ending"] for line in log if line["event"] == "exchange"] == ["answered"]


async def test_a_stream_that_does_not_finish_in_time_gets_one_ending() -> None:
    then = asyncio.Event()
    async with (
        Upstream(paused(then=then)) as upstream,
        serving(upstream, "--drain-timeout", "0.2") as command,
    ):
        client = await command.connect()
        await client.send(request())
        await client.until(b"Hello")
        command.process.send_signal(signal.SIGTERM)
        ending = await client.until(b"0\r\n\r\n")
        assert await client.rest() == b""
        code, _, log = await command.ended()
    assert ending.count(b"event: error\n") == ending.count(b"event: response.failed\n") == 1
    assert b"restarting" in ending
    assert code == 0
    (line,) = (line for line in log if line["event"] == "exchange")
    assert (line["failure"], line["ending"]) == ("draining", "failed")


async def test_a_request_without_an_answer_in_time_gets_a_503() -> None:
    async def script(visit: Visit) -> None:
        await visit.left()

    async with (
        Upstream(script) as upstream,
        serving(upstream, "--drain-timeout", "0.2") as command,
    ):
        client = await command.connect()
        await client.send(request(body=b"{}"))
        await asyncio.wait_for(upstream.visited.wait(), PATIENCE)
        command.process.send_signal(signal.SIGTERM)
        got = await client.answer()
        code, *_ = await command.ended()
    assert (got.status, got.error["code"]) == (503, "service_restarting")
    assert got.headers["x-should-retry"] == "true"
    assert code == 0


async def test_audio_that_does_not_finish_in_time_is_a_broken_transfer() -> None:
    async def script(visit: Visit) -> None:
        await visit.send(head(200, "audio/mpeg", CHUNKED), chunk(b"ID3-begun"))
        await visit.left()

    async with (
        Upstream(script) as upstream,
        serving(upstream, "--drain-timeout", "0.2") as command,
    ):
        client = await command.connect()
        await client.send(request(target="/v1/audio/speech"))
        await client.until(b"ID3-begun")
        command.process.send_signal(signal.SIGTERM)
        rest = await client.rest()
        code, _, log = await command.ended()
    assert b"0\r\n\r\n" not in rest
    assert code == 0
    (line,) = (line for line in log if line["event"] == "exchange")
    assert (line.get("failure"), line["ending"]) == ("draining", "failed")


async def test_a_second_signal_ends_at_once() -> None:
    async with Upstream(paused(then=asyncio.Event())) as upstream, serving(upstream) as command:
        client = await command.connect()
        await client.send(request())
        await client.until(b"Hello")
        command.process.send_signal(signal.SIGINT)
        await command.refuses()
        command.process.send_signal(signal.SIGINT)
        ending = await client.until(b"0\r\n\r\n")
        code, _, _ = await command.ended()
    assert b"response.failed" in ending
    assert code == 0


async def test_readiness_ends_before_the_streams_do() -> None:
    then = asyncio.Event()
    async with (
        Upstream(paused(then=then)) as upstream,
        serving(upstream, "--admin", "127.0.0.1:0") as command,
    ):
        port = int(command.ready.rpartition(":")[2])
        assert await _asked(command, port, "/readyz") == 200
        assert await _asked(command, port, "/livez") == 200
        client = await command.connect()
        await client.send(request())
        await client.until(b"Hello")
        command.process.send_signal(signal.SIGTERM)
        await command.refuses()
        assert await _asked(command, port, "/readyz") == 503
        assert await _asked(command, port, "/livez") == 200
        then.set()
        await client.until(b"0\r\n\r\n")
        code, *_ = await command.ended()
    assert code == 0


async def _asked(command: Command, port: int, path: str) -> int:
    client = await command.connect(port)
    return (await client.ask("GET", path)).status


async def test_requests_are_taken_while_load_balancers_look_away() -> None:
    then = asyncio.Event()
    flags = ("--admin", "127.0.0.1:0", "--drain-delay", "60")
    async with Upstream(paused(then=then)) as upstream, serving(upstream, *flags) as command:
        port = int(command.ready.rpartition(":")[2])
        kept = await command.connect()
        command.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            while await _asked(command, port, "/readyz") == 200:
                await asyncio.sleep(0.01)
        late = await command.connect()
        for client in (kept, late):
            await client.send(request())
            assert (await client.head())[1]["Connection"] == "close"
            await client.until(b"Hello")
        command.process.send_signal(signal.SIGTERM)
        endings = [await client.rest() for client in (kept, late)]
        code, _, log = await command.ended()
    assert [ending.count(b"event: response.failed\n") for ending in endings] == [1, 1]
    assert code == 0
    assert [line["ending"] for line in log if line["event"] == "exchange"] == ["failed"] * 2
