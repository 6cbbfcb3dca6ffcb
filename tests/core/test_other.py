"""Any other stream: JSON objects, the last of which is known for some paths."""

from __future__ import annotations

import json

import pytest

from proxy.core.errors import UpstreamError
from proxy.core.surfaces.names import OTHER
from proxy.core.surfaces.other import other
from proxy.core.surfaces.surface import Ordinary, Target
from tests.playbook import (
    Json,
    Said,
    cut,
    data,
    eof,
    event,
    events_of,
    failure,
    gets,
    ledger,
    parsed,
    play,
    same,
    sanitizer,
    the_end,
)

UNKNOWN = Target("POST", "/v1/anything")
THREADS = Target("POST", "/v1/threads/thread_1/runs")
RUN: Json = {"id": "run_1", "object": "thread.run", "status": "in_progress", "last_error": None}

LAST = {
    "/v1/images/generations": ("image_generation.partial_image", "image_generation.completed"),
    "/v1/images/edits": ("image_edit.partial_image", "image_edit.completed"),
    "/v1/audio/speech": ("speech.audio.delta", "speech.audio.done"),
    "/v1/audio/transcriptions": ("transcript.text.delta", "transcript.text.done"),
}


@pytest.mark.parametrize(("path", "events"), LAST.items())
def test_the_last_event_of_a_path_completes_its_stream(path: str, events: tuple[str, str]) -> None:
    first, last = (event(kind, text="x") for kind in events)
    script = play(OTHER, Target("POST", path)) >> first << same()
    assert script >> eof() << failure("server_error")
    assert script >> last << same() >> eof() << the_end()
    assert script >> last << same() >> data("[DONE]") << same() >> eof()
    assert script >> data("[DONE]") << failure("server_error")


class TestAPathThatNobodyKnows:
    def test_may_end_cleanly_after_any_event(self) -> None:
        assert play(OTHER, UNKNOWN) >> data({"a": 1}) << same() >> eof() << the_end()

    def test_may_say_that_it_is_done(self) -> None:
        assert play(OTHER, UNKNOWN) >> data({"a": 1}) << same() >> data("[DONE]") << same()

    def test_may_not_break(self) -> None:
        assert play(OTHER, UNKNOWN) >> data({"a": 1}) << same() >> cut() << failure("server_error")

    def test_may_not_end_inside_an_event(self) -> None:
        script = play(OTHER, UNKNOWN) >> data({"a": 1}) << same()
        assert script >> Said(b'data: {"a":') >> eof() << failure("server_error")


class TestAssistants:
    def test_a_run_that_went_well_passes(self) -> None:
        assert (
            play(OTHER, THREADS)
            >> data(RUN, "thread.run.created")
            << same()
            >> data({"id": "msg_1", "object": "thread.message.delta"}, "thread.message.delta")
            << same()
            >> data(RUN, "thread.run.completed")
            << same()
            >> data("[DONE]", "done")
            << same()
            >> eof()
        )

    def test_a_run_that_breaks_off_ends_in_a_failure(self) -> None:
        script = play(OTHER, THREADS) >> data(RUN, "thread.run.created") << same()
        assert script >> cut() << failure("server_error")
        assert script >> eof() << failure("server_error")

    def test_a_run_that_failed_says_so_in_our_words(self) -> None:
        failed = {**RUN, "last_error": {"code": "rate_limit_exceeded", "message": "canary"}}
        one = sanitizer(OTHER, THREADS)
        (got,) = events_of(one.feed(data(failed, "thread.run.failed").data))
        assert got.name == b"thread.run.failed"
        error = parsed(got)["last_error"]
        assert error["code"] == "rate_limit_exceeded"
        assert error["message"].startswith("Too many requests")
        assert not one.closed

    def test_a_step_that_failed_does_too(self) -> None:
        step = {"object": "thread.run.step", "last_error": {"code": "x", "message": "canary"}}
        out = sanitizer(OTHER, THREADS).feed(data(step, "thread.run.step.failed").data)
        assert b"canary" not in out


ERRORS: dict[str, Json] = {
    "nested": {"error": {"code": "slow_down", "message": "M"}},
    "typed": {"type": "error", "code": "slow_down", "message": "M"},
    "an object that is an error": {"object": "error", "code": "slow_down", "message": "M"},
    "flat": {"code": "slow_down", "message": "M"},
    "detail": {"code": "slow_down", "detail": "M"},
    "errors": {"errors": [{"code": "slow_down", "message": "M"}]},
    "msg": {"code": "slow_down", "msg": "M"},
    "title": {"type": "about:blank", "title": "M", "code": "slow_down"},
    "AWS": {"__type": "slow_down", "Message": "M"},
    "a provider's own place": {"header": {"code": "slow_down", "message": "M"}},
}


@pytest.mark.parametrize("value", ERRORS.values(), ids=ERRORS)
def test_every_shape_of_error_ends_the_stream(value: Json) -> None:
    assert play(OTHER) >> data(value) << failure("slow_down")
    assert play(OTHER) >> data({"a": 1}) << same() >> data(value) << failure("slow_down")


def test_a_named_error_ends_the_stream() -> None:
    assert play(OTHER) >> data({"code": "slow_down"}, "error") << failure("slow_down")


@pytest.mark.parametrize(
    ("name", "passes"),
    [("transcript.text.delta", True), ("message", True), ("ping", True), ("canary", False)],
)
def test_a_name_passes_where_the_api_has_it(name: str, *, passes: bool) -> None:
    said = event("transcript.text.delta", name, delta="x")
    assert (
        play(OTHER)
        >> said
        << (same() if passes else gets(event("transcript.text.delta", "", delta="x")))
    )


def test_a_failure_is_told_in_both_shapes() -> None:
    one = sanitizer(OTHER)
    (told,) = events_of(one.close())
    value = parsed(told)
    assert told.name == b"error"
    assert value["type"] == "error"
    assert value["error"]["message"] == value["message"]
    assert value["error"]["code"] == value["code"] == "server_error"


def test_any_body_passes_that_does_not_say_it_is_an_error() -> None:
    embeddings: Json = {"object": "list", "data": [{"object": "embedding", "embedding": [0.5]}]}
    for value in (embeddings, [1, 2], "text", 7, {}, {"text": "error"}):
        assert other.read_body(value, ledger(OTHER), UNKNOWN) == Ordinary(None)
    for error in ({"error": "M"}, {"object": "error"}, {"type": "error"}):
        assert isinstance(other.read_body(error, ledger(OTHER), UNKNOWN), UpstreamError)


def test_an_http_error_has_the_shape_of_openais_apis() -> None:
    account = ledger(OTHER)
    reply = account.answer(account.reader.read_http(404, b""))
    assert json.loads(other.error_body(reply))["error"]["code"] == reply.code


@pytest.mark.parametrize("text", ["", " "])
def test_data_without_a_word_is_dropped(text: str) -> None:
    assert play(OTHER) >> Said(f"data:{text} \n\n".encode())
