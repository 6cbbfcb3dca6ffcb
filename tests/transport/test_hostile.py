"""Upstreams and clients that would hold up everybody else."""

from __future__ import annotations

import asyncio
import json

import brotli
import pytest

from proxy.core.failures import Failure
from tests.proxies import CHAT, RESPONSES, relaying, request
from tests.upstreams import (
    CHAT_FINISH,
    CHAT_ROLE,
    CHUNKED,
    PATIENCE,
    STREAM_HEAD,
    Visit,
    answer,
    chat_text,
    chunk,
    created,
    delta,
    head,
    says,
)


async def test_a_bomb_where_an_answer_was_due_is_given_up_at_once() -> None:
    bomb = brotli.compress(b" " * (200 * 2**20), quality=1)
    lines = "Content-Encoding: br", f"Content-Length: {len(bomb)}"
    async with relaying(says(head(200, "text/plain", *lines) + bomb)) as (_, proxy):
        got = await proxy.ask(target=CHAT)
        line = await proxy.exchange()
    assert got.status == 500
    assert line["failure"] == "response_payload_too_large"


async def test_thousands_of_failed_items_are_all_replaced_and_a_few_looked_at() -> None:
    items = [
        {"id": f"ig_{number}", "type": "image_generation_call", "error": f"canary {number}"}
        for number in range(5000)
    ]
    body = {"id": "resp_1", "object": "response", "status": "completed", "output": items}
    async with relaying(says(answer(json.dumps(body).encode()))) as (_, proxy):
        got = await proxy.ask(target=RESPONSES)
    assert got.status == 200
    assert b"canary" not in got.body
    assert all(item["error"] for item in json.loads(got.body)["output"])


@pytest.mark.parametrize("kind", ["application/json", "audio/mpeg"])
async def test_a_client_that_takes_nothing_is_left(kind: str) -> None:
    body = b'{"data":"' + b"x" * (20 * 2**20) + b'"}'
    script = says(answer(body, 200, kind))
    async with relaying(script, send_timeout=0.2) as (_, proxy):
        client = await proxy.connect()
        await client.send(request("POST", "/v1/audio/speech"))
        async with asyncio.timeout(PATIENCE):
            await proxy.exchange()
            while proxy.running.connections():
                await asyncio.sleep(0.01)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                # What its buffers held is there; the rest never comes.
                await client.reader.readexactly(len(body))


async def test_an_order_to_end_reaches_a_stream_that_is_read_slowly() -> None:
    async def script(visit: Visit) -> None:
        await visit.send(STREAM_HEAD, chunk(created() + delta("Hello")))
        for number in range(100_000):
            await visit.send(chunk(delta("x" * 1000, number)))

    async with relaying(script, keep_alive=5) as (_, proxy):
        client = await proxy.connect()
        await client.send(request())
        await client.until(b'"Hello"')
        proxy.running.relay.end_all(Failure.DRAINING)
        ending = b""
        async with asyncio.timeout(PATIENCE):
            while not ending.endswith(b"\r\n0\r\n\r\n"):
                ending = ending[-10_000:] + await client.reader.read(65536)
        line = await proxy.exchange()
    assert ending.count(b"event: response.failed") == 1
    assert line["failure"] == "draining"


async def test_a_resumed_stream_fails_with_the_numbers_that_follow() -> None:
    async def script(visit: Visit) -> None:
        await visit.send(STREAM_HEAD, chunk(b": \n\n"), b"0\r\n\r\n")

    target = "/v1/responses/resp_1?stream=true&starting_after=41"
    async with relaying(script, gate=0) as (_, proxy):
        got = await proxy.ask("GET", target)
    numbers = [
        json.loads(line.removeprefix(b"data: "))["sequence_number"]
        for line in got.body.splitlines()
        if line.startswith(b"data: ")
    ]
    assert numbers == [42, 43]


async def test_a_finished_chat_whose_connection_stays_open_ends() -> None:
    async def script(visit: Visit) -> None:
        await visit.send(head(200, "text/event-stream", CHUNKED))
        await visit.send(chunk(CHAT_ROLE + chat_text("Hi") + CHAT_FINISH))
        await visit.left()

    async with relaying(script, idle_timeout=600) as (_, proxy):
        got = await proxy.ask(target=CHAT)
        line = await proxy.exchange()
    assert got.body == CHAT_ROLE + chat_text("Hi") + CHAT_FINISH
    assert line["ending"] == "answered"


async def test_what_a_tool_answered_is_content() -> None:
    body = b'{"id":"a","object":"tool.result","response":{"error":"user not found"}}'
    async with relaying(says(answer(body))) as (_, proxy):
        got = await proxy.ask("GET", "/v1/tools/1")
    assert got.body == body
