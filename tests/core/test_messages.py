"""Anthropic Messages: typed, named events from message_start to message_stop."""

from __future__ import annotations

import json

import pytest

from proxy.core.errors import UpstreamError
from proxy.core.failures import Failure
from proxy.core.surfaces.messages import messages
from proxy.core.surfaces.names import MESSAGES
from proxy.core.surfaces.surface import Ordinary, Target
from tests.playbook import (
    REFERENCE,
    Json,
    Said,
    cut,
    data,
    eof,
    event,
    events_of,
    failure,
    gets,
    keep_alive,
    ledger,
    parsed,
    play,
    raw,
    same,
    sanitizer,
)

START = event("message_start", message={"id": "msg_1", "content": []})
DELTA = event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hi"})
STOP = event("message_stop")
POST = Target("POST", "/v1/messages")


def test_a_healthy_stream_passes_and_ends_with_its_stop() -> None:
    assert (
        play(MESSAGES)
        >> START
        << same()
        >> event("ping")
        << same()
        >> event("content_block_start", index=0, content_block={"type": "text"})
        << same()
        >> DELTA
        << same()
        >> event("content_block_stop", index=0)
        << same()
        >> event("message_delta", delta={"stop_reason": "refusal"}, usage={})
        << same()
        >> STOP
        << same()
        >> DELTA
        >> eof()
    )


ERRORS: dict[str, tuple[Said, str]] = {
    "an error event": (
        event("error", error={"type": "overloaded_error", "message": "M"}),
        "server_is_overloaded",
    ),
    "without a name": (
        data({"type": "error", "error": {"type": "overloaded_error", "message": "M"}}),
        "server_is_overloaded",
    ),
    "by its name alone": (data({"message": "M"}, "error"), "server_error"),
    "an error beside a type": (
        event("content_block_delta", error={"code": "slow_down"}),
        "slow_down",
    ),
    "no type": (data({"message": "M"}), "server_error"),
    "a type that is none": (data({"type": 7}), "server_error"),
    "a type of no message": (data({"type": "about:blank", "title": "M"}), "server_error"),
    "flat": (data({"type": "rate_limit_error", "message": "M"}), "rate_limit_exceeded"),
    "another surface's": (data({"object": "chat.completion.chunk", "choices": []}), "server_error"),
    "a done": (data("[DONE]"), "server_error"),
    "text": (data("M"), "server_error"),
    "a provider's own place": (
        event("content_block_delta", base_resp={"status_code": 1008}),
        "insufficient_quota",
    ),
}


@pytest.mark.parametrize(("said", "code"), ERRORS.values(), ids=ERRORS)
def test_every_shape_of_error_ends_the_stream(said: Said, code: str) -> None:
    assert play(MESSAGES) >> START << same() >> said << failure(code) >> STOP
    assert play(MESSAGES) >> START << same() >> DELTA << same() >> said << failure(code) >> STOP


ORDINARY: dict[str, Said] = {
    "a null error": event("content_block_delta", error=None),
    "text that looks like an error": event(
        "content_block_delta", delta={"type": "text_delta", "text": '{"error": {"message": "x"}}'}
    ),
    "a tool that failed": event(
        "content_block_start",
        content_block={"type": "web_search_tool_result", "content": {"type": "x_error"}},
    ),
    "a tool's input named error": event(
        "content_block_start", content_block={"type": "tool_use", "input": {"error": "x"}}
    ),
    "an event that nobody knows yet": event("content_block_future", index=0),
    "an event without a name": data({"type": "content_block_delta", "index": 0}),
}


@pytest.mark.parametrize("said", ORDINARY.values(), ids=ORDINARY)
def test_what_is_ordinary_passes_byte_for_byte(said: Said) -> None:
    script = play(MESSAGES) >> START << same() >> said << same()
    assert script >> DELTA << same() >> said << same() >> STOP << same()


def test_a_name_that_is_not_the_type_is_taken_off() -> None:
    assert play(MESSAGES) >> event("ping", "canary") << gets(event("ping", ""))


def test_a_type_that_is_no_word_never_raises() -> None:
    one = sanitizer(MESSAGES)
    out = one.feed(b'event: message_\ndata: {"type":"message_\\ud800"}\n\n') + one.close()
    assert events_of(out)[-1].name == b"error"


def test_pings_and_comments_are_kept() -> None:
    assert play(MESSAGES) >> event("ping") << same() >> raw(": canary\n") << keep_alive()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
    ],
)
def test_an_error_has_the_apis_own_types(status: int, kind: str) -> None:
    account = ledger(MESSAGES)
    reply = account.answer(account.reader.read_http(status, b""))
    body = json.loads(messages.error_body(reply))
    assert reply.status == status
    assert body == {
        "type": "error",
        "error": {"type": kind, "message": reply.message},
        "request_id": REFERENCE,
    }


def test_a_stream_that_is_cut_ends_in_the_apis_error_event() -> None:
    one = sanitizer(MESSAGES)
    one.feed(START.data)
    (last,) = events_of(one.close())
    assert last.name == b"error"
    assert parsed(last)["type"] == "error"
    assert set(parsed(last)["error"]) == {"type", "message"}


class TestBodies:
    MESSAGE: Json = {"type": "message", "id": "msg_1", "content": []}  # noqa: RUF012

    def test_a_message_passes_as_it_is(self) -> None:
        assert messages.read_body(self.MESSAGE, ledger(MESSAGES), POST) == Ordinary(None)

    @pytest.mark.parametrize(
        ("value", "failure_seen"),
        [
            ({"type": "error", "error": {"message": "M"}}, None),
            ({"error": "M"}, None),
            ({"type": "message"}, Failure.MALFORMED_BODY),
            ({"content": "M"}, Failure.MALFORMED_BODY),
            ([], Failure.MALFORMED_BODY),
            ("M", Failure.MALFORMED_BODY),
        ],
    )
    def test_what_is_no_message_is_an_error(
        self, value: object, failure_seen: Failure | None
    ) -> None:
        error = messages.read_body(value, ledger(MESSAGES), POST)
        assert isinstance(error, UpstreamError)
        assert error.failure is failure_seen

    def test_a_message_that_is_an_error_is_one(self) -> None:
        value = {**self.MESSAGE, "error": {"message": "M"}}
        assert isinstance(messages.read_body(value, ledger(MESSAGES), POST), UpstreamError)

    def test_what_lies_beside_is_a_resource(self) -> None:
        count = Target("POST", "/v1/messages/count_tokens")
        assert messages.read_body({"input_tokens": 7}, ledger(MESSAGES), count) == Ordinary(None)
        error = messages.read_body({"type": "error"}, ledger(MESSAGES), count)
        assert isinstance(error, UpstreamError)


def test_a_cut_right_after_the_stop_is_nothing() -> None:
    assert play(MESSAGES) >> START << same() >> STOP << same() >> cut()
