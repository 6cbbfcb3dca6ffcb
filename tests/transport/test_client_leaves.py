"""A client that leaves stops the upstream."""

from __future__ import annotations

import asyncio
import socket

import pytest

from proxy.transport.server import Protocol
from tests.proxies import Proxy, relaying, request, send_little
from tests.upstreams import (
    CHUNKED,
    PATIENCE,
    STREAM_HEAD,
    Script,
    Upstream,
    Visit,
    answer,
    chunk,
    created,
    delta,
    head,
    says,
)


def sends(*pieces: bytes) -> tuple[Script, asyncio.Event]:
    """Send and then wait to be left; the event tells that all was sent."""
    sent = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.send(*pieces)
        sent.set()
        await visit.left()

    return script, sent


async def assert_stopped(upstream: Upstream, proxy: Proxy) -> None:
    async with asyncio.timeout(PATIENCE):
        await upstream.visit.ended.wait()
    line = await proxy.exchange()
    assert line["ending"] == "client_gone"
    assert "failure" not in line
    assert "Traceback" not in proxy.log


@pytest.mark.parametrize(
    ("pieces", "gate"),
    [
        pytest.param([], 0, id="before the upstream has answered"),
        pytest.param([STREAM_HEAD], 20, id="while the gate holds nothing"),
        pytest.param([STREAM_HEAD, chunk(created())], 20, id="while the gate holds the prelude"),
        pytest.param([head(200, "application/json", CHUNKED), chunk(b'{"a"')], 0, id="inside JSON"),
        pytest.param([head(500, "text/plain", CHUNKED), chunk(b"sorry")], 0, id="inside an error"),
        pytest.param([head(200, "text/html", CHUNKED)], 0, id="before the first byte of a body"),
    ],
)
async def test_before_the_first_byte(pieces: list[bytes], gate: float) -> None:
    script, sent = sends(*pieces)
    async with relaying(script, gate=gate) as (upstream, proxy):
        client = await proxy.connect()
        await client.send(request(body=b"{}"))
        await asyncio.wait_for(sent.wait(), PATIENCE)
        client.leave()
        await assert_stopped(upstream, proxy)


@pytest.mark.parametrize("gate", [0, 20])
async def test_in_the_middle_of_a_stream(gate: float) -> None:
    script, _ = sends(STREAM_HEAD, chunk(created() + delta("Hello")))
    async with relaying(script, gate=gate) as (upstream, proxy):
        client = await proxy.connect()
        await client.send(request())
        await client.until(b"Hello")
        client.leave()
        await assert_stopped(upstream, proxy)


async def test_in_the_middle_of_audio() -> None:
    script, _ = sends(head(200, "audio/mpeg", CHUNKED), chunk(b"ID3-begun"))
    async with relaying(script) as (upstream, proxy):
        client = await proxy.connect()
        await client.send(request(target="/v1/audio/speech"))
        await client.until(b"ID3-begun")
        client.leave()
        await assert_stopped(upstream, proxy)


async def test_in_the_middle_of_its_own_request() -> None:
    async def script(visit: Visit) -> None:
        await visit.body()

    async with relaying(script) as (upstream, proxy):
        client = await proxy.connect()
        await client.send(request(Content_Length="1000") + b"begun")
        await asyncio.wait_for(upstream.visited.wait(), PATIENCE)
        client.leave()
        async with asyncio.timeout(PATIENCE):
            await upstream.visit.ended.wait()
        await proxy.exchange()


async def test_while_it_reads_nothing() -> None:
    async def script(visit: Visit) -> None:
        await visit.send(STREAM_HEAD, chunk(created()))
        while True:
            await visit.send(chunk(delta("x" * 10_000)))

    async with relaying(script) as (upstream, proxy):
        client = await proxy.connect()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(request())
        await asyncio.wait_for(upstream.visited.wait(), PATIENCE)
        client.leave()
        await assert_stopped(upstream, proxy)


async def test_the_next_request_finds_nothing_of_it() -> None:
    script, _ = sends(STREAM_HEAD, chunk(created() + delta("Hello")))
    async with relaying(script) as (upstream, proxy):
        for count in (1, 2, 3):
            client = await proxy.connect()
            await client.send(request())
            await client.until(b"Hello")
            client.leave()
            await proxy.exchanges(count)
        assert upstream.connections == 3
        assert proxy.running.relay.running == 0


async def test_a_client_that_reads_nothing_does_not_hold_up_the_end() -> None:
    async def script(visit: Visit) -> None:
        await visit.send(STREAM_HEAD, chunk(created()))
        while True:
            await visit.send(chunk(delta("x" * 60_000)))

    async with relaying(script, stream_timeout=0.3) as (upstream, proxy):
        client = await proxy.connect()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(request())
        await asyncio.wait_for(upstream.visited.wait(), PATIENCE)
        await asyncio.wait_for(upstream.visit.ended.wait(), PATIENCE)
        line = await proxy.exchange()
    assert (line["failure"], line["ending"]) == ("max_duration_timeout", "failed")


async def test_a_client_that_does_not_take_the_last_of_its_answer_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is left is less than what pauses writing, and yet it is waited for no longer."""
    send_little(monkeypatch, Protocol)
    body = b'["%b"]' % (b"x" * 50_000)
    loop = asyncio.get_running_loop()
    for limits in ({"client_idle_timeout": 0.2}, {}):
        script = says(answer(body))
        async with relaying(script, send_timeout=0.3, **limits) as (_, proxy):
            with socket.socket() as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
                client.settimeout(0)
                await loop.sock_connect(client, ("127.0.0.1", proxy.port))
                await loop.sock_sendall(client, request("GET", "/v1/models"))
                await proxy.exchange()
                async with asyncio.timeout(PATIENCE):
                    while proxy.running.connections():
                        await asyncio.sleep(0.02)
