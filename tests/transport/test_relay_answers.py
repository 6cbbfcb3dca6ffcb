"""What of an upstream's answer reaches the client where all goes well."""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
import zlib
from collections.abc import Callable

import brotli
import pytest

from tests.proxies import CHAT, RESPONSES, relaying, request
from tests.upstreams import (
    CANARY,
    CHAT_FINISH,
    CHAT_OBJECT,
    CHAT_ROLE,
    CHUNKED,
    DONE,
    LAST_CHUNK,
    PATIENCE,
    STREAM_HEAD,
    STREAM_HEAD_UNTIL_CLOSE,
    Visit,
    answer,
    chat_text,
    chunk,
    completed,
    created,
    delta,
    head,
    in_progress,
    says,
    says_json,
    streams,
)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

AUDIO = b"ID3\x04\x00" + bytes(range(256)) * 40
RESPONSES_STREAM = (created(), in_progress(), delta("caf\u00e9 \u2028 \U0001f600"), completed())
CHAT_STREAM = (CHAT_ROLE, chat_text("Hello"), chat_text(" there\u2028"), CHAT_FINISH, DONE)


@pytest.mark.parametrize(("target", "events"), [(RESPONSES, RESPONSES_STREAM), (CHAT, CHAT_STREAM)])
@pytest.mark.parametrize("gate", [0, 2])
async def test_a_healthy_stream_passes_byte_for_byte(
    target: str, events: tuple[bytes, ...], gate: float
) -> None:
    async with relaying(streams(*events), gate=gate) as (_, proxy):
        got = await proxy.ask(target=target)
        line = await proxy.exchange()
    assert got.status == 200
    assert got.headers["Content-Type"] == "text/event-stream"
    assert got.body == b"".join(events)
    assert got.whole
    assert line["ending"] == "answered"
    assert "failure" not in line


async def test_a_healthy_stream_until_close_ends_whole() -> None:
    async def script(visit: Visit) -> None:
        await visit.send(STREAM_HEAD_UNTIL_CLOSE, *RESPONSES_STREAM)
        visit.close()

    async with relaying(script) as (_, proxy):
        got = await proxy.ask()
    assert got.whole
    assert got.body == b"".join(RESPONSES_STREAM)


async def test_each_event_comes_as_soon_as_it_is_sent() -> None:
    step = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.send(STREAM_HEAD, chunk(created() + delta("one")))
        await step.wait()
        await visit.send(chunk(delta("two", 3) + completed(4)), LAST_CHUNK)

    async with relaying(script, gate=2) as (_, proxy):
        client = await proxy.connect()
        await client.send(request())
        await client.until(b'"one"')
        step.set()
        await client.until(b'"two"')
        await client.until(b"0\r\n\r\n")


async def test_an_upstream_that_holds_the_connection_open_after_the_end_is_left() -> None:
    async def script(visit: Visit) -> None:
        await visit.send(STREAM_HEAD, *map(chunk, RESPONSES_STREAM))
        await visit.left()

    async with relaying(script) as (upstream, proxy):
        got = await proxy.ask()
        assert got.whole
        assert got.body == b"".join(RESPONSES_STREAM)
        await asyncio.wait_for(upstream.visit.ended.wait(), PATIENCE)


async def test_json_passes_byte_for_byte() -> None:
    body = json.dumps(CHAT_OBJECT, indent=2).encode() + b"\n"
    async with relaying(says(answer(body))) as (_, proxy):
        got = await proxy.ask(target=CHAT)
    assert got.status == 200
    assert got.headers["Content-Type"] == "application/json"
    assert got.body == body


@pytest.mark.parametrize("target", ["/v1/audio/speech", "/v1/files/file-1/content"])
async def test_audio_and_files_pass_byte_for_byte(target: str) -> None:
    async with relaying(says(answer(AUDIO, content_type="audio/mpeg"))) as (_, proxy):
        got = await proxy.ask(target=target)
    assert (got.status, got.body) == (200, AUDIO)
    assert got.headers["Content-Type"] == "audio/mpeg"
    assert got.headers["Content-Length"] == str(len(AUDIO))


async def test_audio_of_unknown_length_is_passed_on_as_it_comes() -> None:
    step = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.send(head(200, "audio/mpeg", CHUNKED), chunk(AUDIO[:100]))
        await step.wait()
        await visit.send(chunk(AUDIO[100:]), LAST_CHUNK)

    async with relaying(script) as (_, proxy):
        client = await proxy.connect()
        await client.send(request(target="/v1/audio/speech"))
        begun = await client.until(AUDIO[:100])
        step.set()
        rest = await client.until(AUDIO[-256:] + b"\r\n0\r\n\r\n")
    assert begun.startswith(b"HTTP/1.1 200 OK\r\n")
    assert rest


@pytest.mark.parametrize("framing", ["Content-Length: 100000", CHUNKED])
async def test_a_cut_inside_audio_is_a_broken_transfer(framing: str) -> None:
    async def script(visit: Visit) -> None:
        await visit.send(head(200, "audio/mpeg", framing))
        await visit.send(chunk(AUDIO) if framing == CHUNKED else AUDIO)
        visit.close()

    async with relaying(script) as (_, proxy):
        got = await proxy.ask(target="/v1/audio/speech")
        line = await proxy.exchange()
    assert got.status == 200
    assert AUDIO.startswith(got.body)
    assert not got.whole
    assert line["failure"] == "upstream_reset_after_response_started"
    assert line["ending"] == "failed"


async def test_silence_inside_audio_is_a_broken_transfer() -> None:
    async def script(visit: Visit) -> None:
        await visit.send(head(200, "audio/mpeg", CHUNKED), chunk(AUDIO))
        await visit.left()

    async with relaying(script, idle_timeout=0.2) as (_, proxy):
        got = await proxy.ask(target="/v1/audio/speech")
        line = await proxy.exchange()
    assert not got.whole
    assert (line["failure"], line["ending"]) == ("stream_idle_timeout", "failed")


PASSES = {
    "Content-Disposition": 'attachment; filename="a.mp3"',
    "OpenAI-Model": "model-1",
    "OpenAI-Processing-Ms": "312",
    "OpenAI-Version": "2020-10-01",
    "X-RateLimit-Remaining-Requests": "99",
    "ETag": '"33a64df5"',
    "Cache-Control": "private",
}
STAYS = {
    "OpenAI-Organization": CANARY,
    "OpenAI-Project": CANARY,
    "Set-Cookie": f"__cf_bm={CANARY}",
    "Server": f"nginx/{CANARY}",
    "Via": f"1.1 {CANARY}",
    "CF-Ray": CANARY,
    "Location": f"/{CANARY}",
    "WWW-Authenticate": f'Bearer realm="{CANARY}"',
    "X-LiteLLM-Model-API-Base": CANARY,
    "X-Powered-By": CANARY,
    "X-Request-Id": CANARY,
    "X-MS-Region": CANARY,
    "Alt-Svc": f'h3="{CANARY}:443"',
    "Strict-Transport-Security": "max-age=1",
    "Keep-Alive": "timeout=5",
    "Trailer": "X-Canary",
}


@pytest.mark.parametrize(
    ("target", "body", "content_type"),
    [
        (CHAT, json.dumps(CHAT_OBJECT).encode(), "application/json"),
        (CHAT, b"".join(CHAT_STREAM), "text/event-stream"),
        ("/v1/audio/speech", AUDIO, "audio/mpeg"),
    ],
    ids=["json", "stream", "bytes"],
)
async def test_success_headers(target: str, body: bytes, content_type: str) -> None:
    sent = {name.replace("-", "_"): value for name, value in (PASSES | STAYS).items()}
    if content_type == "text/event-stream":
        del sent["Cache_Control"]  # of a stream it is ours
    script = says(answer(body, 200, content_type, **sent))
    async with relaying(script) as (_, proxy):
        got = await proxy.ask(target=target)
        line = await proxy.exchange()
    assert got.status == 200
    assert got.body == body
    for name in PASSES.keys() - {"Cache-Control"}:
        assert got.headers[name] == PASSES[name]
    assert not got.headers.keys() & (STAYS.keys() - {"X-Request-Id", "Keep-Alive"})
    assert got.headers.getall("x-request-id") == [line["reference"]]
    assert CANARY.encode() not in got.raw
    assert line["upstream_request_id"] == CANARY


async def test_headers_named_in_the_upstream_s_connection_end_here() -> None:
    script = says_json(CHAT_OBJECT, Connection="X-Inner", X_Inner=CANARY, X_Outer="1")
    async with relaying(script) as (_, proxy):
        got = await proxy.ask(target=CHAT)
    assert "X-Inner" not in got.headers
    assert got.headers["X-Outer"] == "1"


async def test_a_header_that_names_the_upstream_s_host_does_not_pass() -> None:
    script = says_json(CHAT_OBJECT, Link="<http://127.0.0.1/v1/next>; rel=next")
    async with relaying(script) as (_, proxy):
        got = await proxy.ask(target=CHAT)
    assert got.status == 200
    assert b"127.0.0.1" not in got.raw


async def test_trailers_do_not_pass() -> None:
    async def script(visit: Visit) -> None:
        await visit.send(STREAM_HEAD, *map(chunk, RESPONSES_STREAM))
        await visit.send(b"0\r\nX-Error: %b\r\n\r\n" % CANARY.encode())

    async with relaying(script) as (_, proxy):
        got = await proxy.ask()
    assert got.body == b"".join(RESPONSES_STREAM)
    assert CANARY.encode() not in got.raw


async def test_head_gets_the_headers_and_no_body() -> None:
    async def script(visit: Visit) -> None:
        await visit.send(head(200, "audio/mpeg", "Content-Length: 1234"))

    async with relaying(script) as (upstream, proxy):
        client = await proxy.connect()
        got = await client.ask("HEAD", "/v1/files/file-1/content")
        assert got.headers["Content-Length"] == "1234"
        assert (await client.ask("HEAD", "/v1/files/file-1/content")).status == 200
    assert [visit.method for visit in upstream.visits] == ["HEAD", "HEAD"]


async def test_head_of_an_error_has_its_status_and_no_body() -> None:
    async def script(visit: Visit) -> None:
        await visit.send(head(404, "application/json", "Content-Length: 99", Server=CANARY))

    async with relaying(script) as (_, proxy):
        client = await proxy.connect()
        got = await client.ask("HEAD", "/v1/files/file-1")
        assert got.status == 404
        assert CANARY.encode() not in got.raw
        assert (await client.ask("HEAD", "/v1/files/file-1")).status == 404


async def test_204_passes() -> None:
    async with relaying(says(b"HTTP/1.1 204 No Content\r\nX-Outer: 1\r\n\r\n")) as (_, proxy):
        client = await proxy.connect()
        got = await client.ask("DELETE", "/v1/responses/resp_1")
        assert (got.status, got.headers["X-Outer"]) == (204, "1")
        assert (await client.ask("DELETE", "/v1/responses/resp_1")).status == 204


NOT_MODIFIED = says(b'HTTP/1.1 304 Not Modified\r\nETag: "1"\r\n\r\n')


async def test_304_passes_to_who_asked_for_it() -> None:
    async with relaying(NOT_MODIFIED) as (_, proxy):
        got = await proxy.ask("GET", "/v1/files/file-1", If_None_Match='"1"')
    assert (got.status, got.headers["ETag"]) == (304, '"1"')


async def test_304_is_a_failure_to_who_did_not() -> None:
    async with relaying(NOT_MODIFIED) as (_, proxy):
        got = await proxy.ask("GET", "/v1/files/file-1")
        line = await proxy.exchange()
    assert (got.status, got.error["code"]) == (502, "upstream_unavailable")
    assert line["failure"] == "upstream_redirect"


LIMITED = json.dumps({"error": {"message": "slow down", "code": "rate_limit_exceeded"}}).encode()
WHOLE_AND_MORE = {
    "an error, its length too short": (
        "POST",
        b"HTTP/1.1 429 No\r\nContent-Type: application/json\r\nRetry-After: 7\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(LIMITED) - 3, LIMITED),
        429,
    ),
    "an error behind an interim answer": (
        "POST",
        b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 429 No\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%bx" % (len(LIMITED), LIMITED),
        429,
    ),
    "JSON": (
        "GET",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}more",
        200,
    ),
    "JSON in chunks": (
        "GET",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: CHUNKED\r\n\r\n2\r\n{}\r\n0\r\n\r\nmore",
        200,
    ),
    "a head alone": (
        "HEAD",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
        200,
    ),
    "nothing": ("DELETE", b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n{}", 204),
}


@pytest.mark.parametrize(("method", "raw", "status"), WHOLE_AND_MORE.values(), ids=WHOLE_AND_MORE)
@pytest.mark.parametrize("cut", [False, True], ids=["at once", "head first"])
async def test_what_follows_a_whole_answer_takes_nothing_of_it(
    method: str,
    raw: bytes,
    status: int,
    cut: bool,  # noqa: FBT001 - a case
) -> None:
    async def script(visit: Visit) -> None:
        await visit.body()
        head_end = raw.rfind(b"\r\n\r\n", 0, raw.rfind(b"Content") + 120) + 4 if cut else 0
        for piece in (raw[:head_end], raw[head_end:]):
            await visit.send(piece)
            await asyncio.sleep(0.02)
        visit.close()

    target = "/v1/files/file-1" if method == "DELETE" else CHAT
    async with relaying(script) as (_, proxy):
        got = await proxy.ask(method, target, b"{}" if method == "POST" else b"")
    assert got.status == status
    assert got.headers.get("retry-after") in (None, "7")


@pytest.mark.parametrize("interim", [b"100 Continue", b"102 Processing", b"103 Early Hints"])
async def test_an_interim_answer_is_not_the_answer(interim: bytes) -> None:
    raw = b"HTTP/1.1 %b\r\nLink: <%b>\r\n\r\n" % (interim, CANARY.encode())
    script = says(raw + answer(json.dumps(CHAT_OBJECT).encode()))
    async with relaying(script) as (_, proxy):
        got = await proxy.ask(target=CHAT)
    assert (got.status, got.json()) == (200, CHAT_OBJECT)
    assert CANARY.encode() not in got.raw


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("GZIP", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", lambda plain: zlib.compress(plain, wbits=-15)),
        ("br", brotli.compress),
        ("zstd", zstd.compress),
        ("identity", bytes),
    ],
)
@pytest.mark.parametrize("size", [1, 50])
async def test_a_compressed_answer_is_read_and_passed_plain(
    encoding: str, encode: Callable[[bytes], bytes], size: int
) -> None:
    plain = b"".join(RESPONSES_STREAM)
    coded = encode(plain)

    async def script(visit: Visit) -> None:
        await visit.send(head(200, "text/event-stream", CHUNKED, Content_Encoding=encoding))
        for at in range(0, len(coded), size):
            await visit.send(chunk(coded[at : at + size]))
        await visit.send(LAST_CHUNK)

    async with relaying(script) as (_, proxy):
        got = await proxy.ask()
    assert got.body == plain
    assert "Content-Encoding" not in got.headers


async def test_a_slow_reader_gets_all_of_a_large_stream() -> None:
    texts = [f"{number:06}" + "x" * 20_000 for number in range(300)]
    events = [created(), *(delta(text) for text in texts), completed()]
    async with relaying(streams(*events)) as (_, proxy):
        got = await proxy.ask()
    assert got.body == b"".join(events)


async def test_a_large_event_passes_whole() -> None:
    image = delta("A" * 4_000_000)
    async with relaying(streams(created(), image, completed())) as (_, proxy):
        got = await proxy.ask()
    assert got.body == created() + image + completed()


async def test_references_are_never_the_same() -> None:
    async with relaying(says_json(CHAT_OBJECT)) as (_, proxy):
        client = await proxy.connect()
        found = {(await client.ask(target=CHAT)).headers["x-request-id"] for _ in range(20)}
    assert len(found) == 20
