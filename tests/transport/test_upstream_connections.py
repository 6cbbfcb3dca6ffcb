"""Connections to the upstream: kept, and never trusted with an answer that nobody asked for."""

from __future__ import annotations

import asyncio

import pytest
from multidict import CIMultiDict
from yarl import URL

from proxy.settings import read_settings
from proxy.transport.upstream import Upstream as OurSide
from proxy.transport.wire import Wire
from tests.proxies import CHAT, RESPONSES, relaying, request, send_little
from tests.upstreams import (
    CANARY,
    CHAT_FINISH,
    CHAT_ROLE,
    CHUNKED,
    DONE,
    LAST_CHUNK,
    PATIENCE,
    STREAM_HEAD,
    Script,
    Upstream,
    Visit,
    answer,
    chat_text,
    chunk,
    head,
    says,
)

HEALTHY = CHAT_ROLE + chat_text("Hello") + CHAT_FINISH + DONE


def in_turn(*scripts: Script) -> Script:
    """Follow one script after the other, one for each request."""
    left = iter(scripts)

    async def script(visit: Visit) -> None:
        await next(left)(visit)

    return script


@pytest.mark.parametrize(
    "unasked",
    [
        answer(b'{"stolen": true}'),
        answer(b"{}", 500),
        b"HTTP/1.1 200 OK\r\n",
        CANARY.encode(),
    ],
)
async def test_what_comes_unasked_is_never_the_next_answer(unasked: bytes) -> None:
    async def says_more(visit: Visit) -> None:
        await visit.send(answer(b'{"first": true}'))
        await asyncio.sleep(0.05)
        await visit.send(unasked)

    async with relaying(in_turn(says_more, says(answer(b'{"second": true}')))) as (upstream, proxy):
        assert (await proxy.ask("GET", "/v1/models")).json() == {"first": True}
        await asyncio.sleep(0.2)
        assert (await proxy.ask("GET", "/v1/models")).json() == {"second": True}
    assert upstream.connections == 2


async def test_two_answers_at_once_are_one_answer() -> None:
    twice = says(answer(b'{"first": true}') + answer(b'{"stolen": true}'))
    async with relaying(in_turn(twice, says(answer(b'{"second": true}')))) as (_, proxy):
        assert (await proxy.ask("GET", "/v1/models")).json() == {"first": True}
        assert (await proxy.ask("GET", "/v1/models")).json() == {"second": True}


async def hangs_up(visit: Visit) -> None:
    await visit.body()
    visit.close()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_question_is_asked_again_when_its_kept_connection_was_closing(method: str) -> None:
    fine = says(head(200, "application/json", "Content-Length: 0"))
    async with relaying(in_turn(fine, hangs_up, fine)) as (upstream, proxy):
        await proxy.ask("GET", "/v1/models")
        assert (await proxy.ask(method, "/v1/models")).status == 200
    assert upstream.connections == 2


@pytest.mark.parametrize(("method", "target"), [("POST", CHAT), ("DELETE", "/v1/files/file-1")])
async def test_what_may_have_had_an_effect_is_not_asked_again(method: str, target: str) -> None:
    fine = says(answer(b"{}"))
    async with relaying(in_turn(fine, hangs_up, fine)) as (upstream, proxy):
        await proxy.ask("GET", "/v1/models")
        got = await proxy.ask(method, target, b"{}")
    assert got.error["code"] == "upstream_unavailable"
    assert len(upstream.visits) == 2


async def test_an_upstream_that_always_hangs_up_is_not_asked_for_ever() -> None:
    async with relaying(hangs_up) as (upstream, proxy):
        assert (await proxy.ask("GET", "/v1/models")).status >= 500
    assert len(upstream.visits) == 1


@pytest.mark.parametrize("status", [100, 102, 103])
async def test_an_interim_answer_is_not_the_answer(status: int) -> None:
    interim = b"HTTP/1.1 %d Wait\r\nLink: </%b>\r\n\r\n" % (status, CANARY.encode())
    async with relaying(says(interim + interim + answer(b"{}"))) as (_, proxy):
        got = await proxy.ask("GET", "/v1/models")
    assert (got.status, got.json()) == (200, {})
    assert CANARY.encode() not in got.raw


async def test_an_upstream_that_changes_the_protocol_has_failed() -> None:
    changes = says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
    async with relaying(changes) as (_, proxy):
        got = await proxy.ask()
        line = await proxy.exchange()
    assert got.status == 502
    assert line["failure"] == "upstream_protocol_error"


async def test_a_connection_that_nobody_uses_is_closed() -> None:
    async with relaying(says(answer(b"{}")), upstream_idle_timeout=0.05) as (upstream, proxy):
        await proxy.ask("GET", "/v1/models")
        await asyncio.sleep(0.3)
        await proxy.ask("GET", "/v1/models")
    assert upstream.connections == 2


async def test_a_client_s_connection_that_nobody_uses_is_closed() -> None:
    async with relaying(says(answer(b"{}")), client_idle_timeout=0.1) as (_, proxy):
        client = await proxy.connect()
        await client.ask("GET", "/v1/models")
        assert await client.rest() == b""


async def test_the_time_for_an_answer_begins_when_the_question_is_out() -> None:
    async with relaying(says(answer(b"{}")), response_timeout=0.3) as (upstream, proxy):
        client = await proxy.connect()
        await client.send(request(target="/v1/files", Content_Length="10"))
        for _ in range(10):
            await asyncio.sleep(0.06)
            await client.send(b"x")
        got = await client.answer()
    assert got.status == 200
    assert await upstream.visit.body() == b"x" * 10


async def test_what_came_before_the_connection_broke_is_not_lost() -> None:
    """Events and the byte that breaks the framing, all in one read."""

    async def script(visit: Visit) -> None:
        await visit.body()
        await visit.send(STREAM_HEAD + chunk(CHAT_ROLE + chat_text("Hello")) + b"zz\r\n")
        await visit.left()

    async with relaying(script) as (_, proxy):
        got = await proxy.ask(target=CHAT)
        line = await proxy.exchange()
    assert b"Hello" in got.body
    assert got.body.endswith(DONE)
    assert line["failure"] == "upstream_reset_after_response_started"


@pytest.mark.parametrize("size", [0, 1, 15, 16, 4095, 65_535, 65_536, 300_000])
async def test_events_of_any_size_are_framed_whole(size: int) -> None:
    stream = CHAT_ROLE + chat_text("x" * size) + CHAT_FINISH + DONE

    async with relaying(says(STREAM_HEAD + chunk(stream) + LAST_CHUNK)) as (_, proxy):
        got = await proxy.ask(target=CHAT)
    assert (got.whole, got.body) == (True, stream)


async def test_the_next_request_on_a_connection_after_a_stream() -> None:
    async with relaying(says(STREAM_HEAD + chunk(HEALTHY) + LAST_CHUNK)) as (upstream, proxy):
        client = await proxy.connect()
        for _ in range(3):
            assert (await client.ask(target=CHAT, body=b"{}")).body == HEALTHY
    assert upstream.connections == 1


async def test_a_stream_of_no_length_is_none() -> None:
    empty = head(200, "text/event-stream", "Content-Length: 0")
    async with relaying(says(empty), gate=20) as (_, proxy):
        got = await proxy.ask(target=RESPONSES)
    assert got.status >= 500
    assert got.error["message"]


@pytest.mark.parametrize("cut", range(1, 8))
async def test_a_head_in_two_pieces(cut: int) -> None:
    whole = STREAM_HEAD + chunk(HEALTHY) + LAST_CHUNK
    at = len(STREAM_HEAD) - 4 + cut

    async def script(visit: Visit) -> None:
        await visit.body()
        await visit.send(whole[:at])
        await asyncio.sleep(0.05)
        await visit.send(whole[at:])

    async with relaying(script) as (upstream, proxy):
        for _ in range(2):
            assert (await proxy.ask(target=CHAT)).body == HEALTHY
    assert upstream.connections == 1


async def test_what_a_body_says_of_blank_lines_is_its_own() -> None:
    text = b'{"choices":[{"index":0,"message":{"content":"a"}}],\r\n\r\n"x":1}'
    for raw in (answer(text), answer(text).replace(b"\r\n", b"\n", 4)):
        async with relaying(says(raw)) as (_, proxy):
            assert (await proxy.ask(target=CHAT, body=b"{}")).body == text


async def test_a_body_that_is_not_read_is_not_the_next_answer() -> None:
    async def no_content(visit: Visit) -> None:
        await visit.send(b"HTTP/1.1 204 No Content\r\n\r\n" + answer(b'{"stolen": true}'))

    async with relaying(in_turn(no_content, says(answer(b"{}")))) as (upstream, proxy):
        assert (await proxy.ask("DELETE", "/v1/files/1")).status == 204
        assert (await proxy.ask("GET", "/v1/models")).json() == {}
    assert upstream.connections == 2


@pytest.mark.parametrize("gap", [0, 0.02])
async def test_a_connection_is_used_again_though_the_last_chunk_comes_late(gap: float) -> None:
    async def script(visit: Visit) -> None:
        await visit.body()
        await visit.send(STREAM_HEAD + chunk(HEALTHY))
        await asyncio.sleep(gap)
        await visit.send(LAST_CHUNK)

    async with relaying(script) as (upstream, proxy):
        for _ in range(5):
            assert (await proxy.ask(target=CHAT)).body == HEALTHY
            await asyncio.sleep(gap + 0.05)
    assert upstream.connections == 1


@pytest.mark.parametrize("more", [b"", chunk(b": more\n\n" * 2000)])
async def test_a_stream_that_goes_on_after_its_end_is_not_waited_for(more: bytes) -> None:
    async def script(visit: Visit) -> None:
        await visit.send(STREAM_HEAD + chunk(HEALTHY))
        await visit.send(more)
        await visit.left()

    async with relaying(script) as (upstream, proxy):
        assert (await proxy.ask(target=CHAT)).body == HEALTHY
        async with asyncio.timeout(PATIENCE):
            await upstream.visit.ended.wait()


@pytest.mark.parametrize("cut", [0, 1, 2, 3])
async def test_a_stream_of_carriage_returns_after_an_interim_answer(cut: int) -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    events = HEALTHY.replace(b"\n", b"\r\n").split(b"\r\n\r\n")[:-1]

    async def script(visit: Visit) -> None:
        await visit.body()
        await visit.send(interim[: len(interim) - cut])
        await asyncio.sleep(0.05)
        await visit.send(interim[len(interim) - cut :] + STREAM_HEAD)
        for event in events:
            await asyncio.sleep(0.01)
            await visit.send(chunk(event + b"\r\n\r\n"))
        await visit.send(LAST_CHUNK)

    async with relaying(script, idle_timeout=1) as (_, proxy):
        assert (await proxy.ask(target=CHAT)).body == HEALTHY


async def silent(visit: Visit) -> None:
    visit.take_nothing()
    await asyncio.sleep(PATIENCE)


async def refuses(visit: Visit) -> None:
    visit.take_nothing()
    await visit.send(answer(b"{}", 401))
    await asyncio.sleep(PATIENCE)


@pytest.mark.parametrize(("script", "status"), [(silent, 504), (refuses, 401)])
async def test_a_body_that_nobody_takes_is_not_waited_for_longer_than_an_answer(
    script: Script, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole body is here at once, and more than the buffers to the upstream take."""
    send_little(monkeypatch, Wire)
    async with relaying(script, response_timeout=0.5) as (_, proxy):
        async with asyncio.timeout(PATIENCE / 2):
            got = await proxy.ask(target=CHAT, body=b"x" * 250_000)
    assert got.status == status


@pytest.mark.parametrize("character", ["\x01", "\x7f"])
@pytest.mark.parametrize("streams", [True, False])
async def test_a_header_with_a_control_character_costs_only_itself(
    character: str, *, streams: bool
) -> None:
    odd = f"X-Odd: a{character}b"
    whole = head(200, "text/event-stream", CHUNKED, odd) + chunk(HEALTHY) + LAST_CHUNK
    if not streams:
        whole = head(200, "application/json", "Content-Length: 2", odd) + b"{}"
    async with relaying(says(whole)) as (_, proxy):
        got = await proxy.ask("POST" if streams else "GET", CHAT if streams else "/v1/models")
        line = await proxy.exchange()
    assert (got.status, got.body) == (200, HEALTHY if streams else b"{}")
    assert "x-odd" not in got.headers
    assert line["ending"] == "answered"


async def test_a_request_that_fails_after_its_answer_began_is_the_client_s_fault() -> None:
    async def script(visit: Visit) -> None:
        await visit.send(STREAM_HEAD + chunk(CHAT_ROLE + chat_text("Hello")))
        await visit.left()

    async with relaying(script, max_request="1KiB") as (_, proxy):
        client = await proxy.connect()
        await client.send(request(target=CHAT, Transfer_Encoding="chunked"))
        await client.until(b"Hello")
        await client.send(chunk(b"x" * 2000))
        await client.until(DONE)
        line = await proxy.exchange()
    assert line["failure"] == "request_payload_too_large"


async def test_comments_begin_when_content_has_opened_the_gate() -> None:
    async def script(visit: Visit) -> None:
        await visit.send(STREAM_HEAD + chunk(CHAT_ROLE))
        await asyncio.sleep(0.1)
        await visit.send(chunk(chat_text("Hello")))
        await visit.left()

    async with relaying(script, gate=60, keep_alive=0.2) as (_, proxy):
        client = await proxy.connect()
        await client.send(request(target=CHAT))
        await client.until(b"Hello")
        async with asyncio.timeout(PATIENCE / 2):
            await client.until(b":\n\n")


async def test_an_answer_that_is_closed_twice_does_not_touch_the_next_one() -> None:
    step = asyncio.Event()

    async def later(visit: Visit) -> None:
        await visit.body()
        await visit.send(head(200, "application/json", "Content-Length: 2"))
        await step.wait()
        await visit.send(b"{}")

    limits = read_settings({"upstream": "http://upstream.example"}, {}).limits()
    async with Upstream(in_turn(says(answer(b"[]")), later)) as server:
        async with OurSide(URL(server.url), limits) as upstream:
            first = await upstream.open("GET", "/", CIMultiDict(), None)
            assert await first.read() == b"[]"
            first.close()
            second = await upstream.open("GET", "/", CIMultiDict(), None)
            first.close()
            step.set()
            assert await second.read() == b"{}"
            second.close()
        assert server.connections == 1


async def test_half_a_head_is_no_answer() -> None:
    async def script(visit: Visit) -> None:
        await visit.send(head(200, "text/event-stream", CHUNKED)[:-2])
        visit.close()

    async with relaying(script) as (_, proxy):
        async with asyncio.timeout(PATIENCE):
            got = await proxy.ask()
        line = await proxy.exchange()
    assert got.status == 502
    assert line["failure"] == "upstream_reset_before_response_started"
