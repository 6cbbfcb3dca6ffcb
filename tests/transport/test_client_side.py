"""What the proxy answers itself: in the API's shape, and silent on its own make."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.proxies import CHAT, RESPONSES, Answer, Client, Proxy, proxy_for, relaying, request
from tests.upstreams import PATIENCE, Upstream, Visit, answer, says_json

FINE = says_json({"id": "resp_1", "object": "response", "status": "completed", "error": None})

# What aiohttp, its parser or Python would say.
PARSER = (b"aiohttp", b"python", b"invalid http", b"bad http", b"expected", b"llhttp", b"got ",
          b"pos:", b"<html", b"text/plain", b"\r\nserver:", b"traceback", b"exception")  # fmt: skip


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream(FINE) as upstream:
        yield upstream


@pytest.fixture
async def proxy(upstream: Upstream) -> AsyncIterator[Proxy]:
    async with proxy_for(upstream.url) as proxy:
        yield proxy


async def assert_refused(
    proxy: Proxy, got: Answer, failure: str, status: int = 400, code: str = "invalid_request"
) -> None:
    line = await proxy.exchange()
    assert got.status == status
    assert got.headers["Content-Type"] == "application/json"
    assert got.headers["x-request-id"] == line["reference"]
    assert got.headers["x-should-retry"] == "false"
    assert got.error["code"] == code
    assert got.error["message"]
    assert got.whole
    assert line["failure"] == failure
    for word in PARSER:
        assert word not in got.raw.lower()


POST = b"POST /v1/responses HTTP/1.1\r\nHost: proxy.example\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"nonsense\r\n\r\n", id="no request line"),
        pytest.param(b"GET\r\n\r\n", id="a method alone"),
        pytest.param(b"GET /v1/models\r\n\r\n", id="no version"),
        pytest.param(b"GET /v1/models HTTP/9.9\r\nHost: h\r\n\r\n", id="an unknown version"),
        pytest.param(b"GET /v1/models HTCPCP/1.0\r\nHost: h\r\n\r\n", id="another protocol"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", id="TLS"),
        pytest.param(b"\x00\x01\x02\x03\r\n\r\n", id="binary"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2"),
        pytest.param(POST + b"no colon here\r\n\r\n", id="a header without colon"),
        pytest.param(POST + b"Bad Name: x\r\n\r\n", id="a space in a header's name"),
        pytest.param(POST + b"X-Null: a\x00b\r\n\r\n", id="a NUL in a header"),
        pytest.param(POST + b" folded: x\r\n\r\n", id="a folded header"),
        pytest.param(POST + b"X-CR: a\rb\r\n\r\n", id="a bare CR"),
        pytest.param(POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nx", id="two lengths"),
        pytest.param(POST + b"Content-Length: -1\r\n\r\n", id="a negative length"),
        pytest.param(POST + b"Content-Length: 1e3\r\n\r\n", id="a length that is no number"),
        pytest.param(
            POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            id="a length and chunks",
        ),
        pytest.param(POST + b"Transfer-Encoding: gzip\r\n\r\n", id="an unknown transfer encoding"),
    ],
)
async def test_what_is_not_http_is_refused(proxy: Proxy, upstream: Upstream, raw: bytes) -> None:
    client = await proxy.connect()
    await client.send(raw)
    got = await client.answer()
    await assert_refused(proxy, got, "invalid_http_request")
    assert await client.rest() == b""  # the connection ends: nobody knows what comes next
    assert upstream.visits == []


@pytest.mark.parametrize(
    "raw",
    [
        b"POST /v1/responses HTTP/1.1\nHost: h\nContent-Length: 0\n\n",
        b"POST /v1/responses HTTP/1.1\r\nHost: h\nX-Mine: 1\r\n\r\n",
    ],
)
async def test_a_bare_line_feed_never_smuggles(
    upstream: Upstream, proxy: Proxy, raw: bytes
) -> None:
    got = await proxy.send(raw)
    assert got.status in (200, 400)
    for word in PARSER:
        assert word not in got.raw.lower()
    if got.status == 200:
        assert b"\n" not in upstream.visit.head.replace(b"\r\n", b"")


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n", id="target"),
        pytest.param(POST + b"X-Long: " + b"a" * 70_000 + b"\r\n\r\n", id="value"),
        pytest.param(POST + b"X" * 70_000 + b": 1\r\n\r\n", id="name"),
        pytest.param(
            POST + b"".join(b"X-%d: 1\r\n" % n for n in range(2000)) + b"\r\n", id="count"
        ),
    ],
)
async def test_a_head_over_the_limit_is_refused(proxy: Proxy, raw: bytes) -> None:
    client = await proxy.connect()
    await client.send(raw)
    got = await client.answer()
    await assert_refused(proxy, got, "request_headers_too_large", 431, "request_headers_too_large")


async def test_a_head_of_8_kib_in_a_header_passes(proxy: Proxy, upstream: Upstream) -> None:
    got = await proxy.ask(X_Signed="a" * 8192)
    assert got.status == 200
    assert upstream.visit.headers["X-Signed"] == "a" * 8192


@pytest.mark.parametrize(
    "target",
    [
        "http://evil.example/v1/responses",
        "https://evil.example",
        "//evil.example/v1/responses",
        "///evil.example",
        "/../admin",
        "/v1/../../admin",
        "/v1/..",
        "/v1/./models",
        "/v1/%2e%2e/%2e%2e/admin",
        "/v1/%2E%2E/admin",
        "/v1/.%2e/admin",
        "/v1/%252e%252e/admin",
        "/v1/..%2fadmin",
        "/v1/..%5cadmin",
        "/v1/..\\admin",
        "/v1/..;/admin",
        "/v1/..;x=1/admin",
        "/v1/%00",
        "/v1/a%0d%0aX-Injected:1",
        "/v1/%7f",
        "*",
        "v1/responses",
        "@evil.example/",
        ":80/",
    ],
)
async def test_a_target_that_is_no_path_below_the_upstream(
    proxy: Proxy, upstream: Upstream, target: str
) -> None:
    got = await proxy.send(request("POST", target))
    line = await proxy.exchange()
    assert line["failure"] in ("invalid_request_target", "invalid_http_request")
    await assert_refused(proxy, got, line["failure"])
    assert upstream.visits == []


@pytest.mark.parametrize(
    "target", [b"/v1/caf\xc3\xa9", b"/v1/\xff", b"/v1/a\tb", b"/v1/\xe2\x80\xa8x"]
)
async def test_a_target_beyond_ascii_is_refused(
    proxy: Proxy, upstream: Upstream, target: bytes
) -> None:
    got = await proxy.send(b"GET " + target + b" HTTP/1.1\r\nHost: h\r\n\r\n")
    line = await proxy.exchange()
    await assert_refused(proxy, got, line["failure"])
    assert upstream.visits == []


@pytest.mark.parametrize("method", ["CONNECT", "TRACE"])
async def test_a_method_that_no_api_has(proxy: Proxy, upstream: Upstream, method: str) -> None:
    target = "evil.example:443" if method == "CONNECT" else "/v1/models"
    got = await proxy.send(request(method, target, X_Secret="sk-fake-secret"))
    await assert_refused(proxy, got, "method_not_supported", 405, "method_not_allowed")
    assert b"sk-fake-secret" not in got.raw
    assert upstream.visits == []


@pytest.mark.parametrize("protocol", ["websocket", "h2c"])
async def test_another_protocol(proxy: Proxy, upstream: Upstream, protocol: str) -> None:
    got = await proxy.send(request("GET", "/v1/realtime", Connection="Upgrade", Upgrade=protocol))
    await assert_refused(proxy, got, "upgrade_not_supported", 400, "upgrade_not_supported")
    assert upstream.visits == []


@pytest.mark.parametrize(
    ("target", "shape"),
    [
        (RESPONSES, {"error"}),
        (CHAT, {"error"}),
        ("/v1/messages", {"type", "error", "request_id"}),
        ("/v1/embeddings", {"error"}),
    ],
)
async def test_a_refusal_has_the_shape_of_its_api(
    proxy: Proxy, target: str, shape: set[str]
) -> None:
    got = await proxy.send(request("TRACE", target))
    assert got.json().keys() <= shape
    assert got.error["message"]
    assert got.error["type"]


async def test_a_request_after_a_refused_one_is_answered(proxy: Proxy) -> None:
    client = await proxy.connect()
    assert (await client.ask("TRACE")).status == 405
    assert (await client.ask("POST")).status == 200


async def test_a_request_over_the_number_in_flight_gets_a_503() -> None:
    release = asyncio.Event()

    async def script(visit: Visit) -> None:
        await release.wait()
        await visit.send(answer(b"{}"))

    async with relaying(script, max_in_flight=1) as (upstream, proxy):
        first = await proxy.connect()
        await first.send(request("GET", "/v1/models"))
        await asyncio.wait_for(upstream.visited.wait(), PATIENCE)
        second = await proxy.ask("GET", "/v1/models")
        release.set()
        assert (await first.answer()).status == 200
        assert (await proxy.ask("GET", "/v1/models")).status == 200
        lines = await proxy.exchanges(3)
    assert (second.status, second.error["code"]) == (503, "server_is_overloaded")
    assert second.headers["x-should-retry"] == "true"
    assert lines[0]["failure"] == "too_many_requests_in_flight"


async def test_connections_over_their_number_get_a_503_and_far_over_nothing() -> None:
    async with relaying(FINE, max_connections=2) as (upstream, proxy):
        first, second = [await proxy.connect() for _ in range(2)]
        assert (await first.ask()).status == 200
        assert (await second.ask()).status == 200
        third, fourth = [await proxy.connect() for _ in range(2)]
        assert await (await proxy.connect()).rest() == b""
        got = await third.ask()
        assert (got.status, got.error["code"]) == (503, "server_is_overloaded")
        assert len(upstream.visits) == 2
        for client in (second, third, fourth):
            client.leave()
        async with asyncio.timeout(PATIENCE):
            while not await _is_served(await proxy.connect()):
                pass


async def _is_served(client: Client) -> bool:
    try:
        return (await client.ask()).status == 200
    except (ConnectionError, asyncio.IncompleteReadError):
        return False


@pytest.mark.parametrize("begun", [b"", b"POST /v1/resp", POST + b"X-Slow: "])
async def test_a_head_that_does_not_come_is_not_waited_for(begun: bytes) -> None:
    async with relaying(FINE, request_head_timeout=0.1) as (_, proxy):
        client = await proxy.connect()
        await client.send(begun)
        assert await client.rest() == b""


async def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    async with relaying(FINE, request_idle_timeout=0.1) as (_, proxy):
        client = await proxy.connect()
        await client.send(request(Content_Length="10") + b"begun")
        got = await client.answer()
        line = await proxy.exchange()
    assert (got.status, got.error["code"]) == (408, "request_timeout")
    assert got.headers["x-should-retry"] == "true"
    assert line["failure"] == "request_timeout"


async def test_a_silent_stream_is_kept_alive_by_comments() -> None:
    async def script(visit: Visit) -> None:
        await visit.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        await visit.left()

    async with relaying(script, keep_alive=0.05) as (_, proxy):
        client = await proxy.connect()
        await client.send(request())
        for _ in range(3):
            await client.until(b"3\r\n:\n\n\r\n")


async def test_a_sloppy_request_line_reaches_the_upstream_tidy(
    proxy: Proxy, upstream: Upstream
) -> None:
    await proxy.send(b"GET  /v1/models  HTTP/1.1\r\nHost: h\r\n\r\n")
    assert upstream.visit.head.startswith(b"GET /v1/models HTTP/1.1\r\n")
