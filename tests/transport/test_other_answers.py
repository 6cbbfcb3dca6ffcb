"""Answers that are neither JSON nor events: lines, nothing at all, what is mislabelled."""

from __future__ import annotations

import json

import pytest

from tests.proxies import RESPONSES, relaying
from tests.upstreams import CANARY, CHUNKED, LAST_CHUNK, Visit, answer, chunk, head, says

LINES = head(200, "application/x-ndjson", CHUNKED)
NOTHING = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
HEALTHY = b'{"message":{"content":"Hi"},"done":false}\n'


async def test_an_error_in_json_lines_is_replaced_and_ends_them() -> None:
    async def script(visit: Visit) -> None:
        error = json.dumps({"error": CANARY}).encode()
        await visit.send(LINES, chunk(HEALTHY), chunk(error + b"\n" + HEALTHY), LAST_CHUNK)

    async with relaying(script) as (_, proxy):
        got = await proxy.ask(target="/api/chat")
        line = await proxy.exchange()
    healthy, error = got.body.splitlines(keepends=True)
    assert healthy == HEALTHY
    assert json.loads(error)["error"]["code"] == "server_error"
    assert CANARY.encode() not in got.body
    assert (line["ending"], line["reply"]) == ("failed", "server_error")


async def test_json_lines_that_break_off_end_in_a_failure() -> None:
    async def script(visit: Visit) -> None:
        await visit.send(LINES, chunk(HEALTHY + b'{"mess'))
        visit.reset()

    async with relaying(script) as (_, proxy):
        got = await proxy.ask(target="/api/chat")
        line = await proxy.exchange()
    assert json.loads(got.body.splitlines()[-1])["error"]["code"] == "server_error"
    assert line["failure"] == "upstream_reset_after_response_started"


@pytest.mark.parametrize("target", ["/health", "/v1/realtime/calls/rtc_1/hangup"])
async def test_a_success_without_a_body_passes(target: str) -> None:
    async with relaying(says(NOTHING)) as (_, proxy):
        got = await proxy.ask(target=target)
    assert (got.status, got.body) == (200, b"")


async def test_a_success_without_a_body_is_none_where_a_model_was_asked() -> None:
    async with relaying(says(NOTHING)) as (_, proxy):
        got = await proxy.ask(target=RESPONSES)
    assert got.status == 502


@pytest.mark.parametrize("kind", ["application/octet-stream", "text/json", "text/plain", "x/y"])
async def test_a_mislabelled_error_is_one_where_json_is_due(kind: str) -> None:
    body = json.dumps({"error": {"message": CANARY, "code": "rate_limit_exceeded"}}).encode()
    async with relaying(says(answer(body, 200, kind))) as (_, proxy):
        got = await proxy.ask(target="/v1/embeddings")
    assert got.status == 429
    assert CANARY.encode() not in got.raw


@pytest.mark.parametrize(
    "name", ["x-databricks-org-id", "azureml-model-deployment", "x-error-detail", "x-host", "x-pod"]
)
async def test_a_header_that_names_the_account_or_a_host_does_not_pass(name: str) -> None:
    lines = f"{name}: {CANARY}", "x-fine: 1", "Content-Length: 2"
    said = says(head(200, "application/json", *lines) + b"{}")
    async with relaying(said) as (_, proxy):
        got = await proxy.ask(target="/v1/anything")
    assert name not in got.headers
    assert got.headers["x-fine"] == "1"


async def test_a_page_that_may_read_answers_may_read_errors() -> None:
    said = says(answer(b"{}", 400, access_control_allow_origin="https://app.example"))
    async with relaying(said) as (_, proxy):
        got = await proxy.ask(origin="https://app.example")
        other = await proxy.ask(origin="https://evil.example")
    assert got.headers["access-control-allow-origin"] == "https://app.example"
    assert "access-control-allow-origin" not in other.headers


async def test_the_messages_sdk_finds_its_reference() -> None:
    async with relaying(says(answer(b"{}", 429))) as (_, proxy):
        got = await proxy.ask(target="/v1/messages")
    assert got.headers["request-id"] == got.headers["x-request-id"]


async def test_a_type_that_stands_in_a_header_alone_is_evidence() -> None:
    lines = "x-amzn-errortype: ThrottlingException:http://internal.example/", "Content-Length: 2"
    async with relaying(says(head(400, "application/json", *lines) + b"{}")) as (_, proxy):
        got = await proxy.ask()
    assert (got.status, got.error["code"]) == (429, "rate_limit_exceeded")
