"""Exceptions of the HTTP library that no server can be brought to provoke reliably."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.http_exceptions import BadHttpMessage

from proxy.core.failures import Failure
from proxy.transport.wire import Wire, Wires
from tests.proxies import CHAT, Proxy, proxy_for, relaying
from tests.upstreams import CANARY, says_json

UPSTREAM = "http://upstream.example"
KEY = ConnectionKey("upstream.example", 443, True, True, None, None, None)  # noqa: FBT003
BROKEN = OSError(113, f"No route to {CANARY}")


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    async with proxy_for(UPSTREAM) as proxy:
        yield proxy


CONNECTING = [
    (aiohttp.ClientConnectorDNSError(KEY, BROKEN), Failure.DNS),
    (aiohttp.ClientConnectorError(KEY, BROKEN), Failure.CONNECT),
    (aiohttp.ClientConnectorSSLError(KEY, BROKEN), Failure.TLS),
    (aiohttp.ClientConnectorCertificateError(KEY, ValueError(CANARY)), Failure.TLS),
    (aiohttp.ServerFingerprintMismatch(b"a", b"b", CANARY, 443), Failure.TLS),
    (aiohttp.ConnectionTimeoutError(CANARY), Failure.CONNECT_TIMEOUT),
    (TimeoutError(CANARY), Failure.CONNECT_TIMEOUT),
    (ConnectionResetError(CANARY), Failure.CONNECT),
    (RuntimeError(CANARY), Failure.INTERNAL),
    (UnicodeError(CANARY), Failure.INTERNAL),
]
ANSWERING = [
    (aiohttp.SocketTimeoutError(CANARY), Failure.RESPONSE_TIMEOUT),
    (TimeoutError(CANARY), Failure.RESPONSE_TIMEOUT),
    (aiohttp.ServerDisconnectedError(CANARY), Failure.RESET_BEFORE),
    (aiohttp.ClientOSError(32, CANARY), Failure.RESET_BEFORE),
    (aiohttp.ClientConnectionResetError(CANARY), Failure.RESET_BEFORE),
    (ConnectionResetError(CANARY), Failure.RESET_BEFORE),
    (BadHttpMessage(CANARY), Failure.PROTOCOL),
    (aiohttp.ClientPayloadError(CANARY), Failure.PROTOCOL),
    (aiohttp.ClientError(CANARY), Failure.PROTOCOL),
    (RuntimeError(CANARY), Failure.INTERNAL),
]


@pytest.mark.parametrize(
    ("where", "error", "failure"),
    [(Wires.take, *one) for one in CONNECTING] + [(Wire.read, *one) for one in ANSWERING],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_an_exception_becomes_a_failure_and_its_words_stay_here(
    where: Callable[..., object],
    error: Exception,
    failure: Failure,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def broken(*_: object) -> None:
        await asyncio.sleep(0)
        raise error

    owner = Wires if where is Wires.take else Wire
    async with relaying(says_json({})) as (_, proxy):
        monkeypatch.setattr(owner, where.__name__, broken)
        got = await proxy.ask(target=CHAT, body=b"{}")
        line = await proxy.exchange()
    assert got.status >= 500
    assert got.error["message"]
    assert got.headers["x-request-id"] == line["reference"]
    assert line["failure"] == failure.value
    assert CANARY.encode() not in got.raw
    assert b"upstream.example" not in got.raw
    assert type(error).__name__ in line["detail"]


async def test_a_bug_of_our_own_is_a_reply_and_a_traceback_in_the_log(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        await asyncio.sleep(0)
        raise KeyError(CANARY)

    monkeypatch.setattr(type(proxy.running.relay), "_open", broken)
    got = await proxy.ask(target=CHAT)
    line = await proxy.exchange()
    (bug,) = (line for line in proxy.lines() if line["level"] == "error")
    assert (got.status, got.error["code"]) == (500, "server_error")
    assert CANARY.encode() not in got.raw
    assert line["failure"] == "internal_error"
    assert bug["reference"] == line["reference"]
    assert "KeyError" in str(bug["exception"])
