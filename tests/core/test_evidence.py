"""Any bytes give evidence: read by known shapes, bounded, and never with an exception."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.embedded import is_html
from proxy.core.errors import Origin, UpstreamError
from proxy.core.evidence import MAX_RAW, Reader
from proxy.core.failures import Failure
from proxy.core.fields import squash
from proxy.core.pattern import Pattern
from tests.playbook import shipped

READER = Reader(delays=[Pattern.parse("try again in {delay:duration}")])


def read(body: bytes | str | object, status: int = 400) -> UpstreamError:
    if not isinstance(body, str | bytes):
        body = json.dumps(body)
    return READER.read_http(status, body if isinstance(body, bytes) else body.encode())


def facts(error: UpstreamError) -> dict[str, Any]:
    """Return what an error says, without what it does not say."""
    names = ("status", "code", "type", "param", "message")
    return {name: getattr(error, name) for name in names if getattr(error, name)}


def told(**said: Any) -> dict[str, Any]:
    return {"status": 400, **said}


SHAPES: dict[str, tuple[object, dict[str, Any]]] = {
    "nested": (
        {"error": {"message": "M", "type": "T", "param": "model", "code": "c"}},
        told(message="M", type="T", param="model", code="c"),
    ),
    "text beside a code": ({"error": "M", "code": "c"}, told(message="M", code="c")),
    "text": ({"error": "M"}, told(message="M")),
    "array": ([{"error": {"message": "M", "status": "T"}}], told(message="M", type="T")),
    "flat": ({"object": "error", "message": "M", "type": "T"}, told(message="M", type="T")),
    "Anthropic": (
        {"type": "error", "error": {"type": "T", "message": "M"}},
        told(type="T", message="M"),
    ),
    "detail text": ({"detail": "M"}, told(message="M")),
    "detail list": (
        {"detail": [{"loc": ["body", "messages", 0], "msg": "M", "type": "T"}]},
        told(message="M", type="T", param="messages.0"),
    ),
    "detail object": ({"detail": {"error": {"message": "M"}}}, told(message="M")),
    "message object": (
        {"message": {"detail": [{"msg": "M", "type": "T"}]}},
        told(message="M", type="T"),
    ),
    "message": ({"message": "M"}, told(message="M")),
    "Message": ({"Message": "M"}, told(message="M")),
    "AWS": ({"__type": "com.fake#T", "message": "M"}, told(type="T", message="M")),
    "errors list": ({"errors": [{"message": "M", "code": 7}]}, told(message="M", code="7")),
    "error_code": ({"error_code": "c", "message": "M"}, told(code="c", message="M")),
    "errorCode": ({"errorCode": "c", "errorMessage": "M"}, told(code="c", message="M")),
    "error without message": ({"error": {"detail": "M"}}, told(message="M")),
    "problem+json": (
        {"type": "https://fake.example/probs/out-of-credit", "title": "M", "status": 402},
        {"status": 402, "type": "out-of-credit", "message": "M"},
    ),
    "problem+json with a detail": (
        {"title": "Out of credit", "status": 402, "detail": "M"},
        {"status": 402, "message": "Out of credit: M"},
    ),
    "a status in words above": (
        {"error": "Bad Request", "message": "M"},
        told(message="M"),
    ),
    "a heading above": ({"error": "No more luck", "message": "M"}, told(message="No more luck: M")),
    "a heading that repeats": ({"error": "M", "message": "M"}, told(message="M")),
    "a name of an error": ({"name": "T", "message": "M"}, told(type="T", message="M")),
    "problem+json about:blank": ({"type": "about:blank", "title": "M"}, told(message="M")),
    "exception-named key": (
        {"throttlingException": {"message": "M"}},
        told(message="M"),
    ),
    "XML": (
        "<Error><Code>c</Code><Message>M &amp; N</Message></Error>",
        told(code="c", message="M & N"),
    ),
    "SSE frames": ('event: error\ndata: {"error":{"message":"M"}}\n\n', told(message="M")),
    "an SSE error field": ('error: {"message":"M"}\n\n', told(message="M")),
    "SSE frames without an object": ("data: [DONE]\n\n", told(message="data: [DONE]")),
    "text body": ("upstream  connect\n error", told(message="upstream connect error")),
    "JSON text": ('"M"', told(message="M")),
    "empty": ("", told()),
    "a number": ("7", told()),
    "null": ("null", told(message="null")),
    "an empty object": ({}, told()),
    "an empty list": ([], told()),
    "a page": ("<html><title>Overloaded</title></html>", told()),
    "XML without fields": ("<Fault/>", told(message="<Fault/>")),
}  # fmt: skip


@pytest.mark.parametrize(("body", "wanted"), SHAPES.values(), ids=SHAPES)
def test_every_shape_of_body_is_read(body: object, wanted: dict[str, Any]) -> None:
    error = read(body)
    assert facts(next(error.layers())) == wanted
    assert error.origin is Origin.HTTP
    assert error.failure is None


NESTED: dict[str, object] = {
    "metadata.raw": {"error": {"message": "outer", "metadata": {"raw": '{"code":"inner"}'}}},
    "JSON in the message": {"error": {"message": 'Failed: {"error": {"code": "inner"}}'}},
    "a Python repr": {"error": {"message": "Error code: 400 - {'code': 'inner', 'p': None}"}},
    "a list in a message": {"message": "Bad: [{'code': 'inner'}]"},
    "innererror": {"error": {"code": "outer", "innererror": {"code": "inner"}}},
    "details": {"error": {"message": "outer", "details": [{"reason": "inner"}]}},
    "cause": {"code": "outer", "cause": {"code": "inner"}},
    "body as text": {"message": "outer", "body": '{"code":"inner"}'},
    "exception": {"message": "outer", "exception": {"code": "inner"}},
    "three deep": {"error": {"code": "a", "error": {"code": "b", "error": {"code": "inner"}}}},
    "plain text": "litellm.BadRequestError: {'error': {'code': 'inner'}}",
}  # fmt: skip


@pytest.mark.parametrize("body", NESTED.values(), ids=NESTED)
def test_a_wrapped_error_is_the_innermost_layer(body: object) -> None:
    layers = list(read(body).layers())
    assert layers[0].code == "inner"
    assert len(layers) > 1


def test_the_outer_status_and_delay_reach_the_inner_error() -> None:
    error = READER.read_http(500, b'{"status":429,"error":{"code":"x"}}', retry_after=7.0)
    assert [one.status for one in error.layers()] == [429]
    assert error.retry_after == 7.0


def test_a_gateway_that_repeats_the_error_says_it_once() -> None:
    body = {"message": "M", "error": {"message": "M"}}
    assert len(list(read(body).layers())) == 1


CODES: list[tuple[object, str]] = [
    ("x", "x"),
    (" x ", "x"),
    (1008, "1008"),
    ("1008", "1008"),
    (429, ""),
    ("429", ""),
    ("None", ""),
    ("null", ""),
    ("undefined", ""),
    ("error", ""),
    ("", ""),
    (None, ""),
    (True, ""),
    (1.5, ""),
    ([], ""),
    ({}, ""),
    ("x" * 300, ""),
    ("fake.api#x", "x"),
    ("https://fake.example/x/", "x"),
]


@pytest.mark.parametrize(("code", "wanted"), CODES)
def test_a_code_is_one_word(code: object, wanted: str) -> None:
    assert read({"error": {"code": code, "message": "M"}}).code == wanted


STATUSES: list[tuple[dict[str, object], int]] = [
    ({"code": 429}, 429),
    ({"code": "429"}, 429),
    ({"status": 429}, 429),
    ({"statusCode": 429}, 429),
    ({"http_status": "429"}, 429),
    ({"status": 200}, 500),
    ({"status": 600}, 500),
    ({"status": "４２９"}, 500),
    ({"status": True}, 500),
    ({"message": "429: slow"}, 429),
    ({"message": "Error code: 429 - {'a': 1}"}, 429),
    ({"message": "lib.ApiError: Fake - Error code: 429 - {'a': 1}"}, 429),
    ({"message": "see Error code: 429"}, 500),
    ({"message": "<429> slow"}, 429),
    ({"message": "[429] slow"}, 429),
    ({"message": "HTTP 429, slow"}, 429),
    ({"message": "429 - slow"}, 429),
    ({"message": "4290 tokens"}, 500),
    ({"message": "after 429: slow"}, 500),
]


@pytest.mark.parametrize(("fields", "wanted"), STATUSES)
def test_a_status_is_read_where_one_is_told(fields: dict[str, object], wanted: int) -> None:
    assert read({"error": {"message": "M", **fields}}, 500).status == wanted


PARAMS: list[tuple[object, str]] = [
    ("model", "model"),
    (["body", "messages", 0, "content"], "messages.0.content"),
    (["query", "limit"], "query.limit"),
    ([], ""),
    (None, ""),
    ("None", ""),
    (7, ""),
    ("x" * 300, "x" * 200),
]


@pytest.mark.parametrize(("param", "wanted"), PARAMS)
def test_a_param_is_a_name_or_a_path(param: object, wanted: str) -> None:
    assert read({"error": {"message": "M", "param": param}}).param == wanted


DELAYS: list[tuple[dict[str, object], float | None]] = [
    ({"retry_after": 5}, 5.0),
    ({"retry-after": "5"}, 5.0),
    ({"retry_after_ms": 1500}, 1.5),
    ({"retryAfterSeconds": 2.5}, 2.5),
    ({"details": [{"retryDelay": "34.4s"}]}, 34.4),
    ({"details": [{"retryDelay": "250ms"}]}, 0.25),
    ({"retryDelay": {"seconds": 5}}, 5.0),
    ({"resets_in_seconds": 3600}, 3600.0),
    ({"message": "Please try again in 11.054s."}, 11.054),
    ({"message": "Please try again in 1m30s."}, 90.0),
    ({"message": "Please try again soon."}, None),
    ({"retry_after": 0}, None),
    ({"retry_after": -5}, None),
    ({"retry_after": "soon"}, None),
    ({"retry_after": True}, None),
    ({"retry_after": 10**9}, None),
    ({"retryDelay": {"nanos": 5}}, None),
]


@pytest.mark.parametrize(("fields", "wanted"), DELAYS)
def test_a_delay_is_read_from_fields_and_sentences(
    fields: dict[str, object], wanted: float | None
) -> None:
    assert read({"error": {"message": "M", **fields}}).retry_after == wanted


def test_the_headers_delay_comes_first() -> None:
    assert READER.read_http(429, b'{"retry_after":5}', retry_after=9.0).retry_after == 9.0


def test_a_failure_is_ours_and_what_was_seen_lies_inside_it() -> None:
    error = READER.read_bytes(b'{"error":{"code":"c"}}', Origin.PROXY, failure=Failure.IDLE)
    assert error.failure is Failure.IDLE
    assert error.code == ""
    assert error.inner is not None
    assert (error.inner.code, error.inner.failure) == ("c", None)


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (b"<!DOCTYPE html><html>", True),
        (b"  \n<HTML>", True),
        (b"<!-- a -->\n<!-- b --><html>", True),
        (b"<h1>502</h1>", True),
        (b"<center>nginx</center>", True),
        (b"<Error><Code>c</Code></Error>", False),
        (b"<|endoftext|>", False),
        (b'{"html": "<html>"}', False),
        (b"", False),
    ],
)
def test_a_page_is_known_by_its_beginning(body: bytes, *, wanted: bool) -> None:
    assert is_html(body) is wanted


def test_words_are_compared_without_case_and_punctuation() -> None:
    assert squash("Rate_Limit-Exceeded") == squash("rateLimitExceeded") == "ratelimitexceeded"


def test_curly_quotes_and_spaces_are_made_plain() -> None:
    assert read({"message": "doesn\N{RIGHT SINGLE QUOTATION MARK}t\n\t exist"}).message == (
        "doesn't exist"
    )


class TestBounds:
    def test_what_is_kept_for_the_operator(self) -> None:
        assert len(read(b"x" * 1_000_000).raw) == MAX_RAW

    def test_a_message(self) -> None:
        assert len(read({"message": "x " * 100_000}).message) <= 4096

    def test_layers_deep(self) -> None:
        body: object = {"code": "x"}
        for level in range(100):
            body = {"code": f"c{level}", "error": body}
        assert len(list(read(body).layers())) <= 8

    def test_layers_wide(self) -> None:
        body = {"errors": [{"code": f"c{i}"} for i in range(10_000)]}
        assert len(list(read(body).layers())) <= 8

    def test_json_inside_a_string(self) -> None:
        body = {"message": "x: " + json.dumps({"code": "inner", "pad": "x" * 70_000})}
        assert [one.code for one in read(body).layers()] == [""]


HOSTILE = {
    "endless number": b'{"code":' + b"9" * 10_000 + b"}",
    "endless number in a Python repr": b"bad {'code': 0x" + b"f" * 5000 + b"}",
    "a Python dict with other keys": b"bad {1: 2, b'x': 3, None: {'code': 'x'}}",
    "a Python set": b"bad {1, 2}",
    "a Python call": b"bad {'a': exit()}",
    "a Python dict that cannot be": b"bad {[]: 1}",
    "an escape Python frowns at": b"bad {'a': '\\d'}",
    "a repr cut short": b"bad {'a': {'b': 1}",
    "braces": b"{" * 10_000 + b"}" * 10_000,
    "brackets in text": b"bad " + b"[" * 10_000 + b"]" * 10_000,
    "parentheses": b"bad {" + b"(" * 10_000 + b"}",
    "operators": b"bad {" + b"-" * 50_000 + b"1}",
    "deep JSON": b'{"error":' * 900 + b"1" + b"}" * 900,
    "half a character": b'{"error":"\xe2\x82"}',
    "lone surrogates": b'{"error":{"message":"\\ud83d","code":"\\udc00"}}',
    "not a number": b'{"error":{"retry_after":NaN,"code":Infinity}}',
    "a huge float": b'{"retry_after":1e308}',
    "NUL": b"\x00" * 100,
    "a BOM": b'\xef\xbb\xbf{"error":"x"}',
    "UTF-16": '{"error":"x"}'.encode("utf-16"),
    "an endless comment": b"<!--" * 1000,
    "comments of a page": b"<!---->" * 100 + b"x",
    "endless tags": b"<Code>" * 10_000,
    "frames": b"data: x\n" * 20_000,
    "an open frame": b"data: " + b"x" * 200_000,
    "a comment frame": b": x\n\n",
    "keys that are one": b'{"Error":1,"error":{"code":"x"},"ERROR":[]}',
    "other scripts' digits": '{"status":"²²²","retry_after":"٣"}'.encode(),
}


@contextmanager
def ends_within(seconds: int) -> Iterator[None]:
    """Fail where the block would run for ever; `re` listens to signals too."""

    def give_up(*_: object) -> None:
        pytest.fail(f"still running after {seconds} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_hostile_bodies_are_read_and_soon(body: bytes) -> None:
    with ends_within(20):
        error = shipped().reader.read_http(500, body)
    assert error.status is not None
    for layer in error.layers():
        assert len(layer.message) <= 4096
        assert max(map(len, (layer.code, layer.type, layer.param))) <= 200


# Field names that evidence knows, around JSON of any kind.
_KEYS = st.sampled_from(
    [
        *("error", "errors", "detail", "message", "code", "type", "status", "param", "loc"),
        *("metadata", "raw", "body", "exception", "retry_after", "retryDelay", "base_resp"),
        *("status_code", "header", "Response", "Error", "Code", "success", "x"),
    ]
)
_TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["429", "None", '{"code":"x"}', "bad {'a': 1}", "[{", "Error code: 500 - {'e': [1, (2,)]}"]
    ),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_any_json_is_read(value: object) -> None:
    reader = shipped().reader
    error = reader.read(value, Origin.STREAM)
    assert len(list(error.layers())) <= 9
    reader.read_bytes(json.dumps(value).encode(), Origin.BODY, failure=Failure.MALFORMED_BODY)
    reader.read_bytes(repr(value).encode("utf-8", "replace"), Origin.HTTP, status=500)


@given(st.binary(max_size=200))
def test_any_bytes_are_read(body: bytes) -> None:
    error = shipped().reader.read_http(500, body)
    assert error.raw == body
