"""Shapes that nobody recorded: a fault that is known in one shape is known in every other."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest

from proxy.core.incident import Ledger
from proxy.core.stream import StreamSanitizer
from proxy.core.surfaces import SURFACES
from proxy.core.surfaces.names import CHAT, COMPLETIONS, MESSAGES, RESPONSES
from proxy.core.surfaces.surface import Target
from proxy.core.table import Context
from tests.proxies import shipped

# Words that say nothing, beside a code that does.
NEUTRAL: Final = "See the log of node 7."


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault, and the reply that it has in every shape."""

    reply: str
    code: str
    message: str


CODED: Final = tuple(
    Fault(reply, code, NEUTRAL)
    for reply, code in (
        ("rate_limit_exceeded", "rate_limit_exceeded"),
        ("context_length_exceeded", "context_length_exceeded"),
        ("insufficient_quota", "insufficient_quota"),
        ("usage_limit_reached", "usage_limit_reached"),
        ("invalid_api_key", "invalid_api_key"),
        ("model_not_found", "model_not_found"),
        ("server_is_overloaded", "model_overloaded"),
        ("invalid_prompt", "content_filter"),
        ("content_policy_violation", "content_policy_violation"),
        ("invalid_base64_image", "invalid_base64_image"),
        ("image_parse_error", "image_parse_error"),
        ("failed_to_download_image", "image_download_failed"),
        ("image_file_too_large", "image_file_too_large"),
        ("previous_response_not_found", "previous_response_not_found"),
        ("slow_down", "slow_down"),
    )
)
WORDED: Final = tuple(
    Fault(reply, "", message)
    for reply, message in (
        ("rate_limit_exceeded", "Rate limit reached for model-1 on tokens per min. Try later."),
        ("context_length_exceeded", "This model's maximum context length is 8192 tokens."),
        (
            "insufficient_quota",
            "You exceeded your current quota, please check your plan and billing details.",
        ),
        ("insufficient_quota", "Your credit balance is too low to access this API."),
        ("invalid_api_key", "Incorrect API key provided: sk-x."),
        ("model_not_found", "The model `model-1` does not exist or you do not have access to it."),
        ("server_is_overloaded", "The engine is currently overloaded, please try again later"),
        (
            "invalid_prompt",
            "The response was filtered due to the prompt triggering a content management policy.",
        ),
        ("upstream_unavailable", "upstream connect error or disconnect/reset before headers"),
    )
)
STATUSES: Final = {
    401: "invalid_api_key",
    402: "insufficient_quota",
    403: "permission_denied",
    404: "not_found",
    413: "request_too_large",
    429: "rate_limit_exceeded",
    502: "upstream_unavailable",
    503: "server_is_overloaded",
    504: "upstream_timeout",
}

Object = dict[str, Any]


def error(fault: Fault) -> Object:
    return {"message": fault.message, "type": None, "param": None, "code": fault.code or None}


def openai(fault: Fault) -> Object:
    return {"error": error(fault)}


def named(code: str, message: str) -> Callable[[Fault], Object]:
    return lambda fault: {code: fault.code, message: fault.message}


# Each wraps a fault as an object.
OBJECTS: Final[dict[str, Callable[[Fault], Any]]] = {
    "openai": openai,
    "code and message in error": lambda f: {"error": named("code", "message")(f)},
    "type and message in error": lambda f: {"type": "error", "error": named("type", "message")(f)},
    "flat code and message": named("code", "message"),
    "flat object error": lambda f: {"object": "error", **error(f)},
    "error_code": named("error_code", "error_message"),
    "errorCode": named("errorCode", "errorMessage"),
    "ErrorCode": named("ErrorCode", "ErrorMessage"),
    "err_code": named("err_code", "err_msg"),
    "errcode": named("errcode", "errmsg"),
    "Code": named("Code", "Message"),
    "code and msg": named("code", "msg"),
    "error_type": named("error_type", "message"),
    "error text with code beside": named("code", "error"),
    "oauth": lambda f: {"error": f.code or f.message, "error_description": f.message},
    "detail text": lambda f: {"code": f.code, "detail": f.message},
    "detail object": lambda f: {"detail": error(f)},
    "detail with error": lambda f: {"detail": openai(f)},
    "detail list": lambda f: {"detail": [{"type": f.code, "loc": ["body"], "msg": f.message}]},
    "errors list": lambda f: {"errors": [error(f)], "success": False},
    "graphql": lambda f: {"errors": [{"message": f.message, "extensions": {"code": f.code}}]},
    "json:api": lambda f: {"errors": [{"code": f.code, "title": "Error", "detail": f.message}]},
    "problem json": lambda f: {
        "type": f"https://errors.example/{f.code or 'about:blank'}",
        "title": f.message,
        "status": 500,
    },
    "aws": lambda f: {"__type": f"com.example.model#{f.code}", "message": f.message},
    "apigee": lambda f: {"fault": {"faultstring": f.message, "detail": {"errorcode": f.code}}},
    "success false": lambda f: {"success": False, "result": None, "error": error(f)},
    "status error": lambda f: {"status": "error", "error": error(f)},
    "error in error": lambda f: {"error": openai(f)},
    "error in data": lambda f: {"data": None, "error": error(f), "request_id": "r-1"},
    "inner error": lambda f: {"error": {"message": "Bad gateway answer", "inner_error": error(f)}},
    "innererror": lambda f: {"error": {"code": None, "message": "no", "innererror": error(f)}},
    "cause": lambda f: {"error": {"message": "The provider failed", "cause": error(f)}},
    "metadata raw": lambda f: {
        "error": {"message": "Provider returned error", "metadata": {"raw": json.dumps(openai(f))}}
    },
    "upstream error": lambda f: {"message": "failed", "upstream_error": openai(f)},
    "message is json": lambda f: {"error": {"message": json.dumps(openai(f)), "code": None}},
    "message is pretty json": lambda f: {"message": json.dumps(openai(f), indent=2)},
    "message holds json": lambda f: {"message": f"gateway: {json.dumps(openai(f))} (2 tries)"},
    "message holds a repr": lambda f: {"error": {"message": f"Error: {openai(f)!r}"}},
    "message holds a bytes repr": lambda f: {"error": f"Error: {json.dumps(openai(f)).encode()!r}"},
    "error is json": lambda f: {"error": json.dumps(openai(f))},
    "body is json": lambda f: {"error": {"message": "failed", "body": json.dumps(openai(f))}},
    "original message": lambda f: {
        "message": "The container failed",
        "originalMessage": json.dumps(openai(f)),
    },
    "list": lambda f: [openai(f)],
}
# Each wraps a fault as text.
TEXTS: Final[dict[str, Callable[[Fault], str]]] = {
    "python repr": lambda f: repr(openai(f)),
    "exception with a repr": lambda f: f'APIError("Error code: 500 - {openai(f)!r}")',
    "frames": lambda f: f"event: error\ndata: {json.dumps(openai(f))}\n\n",
    "one frame and done": lambda f: f"data: {json.dumps(openai(f))}\n\ndata: [DONE]\n\n",
    "json lines": lambda f: f'{json.dumps(openai(f))}\n{{"done":true}}\n',
    "json after a byte order mark": lambda f: "\ufeff" + json.dumps(openai(f)),
    "json string": lambda f: json.dumps(json.dumps(openai(f))),
    "xml": lambda f: (
        f"<?xml version='1.0'?><Error><Code>{f.code}</Code><Message>{f.message}</Message></Error>"
    ),
}
SPELLINGS: Final[dict[str, Callable[[str], str]]] = {
    "snake_case": str,
    "SNAKE_CASE": str.upper,
    "kebab-case": lambda code: code.replace("_", "-"),
    "dotted.case": lambda code: code.replace("_", "."),
    "PascalCase": lambda code: "".join(map(str.capitalize, code.split("_"))),
    "camelCase": lambda code: re.sub(r"_(\w)", lambda found: found[1].upper(), code),
    "spaces": lambda code: code.replace("_", " "),
    "Capitals": lambda code: code.replace("_", " ").title(),
}
STATUS_NAMES: Final = (
    "code", "status", "status_code", "statusCode", "http_status", "httpStatus", "http_code",
    "error_code", "errorCode",
)  # fmt: skip


def ledger(surface: str) -> Ledger:
    return Ledger(shipped(), Context(surface, "client", "reference"), 0)


def http(body: str, status: int = 500) -> str:
    """Return the reply to an HTTP error, of a status that tells nothing."""
    notes = ledger(CHAT)
    return notes.answer(notes.reader.read_http(status, body.encode())).code


def missed(faults: tuple[Fault, ...], read: Callable[[Fault], str]) -> dict[str, str]:
    """Return the faults that have got another reply."""
    found = {fault.code or fault.message: (fault.reply, read(fault)) for fault in faults}
    return {name: got for name, (wanted, got) in found.items() if got != wanted}


@pytest.mark.parametrize("shape", OBJECTS)
@pytest.mark.parametrize("faults", [CODED, WORDED], ids=["by code", "by message"])
def test_any_object_under_a_status(shape: str, faults: tuple[Fault, ...]) -> None:
    assert missed(faults, lambda fault: http(json.dumps(OBJECTS[shape](fault)))) == {}


@pytest.mark.parametrize("shape", TEXTS)
@pytest.mark.parametrize("faults", [CODED, WORDED], ids=["by code", "by message"])
def test_any_text_under_a_status(shape: str, faults: tuple[Fault, ...]) -> None:
    assert missed(faults, lambda fault: http(TEXTS[shape](fault))) == {}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_any_spelling_of_a_code(spelling: str) -> None:
    spelled = tuple(Fault(f.reply, SPELLINGS[spelling](f.code), f.message) for f in CODED)
    for shape in ("openai", "flat code and message", "type and message in error"):
        assert missed(spelled, lambda fault: http(json.dumps(OBJECTS[shape](fault)))) == {}  # noqa: B023


@pytest.mark.parametrize("shape", ["text", "text after a word", "json string", "in a traceback"])
def test_any_text_that_tells(shape: str) -> None:
    def body(message: str) -> str:
        return {
            "text": message,
            "text after a word": f"Error: {message}",
            "json string": json.dumps(message),
            "in a traceback": f'Traceback:\n  File "a.py", line 1\nlib.APIError: {message}',
        }[shape]

    assert missed(WORDED, lambda fault: http(body(fault.message))) == {}


@pytest.mark.parametrize("name", STATUS_NAMES)
@pytest.mark.parametrize("form", [int, str], ids=["number", "text"])
@pytest.mark.parametrize("nested", [True, False], ids=["nested", "flat"])
def test_a_status_in_the_body_knows_more_than_the_gateway(
    name: str, form: Callable[[int], object], *, nested: bool
) -> None:
    def body(status: int) -> str:
        told = {name: form(status), "message": NEUTRAL}
        return json.dumps({"error": told} if nested else told)

    found = {status: http(body(status)) for status in STATUSES}
    assert found == STATUSES


# Sentences as providers might write them: none was recorded, and no rule has one of them whole.
SENTENCES: Final[dict[str, str]] = {
    "We allow you 20 queries per second, please wait.": "rate_limit_exceeded",
    "The daily request quota of the free plan is spent.": "usage_limit_reached",
    "Your wallet holds less than this request costs.": "insufficient_quota",
    "The balance of account acme is too low for this.": "insufficient_quota",
    "账户余额不足，请稍后再试": "insufficient_quota",
    "Sorry, the conversation history is too large for this model.": "context_length_exceeded",
    "The prompt you sent is far too long for us.": "context_length_exceeded",
    "Sum of input tokens and output exceeds 8192.": "context_length_exceeded",
    "The base64 of attachment 2 is malformed.": "invalid_base64_image",
    "We could not fetch the second image.": "failed_to_download_image",
    "The image in message 3 is too large for us.": "image_too_large",
    "This kind of picture is an unsupported image type.": "invalid_image_format",
    "We are unable to decode the second image.": "image_parse_error",
    "Our safety filter has stopped the answer.": "invalid_prompt",
    "This is against our acceptable use rules.": "content_policy_violation",
    "The model acme-large was retired last spring.": "model_not_found",
    "acme-large is an unsupported model here.": "model_not_found",
    "The api key of team acme is revoked.": "invalid_api_key",
    "The account of team acme was suspended by an admin.": "permission_denied",
    "All of our instances are busy.": "server_is_overloaded",
    "服务器过载，请稍后再试": "server_is_overloaded",
    "The worker has timed out.": "upstream_timeout",
    "RuntimeError: socket hang up": "upstream_unavailable",
    "The body of your request is too large.": "request_too_large",
}
# What is merely wrong with a request, in words that elsewhere tell of something else.
MERELY_WRONG: Final = (
    "The model `acme-1` does not support image inputs.",
    "This model does not support images. Remove the image and try again.",
    "Function calling is not supported by this model",
    "The parameter 'timeout' must be a positive integer",
    "Invalid value for 'image_url.detail': must be one of auto, low, high",
    "stop sequences: too many, at most 4 allowed",
    "logit_bias token id 99999999 is out of range",
    "max_tokens must be greater than thinking.budget_tokens",
    "The max_tokens parameter exceeds the maximum output tokens (4096) of this model",
    "messages.3.content.0: Invalid `signature` in `thinking` block",
    "Number of images exceeds the limit of 5",
    "Invalid 'tools[0].function.name': string too long. Expected at most 64 characters.",
    "Unsupported audio format: aac",
    "Function name is invalid: must be a-z, A-Z, 0-9",
    "System instruction is not supported",
    "none is not an allowed value",
)


@pytest.mark.parametrize("sentence", SENTENCES)
def test_telling_words_are_understood_in_any_sentence(sentence: str) -> None:
    status = 500 if SENTENCES[sentence].startswith(("upstream", "server")) else 400
    assert http(json.dumps({"error": {"message": sentence}}), status) == SENTENCES[sentence]


@pytest.mark.parametrize("sentence", MERELY_WRONG)
def test_a_request_that_is_merely_wrong_is_called_nothing_else(sentence: str) -> None:
    assert http(json.dumps({"error": {"message": sentence}}), 400) == "invalid_request"


OPENINGS: Final = {
    CHAT: '{"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"Hel"}}]}',
    COMPLETIONS: '{"object":"text_completion","choices":[{"index":0,"text":"Hel"}]}',
    RESPONSES: '{"type":"response.output_text.delta","sequence_number":3,"delta":"Hel"}',
    MESSAGES: '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"H"}}',
}


def in_stream(surface: str, event: str) -> list[str]:
    """Return the replies to an event in the middle of a stream."""
    notes = ledger(surface)
    path = {CHAT: "/v1/chat/completions"}.get(surface, f"/v1/{surface}")
    stream = SURFACES[surface].open(notes, Target("POST", path))
    sanitizer = StreamSanitizer(stream, notes, 1 << 20)
    sanitizer.feed(f"data: {OPENINGS[surface]}\n\n{event}".encode())
    sanitizer.close()
    return [incident.resolution.reply.code for incident in notes.incidents]


def framings(data: str) -> Iterator[str]:
    yield f"data: {data}\n\n"
    yield f"event: error\r\nid: 4\r\ndata:{data}\r\n\r\n"


@pytest.mark.parametrize("shape", OBJECTS)
@pytest.mark.parametrize("surface", OPENINGS)
def test_any_object_in_a_stream(shape: str, surface: str) -> None:
    wrong = []
    for fault in (*CODED, *WORDED):
        for event in framings(json.dumps(OBJECTS[shape](fault))):
            got = in_stream(surface, event)
            if got != [fault.reply]:
                wrong.append((event, got))
    assert wrong == []


def exceptions(code: str) -> tuple[str, ...]:
    """Name the exceptions that a program would make of a code, if it is none already."""
    if code.endswith("_error"):
        return (code,)
    camel, pascal = SPELLINGS["camelCase"](code), SPELLINGS["PascalCase"](code)
    return f"{camel}Exception", f"{pascal}Error", f"{code}_error"


@pytest.mark.parametrize("shape", ["openai", "flat code and message", "aws", "error_type"])
def test_a_code_that_is_an_exceptions_name(shape: str) -> None:
    for fault in CODED:
        named_so = [Fault(fault.reply, name, NEUTRAL) for name in exceptions(fault.code)]
        assert missed(tuple(named_so), lambda f: http(json.dumps(OBJECTS[shape](f)))) == {}


@pytest.mark.parametrize("surface", OPENINGS)
def test_a_key_that_is_an_exceptions_name(surface: str) -> None:
    for fault in CODED:
        for key in exceptions(fault.code):
            event = f'data: {{"{key}":{{"message":"no"}}}}\n\n'
            assert in_stream(surface, event) == [fault.reply], event


@pytest.mark.parametrize("surface", OPENINGS)
@pytest.mark.parametrize("shape", ["openai", "flat object error", "error text with code beside"])
def test_an_unframed_object_in_a_stream(shape: str, surface: str) -> None:
    for fault in CODED:
        value = OBJECTS[shape](fault)
        for text in (json.dumps(value), json.dumps(value, indent=2)):
            assert in_stream(surface, f"{text}\n\n") == [fault.reply], text
            assert in_stream(surface, text) == [fault.reply], text


# What only a proxy has to say; one in front of it says something as good.
OWN_WORDS: Final = {
    "service_restarting",
    "method_not_allowed",
    "upgrade_not_supported",
    "request_headers_too_large",
    "request_timeout",
    "tool_failed",
    "moderation_failed",
}


@pytest.mark.parametrize("name", shipped().replies)
def test_a_proxy_understands_another(name: str) -> None:
    reply = shipped().replies[name]
    notes = ledger(CHAT)
    said = {"error": {"message": reply.messages[-1].text, "type": reply.type, "code": name}}
    body = json.dumps(said).encode()
    got = notes.answer(notes.reader.read_http(reply.status, body))
    assert got.retryable == reply.retryable
    assert got.code == name or name in OWN_WORDS


@pytest.mark.parametrize("surface", OPENINGS)
def test_an_error_that_a_second_value_hides_is_one(surface: str) -> None:
    fault = CODED[0]
    ordinary = OPENINGS[surface][1:-1]
    for hidden in (error(fault), fault.message):
        text = f'{{"error":{json.dumps(hidden)},{ordinary},"error":null}}'
        assert len(in_stream(surface, f"data: {text}\n\n")) == 1, text
