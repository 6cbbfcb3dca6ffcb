"""The Responses API: events around one response, told of its failure as every client reads it."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types.responses import Response, ResponseFailedEvent
from pydantic import TypeAdapter

from proxy.core.errors import UpstreamError
from proxy.core.failures import Failure
from proxy.core.spec import RESPONSE_ERROR_CODES
from proxy.core.surfaces.names import RESPONSES
from proxy.core.surfaces.responses import responses
from proxy.core.surfaces.surface import Ordinary, Target
from proxy.core.table import Table
from proxy.core.table_file import parse
from tests.playbook import (
    NOW,
    REFERENCE,
    Json,
    Said,
    cut,
    data,
    done,
    eof,
    event,
    events_of,
    failure,
    gets,
    ledger,
    parsed,
    play,
    raw,
    same,
    sanitizer,
    the_end,
)

POST = Target("POST", "/v1/responses")
GET = Target("GET", "/v1/responses/resp_1")

RESPONSE: Json = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1_750_000_000,
    "status": "in_progress",
    "error": None,
    "incomplete_details": None,
    "instructions": "Be brief.",
    "metadata": {"team": "fake"},
    "model": "fake-model",
    "output": [],
    "parallel_tool_calls": False,
    "temperature": 0.5,
    "tool_choice": "required",
    "tools": [{"type": "web_search"}],
    "top_p": None,
}
CREATED = event("response.created", sequence_number=0, response=RESPONSE)
DELTA = event(
    "response.output_text.delta",
    sequence_number=1,
    delta="Hi",
    item_id="msg_1",
    output_index=0,
    content_index=0,
    logprobs=[],
)
COMPLETED = event(
    "response.completed", sequence_number=2, response={**RESPONSE, "status": "completed"}
)


def output(*said: Said, table: Table | None = None, target: Target = POST) -> list[Json]:
    """Return the events that a client gets for a stream that is cut behind `said`."""
    one = sanitizer(RESPONSES, target, table=table)
    out = b"".join(one.feed(step.data) for step in said) + one.fail(Failure.RESET_AFTER)
    return list(map(parsed, events_of(out)))


def as_the_origin_checks_it(events: list[Json]) -> Json:
    """Check a failed stream as the origin's own tests do; return its error."""
    assert events[0]["type"] == "response.created"
    said = [one["response"]["id"] for one in events if "id" in one.get("response", {})]
    assert len({one for one in said if isinstance(one, str)}) == 1
    *before, told, last = [one.get("sequence_number", 0) for one in events]
    assert all(type(number) is int for number in (told, last))
    assert (told, last) == (before[-1] + 1, before[-1] + 2)
    failed = [one for one in events if one["type"] == "response.failed"]
    assert failed == events[-1:]
    response = failed[0]["response"]
    assert response["status"] == "failed"
    assert response["error"]["code"] in RESPONSE_ERROR_CODES
    assert response["error"]["message"]
    TypeAdapter(ResponseFailedEvent).validate_python(failed[0], strict=True)
    Response.model_validate(response, strict=True)
    error: Json = response["error"]
    return error


def failed(code: str) -> Json:
    """Return the response of a stream that failed upstream."""
    return {"id": "resp_1", "status": "failed", "error": {"code": code, "message": "M"}}


STARTS: dict[str, tuple[Said, ...]] = {
    "nothing": (),
    "a whole response": (CREATED,),
    "content": (CREATED, DELTA),
    "an id alone": (event("response.created", sequence_number=0, response={"id": "resp_1"}),),
    "no id": (event("response.created", sequence_number=0, response={}),),
    "odd types": (
        event(
            "response.created",
            sequence_number=0,
            response={
                **dict.fromkeys(("model", "output", "tools", "tool_choice", "created_at"), None),
                "parallel_tool_calls": "yes",
                "id": 7,
                "object": 1,
            },
        ),
    ),
    "no sequence numbers": (event("response.created", response=RESPONSE),),
    "large sequence numbers": (event("response.created", sequence_number=41, response=RESPONSE),),
    "an unfinished event": (CREATED, raw(DELTA.data[:-2])),
    "an unfinished first event": (raw(CREATED.data[:-1]),),
    "stray lines": (CREATED, raw("Traceback:\n  File fake.py\n\n")),
}


FAULTS: list[tuple[Said, str]] = [
    (event("error", code="rate_limit_exceeded", message="M"), "rate_limit_exceeded"),
    (event("error", error={"code": "invalid_base64", "message": "M"}), "invalid_base64_image"),
    (event("error", code="nobody_knows_it", message="M", param=None), "server_error"),
    (event("response.failed", response=failed("server_error")), "server_error"),
    (event("response.failed", response=failed("invalid_image_url")), "invalid_image_url"),
    (event("response.failed", response=None), "server_error"),
    (event("response.failed"), "server_error"),
    (event("response.completed", response=failed("invalid_image_url")), "invalid_image_url"),
    (event("response.in_progress", response="text"), "server_error"),
    (event("response.in_progress", response=None), "server_error"),
    (data({"error": {"code": 429, "message": "M"}}), "rate_limit_exceeded"),
    (data({"detail": "M"}), "server_error"),
    (data({"type": "server_error", "message": "M"}), "server_error"),
    (data("[DONE]"), "server_error"),
    (data("Internal Server Error"), "server_error"),
]


@pytest.mark.parametrize("said", STARTS.values(), ids=STARTS)
class TestTheOriginsValidator:
    def test_accepts_a_cut(self, said: tuple[Said, ...]) -> None:
        error = as_the_origin_checks_it(output(*said))
        assert error["code"] == "server_error"

    @pytest.mark.parametrize(("fault", "code"), FAULTS)
    def test_accepts_every_failure(self, said: tuple[Said, ...], fault: Said, code: str) -> None:
        if said and not said[-1].data.endswith(b"\n\n"):
            return  # what follows an unfinished event belongs to it
        assert as_the_origin_checks_it(output(*said, fault))["code"] == code


class TestTheFailedResponse:
    def test_says_what_the_first_event_said(self) -> None:
        response = output(CREATED, DELTA)[-1]["response"]
        for field in ("id", "created_at", "model", "instructions", "metadata", "temperature"):
            assert response[field] == RESPONSE[field]
        for field in ("parallel_tool_calls", "tool_choice", "tools", "top_p"):
            assert response[field] == RESPONSE[field]
        assert response["object"] == "response"
        assert response["incomplete_details"] is None

    def test_is_made_up_where_there_was_none(self) -> None:
        created, told, failed = output()
        assert created["response"] == {
            **failed["response"],
            "status": "in_progress",
            "error": None,
        }
        assert failed["response"]["id"] == f"resp_{REFERENCE}"
        assert failed["response"]["created_at"] == NOW
        assert [one["sequence_number"] for one in (created, told, failed)] == [0, 1, 2]

    def test_takes_over_nothing_that_could_tell_of_an_error(self) -> None:
        said = event(
            "response.failed",
            response={
                **RESPONSE,
                "status": "failed",
                "error": {"code": "server_error", "message": "canary"},
                "output": [{"type": "mcp_call", "error": "canary"}],
                "moderation": {"input": {"type": "error", "message": "canary"}},
                "incomplete_details": {"reason": "canary"},
                "misalignment": {"text": "canary"},
                "debug": "canary",
            },
        )
        assert "canary" not in str(output(said))

    def test_keeps_the_id_of_a_stream_that_is_resumed(self) -> None:
        told, failed = output(target=GET)
        assert failed["response"]["id"] == "resp_1"
        assert told["type"] == "error"

    def test_follows_the_upstreams_numbers(self) -> None:
        numbered = event("response.output_text.delta", sequence_number=41, delta="Hi")
        assert output(CREATED, numbered)[-2]["sequence_number"] == 42

    def test_counts_where_the_upstream_does_not(self) -> None:
        plain = event("response.output_text.delta", delta="Hi")
        assert output(CREATED, plain, plain)[-2]["sequence_number"] == 3

    def test_does_not_count_an_event_that_the_client_never_got(self) -> None:
        failed = event("response.failed", sequence_number=99, response={"status": "failed"})
        assert output(CREATED, DELTA, failed)[-2]["sequence_number"] == 2
        assert output(CREATED, DELTA, raw(COMPLETED.data[:-2]))[-2]["sequence_number"] == 2

    def test_has_codes_beyond_the_enum_only_in_the_error_event(self) -> None:
        fault = event("error", code="context_length_exceeded", message="M")
        told, failed = output(CREATED, fault)[-2:]
        assert told["code"] == told["error"]["code"] == "context_length_exceeded"
        assert failed["response"]["error"]["code"] == "invalid_prompt"

    def test_has_every_code_in_the_extended_vocabulary(self) -> None:
        extended = parse(b"version: 1\nvocabulary: extended\n", "test.yaml")
        fault = event("error", code="context_length_exceeded", message="M")
        failed = output(CREATED, fault, table=extended)[-1]
        assert failed["response"]["error"]["code"] == "context_length_exceeded"


def test_the_end_is_the_end_and_only_a_done_may_follow() -> None:
    assert (
        play(RESPONSES)
        >> CREATED
        << same()
        >> DELTA
        << same()
        >> COMPLETED
        << same()
        >> DELTA
        >> event("error", message="M")
        >> raw("Traceback\n\n")
        >> done()
        << same()
        >> done()
        >> eof()
    )


@pytest.mark.parametrize(
    "last", ["response.completed", "response.incomplete", "response.cancelled"]
)
def test_each_of_the_last_events_completes_the_stream(last: str) -> None:
    end = event(last, sequence_number=2, response={"id": "resp_1", "status": last[9:]})
    assert play(RESPONSES) >> CREATED << same() >> end << same() >> eof() << the_end()


def test_a_done_is_no_end() -> None:
    assert play(RESPONSES) >> CREATED << same() >> done() << failure("server_error")


ORDINARY: dict[str, Said] = {
    "an event without a name": data({"type": "response.output_text.delta", "delta": "x"}),
    "a type that nobody knows yet": event("response.future.delta", sequence_number=2, delta="x"),
    "a heartbeat": event("keepalive", sequence_number=2),
    "a null error": event("response.output_text.delta", delta="x", error=None),
    "text that looks like an error": event(
        "response.output_text.delta", delta='{"error":{"message":"429 rate limit"}}'
    ),
    "a tool's schema with a field named error": event(
        "response.in_progress",
        response={
            **RESPONSE,
            "tools": [{"type": "function", "parameters": {"properties": {"error": {"a": 1}}}}],
            "metadata": {"error": "x", "errors": "y"},
        },
    ),
    "a tool's output that is an error": event(
        "response.output_item.done",
        item={"type": "function_call_output", "output": '{"error":{"message":"x"}}'},
    ),
    "a tool call's arguments": event(
        "response.output_item.done",
        item={"type": "function_call", "arguments": '{"error": true}', "status": "completed"},
    ),
    "logs of an interpreter": event(
        "response.output_item.done",
        item={"type": "code_interpreter_call", "outputs": [{"type": "logs", "logs": "Error: x"}]},
    ),
    "an item that went well": event(
        "response.output_item.done", item={"type": "mcp_call", "error": None, "output": "x"}
    ),
    "a reason that the API names": event(
        "response.in_progress",
        response={**RESPONSE, "incomplete_details": {"reason": "content_filter"}},
    ),
    "a moderation that went well": event(
        "response.in_progress",
        response={**RESPONSE, "moderation": {"input": {"type": "moderation", "flagged": True}}},
    ),
    "data over two lines": raw(
        'event: response.output_text.delta\ndata: {"type":"response.output_text.delta",\n'
        'data:  "delta":"x"}\n\n'
    ),
    "lone surrogates": raw(
        'event: response.output_text.delta\ndata: {"type":"response.output_text.delta",'
        '"delta":"\\ud83d"}\n\n'
    ),
    "spaces": raw('data: {"type" : "response.output_text.delta" , "delta" : 1.0 }\n\n'),
}


@pytest.mark.parametrize("said", ORDINARY.values(), ids=ORDINARY)
def test_what_is_ordinary_passes_byte_for_byte(said: Said) -> None:
    one = sanitizer(RESPONSES)
    one.feed(CREATED.data)
    assert one.feed(said.data) == said.data
    assert one.feed(DELTA.data) == DELTA.data
    assert one.feed(said.data) == said.data
    assert not one._ledger.incidents


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("canary", "response.output_text.delta"),
        ("message", "response.output_text.delta"),
        ("", ""),
    ],
)
def test_a_name_is_the_events_type_or_none(name: str, wanted: str) -> None:
    fields: Json = {"sequence_number": 1, "delta": "x"}
    assert (
        play(RESPONSES)
        >> CREATED
        << same()
        >> event("response.output_text.delta", name, **fields)
        << gets(event("response.output_text.delta", wanted, **fields))
    )


@pytest.mark.parametrize("kind", ["\\ud800", "response.\\ud800", "response.x\\ny", "response.ü"])
def test_a_type_that_is_no_word_never_raises(kind: str) -> None:
    one = sanitizer(RESPONSES)
    out = one.feed(b'event: x\ndata: {"type":"%b"}\n\n' % kind.encode()) + one.close()
    assert events_of(out)[-1].name == b"response.failed"


def mcp(error: object) -> Json:
    """Return a tool call that ended so."""
    return {"type": "mcp_call", "name": "f", "error": error}


SORRY = "A tool that the model called failed."
TOLD = [{"type": "text", "text": "canary"}]

PARTS: dict[str, tuple[Json, Json]] = {
    "a tool that failed, as text": (mcp("canary"), mcp(SORRY)),
    "a tool's protocol error": (
        mcp({"type": "mcp_protocol_error", "code": -32000, "message": "canary", "x": "canary"}),
        mcp({"type": "mcp_protocol_error", "code": -32000, "message": SORRY}),
    ),
    "a tool's own error": (
        mcp({"type": "mcp_tool_execution_error", "content": TOLD}),
        mcp({"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": SORRY}]}),
    ),
    "a tool's HTTP error": (
        mcp({"type": "http_error", "code": 502, "message": "canary"}),
        mcp({"type": "http_error", "code": 502, "message": SORRY}),
    ),
    "a tool's error of an unknown kind": (
        mcp({"type": "canary", "code": "canary", "message": "canary"}),
        mcp({"type": "mcp_protocol_error", "code": 0, "message": SORRY}),
    ),
    "a tool's code that is none": (
        mcp({"type": "http_error", "code": 10**9, "message": "canary"}),
        mcp({"type": "http_error", "code": 0, "message": SORRY}),
    ),
    "a list of tools": (
        {"type": "mcp_list_tools", "tools": [], "error": "canary"},
        {"type": "mcp_list_tools", "tools": [], "error": SORRY},
    ),
}


class TestStoredErrors:
    """A part that failed is cleaned in place; the stream goes on."""

    @pytest.mark.parametrize("kind", ["response.output_item.added", "response.output_item.done"])
    @pytest.mark.parametrize(("stored", "wanted"), PARTS.values(), ids=PARTS)
    def test_in_an_item(self, kind: str, stored: Json, wanted: Json) -> None:
        said = event(kind, sequence_number=1, output_index=0, item=stored)
        (_, item, *_) = output(CREATED, said)
        assert item == {"type": kind, "sequence_number": 1, "output_index": 0, "item": wanted}

    @pytest.mark.parametrize(("stored", "wanted"), PARTS.values(), ids=PARTS)
    def test_in_a_responses_output(self, stored: Json, wanted: Json) -> None:
        message = {"type": "message", "content": [{"type": "output_text", "text": "error"}]}
        end = {**RESPONSE, "status": "completed", "output": [message, stored, message]}
        said = event("response.completed", sequence_number=1, response=end)
        (_, last) = output(CREATED, said)
        assert last["response"] == {**end, "output": [message, wanted, message]}

    def test_in_an_image_that_failed(self) -> None:
        item = {"type": "image_generation_call", "status": "failed", "error": "canary"}
        said = event("response.output_item.done", item=item)
        (_, got, *_) = output(CREATED, said)
        assert "canary" not in str(got)
        assert got["item"]["error"]

    def test_in_details_of_what_is_incomplete(self) -> None:
        response = {**RESPONSE, "status": "incomplete", "incomplete_details": {"reason": "canary"}}
        (_, last) = output(CREATED, event("response.incomplete", response=response))
        assert last["response"]["incomplete_details"] is None
        response["incomplete_details"] = {"reason": "content_filter", "note": "canary"}
        (_, last) = output(CREATED, event("response.incomplete", response=response))
        assert last["response"]["incomplete_details"] == {"reason": "content_filter"}

    def test_in_a_moderation(self) -> None:
        moderation = {
            "input": {"type": "error", "code": "canary", "message": "canary"},
            "output": {"type": "moderation", "flagged": False},
        }
        said = event("response.in_progress", response={**RESPONSE, "moderation": moderation})
        (_, got, *_) = output(CREATED, said)
        assert got["response"]["moderation"] == {
            "input": {
                "type": "error",
                "code": "moderation_failed",
                "message": "The content could not be checked.",
            },
            "output": {"type": "moderation", "flagged": False},
        }

    def test_keep_the_events_name_and_are_noted(self) -> None:
        one = sanitizer(RESPONSES)
        one.feed(CREATED.data)
        item = {"type": "mcp_call", "error": "canary"}
        out = one.feed(event("response.output_item.done", item=item).data)
        assert out.startswith(b"event: response.output_item.done\n")
        (incident,) = one._ledger.incidents
        assert incident.error.message == "canary"
        assert not one.closed


class TestBodies:
    def read(self, value: object, target: Target = POST) -> Ordinary | UpstreamError:
        return responses.read_body(value, ledger(RESPONSES), target)

    def test_a_response_passes_as_it_is(self) -> None:
        assert self.read({**RESPONSE, "status": "completed"}) == Ordinary(None)

    @pytest.mark.parametrize(
        "value",
        [
            {"error": {"code": "x1", "message": "M"}},
            {**RESPONSE, "status": "failed", "error": {"code": "x1", "message": "M"}},
            {**RESPONSE, "error": {"code": "x1", "message": "M"}},
        ],
    )
    def test_a_new_response_that_failed_is_an_error(self, value: Json) -> None:
        error = self.read(value)
        assert isinstance(error, UpstreamError)
        assert error.code == "x1"
        assert error.failure is None

    def test_a_new_response_that_failed_without_a_word_is_an_error(self) -> None:
        assert isinstance(self.read({**RESPONSE, "status": "failed"}), UpstreamError)

    @pytest.mark.parametrize("value", [{}, {"id": 7}, [], "text", 7, {"message": "M"}])
    def test_what_is_no_response_is_an_error(self, value: object) -> None:
        error = self.read(value)
        assert isinstance(error, UpstreamError)
        assert error.failure is Failure.MALFORMED_BODY

    def test_a_response_that_failed_long_ago_is_looked_up_well(self) -> None:
        stored = {
            **RESPONSE,
            "status": "failed",
            "error": {
                "code": "misalignment_policy_violation",
                "message": "canary",
                "misalignment": {"explanation": "canary"},
            },
        }
        got = self.read(stored, GET)
        assert isinstance(got, Ordinary)
        assert got.body is not None
        assert b"canary" not in got.body
        response = Response.model_validate_json(got.body)
        assert response.error is not None
        assert response.error.code == "misalignment_policy_violation"
        assert response.error.message
        assert response.id == "resp_1"

    def test_a_stored_code_keeps_to_the_enum(self) -> None:
        stored = {**RESPONSE, "error": {"code": "context_length_exceeded", "message": "canary"}}
        got = self.read(stored, GET)
        assert isinstance(got, Ordinary)
        assert Response.model_validate_json(got.body or b"").error is not None

    @pytest.mark.parametrize(
        "path",
        ["/v1/responses/resp_1/input_items", "/v1/responses/compact", "/v1/responses/r/cancel"],
    )
    def test_what_lies_below_is_a_resource(self, path: str) -> None:
        listed: Json = {"object": "list", "data": [{"type": "mcp_call", "error": "canary"}]}
        got = self.read(listed, Target("GET", path))
        assert isinstance(got, Ordinary)
        assert b"canary" not in (got.body or b"canary")
        assert isinstance(self.read({"error": "M"}, Target("POST", path)), UpstreamError)
        assert self.read({"id": "resp_1", "object": "response.deleted"}, GET) == Ordinary(None)


def test_an_http_error_has_the_apis_shape() -> None:
    account = ledger(RESPONSES)
    error = account.reader.read_http(404, b'{"error":{"code":"model_not_found"}}')
    reply = account.answer(error)
    body: dict[str, Any] = TypeAdapter(dict[str, Any]).validate_json(responses.error_body(reply))
    assert body == {
        "error": {
            "message": reply.message,
            "type": "invalid_request_error",
            "param": None,
            "code": "model_not_found",
        }
    }


def test_a_cut_after_an_item_that_failed_still_ends_in_one_failure() -> None:
    item = event("response.output_item.done", sequence_number=1, item=mcp("canary"))
    events = output(CREATED, item)
    assert as_the_origin_checks_it(events)["code"] == "server_error"
    assert "canary" not in str(events)


def test_an_error_before_anything_is_a_stream_of_its_own() -> None:
    assert (
        play(RESPONSES)
        >> event("error", code="rate_limit_exceeded", message="M")
        << failure("rate_limit_exceeded")
        >> cut()
    )
