"""Chat Completions and legacy completions: chunks with choices, and nothing else."""

from __future__ import annotations

import pytest

from proxy.core.errors import UpstreamError
from proxy.core.failures import Failure
from proxy.core.surfaces.chat import chat, completions
from proxy.core.surfaces.names import CHAT, COMPLETIONS
from proxy.core.surfaces.surface import Ordinary, Target
from tests.playbook import (
    Json,
    Said,
    chunk,
    cut,
    data,
    done,
    eof,
    fails,
    failure,
    gets,
    ledger,
    play,
    raw,
    same,
    sanitizer,
    the_end,
)

POST = Target("POST", "/v1/chat/completions")
STOP = chunk(finish="stop")
USAGE = data({"object": "chat.completion.chunk", "choices": [], "usage": {"total_tokens": 7}})


def test_a_healthy_stream_passes() -> None:
    assert (
        play(CHAT)
        >> chunk("")
        << same()
        >> chunk("Hi")
        << same()
        >> STOP
        << same()
        >> USAGE
        << same()
        >> done()
        << same()
        >> chunk("late")
        >> eof()
    )


def test_a_stream_that_never_says_done_has_gone_well_with_its_finish_reason() -> None:
    assert play(CHAT) >> chunk("Hi") << same() >> STOP << same() >> eof() << the_end()


def test_the_last_chunk_of_llama_cpp_s_own_form_is_a_finish() -> None:
    assert (
        play(COMPLETIONS)
        >> data({"content": "Hi", "stop": False})
        << same()
        >> data({"content": "", "stop": True, "tokens_predicted": 2})
        << same()
        >> eof()
        << the_end()
    )


@pytest.mark.parametrize("reason", ["stop", "length", "tool_calls", "content_filter", "odd"])
def test_any_finish_reason_but_error_is_one(reason: str) -> None:
    assert play(CHAT) >> chunk("Hi", reason) << same() >> done() << same()


def test_done_alone_proves_nothing() -> None:
    assert play(CHAT) >> done() << failure("server_error")
    assert play(CHAT) >> chunk("Hi") << same() >> done() << failure("server_error") >> done()


def test_done_right_after_an_error_is_ours_alone() -> None:
    error = data({"error": {"message": "M", "code": 429}})
    assert (
        play(CHAT)
        >> chunk("Hi")
        << same()
        >> error
        << failure("rate_limit_exceeded")
        >> done()
        >> eof()
    )


class TestSeveralChoices:
    def test_all_of_them_have_to_finish(self) -> None:
        script = play(CHAT) >> chunk("a") << same() >> chunk("b", index=1) << same()
        one_finished = script >> chunk(finish="stop") << same()
        assert one_finished >> cut() << failure("server_error")
        assert one_finished >> done() << failure("server_error")
        assert one_finished >> chunk(finish="stop", index=1) << same() >> done() << same() >> eof()

    def test_one_may_begin_when_another_has_finished(self) -> None:
        script = play(CHAT) >> chunk("a", "stop") << same() >> chunk("b", index=1) << same()
        assert script >> cut() << failure("server_error")
        assert script >> chunk(finish="stop", index=1) << same() >> cut() << the_end()

    def test_a_late_chunk_of_one_that_has_finished_changes_nothing(self) -> None:
        script = play(CHAT) >> chunk("a", "stop") << same() >> chunk("") << same()
        assert script >> eof() << the_end()


ORDINARY: dict[str, Said] = {
    "a null error": chunk("x", error=None),
    "an empty error": chunk("x", error={}),
    "Azure's content filter": data(
        {
            "object": "chat.completion.chunk",
            "choices": [
                {
                    "index": 0,
                    "delta": {"content": "x"},
                    "content_filter_result": {"error": {"code": "x", "message": "M"}},
                }
            ],
        }
    ),
    "Azure's prompt filter": data({"choices": [], "prompt_filter_results": [{"x": 1}]}),
    "a tool call": data(
        {
            "object": "chat.completion.chunk",
            "choices": [
                {"index": 0, "delta": {"tool_calls": [{"function": {"arguments": '{"error":1}'}}]}}
            ],
        }
    ),
    "text that looks like an error": chunk('data: {"error":{"message":"429"}}'),
    "a text completion": data(
        {"object": "text_completion", "choices": [{"index": 0, "text": "x"}]}
    ),
    "a heartbeat": data({"object": "chat.completion.chunk"}),
    "no index": data({"object": "chat.completion.chunk", "choices": [{"delta": {"content": "x"}}]}),
    "an index that is none": data({"choices": [{"index": None, "delta": {"content": "x"}}]}),
    "an infinite log probability": raw(
        'data: {"choices":[{"index":0,"delta":{"content":"x"},"logprobs":-Infinity}]}\n\n'
    ),
    "lone surrogates": raw('data: {"choices":[{"index":0,"delta":{"content":"\\ud83d"}}]}\n\n'),
    "several lines": raw('data: {"choices":\ndata: [{"index":0,"delta":{"content":"x"}}]}\n\n'),
    "spaces": raw('data:  {"choices" : [ ] } \n\n'),
    "base_resp of one that went well": chunk("x", base_resp={"status_code": 0}),
}


@pytest.mark.parametrize("said", ORDINARY.values(), ids=ORDINARY)
def test_what_is_ordinary_passes_byte_for_byte(said: Said) -> None:
    one = sanitizer(CHAT)
    assert one.feed(said.data) == said.data
    one.feed(chunk("Hi").data)
    assert one.feed(said.data * 2) == said.data * 2
    assert not one.closed


ERRORS: dict[str, tuple[Said, str]] = {
    "an error object": (data({"error": {"code": "insufficient_quota"}}), "insufficient_quota"),
    "an error text": (data({"error": "M"}), "server_error"),
    "an error beside choices": (
        chunk("", "error", error={"code": 429, "message": "M"}),
        "rate_limit_exceeded",
    ),
    "a finish reason error": (chunk("", "error"), "server_error"),
    "an error in a choice": (
        data({"choices": [{"finish_reason": "error", "error": {"code": 429}}]}),
        "rate_limit_exceeded",
    ),
    "flat": (data({"object": "error", "message": "M", "code": 429}), "rate_limit_exceeded"),
    "flat by its type": (data({"type": "error", "message": "M"}), "server_error"),
    "flat without a mark": (data({"message": "M", "code": 429}), "rate_limit_exceeded"),
    "a named event": (data({"message": "M", "code": 429}, "error"), "rate_limit_exceeded"),
    "a chunk named error": (data({"choices": []}, "error"), "server_error"),
    "a provider's own place": (
        chunk("x", base_resp={"status_code": 1008, "status_msg": "M"}),
        "insufficient_quota",
    ),
    "choices that are none": (data({"choices": "M"}), "server_error"),
    "a choice that is none": (data({"choices": ["M"]}), "server_error"),
    "an object of another kind": (data({"object": "model"}), "server_error"),
    "an object that is none": (data({"object": 7}), "server_error"),
    "a list": (data([{"error": {"code": 429}}]), "rate_limit_exceeded"),
    "text": (data("Traceback (most recent call last):"), "server_error"),
}


@pytest.mark.parametrize(("said", "code"), ERRORS.values(), ids=ERRORS)
def test_every_shape_of_error_ends_the_stream(said: Said, code: str) -> None:
    assert play(CHAT) >> chunk("Hi") << same() >> said << failure(code) >> chunk("more")
    assert play(COMPLETIONS) >> said << failure(code)


def test_names_are_taken_off() -> None:
    assert play(CHAT) >> data({"choices": []}, "canary") << gets(data({"choices": []}))
    assert play(CHAT) >> STOP << same() >> data("[DONE]", "canary") << gets(done())


@pytest.mark.parametrize("space", [" [DONE]", "[DONE] ", "\t[DONE]"])
def test_done_is_known_with_spaces_around_it(space: str) -> None:
    assert play(CHAT) >> STOP << same() >> raw(f"data: {space}\n\n") << gets(done())


@pytest.mark.parametrize(
    ("said", "seen"),
    [
        (chunk(""), False),
        (data({"choices": [{"index": 0, "delta": {"role": "assistant"}}]}), False),
        (data({"choices": [{"index": 0, "delta": None}]}), False),
        (data({"choices": []}), False),
        (data({"object": "chat.completion.chunk"}), False),
        (chunk("x"), True),
        (STOP, True),
        (data({"choices": [{"index": 0, "text": "x"}]}), True),
        (data({"choices": [{"index": 0, "delta": {"tool_calls": [{}]}}]}), True),
        (data({"choices": [{"index": 0, "delta": {"reasoning_content": "x"}}]}), True),
    ],
)
def test_content_is_more_than_a_role(said: Said, *, seen: bool) -> None:
    one = sanitizer(CHAT)
    one.feed(said.data)
    assert one.content_seen is seen
    one.feed(chunk("x").data)
    one.feed(chunk("").data)
    assert one.content_seen


class TestBodies:
    CHOICE = {"index": 0, "message": {"content": '{"error": 1}'}, "finish_reason": "stop"}  # noqa: RUF012

    def test_a_completion_passes_as_it_is(self) -> None:
        for reason in ("stop", "content_filter", None):
            value = {"object": "x", "choices": [{**self.CHOICE, "finish_reason": reason}]}
            assert chat.read_body(value, ledger(CHAT), POST) == Ordinary(None)

    @pytest.mark.parametrize(
        ("value", "code"),
        [
            ({"error": {"code": "x1"}}, "x1"),
            ({"choices": [], "error": {"code": "x1"}}, "x1"),
            ({"choices": [{"finish_reason": "error", "error": {"code": "x1"}}]}, "x1"),
            ({"choices": [{"finish_reason": "error", "code": "x1"}]}, "x1"),
            ({"base_resp": {"status_code": 1008}, "choices": []}, "1008"),
            ({"object": "error", "code": "x1"}, "x1"),
        ],
    )
    def test_a_body_that_is_an_error(self, value: Json, code: str) -> None:
        error = chat.read_body(value, ledger(CHAT), POST)
        assert isinstance(error, UpstreamError)
        assert error.code == code

    @pytest.mark.parametrize(
        "value",
        [
            {"request_id": "req-1"},
            {"id": "a", "status": "CREATED"},
            {"content": "Hi", "stop": True},
        ],
    )
    def test_an_answer_that_comes_later_or_in_llama_cpp_s_own_form(self, value: Json) -> None:
        assert chat.read_body(value, ledger(CHAT), POST) == Ordinary(None)

    @pytest.mark.parametrize("value", [{}, {"choices": None}, {"message": "M"}])
    def test_a_body_that_is_no_completion(self, value: Json) -> None:
        error = completions.read_body(value, ledger(CHAT), Target("POST", "/v1/completions/"))
        assert isinstance(error, UpstreamError)
        assert error.failure is Failure.MALFORMED_BODY

    @pytest.mark.parametrize("value", [[], "M", 7])
    def test_a_body_that_is_no_object(self, value: object) -> None:
        assert isinstance(chat.read_body(value, ledger(CHAT), POST), UpstreamError)

    @pytest.mark.parametrize(
        "target",
        [
            Target("GET", "/v1/chat/completions"),
            Target("GET", "/v1/chat/completions/id"),
            Target("POST", "/v1/chat/completions/id"),
        ],
    )
    def test_stored_completions_are_resources(self, target: Target) -> None:
        listed: Json = {"object": "list", "data": []}
        assert chat.read_body(listed, ledger(CHAT), target) == Ordinary(None)


def test_a_break_before_any_chunk_is_a_failure() -> None:
    assert play(CHAT) >> fails(Failure.CONNECT_TIMEOUT) << failure("upstream_unavailable")
