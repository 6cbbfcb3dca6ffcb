"""What of a client's request reaches the upstream."""

from __future__ import annotations

import asyncio
import hashlib
import tracemalloc

import pytest

from tests.proxies import CHAT, RESPONSES, proxy_for, relaying, request
from tests.upstreams import PATIENCE, Upstream, Visit, answer, says_json

FINE = {"id": "resp_1", "object": "response", "status": "completed", "error": None}
echo = says_json(FINE)


@pytest.mark.parametrize(
    "method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY", "PROPFIND"]
)
async def test_every_method_passes(method: str) -> None:
    async with relaying(echo) as (upstream, proxy):
        got = await proxy.ask(method, "/v1/files/file-1")
    assert got.status == 200
    assert upstream.visit.method == method


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/v1/models",
        "/v1/responses/resp_1?stream=true&starting_after=7",
        "/v1/files?a=1&a=2&b=&c",
        "/v1/models/org%2Fmodel",
        "/v1/models/caf%C3%A9%20au%20lait?q=%F0%9F%98%80",
        "/v1/a+b/c;d=1?x=a+b&y=%2B",
        "/v1//double",
        "/v1/x?next=//other.example/../up",
        "/v1/models/model.with..dots",
    ],
)
async def test_a_target_passes_as_it_was_written(target: str) -> None:
    async with relaying(echo) as (upstream, proxy):
        got = await proxy.ask("GET", target)
    assert got.status == 200
    assert upstream.visit.target == target


@pytest.mark.parametrize("prefix", ["/proxied/openai", "/proxied/openai/"])
async def test_a_target_goes_below_the_upstream_s_prefix(prefix: str) -> None:
    async with Upstream(echo) as upstream, proxy_for(upstream.url + prefix) as proxy:
        await proxy.ask("GET", "/v1/models?limit=2")
    assert upstream.visit.target == "/proxied/openai/v1/models?limit=2"


async def test_a_body_passes_byte_for_byte() -> None:
    body = b'{"input": "caf\xc3\xa9 \xf0\x9f\x98\x80", "raw": "\xff\x00"}\r\n'
    async with relaying(echo) as (upstream, proxy):
        await proxy.ask(body=body, Content_Type="application/json")
    assert await upstream.visit.body() == body
    assert upstream.visit.headers["Content-Length"] == str(len(body))
    assert upstream.visit.headers["Content-Type"] == "application/json"


async def test_a_compressed_body_stays_compressed() -> None:
    body = b"\x1f\x8b not looked into"
    async with relaying(echo) as (upstream, proxy):
        await proxy.ask(body=body, Content_Encoding="gzip")
    assert await upstream.visit.body() == body
    assert upstream.visit.headers["Content-Encoding"] == "gzip"


async def test_a_chunked_body_passes_chunk_after_chunk() -> None:
    arrived: asyncio.Queue[bytes] = asyncio.Queue()

    async def script(visit: Visit) -> None:
        async for piece in visit.pieces():
            arrived.put_nowait(piece)
        await echo(visit)

    async with relaying(script) as (upstream, proxy):
        client = await proxy.connect()
        await client.send(request(Transfer_Encoding="chunked") + b"5\r\nfirst\r\n")
        async with asyncio.timeout(PATIENCE):
            assert await arrived.get() == b"first"  # before the client has sent the rest
        await client.send(b"4;note=ignored\r\nlast\r\n0\r\n\r\n")
        assert (await client.answer()).status == 200
        assert await arrived.get() == b"last"
    assert upstream.visit.headers["Transfer-Encoding"] == "chunked"
    assert "Content-Length" not in upstream.visit.headers


async def test_an_upload_of_20_mb_passes_without_being_held() -> None:
    piece, count = bytes(range(256)) * 256, 320
    whole = hashlib.sha256(piece * count).digest()
    seen = hashlib.sha256()

    async def script(visit: Visit) -> None:
        async for part in visit.pieces():
            seen.update(part)
        await echo(visit)

    async with relaying(script) as (_, proxy):
        client = await proxy.connect()
        await client.send(request(Content_Length=str(len(piece) * count)))
        tracemalloc.start()
        for _ in range(count):
            await client.send(piece)
        got = await client.answer()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert got.status == 200
    assert seen.digest() == whole
    assert peak < 8 * 1024 * 1024


async def test_an_upstream_that_answers_before_the_upload_ends_is_heard() -> None:
    async def script(visit: Visit) -> None:
        await visit.send(answer(b'{"error": {"code": "request_too_large"}}', 413))
        visit.close()

    async with relaying(script) as (_, proxy):
        client = await proxy.connect()
        await client.send(request(Content_Length="1000000") + b"begun")
        got = await client.answer()
    assert (got.status, got.error["code"]) == (413, "request_too_large")


async def test_expect_100_continue_is_answered_before_the_body_comes() -> None:
    async with relaying(echo) as (upstream, proxy):
        client = await proxy.connect()
        await client.send(request(Expect="100-continue", Content_Length="4"))
        status, _ = await client.head()
        assert status == 100
        await client.send(b"body")
        assert (await client.answer()).status == 200
    assert await upstream.visit.body() == b"body"
    assert "Expect" not in upstream.visit.headers


async def test_host_is_the_upstream_s() -> None:
    async with relaying(echo) as (upstream, proxy):
        await proxy.ask()
    assert upstream.visit.headers.getall("Host") == [f"127.0.0.1:{upstream.port}"]


@pytest.mark.parametrize("asked", ["gzip, br", "*", "identity;q=0"])
async def test_the_upstream_is_asked_for_no_compression(asked: str) -> None:
    async with relaying(echo) as (upstream, proxy):
        await proxy.ask(Accept_Encoding=asked)
    assert upstream.visit.headers.getall("Accept-Encoding") == ["identity"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Authorization", "Basic cHJveHk6c2VjcmV0"),
        ("Proxy-Connection", "keep-alive"),
        ("TE", "trailers"),
        ("Trailer", "X-Checksum"),
    ],
)
async def test_a_hop_by_hop_header_ends_here(name: str, value: str) -> None:
    async with relaying(echo) as (upstream, proxy):
        got = await proxy.ask("POST", RESPONSES, b"", **{name: value})
    assert got.status == 200
    assert name not in upstream.visit.headers


async def test_headers_named_in_connection_end_here() -> None:
    async with relaying(echo) as (upstream, proxy):
        await proxy.ask(Connection="X-Mine, x-also", X_Mine="1", X_Also="2", X_Other="3")
    headers = upstream.visit.headers
    assert "X-Mine" not in headers
    assert "X-Also" not in headers
    assert headers["X-Other"] == "3"
    assert "X-Mine" not in headers.get("Connection", "")


async def test_all_other_headers_pass() -> None:
    async with relaying(echo) as (upstream, proxy):
        await proxy.ask(
            Authorization="Bearer sk-fake-client",
            OpenAI_Beta="assistants=v2",
            User_Agent="tests/1",
            Accept="text/event-stream",
            traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )
    headers = upstream.visit.headers
    assert headers["Authorization"] == "Bearer sk-fake-client"
    assert headers["OpenAI-Beta"] == "assistants=v2"
    assert headers["User-Agent"] == "tests/1"
    assert headers["Accept"] == "text/event-stream"
    assert headers["traceparent"].startswith("00-0af7")


async def test_nothing_is_added_that_nobody_sent() -> None:
    async with relaying(echo) as (upstream, proxy):
        await proxy.ask("GET", "/v1/models")
    assert sorted(upstream.visit.headers) == ["Accept-Encoding", "Host"]


FORWARDED = {
    "Forwarded": "for=192.0.2.1",
    "Via": "1.1 edge.example",
    "X_Forwarded_For": "192.0.2.1",
    "X_Forwarded_Host": "inner.example",
    "X_Forwarded_Proto": "https",
    "X_Real_IP": "192.0.2.1",
}


async def test_what_says_where_the_client_is_does_not_pass() -> None:
    async with relaying(echo) as (upstream, proxy):
        await proxy.ask("POST", RESPONSES, b"", **FORWARDED)
    assert not upstream.visit.headers.keys() & {n.replace("_", "-") for n in FORWARDED}
    assert b"192.0.2.1" not in upstream.visit.head


async def test_forwarded_add_says_where_the_client_is_and_believes_no_other() -> None:
    async with relaying(echo, forwarded="add") as (upstream, proxy):
        await proxy.ask("POST", RESPONSES, b"", **FORWARDED)
    headers = upstream.visit.headers
    assert headers.getall("X-Forwarded-For") == ["127.0.0.1"]
    assert headers.getall("X-Forwarded-Proto") == ["http"]
    assert headers.getall("X-Forwarded-Host") == ["127.0.0.1"]
    assert b"192.0.2.1" not in upstream.visit.head


CLIENT_KEYS = {
    "Authorization": "Bearer sk-fake-client",
    "api_key": "fake-client",
    "x_api_key": "fake-client",
    "x_goog_api_key": "fake-client",
}


async def test_the_proxy_s_key_takes_the_place_of_the_client_s() -> None:
    async with relaying(echo, upstream_api_key="sk-fake-proxy") as (upstream, proxy):
        await proxy.ask("POST", RESPONSES, b"", **CLIENT_KEYS)
    assert upstream.visit.headers.getall("Authorization") == ["Bearer sk-fake-proxy"]
    assert b"fake-client" not in upstream.visit.head


async def test_headers_of_the_proxy_s_own_replace_the_client_s() -> None:
    own = {"api-key": "fake-proxy", "OpenAI-Organization": "org-fake-proxy"}
    async with relaying(echo, upstream_headers=own) as (upstream, proxy):
        await proxy.ask(
            "POST",
            RESPONSES,
            b"",
            **CLIENT_KEYS,
            openai_organization="org-fake-client",
            X_Other="stays",
        )
    headers = upstream.visit.headers
    assert headers.getall("api-key") == ["fake-proxy"]
    assert headers.getall("OpenAI-Organization") == ["org-fake-proxy"]
    assert headers["X-Other"] == "stays"
    assert b"fake-client" not in upstream.visit.head


async def test_headers_without_credentials_leave_the_client_s_key() -> None:
    async with relaying(echo, upstream_headers={"X-Team": "blue"}) as (upstream, proxy):
        await proxy.ask(Authorization="Bearer sk-fake-client")
    assert upstream.visit.headers["Authorization"] == "Bearer sk-fake-client"
    assert upstream.visit.headers["X-Team"] == "blue"


@pytest.mark.parametrize(
    ("settings", "code", "status"),
    [({}, "invalid_api_key", 401), ({"upstream_api_key": "sk-fake"}, "upstream_unavailable", 502)],
)
async def test_a_refused_key_is_the_fault_of_whose_it_was(
    settings: dict[str, str], code: str, status: int
) -> None:
    refused = says_json({"error": {"code": "invalid_api_key", "message": "sk-fake"}}, 401)
    async with relaying(refused, **settings) as (_, proxy):
        got = await proxy.ask(target=CHAT)
    assert (got.status, got.error["code"]) == (status, code)


async def test_connections_are_reused_on_both_sides() -> None:
    async with relaying(echo) as (upstream, proxy):
        client = await proxy.connect()
        for _ in range(3):
            assert (await client.ask(body=b"{}")).status == 200
    assert len(upstream.visits) == 3
    assert upstream.connections == 1


async def test_pipelined_requests_are_answered_in_order() -> None:
    async def script(visit: Visit) -> None:
        await visit.send(answer(b'{"data": "%b"}' % visit.target.encode()))

    targets = [f"/v1/models/{number}" for number in range(5)]
    async with relaying(script) as (_, proxy):
        client = await proxy.connect()
        await client.send(b"".join(request("GET", target) for target in targets))
        got = [(await client.answer()).json()["data"] for _ in targets]
    assert got == targets


async def test_http_1_0_gets_a_whole_answer_and_the_end_of_the_connection() -> None:
    async with relaying(echo) as (_, proxy):
        client = await proxy.connect()
        await client.send(b"POST /v1/responses HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}")
        raw = await client.rest()
    assert raw.partition(b"\r\n")[0].endswith(b" 200 OK")
    assert raw.endswith(b'"error": null}')


async def test_a_body_over_the_limit_is_refused_before_it_is_forwarded() -> None:
    async with relaying(echo, max_request="1KiB") as (upstream, proxy):
        client = await proxy.connect()
        await client.send(request(Content_Length="1025"))
        got = await client.answer()
        line = await proxy.exchange()
    assert (got.status, got.error["code"]) == (413, "request_too_large")
    assert line["failure"] == "request_payload_too_large"
    assert upstream.visits == []


async def test_a_chunked_body_over_the_limit_is_refused() -> None:
    async with relaying(echo, max_request="1KiB") as (_, proxy):
        client = await proxy.connect()
        await client.send(request(Transfer_Encoding="chunked"))
        await client.send(b"400\r\n" + b"x" * 1024 + b"\r\n" + b"1\r\nx\r\n" + b"0\r\n\r\n")
        got = await client.answer()
        line = await proxy.exchange()
    assert (got.status, got.error["code"]) == (413, "request_too_large")
    assert line["failure"] == "request_payload_too_large"


async def test_a_body_at_the_limit_passes() -> None:
    async with relaying(echo, max_request="1KiB") as (upstream, proxy):
        got = await proxy.ask(body=b"x" * 1024)
    assert got.status == 200
    assert upstream.visit.headers["Content-Length"] == "1024"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"5\r\nfirst\r\nnonsense\r\n", id="not a chunk size"),
        pytest.param(b"-5\r\nfirst\r\n", id="negative chunk size"),
        pytest.param(b"5\r\nfirst-and-more\r\n0\r\n\r\n", id="longer than its size"),
    ],
)
async def test_a_broken_chunked_body_is_the_client_s_fault(body: bytes) -> None:
    async with relaying(echo) as (_, proxy):
        client = await proxy.connect()
        await client.send(request(target=RESPONSES, Transfer_Encoding="chunked") + body)
        got = await client.answer()
        line = await proxy.exchange()
    assert (got.status, got.error["code"]) == (400, "invalid_request")
    assert line["failure"] == "invalid_http_request"
