"""The log: one line for each exchange, joined to the client's reply by the reference."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from proxy.operate.log import Log, StructuredLog
from proxy.operate.record import Record
from proxy.operate.secrets import mask, one_line
from tests.proxies import CHAT, RESPONSES, relaying, request
from tests.upstreams import (
    CANARY,
    CHAT_OBJECT,
    Visit,
    answer,
    completed,
    created,
    delta,
    error_event,
    says,
    says_json,
    streams,
)

KEY = "sk-proj-fake0123456789abcdef"
REFUSED = f"Incorrect API key provided: {KEY}. You can find your key at {CANARY}."


async def test_a_line_for_what_went_well() -> None:
    async with relaying(streams(created(), delta("Hello"), completed())) as (_, proxy):
        got = await proxy.ask(x_request_id="client-1", traceparent="00-0af7-b7ad-01")
        line = await proxy.exchange()
    assert line["reference"] == got.headers["x-request-id"]
    assert line["level"] == "info"
    assert (line["method"], line["path"], line["surface"]) == ("POST", RESPONSES, "responses")
    assert (line["status_in"], line["status"], line["ending"]) == (200, 200, "answered")
    assert (line["events"], line["bytes"]) == (3, len(got.body))
    assert (line["client_request_id"], line["traceparent"]) == ("client-1", "00-0af7-b7ad-01")
    assert 0 <= line["headers_after"] <= line["first_event_after"] <= line["seconds"]
    assert not line.keys() & {"failure", "reply", "original", "detail"}
    assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (b'{"model":"gpt-5.2","messages":[]}', "gpt-5.2"),
        (b'{"messages":[], "model" : "ft:gpt-4o:acme::7p4lURel"}', "ft:gpt-4o:acme::7p4lURel"),
        (b'{"messages":[{"content":"say \\"model\\":\\"secret\\""}]}', None),
        (b'{"model":"no model has such a name"}', None),
        (b'{"model":7}', None),
        (b"{}", None),
    ],
)
async def test_the_model_that_was_asked_for_is_told_and_nothing_else_of_the_request(
    body: bytes, model: str | None
) -> None:
    async with relaying(says_json(CHAT_OBJECT)) as (_, proxy):
        await proxy.ask(target=CHAT, body=body)
        line = await proxy.exchange()
    assert line.get("model") == model
    assert "secret" not in proxy.log


async def test_the_model_is_told_also_where_the_upstream_says_nothing() -> None:
    async def leaves(visit: Visit) -> None:
        visit.close()

    async with relaying(leaves) as (_, proxy):
        await proxy.ask(target=CHAT, body=b'{"model":"gpt-5.2"}')
        line = await proxy.exchange()
    assert (line["failure"], line["model"]) == ("upstream_reset_before_response_started", "gpt-5.2")


async def test_a_line_for_what_a_provider_said() -> None:
    error = {"code": "invalid_api_key", "type": "invalid_request_error", "message": REFUSED}
    script = says_json({"error": error}, 401, x_request_id="req-upstream")
    async with relaying(script) as (_, proxy):
        got = await proxy.ask(target=CHAT)
        line = await proxy.exchange()
    assert line["reference"] == got.headers["x-request-id"]
    assert line["level"] == "warning"
    assert (line["status_in"], line["status"], line["ending"]) == (401, 401, "failed")
    assert (line["reply"], line["rule"]) == ("invalid_api_key", "code-invalid-api-key")
    assert (line["origin"], line["upstream_status"]) == ("http", 401)
    assert line["upstream_code"] == "invalid_api_key"
    assert line["upstream_type"] == "invalid_request_error"
    assert line["upstream_request_id"] == "req-upstream"
    assert CANARY in line["original"]
    assert "failure" not in line


async def test_a_line_for_what_the_proxy_saw() -> None:
    async with relaying(says(b"HTTP/1.1 nonsense\r\n\r\n")) as (_, proxy):
        got = await proxy.ask(target=CHAT)
        line = await proxy.exchange()
    assert line["reference"] == got.headers["x-request-id"]
    assert (line["failure"], line["origin"]) == ("upstream_protocol_error", "proxy")
    assert line["detail"]
    assert "status_in" not in line


async def test_each_exchange_has_one_line() -> None:
    async with relaying(says_json(CHAT_OBJECT)) as (_, proxy):
        client = await proxy.connect()
        asked = [(await client.ask(target=CHAT)).headers["x-request-id"] for _ in range(3)]
        refused = await proxy.send(b"nonsense\r\n\r\n")
        lines = await proxy.exchanges(4)
    assert [one["reference"] for one in lines] == [*asked, refused.headers["x-request-id"]]


async def test_the_reference_in_the_message_is_the_log_s() -> None:
    async with relaying(says_json({"error": "boom"}, 500)) as (_, proxy):
        got = await proxy.ask(target=CHAT)
        line = await proxy.exchange()
    assert f"reference {line['reference']}." in got.error["message"]


SAID = {
    "a key": f"Incorrect API key provided: {KEY}",
    "a masked key": "Incorrect API key provided: sk-proj-********************abcd",
    "a bearer token": f"Authorization: Bearer {KEY.replace('sk-', 'tok')}",
    "basic auth": "Authorization: Basic dXNlcjpmYWtlcGFzc3dvcmQ=",
    "a password in a URL": "cannot reach https://admin:fakepassword@10.0.0.7/v1",
    "a cookie": "Cookie: session=fake0123456789; other=1",
    "a set cookie": "Set-Cookie: session=fake0123456789; Path=/",
    "an api-key header": "api-key: fake0123456789abcdef",
    "an api key in JSON": '{"api_key": "fake0123456789abcdef"}',
    "an x-api-key header": "'x-api-key': 'fake0123456789abcdef'",
    "a JWT": "token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJmYWtlIn0.fakefakefake",
    "a Google key": "key AIzaSyFAKEFAKEFAKEFAKEFAKE0123456789",
    "an AWS key": "AccessDenied for AKIAFAKEFAKEFAKE0123",
    "a Groq key": "gsk_fake0123456789abcdef",
    "a Hugging Face key": "hf_fake0123456789abcdef",
    "a key in a query": "GET https://h/v1?api_key=fake0123456789abcdef&x=1",
    "a Google key in a query": "GET https://h/v1?key=fake0123456789abcdef&x=1",
}
SECRETS = ("fake0123456789", "fakepassword", "FAKEFAKE", "fakefakefake", "dXNlcjpm", "abcd",
           "tokproj", "eyJzdWIi")  # fmt: skip


@pytest.mark.parametrize("name", SAID)
async def test_secrets_in_what_a_provider_said_are_masked(name: str) -> None:
    script = says_json({"error": {"message": SAID[name], "code": "boom"}}, 500)
    async with relaying(script) as (_, proxy):
        await proxy.ask(target=CHAT)
        line = await proxy.exchange()
        assert "***" in line["original"]
        assert not [secret for secret in SECRETS if secret in proxy.log]


@pytest.mark.parametrize("code", [KEY, "Bearer fake0123456789abcdef"])
async def test_secrets_in_a_code_are_masked(code: str) -> None:
    async with relaying(says_json({"error": {"code": code, "type": code}}, 500)) as (_, proxy):
        await proxy.ask(target=CHAT)
        await proxy.exchange()
        assert "fake0123456789" not in proxy.log


@pytest.mark.parametrize(
    "text",
    [
        "The key metric is risk-free.",
        "Rate limit reached for gpt-x in organization org-fake on tokens per min",
        "https://api.example.com:8443/v1/models/key",
        "maximum context length is 8192 tokens",
    ],
)
def test_what_is_no_secret_is_not_masked(text: str) -> None:
    assert mask(text) == text


async def test_originals_full() -> None:
    script = says_json({"error": {"message": REFUSED}}, 401)
    async with relaying(script, log_originals="full") as (_, proxy):
        await proxy.ask(target=CHAT)
        line = await proxy.exchange()
    assert KEY in line["original"]


@pytest.mark.parametrize(
    "script", [says_json({"error": {"message": REFUSED, "code": "x"}}, 401), says(REFUSED.encode())]
)
async def test_originals_off(script: Any) -> None:
    async with relaying(script, log_originals="off") as (_, proxy):
        got = await proxy.ask(target=CHAT)
        line = await proxy.exchange()
        assert CANARY not in proxy.log
        assert "Incorrect API key" not in proxy.log
    assert line["reference"] == got.headers["x-request-id"]
    assert line["reply"]


async def test_an_original_is_bounded() -> None:
    script = says(answer(b"x" * 1_000_000, 500, "text/plain"))
    async with relaying(script, log_originals="full") as (_, proxy):
        await proxy.ask(target=CHAT)
        line = await proxy.exchange()
        assert len(proxy.log) < 10_000
    assert line["original"].startswith("xxx")


@pytest.mark.parametrize("originals", ["off", "masked", "full"])
async def test_the_client_s_request_is_never_in_the_log(originals: str) -> None:
    prompt = b'{"input": "PROMPT-of-the-client", "api_key": "KEY-of-the-client"}'
    error = says_json({"error": {"code": "server_error"}}, 500)
    async with relaying(error, log_originals=originals) as (_, proxy):
        await proxy.ask(
            "POST",
            CHAT + "?secret=QUERY-of-the-client",
            prompt,
            Authorization="Bearer HEADER-of-the-client",
            Cookie="COOKIE-of-the-client",
        )
        line = await proxy.exchange()
        assert "-of-the-client" not in proxy.log
    assert line["path"] == CHAT


# Nobody can write a line of the log but the proxy

FORGED = '\n{"event": "exchange", "reference": "forged"}\n'
ODD = ["\n", "\r\n", "\x1b[2J\x1b[1;1H", "\x00", "\x7f", "\x85", "\u2028", "\u2029", "\u202e"]


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("odd", ODD)
def test_no_text_makes_a_line_of_its_own(form: Any, odd: str) -> None:
    out = io.StringIO()
    evil = f"a{odd}{FORGED}"
    log: Log = StructuredLog(form, "full", out)
    log.exchange(
        Record(
            reference="ref",
            method=evil,
            path=evil,
            surface="chat",
            credentials="client",
            client_request_id=evil,
            upstream_request_id=evil,
            traceparent=evil,
            detail=evil,
        )
    )
    text = out.getvalue()
    assert text.endswith("\n")
    assert len(text.splitlines()) == 1
    assert odd not in text[:-1]
    assert "\x1b[2J" not in text


@pytest.mark.parametrize("odd", ODD)
async def test_no_error_makes_a_line_of_its_own(odd: str) -> None:
    evil = f"a{odd}{FORGED}"
    error = {"message": evil, "code": evil, "type": evil, "param": evil}
    async with relaying(says_json({"error": error}, 500), log_originals="full") as (_, proxy):
        await proxy.ask(target=CHAT)
        line = await proxy.exchange()
        assert len(proxy.log.splitlines()) == 1
    assert line["reference"] != "forged"
    assert odd not in line["upstream_code"]


@pytest.mark.parametrize(
    "raw",
    [
        request("GET", "/v1/%0a%7B%22event%22:%22exchange%22%7D"),
        b"GET /v1/\x1b[31mred HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /v1/\xe2\x80\xa8line HTTP/1.1\r\nHost: h\r\n\r\n",
        request("GET", "/v1/models", x_request_id="\u00e9\x85"),
        b"G\x1bT / HTTP/1.1\r\n\r\n",
    ],
)
async def test_no_request_makes_a_line_of_its_own(raw: bytes) -> None:
    async with relaying(says_json({"data": []})) as (_, proxy):
        await proxy.send(raw)
        await proxy.exchange()
        assert len(proxy.log.splitlines()) == 1
        assert "\x1b" not in proxy.log
        assert proxy.log.isascii()


async def test_long_names_are_cut() -> None:
    async with relaying(says_json({"data": []})) as (_, proxy):
        await proxy.ask("GET", "/v1/" + "a" * 8000, x_request_id="b" * 8000)
        line = await proxy.exchange()
        assert len(proxy.log) < 3000
    assert line["path"].startswith("/v1/aaa")


async def test_two_errors_of_one_answer_stand_in_one_line() -> None:
    items = [
        {"type": "mcp_call", "id": f"mcp_{n}", "error": f"{CANARY} {n}", "name": "t"}
        for n in range(2)
    ]
    body = {"id": "resp_1", "object": "response", "status": "completed", "output": items}
    async with relaying(says_json(body | {"error": None})) as (_, proxy):
        got = await proxy.ask()
        line = await proxy.exchange()
    assert got.status == 200
    assert CANARY.encode() not in got.raw
    assert CANARY in line["original"]
    assert [CANARY in one["original"] for one in line["more"]] == [True]


async def test_a_stream_s_error_is_joined_to_its_headers() -> None:
    async with relaying(streams(created(), delta("Hi"), error_event("x", 3, KEY))) as (_, proxy):
        got = await proxy.ask()
        line = await proxy.exchange()
    assert line["reference"] == got.headers["x-request-id"]
    assert (line["origin"], line["upstream_code"], line["ending"]) == ("stream", "x", "failed")
    assert KEY not in json.dumps(line)


@pytest.mark.parametrize("odd", ODD)
def test_one_line(odd: str) -> None:
    assert one_line(f"a{odd}b") == f"a{' ' if odd[0] != chr(27) else ' [2J [1;1H'}b"


def test_ordinary_text_stays() -> None:
    assert one_line("caf\u00e9 \U0001f600 \u4f60\u597d") == "caf\u00e9 \U0001f600 \u4f60\u597d"


def test_the_console_form_is_for_people() -> None:
    out = io.StringIO()
    StructuredLog("console", "masked", out).exchange(
        Record(
            reference="ref1",
            method="POST",
            path=CHAT,
            surface="chat",
            credentials="client",
            status_out=200,
        )
    )
    assert "ref1" in out.getvalue()
    assert not out.getvalue().startswith("{")


def test_a_bug_is_told_with_its_traceback_and_reference() -> None:
    out = io.StringIO()
    log = StructuredLog("json", "masked", out)
    try:
        int(CANARY)
    except ValueError:
        log.bug("it broke", "ref1")
    (line,) = map(json.loads, out.getvalue().splitlines())
    assert (line["event"], line["reference"], line["level"]) == ("it broke", "ref1", "error")
    assert "ValueError" in json.dumps(line["exception"])
