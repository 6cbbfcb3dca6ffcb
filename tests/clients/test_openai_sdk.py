"""The openai SDK against the proxy, in front of recorded answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from tests.clients.provider import CANARIES, playing, plays, recorded, refuses, sdk
from tests.proxies import proxy_for
from tests.upstreams import CHAT_OBJECT, Upstream, answer

HELLO = "Hello there, caf\u00e9 \U0001f600 \u4f60\u597d."
MESSAGES: Any = [{"role": "user", "content": "Say hello."}]


async def responses_stream(client: AsyncOpenAI) -> list[Any]:
    stream = await client.responses.create(model="model-1", input="Say hello.", stream=True)
    return [event async for event in stream]


async def responses_helper(client: AsyncOpenAI) -> list[Any]:
    async with client.responses.stream(model="model-1", input="Say hello.") as stream:
        return [event async for event in stream]


async def chat_stream(client: AsyncOpenAI) -> list[Any]:
    stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    return [chunk async for chunk in stream]


async def chat_helper(client: AsyncOpenAI) -> list[Any]:
    async with client.chat.completions.stream(model="m", messages=MESSAGES) as stream:
        return [event async for event in stream]


async def responses_whole(client: AsyncOpenAI) -> Any:
    return await client.responses.create(model="model-1", input="Say hello.")


async def chat_whole(client: AsyncOpenAI) -> Any:
    return await client.chat.completions.create(model="m", messages=MESSAGES)


def assert_discreet(error: openai.APIError) -> None:
    said = f"{error!r} {error} {error.body!r} {error.message}"
    assert not [canary for canary in CANARIES if canary in said]
    assert error.message


# A healthy stream


@pytest.mark.parametrize(
    ("ask", "name"),
    [
        (responses_stream, "responses-text"),
        (responses_helper, "responses-text"),
        (chat_stream, "chat-text"),
        (chat_helper, "chat-text"),
    ],
)
@pytest.mark.parametrize("gate", [0, 2])
async def test_a_healthy_stream_is_the_same_with_and_without_the_proxy(
    ask: Any, name: str, gate: float
) -> None:
    async with (
        Upstream(plays(recorded(name))) as provider,
        proxy_for(provider.url, gate=gate) as proxy,
        sdk(provider.url) as direct,
        sdk(proxy.url) as through,
    ):
        expected = await ask(direct)
        found = await ask(through)
    assert found == expected
    assert len(found) > 8


async def test_the_helper_puts_a_response_together() -> None:
    async with (
        playing(recorded("responses-text")) as (_, _, client),
        client.responses.stream(model="model-1", input="Say hello.") as stream,
    ):
        response = await stream.get_final_response()
    assert response.output_text == HELLO
    assert response.status == "completed"


async def test_the_helper_puts_a_completion_together() -> None:
    async with (
        playing(recorded("chat-text")) as (_, _, client),
        client.chat.completions.stream(model="m", messages=MESSAGES) as stream,
    ):
        completion = await stream.get_final_completion()
    assert completion.choices[0].message.content == HELLO
    assert completion.choices[0].finish_reason == "stop"


async def test_a_whole_answer_carries_the_reference() -> None:
    async with playing(answer(json.dumps(CHAT_OBJECT).encode())) as (_, proxy, client):
        completion = await chat_whole(client)
        line = await proxy.exchange()
    assert completion.choices[0].message.content == "Hello."
    assert completion._request_id == line["reference"]


# An HTTP error

ORG = "organization org-FAKEcanary0000000000"
PAGE = b"<html><h1>502 Bad Gateway</h1>worker-canary-7.internal</html>"
ERRORS = [
    (400, {"code": "context_length_exceeded", "message":
           f"This model's maximum context length is 8192 tokens. ({ORG})"},
     openai.BadRequestError, "context_length_exceeded"),
    (400, {"code": None, "type": "invalid_request_error", "param": "temperature", "message": ORG},
     openai.BadRequestError, "invalid_request"),
    (401, {"code": "invalid_api_key", "message": f"Incorrect API key: sk-canary {ORG}"},
     openai.AuthenticationError, "invalid_api_key"),
    (403, {"code": "unsupported_country_region_territory", "message": ORG},
     openai.PermissionDeniedError, "permission_denied"),
    (404, {"code": "model_not_found", "message": f"no deployment canary in {ORG}"},
     openai.NotFoundError, "model_not_found"),
    (413, {"message": ORG}, openai.APIStatusError, "request_too_large"),
    (429, {"code": "rate_limit_exceeded", "message": ORG},
     openai.RateLimitError, "rate_limit_exceeded"),
    (429, {"code": "insufficient_quota", "message": ORG},
     openai.RateLimitError, "insufficient_quota"),
    (500, {"type": "server_error", "message": f"Traceback in {ORG}"},
     openai.InternalServerError, "server_error"),
    (502, PAGE, openai.InternalServerError, "upstream_unavailable"),
]  # fmt: skip


@pytest.mark.parametrize(
    "ask",
    [responses_whole, responses_stream, responses_helper, chat_whole, chat_stream, chat_helper],
)
@pytest.mark.parametrize(
    ("status", "error", "kind", "code"), ERRORS, ids=[f"{e[0]}-{e[3]}" for e in ERRORS]
)
async def test_an_http_error_raises_the_right_class(
    ask: Any, status: int, error: Any, kind: type[openai.APIStatusError], code: str
) -> None:
    async with playing(refuses(status, error)) as (_, proxy, client):
        with pytest.raises(kind) as raised:
            await ask(client)
        line = await proxy.exchange()
    assert raised.value.code == code
    assert raised.value.request_id == line["reference"]
    assert isinstance(raised.value.body, dict)
    assert_discreet(raised.value)


@pytest.mark.parametrize("ask", [responses_stream, responses_helper, chat_stream, chat_whole])
async def test_a_dead_upstream_is_an_internal_server_error(ask: Any) -> None:
    async with proxy_for("http://provider.invalid") as proxy, sdk(proxy.url) as client:
        with pytest.raises(openai.InternalServerError) as raised:
            await ask(client)
        line = await proxy.exchange()
    assert raised.value.code == "upstream_unavailable"
    assert raised.value.request_id == line["reference"]
    assert "invalid" not in str(raised.value)


# A failure in the stream

MIDWAY = [
    ("responses-rate-limit-midway", "rate_limit_exceeded"),
    ("responses-invalid-base64-midway", "invalid_base64_image"),
    ("responses-unknown-code-midway", "server_error"),
    ("responses-flat-error-midway", "server_error"),
    ("responses-cut-midway", "server_error"),
]
CHAT_MIDWAY = [
    ("chat-rate-limit-midway", "rate_limit_exceeded"),
    ("chat-traceback-midway", "server_error"),
    ("chat-silent-end", "server_error"),
]


@pytest.mark.parametrize(
    ("ask", "name", "code"),
    [
        *((ask, *case) for ask in (responses_stream, responses_helper) for case in MIDWAY),
        *((ask, *case) for ask in (chat_stream, chat_helper) for case in CHAT_MIDWAY),
    ],
)
async def test_a_failure_midway_raises_with_its_code(ask: Any, name: str, code: str) -> None:
    async with playing(recorded(name), gate=2) as (_, _, client):
        with pytest.raises(openai.APIError) as raised:
            await ask(client)
    assert type(raised.value) is openai.APIError
    assert raised.value.code == code
    assert_discreet(raised.value)


async def test_what_came_before_the_failure_is_read() -> None:
    async with playing(recorded("responses-rate-limit-midway"), gate=2) as (_, _, client):
        stream = await client.responses.create(model="m", input="Hi", stream=True)
        texts: list[str] = []
        while len(texts) < 2:
            event = await anext(aiter(stream))
            if event.type == "response.output_text.delta":
                texts.append(event.delta)
        with pytest.raises(openai.APIError, match="try again in 8s"):
            await anext(aiter(stream))
    assert "".join(texts) == "Hello there"


async def test_a_stream_s_headers_carry_the_reference() -> None:
    async with playing(recorded("responses-text")) as (_, proxy, client):
        stream = await client.responses.create(model="m", input="Hi", stream=True)
        reference = stream.response.headers["x-request-id"]
        async for _ in stream:
            pass
        line = await proxy.exchange()
    assert reference == line["reference"]


# Retries

LIMITED = {"code": "rate_limit_exceeded", "message": f"slow down, {ORG}"}


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize("ask", [responses_stream, chat_whole])
async def test_what_may_succeed_later_is_retried(ask: Any, status: int) -> None:
    again = refuses(status, {"message": "canary"}, Retry_After_Ms="1")
    good = (
        recorded("responses-text")
        if ask is responses_stream
        else answer(json.dumps(CHAT_OBJECT).encode())
    )
    async with playing(again, again, good, max_retries=2) as (upstream, _, client):
        assert await ask(client)
    assert len(upstream.visits) == 3


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (429, {"code": "insufficient_quota", "message": ORG}),
        (500, {"code": "context_length_exceeded", "message": ORG}),
        (503, {"code": "model_not_found", "message": ORG}),
        (409, {"code": "invalid_api_key", "message": ORG}),
    ],
)
async def test_what_is_hopeless_is_not_retried_whatever_its_status(
    status: int, error: dict[str, str]
) -> None:
    async with playing(refuses(status, error), max_retries=2) as (upstream, _, client):
        with pytest.raises(openai.APIStatusError) as raised:
            await chat_whole(client)
    assert raised.value.code == error["code"]
    assert len(upstream.visits) == 1


@pytest.mark.parametrize(
    ("ask", "early", "good"),
    [
        (responses_stream, "responses-rate-limit-early", "responses-text"),
        (responses_helper, "responses-rate-limit-early", "responses-text"),
        (chat_stream, "chat-overloaded-early", "chat-text"),
    ],
)
async def test_an_early_error_of_a_stream_is_retried_as_an_http_status(
    ask: Any, early: str, good: str
) -> None:
    soon = recorded(early).replace(b"try again in 8s", b"try again in 5ms")
    async with playing(soon, recorded(good), max_retries=1, gate=2) as (upstream, proxy, client):
        found = await ask(client)
        lines = await proxy.exchanges(2)
    assert len(found) > 8
    assert len(upstream.visits) == 2
    assert [line.get("gate") for line in lines] == ["promoted", None]


async def test_without_retries_an_early_error_says_when() -> None:
    async with playing(recorded("responses-rate-limit-early"), gate=2) as (_, _, client):
        with pytest.raises(openai.RateLimitError) as raised:
            await responses_stream(client)
    assert raised.value.response.headers["retry-after"] == "8"
    assert "try again in 8s" in raised.value.message
    assert_discreet(raised.value)


async def test_the_gate_off_leaves_an_early_error_in_the_stream() -> None:
    async with playing(recorded("responses-rate-limit-early"), gate=0) as (_, _, client):
        with pytest.raises(openai.APIError) as raised:
            await responses_stream(client)
    assert type(raised.value) is openai.APIError
    assert raised.value.code == "rate_limit_exceeded"


# Other calls


async def test_audio_is_streamed() -> None:
    async with (
        playing(answer(b"ID3" * 1000, content_type="audio/mpeg")) as (_, _, client),
        client.audio.speech.with_streaming_response.create(
            model="m", voice="alloy", input="Hello"
        ) as speech,
    ):
        pieces: AsyncIterator[bytes] = speech.iter_bytes()
        assert b"".join([piece async for piece in pieces]) == b"ID3" * 1000


async def test_a_list_is_paged() -> None:
    page = {"object": "list", "data": [{"id": "model-1", "object": "model", "created": 1,
                                        "owned_by": "me"}]}  # fmt: skip
    async with playing(answer(json.dumps(page).encode())) as (_, _, client):
        assert [model.id async for model in client.models.list()] == ["model-1"]


async def test_a_background_response_that_failed_is_read_without_its_words() -> None:
    stored = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": "failed",
        "model": "m",
        "output": [],
        "error": {"code": "server_error", "message": f"Traceback in {ORG}"},
    }
    async with playing(answer(json.dumps(stored).encode())) as (_, _, client):
        response = await client.responses.retrieve("resp_1")
    assert response.status == "failed"
    assert response.error is not None
    assert response.error.code == "server_error"
    assert "canary" not in response.error.message
