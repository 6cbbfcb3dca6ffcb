"""The gate: an error before any content becomes a real HTTP status."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.proxies import CHAT, RESPONSES, relaying, request
from tests.upstreams import (
    CANARY,
    CHAT_ROLE,
    CHUNKED,
    LAST_CHUNK,
    PATIENCE,
    STREAM_HEAD,
    Script,
    Visit,
    answer,
    chat_text,
    chunk,
    completed,
    created,
    delta,
    error_event,
    event,
    head,
    in_progress,
    streams,
)

OPEN = {"gate": 20}  # longer than any test
LIMITED = {"code": "rate_limit_exceeded", "type": "requests", "message": "try again in 7s"}
FAILED = {"id": "resp_recorded", "status": "failed", "error": LIMITED}


def stepwise(*events: bytes, steps: asyncio.Queue[None]) -> Script:
    """Send the events, each when it is asked for."""

    async def script(visit: Visit) -> None:
        await visit.send(STREAM_HEAD)
        for one in events:
            await steps.get()
            await visit.send(chunk(one))
        await visit.send(LAST_CHUNK)

    return script


@pytest.mark.parametrize(
    ("target", "events"),
    [
        (RESPONSES, [event({"type": "error", "error": LIMITED, "sequence_number": 0})]),
        (RESPONSES, [b": ping\n\n", error_event("rate_limit_exceeded", 0, "try again in 7s")]),
        (
            RESPONSES,
            [
                created(),
                in_progress(),
                event({"type": "response.failed", "response": FAILED, "sequence_number": 2}),
            ],
        ),
        (
            RESPONSES,
            [
                created(),
                event({"type": "error", "sequence_number": 2} | LIMITED | {"type": "error"}),
            ],
        ),
        (CHAT, [event({"error": LIMITED}, named=False)]),
        (CHAT, [b": OPENROUTER PROCESSING\n\n", CHAT_ROLE, event({"error": LIMITED}, named=False)]),
    ],
)
async def test_an_early_error_becomes_a_status_that_clients_retry(
    target: str, events: list[bytes]
) -> None:
    async with relaying(streams(*events), **OPEN) as (_, proxy):
        got = await proxy.ask(target=target)
        line = await proxy.exchange()
    assert got.status == 429
    assert got.headers["Content-Type"] == "application/json"
    assert got.headers["retry-after"] == "7"
    assert got.headers["x-should-retry"] == "true"
    assert got.headers["x-request-id"] == line["reference"]
    assert got.error["code"] == "rate_limit_exceeded"
    assert (line["status"], line["status_in"], line["gate"]) == (429, 200, "promoted")


async def test_a_hopeless_early_error_is_not_retried() -> None:
    async with relaying(streams(created(), error_event("invalid_base64")), **OPEN) as (_, proxy):
        got = await proxy.ask()
    assert (got.status, got.error["code"]) == (400, "invalid_base64_image")
    assert got.headers["x-should-retry"] == "false"
    assert "retry-after" not in got.headers
    assert CANARY.encode() not in got.raw


async def test_the_status_keeps_the_upstream_s_rate_limits_and_nothing_else_of_it() -> None:
    async def script(visit: Visit) -> None:
        more = {"X_RateLimit_Limit_Requests": "60", "X_RateLimit_Reset_Tokens": CANARY}
        await visit.send(
            head(200, "text/event-stream", CHUNKED, OpenAI_Organization=CANARY, **more),
            chunk(error_event("rate_limit_exceeded", 0)),
        )
        await visit.left()

    async with relaying(script, **OPEN) as (_, proxy):
        got = await proxy.ask()
    assert got.headers["x-ratelimit-limit-requests"] == "60"
    assert CANARY.encode() not in got.raw


async def test_the_upstream_is_left_when_an_early_error_is_told() -> None:
    async def script(visit: Visit) -> None:
        await visit.send(STREAM_HEAD, chunk(error_event("server_error", 0)))
        await visit.left()

    async with relaying(script, **OPEN) as (upstream, proxy):
        await proxy.ask()
        await asyncio.wait_for(upstream.visit.ended.wait(), PATIENCE)


@pytest.mark.parametrize(
    ("target", "prelude", "content"),
    [
        (RESPONSES, [created(), in_progress()], delta("Hello")),
        (CHAT, [CHAT_ROLE], chat_text("Hello")),
    ],
)
async def test_content_opens_the_gate_at_once_and_what_was_held_comes_first(
    target: str, prelude: list[bytes], content: bytes
) -> None:
    steps: asyncio.Queue[None] = asyncio.Queue()
    events = [b": ping\n\n", *prelude, content]
    async with relaying(stepwise(*events, b":\n\n", steps=steps), **OPEN) as (_, proxy):
        client = await proxy.connect()
        await client.send(request(target=target))
        for _ in events:
            steps.put_nowait(None)
        held = await client.until(content)
        body = held.partition(b"\r\n\r\n")[2]
    assert body.partition(b"\r\n")[2] == b":\n\n" + b"".join([*prelude, content])


async def test_the_gate_opens_when_its_time_is_over() -> None:
    steps: asyncio.Queue[None] = asyncio.Queue()
    script = stepwise(created(), error_event("server_error"), steps=steps)
    async with relaying(script, gate=0.1) as (_, proxy):
        client = await proxy.connect()
        await client.send(request())
        steps.put_nowait(None)
        opened = await client.until(b"response.created")  # and nothing more has been sent
        steps.put_nowait(None)
        ending = await client.until(b"0\r\n\r\n")
        line = await proxy.exchange()
    assert opened.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"response.failed" in ending
    assert (line["status"], line["ending"]) == (200, "failed")


async def test_the_gate_opens_in_its_time_though_nothing_has_come() -> None:
    async def script(visit: Visit) -> None:
        await visit.send(STREAM_HEAD)
        await visit.left()

    async with relaying(script, gate=0.1) as (_, proxy):
        client = await proxy.connect()
        await client.send(request())
        status, headers = await client.head()
    assert (status, headers["Content-Type"]) == (200, "text/event-stream")


async def test_a_gate_of_0_is_off() -> None:
    async with relaying(streams(created(), error_event("server_error", 1)), gate=0) as (_, proxy):
        got = await proxy.ask()
        line = await proxy.exchange()
    assert (got.status, line["status"]) == (200, 200)
    assert [one["type"] for one in got.events] == ["response.created", "error", "response.failed"]


async def test_an_error_after_content_stays_in_the_stream() -> None:
    events = [created(), delta("Hello", 1), error_event("server_error", 2)]
    async with relaying(streams(*events), **OPEN) as (_, proxy):
        got = await proxy.ask()
    assert got.status == 200
    assert [one["sequence_number"] for one in got.events] == [0, 1, 2, 3]


async def test_a_response_without_content_passes_whole() -> None:
    async with relaying(streams(created(), in_progress(), completed(2)), **OPEN) as (_, proxy):
        got = await proxy.ask()
    assert (got.status, got.body) == (200, created() + in_progress() + completed(2))


@pytest.mark.parametrize("retry_after", ["3", "3.2", "Wed, 21 Oct 2015 07:28:00 GMT", "-1", CANARY])
async def test_an_http_error_passes_only_a_sane_retry_after(retry_after: str) -> None:
    body = json.dumps({"error": {"code": "rate_limit_exceeded", "message": CANARY}}).encode()
    script_answer = answer(body, 429, Retry_After=retry_after, Set_Cookie=CANARY)

    async def script(visit: Visit) -> None:
        await visit.send(script_answer)

    async with relaying(script) as (_, proxy):
        got = await proxy.ask()
    expected: dict[str, Any] = {"3": "3", "3.2": "4"}
    assert got.status == 429
    assert got.headers.get("retry-after") == expected.get(retry_after)
    assert CANARY.encode() not in got.raw
