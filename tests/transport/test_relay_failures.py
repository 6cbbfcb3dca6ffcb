"""Every failure of the upstream that a socket can show, and the one ending each comes to."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from proxy.core.failures import Failure
from proxy.core.spec import RESPONSE_ERROR_CODES
from tests.proxies import CHAT, RESPONSES, Answer, Proxy, proxy_for, relaying, request
from tests.upstreams import (
    CANARY,
    CHAT_ROLE,
    CHUNKED,
    DONE,
    LAST_CHUNK,
    PATIENCE,
    STREAM_HEAD,
    STREAM_HEAD_UNTIL_CLOSE,
    Script,
    Upstream,
    Visit,
    answer,
    chat_text,
    chunk,
    completed,
    created,
    delta,
    event,
    head,
    in_progress,
    says,
)

SURFACES = [RESPONSES, CHAT, "/v1/completions", "/v1/messages", "/v1/embeddings"]

# What the library, the interpreter or the system would say of a failure.
INTERNALS = (
    b"127.0.0.1",
    b"localhost",
    b".invalid",
    b"aiohttp",
    b"Errno",
    b"Error(",
    b"Cannot connect",
    b"Exception",
    b"Traceback",
    b"Timeout on",
    b"zlib",
    b"gzip",
)


def assert_nothing_shows(raw: bytes) -> None:
    assert CANARY.encode() not in raw
    for word in INTERNALS:
        assert word.lower() not in raw.lower()
    assert b"\r\nserver:" not in raw.lower()


async def assert_http_error(
    proxy: Proxy, target: str, failure: Failure, code: str, status: int
) -> Answer:
    got = await proxy.ask(target=target, body=b"{}")
    line = await proxy.exchange()
    assert got.status == status, (got, line)
    assert got.whole
    assert got.headers["Content-Type"] == "application/json"
    assert got.headers["x-request-id"] == line["reference"]
    assert got.headers["x-should-retry"] in ("true", "false")
    assert line["failure"] == failure.value
    assert (line["reply"], line["status"], line["ending"]) == (code, status, "failed")
    assert "more" not in line
    error = got.error
    assert error["message"]
    if target == "/v1/messages":
        assert got.json()["type"] == "error"
    else:
        assert error == error | {"code": code, "param": None}
    assert_nothing_shows(got.raw)
    return got


# There is no answer


@contextmanager
def _refusing() -> Iterator[str]:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # it never listens
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@contextmanager
def _not_accepting() -> Iterator[str]:
    """A backlog that is full drops whatever comes next."""
    with ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)  # noqa: FBT003 - the library's
            waiting.connect_ex(full.getsockname())
        yield f"http://127.0.0.1:{full.getsockname()[1]}"


@contextmanager
def _unknown() -> Iterator[str]:
    yield "http://provider.invalid"


@pytest.mark.parametrize("target", SURFACES)
@pytest.mark.parametrize(
    ("where", "failure", "code", "status"),
    [
        (_refusing, Failure.CONNECT, "upstream_unavailable", 502),
        (_unknown, Failure.DNS, "upstream_unavailable", 502),
        (_not_accepting, Failure.CONNECT_TIMEOUT, "upstream_unavailable", 502),
    ],
)
async def test_no_connection(
    where: Callable[[], Any], failure: Failure, code: str, status: int, target: str
) -> None:
    with where() as url:
        async with proxy_for(url, connect_timeout=0.2) as proxy:
            await assert_http_error(proxy, target, failure, code, status)


@asynccontextmanager
async def answering_hello_with(reply: bytes) -> AsyncIterator[str]:
    """Listen, and answer a TLS client's first bytes with `reply`, or not at all."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(reply)
        await reader.read(65536)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("reply", "failure"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n" + CANARY.encode(), Failure.TLS),
        (b"\x15\x03\x03\x00\x02\x02\x28", Failure.TLS),  # alert: handshake_failure
        (b"", Failure.CONNECT_TIMEOUT),
    ],
    ids=["plain HTTP", "a refusal", "silence"],
)
async def test_a_tls_handshake_that_fails(reply: bytes, failure: Failure) -> None:
    async with answering_hello_with(reply) as url, proxy_for(url, connect_timeout=0.5) as proxy:
        await assert_http_error(proxy, CHAT, failure, "upstream_unavailable", 502)


@pytest.fixture(scope="module")
def unknown_authority(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A certificate that nobody vouches for."""
    where: Path = tmp_path_factory.mktemp("tls")
    key, certificate = str(where / "key.pem"), str(where / "certificate.pem")
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1"
        f" -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


async def test_a_certificate_that_nobody_vouches_for(unknown_authority: ssl.SSLContext) -> None:
    async with Upstream(says(b""), unknown_authority) as upstream, proxy_for(upstream.url) as proxy:
        await assert_http_error(proxy, CHAT, Failure.TLS, "upstream_unavailable", 502)
        assert upstream.visits == []


# There is an answer, and it fails before any content


async def silent(visit: Visit) -> None:
    await visit.body()
    await visit.left()


async def resets(visit: Visit) -> None:
    await visit.body()
    visit.reset()


async def closes(visit: Visit) -> None:
    await visit.body()
    visit.close()


def then_closes(*pieces: bytes) -> Script:
    async def script(visit: Visit) -> None:
        await visit.body()
        await visit.send(*pieces)
        visit.close()

    return script


def then_resets(*pieces: bytes) -> Script:
    async def script(visit: Visit) -> None:
        await visit.body()
        await visit.send(*pieces)
        visit.reset()

    return script


def then_hangs(*pieces: bytes) -> Script:
    async def script(visit: Visit) -> None:
        await visit.body()
        await visit.send(*pieces)
        await visit.left()

    return script


def drips(*pieces: bytes, drop: bytes) -> Script:
    """Keep the stream alive for ever."""

    async def script(visit: Visit) -> None:
        await visit.body()
        await visit.send(*pieces)
        while True:
            await visit.send(drop)
            await asyncio.sleep(0.02)

    return script


class Case(NamedTuple):
    name: str
    script: Script
    failure: Failure
    reply: tuple[str, int] = ("server_error", 500)
    settings: dict[str, Any] = {}  # noqa: RUF012 - a tuple's default is never changed


UNAVAILABLE = ("upstream_unavailable", 502)
TIMEOUT = ("upstream_timeout", 504)
SHORT = {"idle_timeout": 0.2}
NO_HEADERS = {"connect_timeout": 0.2, "response_timeout": 0.2}
PAGE = f"<!doctype html><title>Sign in</title>{CANARY}".encode()
SAID = json.dumps({"id": "x", "note": CANARY}).encode()

LENGTHS = ("Content-Length: 1", "Content-Length: 2")

EARLY = [
    Case("no headers in time", silent, Failure.RESPONSE_TIMEOUT, TIMEOUT,
         NO_HEADERS),
    Case("half a head in time", then_hangs(b"HTTP/1.1 200 OK\r\nX-Canary: "),
         Failure.RESPONSE_TIMEOUT, TIMEOUT, NO_HEADERS),
    Case("an interim answer and no other", then_hangs(b"HTTP/1.1 103 Early Hints\r\n\r\n"),
         Failure.RESPONSE_TIMEOUT, TIMEOUT, NO_HEADERS),
    Case("a reset before the head", resets, Failure.RESET_BEFORE, UNAVAILABLE),
    Case("a close before the head", closes, Failure.RESET_BEFORE, UNAVAILABLE),
    Case("a cut inside the head", then_closes(b"HTTP/1.1 200 OK\r\nContent-T"),
         Failure.RESET_BEFORE, UNAVAILABLE),
    Case("no HTTP at all", then_closes(b"SSH-2.0-OpenSSH " + CANARY.encode() + b"\r\n\r\n"),
         Failure.PROTOCOL, UNAVAILABLE),
    Case("a status that is no number", then_closes(b"HTTP/1.1 2OO CANARY-org\r\n\r\n"),
         Failure.PROTOCOL, UNAVAILABLE),
    Case("two lengths", then_closes(head(200, "text/plain", *LENGTHS)),
         Failure.PROTOCOL, UNAVAILABLE),
    Case("a head of 1 MB", then_closes(head(200, X_Canary="x" * 2**20)),
         Failure.PROTOCOL, UNAVAILABLE),
    Case("an HTML page", says(answer(PAGE, content_type="text/html; charset=utf-8")),
         Failure.CONTENT_TYPE, UNAVAILABLE),
    Case("an HTML page that says it is JSON", says(answer(PAGE)), Failure.MALFORMED_BODY),
    Case("a plain sentence", says(answer(CANARY.encode(), content_type="text/plain")),
         Failure.CONTENT_TYPE, UNAVAILABLE),
    Case("half a JSON body until close",
         then_closes(head(200, Connection="close"), SAID[:-9]), Failure.MALFORMED_BODY),
    Case("half a JSON body by its length",
         then_closes(head(200, "application/json", f"Content-Length: {len(SAID)}"), SAID[:-9]),
         Failure.RESET_AFTER),
    Case("half a JSON body by its chunks",
         then_closes(head(200, "application/json", CHUNKED), chunk(SAID)), Failure.RESET_AFTER),
    Case("a reset inside a JSON body",
         then_resets(head(200, "application/json", CHUNKED), chunk(SAID)), Failure.RESET_AFTER),
    Case("a chunk size that is none",
         then_closes(head(200, "application/json", CHUNKED) + chunk(SAID) + b"zz\r\n"),
         Failure.RESET_AFTER),
    Case("silence inside a JSON body",
         then_hangs(head(200, "application/json", CHUNKED), chunk(SAID)),
         Failure.IDLE, TIMEOUT, SHORT),
    Case("silence after the head", then_hangs(head(200, "application/json", CHUNKED)),
         Failure.IDLE, TIMEOUT, SHORT),
    Case("a body over the limit", says(answer(b'"%b"' % (b"x" * 5000))),
         Failure.BODY_TOO_LARGE, settings={"max_body": "4KiB"}),
    Case("a small body that unpacks to a large one",
         says(answer(gzip.compress(b" " * 5_000_000 + b"{}"), Content_Encoding="gzip")),
         Failure.BODY_TOO_LARGE, settings={"max_body": "64KiB"}),
    Case("white space without end",
         drips(head(200, "text/plain", CHUNKED), drop=chunk(b" " * 60_000)),
         Failure.BODY_TOO_LARGE, settings={"max_body": "64KiB"}),
    Case("an unknown encoding", says(answer(SAID, Content_Encoding=CANARY)), Failure.ENCODING),
    Case("two encodings", says(answer(SAID, Content_Encoding="gzip, br")), Failure.ENCODING),
    Case("a body that is not what its encoding says",
         says(answer(SAID, Content_Encoding="gzip")), Failure.ENCODING),
    Case("a damaged gzip body",
         says(answer(gzip.compress(SAID)[:10] + b"\xff" * 40, Content_Encoding="gzip")),
         Failure.ENCODING),
    Case("bytes that are not brotli", says(answer(b"\xff" * 60, Content_Encoding="br")),
         Failure.ENCODING),
    Case("bytes that are not zstd", says(answer(b"\xff" * 60, Content_Encoding="zstd")),
         Failure.ENCODING),
    Case("bytes that are not deflate", says(answer(b"\xff" * 60, Content_Encoding="deflate")),
         Failure.ENCODING),
    Case("half a gzip body", says(answer(gzip.compress(SAID)[:-12], Content_Encoding="gzip")),
         Failure.MALFORMED_BODY),
]  # fmt: skip


@pytest.mark.parametrize("target", [RESPONSES, CHAT, "/v1/messages"])
@pytest.mark.parametrize("case", EARLY, ids=lambda case: case.name)
async def test_a_failure_before_any_content_is_an_http_error(case: Case, target: str) -> None:
    async with relaying(case.script, **case.settings) as (_, proxy):
        await assert_http_error(proxy, target, case.failure, *case.reply)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_redirect_is_neither_followed_nor_shown(status: int, method: str) -> None:
    async with relaying(says(answer(b"", status, Location=f"/login/{CANARY}"))) as (
        upstream,
        proxy,
    ):
        got = await proxy.ask(method, CHAT)
        line = await proxy.exchange()
    assert (got.status, got.error["code"]) == UNAVAILABLE[::-1]
    assert line["failure"] == "upstream_redirect"
    assert "Location" not in got.headers
    assert_nothing_shows(got.raw)
    assert upstream.visit.target == CHAT


# Failures of a stream


def framed(*events: bytes) -> bytes:
    return b"".join(map(chunk, events))


BEGUN = {RESPONSES: created() + delta("Hello"), CHAT: CHAT_ROLE + chat_text("Hello")}
NEXT = {RESPONSES: delta(CANARY, 3), CHAT: chat_text(CANARY)}
GZIP_HEAD = head(200, "text/event-stream", CHUNKED, Content_Encoding="gzip")
Ending = Callable[[bytes, bytes], Script]  # of what came before, and the next event


def _broken_gzip(begun: bytes, _: bytes) -> Script:
    good = gzip.compress(begun)
    return then_hangs(GZIP_HEAD, chunk(good), chunk(b"\x1f\x8b\x08\x00" + b"\xff" * 60))


class StreamCase(NamedTuple):
    name: str
    ending: Ending
    failure: Failure
    code: str = "server_error"
    settings: dict[str, Any] = {}  # noqa: RUF012 - a tuple's default is never changed


ENDINGS = [
    StreamCase("a reset between two events",
               lambda begun, _: then_resets(STREAM_HEAD, chunk(begun)), Failure.RESET_AFTER),
    StreamCase("a chunked body without its last chunk",
               lambda begun, _: then_closes(STREAM_HEAD, chunk(begun)), Failure.RESET_AFTER),
    StreamCase("a cut inside a chunk",
               lambda begun, n: then_closes(STREAM_HEAD, chunk(begun), chunk(n)[:-20]),
               Failure.RESET_AFTER),
    StreamCase("a reset inside an event",
               lambda begun, n: then_resets(STREAM_HEAD, chunk(begun), chunk(n[:-20])),
               Failure.RESET_AFTER),
    StreamCase("an end inside an event",
               lambda begun, n: then_closes(STREAM_HEAD, chunk(begun), chunk(n[:-20]), LAST_CHUNK),
               Failure.CUT_IN_EVENT),
    StreamCase("an end inside an event, until close",
               lambda begun, n: then_closes(STREAM_HEAD_UNTIL_CLOSE, begun, n[:-20]),
               Failure.CUT_IN_EVENT),
    StreamCase("an event whose blank line never comes",
               lambda begun, n: then_closes(STREAM_HEAD, chunk(begun), chunk(n[:-1]), LAST_CHUNK),
               Failure.CUT_IN_EVENT),
    StreamCase("a clean end without the end mark",
               lambda begun, _: then_closes(STREAM_HEAD, chunk(begun), LAST_CHUNK),
               Failure.NO_END),
    StreamCase("a clean end without the end mark, until close",
               lambda begun, _: then_closes(STREAM_HEAD_UNTIL_CLOSE, begun), Failure.NO_END),
    StreamCase("[DONE] without a finish_reason",
               lambda begun, _: then_closes(STREAM_HEAD, chunk(begun + DONE), LAST_CHUNK),
               Failure.DONE_EARLY),
    StreamCase("silence", lambda begun, _: then_hangs(STREAM_HEAD, chunk(begun)),
               Failure.IDLE, "upstream_timeout", SHORT),
    StreamCase("silence inside an event",
               lambda begun, n: then_hangs(STREAM_HEAD, chunk(begun), chunk(n[:-20])),
               Failure.IDLE, "upstream_timeout", SHORT),
    StreamCase("a stream longer than it may be",
               lambda begun, _: drips(STREAM_HEAD, chunk(begun), drop=chunk(b":\n\n")),
               Failure.TOO_LONG, "upstream_timeout", {"stream_timeout": 0.5}),
    StreamCase("an event over the limit",
               lambda begun, n: then_hangs(STREAM_HEAD, chunk(begun),
                                           chunk(n[:-20] + b"x" * 5000)),
               Failure.EVENT_TOO_LARGE, settings={"max_event": "4KiB"}),
    StreamCase("an event that is no JSON",
               lambda begun, _: then_hangs(STREAM_HEAD, chunk(begun),
                                           chunk(f"data: {CANARY} <html>\n\n".encode())),
               Failure.MALFORMED_EVENT),
    StreamCase("an event that is no object",
               lambda begun, _: then_hangs(STREAM_HEAD, chunk(begun),
                                           chunk(f'data: ["{CANARY}"]\n\n'.encode())),
               Failure.MALFORMED_EVENT),
    StreamCase("gzip that breaks", _broken_gzip, Failure.ENCODING),
]  # fmt: skip


def assert_responses_ending(events: list[Any], begun: bytes, code: str) -> None:
    kinds = [one["type"] for one in events]
    at = kinds.index("error")
    error, failed = events[at:]
    assert kinds.count("response.created") == 1
    assert kinds[at:] == ["error", "response.failed"]
    last = events[at - 1]["sequence_number"] if at else -1
    assert [error["sequence_number"], failed["sequence_number"]] == [last + 1, last + 2]
    assert error["code"] == error["error"]["code"] == code
    assert error["message"] == error["error"]["message"]
    response = failed["response"]
    assert response["status"] == "failed"
    assert response["error"]["code"] in RESPONSE_ERROR_CODES
    assert response["error"]["message"] == error["message"]
    assert error["message"]
    assert {one["response"]["id"] for one in events if "response" in one} == {response["id"]}
    if begun:
        assert response["id"] == "resp_recorded"
        assert response["created_at"] == 1_760_000_000
        assert response["model"] == "model-1"


def assert_chat_ending(events: list[Any], code: str) -> None:
    *before, failed, done = events
    assert done == "[DONE]"
    assert failed == {"error": failed["error"]}
    assert failed["error"]["code"] == code
    assert failed["error"]["message"]
    assert all("error" not in one for one in before)


@pytest.mark.parametrize("target", [RESPONSES, CHAT])
@pytest.mark.parametrize("case", ENDINGS, ids=lambda case: case.name)
async def test_a_failure_after_content_is_one_ending_of_the_stream(
    case: StreamCase, target: str
) -> None:
    begun = BEGUN[target]
    script = case.ending(begun, NEXT[target])
    async with relaying(script, **case.settings) as (_, proxy):
        got = await proxy.ask(target=target)
        line = await proxy.exchange()
    assert got.status == 200
    assert got.whole
    assert got.headers["x-request-id"] == line["reference"]
    assert line["failure"] == case.failure.value
    assert (line["reply"], line["ending"]) == (case.code, "failed")
    assert "more" not in line
    assert_nothing_shows(got.raw)
    assert got.body.startswith(begun)
    if target == RESPONSES:
        assert_responses_ending(got.events, begun, case.code)
    else:
        assert_chat_ending(got.events, case.code)


@pytest.mark.parametrize("target", [RESPONSES, CHAT])
@pytest.mark.parametrize("case", ENDINGS, ids=lambda case: case.name)
async def test_the_same_before_content_is_an_http_error_while_the_gate_holds(
    case: StreamCase, target: str
) -> None:
    settings = {"gate": 20} | case.settings
    async with relaying(case.ending(b":\n\n", NEXT[target]), **settings) as (_, proxy):
        status = 504 if case.code == "upstream_timeout" else 500
        await assert_http_error(proxy, target, case.failure, case.code, status)


async def test_a_chunk_size_that_is_none_after_content() -> None:
    step = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.send(STREAM_HEAD, chunk(created() + delta("Hello")))
        await step.wait()
        await visit.send(b"zz\r\n")
        await visit.left()

    async with relaying(script) as (_, proxy):
        client = await proxy.connect()
        await client.send(request())
        await client.until(b'"Hello"')
        step.set()
        ending = await client.until(b"0\r\n\r\n")
        line = await proxy.exchange()
    assert ending.count(b"response.failed") == 2  # the event's name and its type
    assert line["failure"] == "upstream_reset_after_response_started"
    assert_nothing_shows(ending)


@pytest.mark.parametrize(("gate", "status"), [(0, 200), (20, 504)])
@pytest.mark.parametrize("target", [RESPONSES, CHAT])
async def test_a_model_that_only_ever_says_that_it_thinks(
    target: str, gate: float, status: int
) -> None:
    thinks = chunk(b": thinking\n\n")
    begun = {RESPONSES: created() + in_progress(), CHAT: CHAT_ROLE}[target]
    script = drips(STREAM_HEAD, chunk(begun), drop=thinks)
    async with relaying(script, gate=gate, first_event_timeout=0.4) as (_, proxy):
        got = await proxy.ask(target=target)
        line = await proxy.exchange()
    assert (got.status, got.whole) == (status, True)
    assert line["failure"] == "stream_first_event_timeout"
    assert line["reply"] == "upstream_timeout"
    assert_nothing_shows(got.raw)
    if status == 200 and target == RESPONSES:
        assert_responses_ending(got.events, begun, "upstream_timeout")


async def test_gzip_that_is_cut() -> None:
    whole = gzip.compress(created() + b"".join(delta(str(number), number) for number in range(99)))
    script = then_closes(GZIP_HEAD, chunk(whole[:-30]), LAST_CHUNK)
    async with relaying(script) as (_, proxy):
        got = await proxy.ask()
    assert got.whole
    assert_responses_ending(got.events, b"begun", "server_error")
    assert_nothing_shows(got.raw)


@pytest.mark.parametrize("pieces", [[], [b":\n\n"], [b"\n\n\n"], [b"\xef\xbb\xbf"]])
@pytest.mark.parametrize("target", [RESPONSES, CHAT])
async def test_a_stream_of_nothing_has_an_ending_too(target: str, pieces: list[bytes]) -> None:
    script = then_closes(STREAM_HEAD, *map(chunk, pieces), LAST_CHUNK)
    async with relaying(script) as (_, proxy):
        got = await proxy.ask(target=target)
        line = await proxy.exchange()
    assert (got.status, got.whole) == (200, True)
    assert line["failure"] == "stream_ended_without_end"
    if target == RESPONSES:
        assert [one["type"] for one in got.events] == [
            "response.created",
            "error",
            "response.failed",
        ]
        assert_responses_ending(got.events, b"", "server_error")
    else:
        assert_chat_ending(got.events, "server_error")


@pytest.mark.parametrize(
    "tail", [b"", chunk(delta(CANARY, 9)), chunk(b"data: " + CANARY.encode() + b"\n\n")]
)
async def test_nothing_comes_after_the_providers_own_end(tail: bytes) -> None:
    whole = created() + delta("Hello") + completed()
    async with relaying(then_resets(STREAM_HEAD, chunk(whole), tail)) as (_, proxy):
        got = await proxy.ask()
        line = await proxy.exchange()
    assert got.body == whole
    assert got.whole
    assert line["ending"] == "answered"


async def test_one_fault_told_twice_is_one_failure() -> None:
    error = {"type": "server_error", "code": "server_error", "message": CANARY}
    events = [
        created(),
        delta("Hello"),
        event({"type": "error", "error": error, "sequence_number": 3}),
        event(
            {
                "type": "response.failed",
                "sequence_number": 4,
                "response": {"id": "resp_recorded", "status": "failed", "error": error},
            }
        ),
    ]
    async with relaying(then_closes(STREAM_HEAD, framed(*events), LAST_CHUNK)) as (_, proxy):
        got = await proxy.ask()
        line = await proxy.exchange()
    assert_responses_ending(got.events, b"begun", "server_error")
    assert_nothing_shows(got.raw)
    assert "more" not in line


async def test_the_upstream_is_left_when_its_stream_has_failed() -> None:
    bad = b"data: not json\n\n"
    async with relaying(then_hangs(STREAM_HEAD, chunk(created() + delta("Hi") + bad))) as (
        upstream,
        proxy,
    ):
        await proxy.ask()
        await asyncio.wait_for(upstream.visit.ended.wait(), PATIENCE)


async def test_a_failed_connection_is_not_used_again() -> None:
    answers = iter([then_hangs(STREAM_HEAD, chunk(b"data: bad\n\n")), says(answer(b"{}"))])

    async def script(visit: Visit) -> None:
        await next(answers)(visit)

    async with relaying(script) as (upstream, proxy):
        await proxy.ask(target=CHAT)
        assert (await proxy.ask("GET", "/v1/models")).json() == {}
    assert upstream.connections == 2


# Provoked by the tests of the client's side, of shutdown and of what cannot be provoked.
ELSEWHERE = {
    Failure.BAD_REQUEST,
    Failure.METHOD,
    Failure.UPGRADE,
    Failure.TARGET,
    Failure.REQUEST_TOO_LARGE,
    Failure.HEADERS_TOO_LARGE,
    Failure.REQUEST_TIMEOUT,
    Failure.OVERLOADED,
    Failure.DRAINING,
    Failure.INTERNAL,
}


def test_every_failure_is_provoked_somewhere() -> None:
    here = {case.failure for case in EARLY} | {case.failure for case in ENDINGS}
    elsewhere = ELSEWHERE | {Failure.REDIRECT, Failure.FIRST_EVENT}
    without_answer = {Failure.DNS, Failure.CONNECT, Failure.CONNECT_TIMEOUT, Failure.TLS}
    assert here | without_answer | elsewhere == set(Failure)
