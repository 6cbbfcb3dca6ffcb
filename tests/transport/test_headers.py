"""Which headers pass is decided for each by itself, whatever stands beside it."""

from __future__ import annotations

import json
from typing import Any, cast

from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from proxy.transport import headers
from tests.proxies import CHAT, relaying
from tests.upstreams import CANARY, CHAT_OBJECT, answer, says

Pairs = list[tuple[str, str]]

NAMES = (
    "Accept", "Authorization", "Connection", "Content-Encoding", "Content-Length", "Content-Type",
    "Cookie", "ETag", "Host", "OpenAI-Project", "Server", "Set-Cookie", "Transfer-Encoding", "Via",
    "X-Api-Key", "X-Forwarded-For", "X-Good", "X-MS-Region", "X-RateLimit-Limit-Requests",
    "X-Request-Id", "x" * 2100,
)  # fmt: skip
PAIRS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(["a", "b", "x-good", "close, cookie"])),
    max_size=12,
)


class Request:
    """What is asked of a request."""

    remote = "192.0.2.1"
    scheme = "http"

    def __init__(self, pairs: Pairs) -> None:
        self.headers = CIMultiDictProxy(CIMultiDict(pairs))


def up(pairs: Pairs, added: dict[str, str]) -> Pairs:
    request = cast("web.BaseRequest", Request(pairs))
    passed = headers.to_upstream(request, added=added, forwarded="drop")
    return [(n, v) for n, v in passed.items() if n not in ("Accept-Encoding", *added)]


def down(pairs: Pairs, *, decoded: bool) -> Pairs:
    given: Any = CIMultiDictProxy(CIMultiDict(pairs))
    passed = headers.to_client(given, upstream_host="up.example", reference="r", decoded=decoded)
    return [(n, v) for n, v in passed.items() if n.lower() != headers.REFERENCE]


def connection(pairs: Pairs) -> Pairs:
    return [pair for pair in pairs if pair[0] == "Connection"]


@given(PAIRS, st.sampled_from([{}, {"X-Api-Key": "ours"}]))
def test_each_header_passes_up_as_if_it_came_alone(pairs: Pairs, added: dict[str, str]) -> None:
    alone = [one for one in pairs if one in up([one, *connection(pairs)], added)]
    assert up(pairs, added) == alone


@given(PAIRS, st.booleans())
def test_each_header_passes_down_as_if_it_came_alone(pairs: Pairs, decoded: bool) -> None:  # noqa: FBT001 - a case
    alone = [one for one in pairs if one in down([one, *connection(pairs)], decoded=decoded)]
    assert down(pairs, decoded=decoded) == alone


async def test_headers_that_come_twice_pass_or_stay_twice() -> None:
    body = json.dumps(CHAT_OBJECT).encode()
    secret = CANARY.encode()
    more = (
        b"Set-Cookie: a=%b\r\nX-Good: 1\r\nSet-Cookie: b=%b\r\nX-Good: 2\r\nOpenAI-Project: %b\r\n"
    )
    first, rest = answer(body).split(b"\r\n", 1)
    raw = first + b"\r\n" + more % (secret, secret, secret) + rest
    async with relaying(says(raw), upstream_headers={"X-Api-Key": "ours"}) as (upstream, proxy):
        got = await proxy.send(
            b"POST %b HTTP/1.1\r\nHost: p\r\nAccept: a\r\nAccept: b\r\nX-Api-Key: theirs\r\n"
            b"Content-Type: application/json\r\nContent-Length: 2\r\nX-Last: 1\r\n\r\n{}"
            % CHAT.encode()
        )
        sent = upstream.visit.headers
    assert sent.getall("Accept") == ["a", "b"]
    assert sent.getall("X-Api-Key") == ["ours"]
    assert (sent["Content-Type"], sent["Content-Length"], sent["X-Last"]) == (
        "application/json",
        "2",
        "1",
    )
    assert "Transfer-Encoding" not in sent
    assert (got.status, got.json()) == (200, CHAT_OBJECT)
    assert got.headers.getall("X-Good") == ["1", "2"]
    assert got.headers["Content-Type"] == "application/json"
    assert CANARY.encode() not in got.raw
