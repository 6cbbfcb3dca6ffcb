"""The cases that began it: a provider's refusal in a Responses stream is one clean failure."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from proxy.core.spec import RESPONSE_ERROR_CODES
from tests.clients.provider import CANARIES, playing, recorded, refuses
from tests.proxies import Answer, relaying
from tests.upstreams import (
    LAST_CHUNK,
    STREAM_HEAD,
    Visit,
    chunk,
    created,
    delta,
    error_event,
    event,
)

BAD_IMAGE: Any = [
    {
        "role": "user",
        "content": [
            {"type": "input_text", "text": "What is this?"},
            {
                "type": "input_image",
                "image_url": "data:image/png;base64,not_valid_base64_data!!!",
            },
        ],
    }
]
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def assert_one_clean_failure(got: Answer, code: str) -> None:
    """What the first validator of this behaviour asserts, and a little more."""
    assert got.status == 200
    assert got.whole
    assert got.headers["Content-Type"].startswith("text/event-stream")
    events = got.events
    assert events[0]["type"] == "response.created"
    for one in events:
        if one["type"] != "error":  # our `error` has both of its shapes
            EVENT.validate_python(one, strict=True)
    assert [one["type"] for one in events].count("response.failed") == 1
    failed = events[-1]
    assert failed["type"] == "response.failed"
    assert len({one["response"]["id"] for one in events if "response" in one}) == 1
    numbers = [one["sequence_number"] for one in events]
    assert all(type(number) is int for number in numbers)
    assert numbers[-1] == numbers[-2] + 1
    assert numbers == sorted(set(numbers))
    response = failed["response"]
    assert response["status"] == "failed"
    assert response["error"]["code"] == code
    assert code in RESPONSE_ERROR_CODES
    assert response["error"]["message"].strip()
    assert not [canary for canary in CANARIES if canary.encode() in got.raw]


async def says_of(events: list[bytes], gate: float = 0) -> Answer:
    async def script(visit: Visit) -> None:
        await visit.body()
        await visit.send(STREAM_HEAD, *map(chunk, events), LAST_CHUNK)

    async with relaying(script, gate=gate) as (_, proxy):
        return await proxy.ask(body=b'{"stream": true}')


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("responses-invalid-base64", "invalid_base64_image"),
        ("responses-invalid-base64-midway", "invalid_base64_image"),
        ("responses-rate-limit-early", "rate_limit_exceeded"),
        ("responses-rate-limit-midway", "rate_limit_exceeded"),
        ("responses-unknown-code-midway", "server_error"),
        ("responses-flat-error-midway", "server_error"),
        ("responses-cut-midway", "server_error"),
    ],
)
async def test_a_recorded_failure(name: str, code: str) -> None:
    assert_one_clean_failure(await says_of([recorded(name)]), code)


TRUNCATION = {
    "message": "Unsupported value: 'auto' is not supported by canary with 'truncation'.",
    "type": "invalid_request_error",
    "param": "truncation",
    "code": "unsupported_value",
}


async def test_truncation_auto_refused_in_the_stream() -> None:
    refusal = event({"type": "error", "error": TRUNCATION, "sequence_number": 1})
    assert_one_clean_failure(await says_of([created(), refusal]), "invalid_prompt")


@pytest.mark.parametrize("stream", [True, False])
async def test_truncation_auto_refused_with_a_status(stream: bool) -> None:  # noqa: FBT001
    async with playing(refuses(400, TRUNCATION)) as (upstream, _, client):
        with pytest.raises(openai.BadRequestError) as raised:
            await client.responses.create(model="m", input="Hi", truncation="auto", stream=stream)
    assert json.loads(await upstream.visit.body())["truncation"] == "auto"
    assert raised.value.code == "invalid_request"
    assert raised.value.param == "truncation"
    assert "truncation" in raised.value.message
    assert "canary" not in str(raised.value)


async def test_truncation_auto_refused_in_the_stream_while_the_gate_holds() -> None:
    refusal = event({"type": "error", "error": TRUNCATION, "sequence_number": 1})
    async with playing(created() + refusal, gate=2) as (_, _, client):
        with pytest.raises(openai.BadRequestError) as raised:
            await client.responses.create(model="m", input="Hi", truncation="auto", stream=True)
    assert (raised.value.code, raised.value.param) == ("invalid_request", "truncation")


@pytest.mark.parametrize("name", ["responses-invalid-base64", "responses-invalid-base64-midway"])
async def test_an_image_that_is_no_base64(name: str) -> None:
    async with playing(recorded(name), gate=2) as (upstream, _, client):
        with pytest.raises(openai.APIError) as raised:
            async for _ in await client.responses.create(model="m", input=BAD_IMAGE, stream=True):
                pass
    assert b"not_valid_base64_data!!!" in await upstream.visit.body()
    assert raised.value.code == "invalid_base64_image"
    assert "base64" in raised.value.message
    assert "not_valid_base64_data" not in raised.value.message
    assert isinstance(raised.value, openai.BadRequestError) == (not name.endswith("midway"))


@pytest.mark.parametrize("code", RESPONSE_ERROR_CODES)
async def test_a_code_of_the_enum_stays(code: str) -> None:
    got = await says_of([created(), delta("Hi", 1), error_event(code)])
    assert_one_clean_failure(got, code)


@pytest.mark.parametrize(
    "code",
    ["vllm_engine_dead", "500", "E_CANARY", "", "None", "server_error; DROP", "\u2028", "x" * 9999],
)
async def test_a_code_outside_the_enum_falls_back(code: str) -> None:
    got = await says_of([created(), delta("Hi", 1), error_event(code)])
    assert_one_clean_failure(got, "server_error")


async def test_a_sequence_goes_on_where_the_stream_s_own_left_off() -> None:
    got = await says_of([created(7), delta("Hi", 8), error_event("server_error", 9)])
    assert [one["sequence_number"] for one in got.events] == [7, 8, 9, 10]
    assert_one_clean_failure(got, "server_error")
