"""Stored errors are replaced in place, by known paths; everything else is content."""

from __future__ import annotations

import copy
import json

import pytest

from proxy.core.errors import Origin, UpstreamError
from proxy.core.incident import Ledger
from proxy.core.surfaces.names import OTHER
from proxy.core.surfaces.resource import clean, read_resource, read_response
from proxy.core.surfaces.surface import Ordinary
from tests.playbook import Json, ledger

ERROR = {"code": "rate_limit_exceeded", "message": "canary"}

STORED: dict[str, Json] = {
    "a failed job": {"object": "fine_tuning.job", "id": "job_1", "error": {**ERROR, "param": "x"}},
    "a failed run": {"object": "thread.run", "id": "run_1", "last_error": ERROR},
    "a failed batch": {
        "object": "batch",
        "id": "batch_1",
        "errors": {"object": "list", "data": [{**ERROR, "line": 7}, {**ERROR, "type": "canary"}]},
    },
    "a failed file": {"object": "file", "id": "file_1", "status_details": "canary"},
    "a vector store's file": {"object": "vector_store.file", "id": "f", "last_error": ERROR},
    "a list of them": {
        "object": "list",
        "data": [{"object": "thread.run", "last_error": ERROR}, {"object": "x", "error": ERROR}],
    },
    "a response": {"object": "response", "id": "resp_1", "error": ERROR},
    "a list of responses with items": {
        "object": "list",
        "data": [{"object": "response", "output": [{"type": "mcp_call", "error": "canary"}]}],
    },
    "an output item of an evaluation": {
        "object": "eval.run.output_item",
        "id": "outputitem_1",
        "sample": {"input": [], "error": ERROR},
    },
    "an event of a job": {
        "object": "fine_tuning.job.event",
        "id": "ftevent_1",
        "level": "error",
        "message": "canary",
    },
    "a moderation that failed": {
        "object": "response",
        "id": "resp_1",
        "moderation": {"input": {"type": "error", "code": "canary", "message": "canary"}},
    },
    "an error that is a list": {"object": "x", "id": "x", "error": ["canary"]},
    "an error that is a number": {"object": "x", "id": "x", "error": 7, "last_error": "canary"},
}


def read(value: Json) -> tuple[Json, Ledger]:
    account = ledger(OTHER)
    verdict = read_resource(copy.deepcopy(value), account)
    assert isinstance(verdict, Ordinary)
    return json.loads(verdict.body) if verdict.body else value, account


@pytest.mark.parametrize("value", STORED.values(), ids=STORED)
def test_a_stored_error_is_replaced(value: Json) -> None:
    got, account = read(value)
    assert "canary" not in json.dumps(got)
    assert list(got) == list(value)
    assert account.incidents
    assert not {one.error.origin for one in account.incidents} & {Origin.HTTP, Origin.BODY}


def test_what_is_known_of_it_stays_in_its_shape() -> None:
    got, _ = read(STORED["a failed batch"])
    first, second = got["errors"]["data"]
    assert first["code"] == second["code"] == "rate_limit_exceeded"
    assert first["message"] == second["message"]
    assert second["type"] == "rate_limit_error"
    assert "type" not in first


CONTENT: dict[str, Json] = {
    "nothing stored": {"object": "x", "id": "x", "error": None, "last_error": None},
    "an empty list": {"object": "batch", "id": "x", "errors": {"object": "list", "data": []}},
    "errors of no shape": {"object": "batch", "id": "x", "errors": {"data": "text"}},
    "metadata": {"object": "x", "id": "x", "metadata": {"error": "canary"}},
    "a tool's schema": {"object": "assistant", "id": "x", "tools": [{"error": {"type": "a"}}]},
    "a tool's output": {
        "object": "response",
        "id": "x",
        "output": [{"type": "function_call_output", "output": '{"error": "canary"}'}],
    },
    "what an item holds": {
        "object": "response",
        "id": "x",
        "output": [{"type": "x", "content": [{"error": "canary"}], "action": {"error": "x"}}],
    },
    "a status of no file": {"object": "x", "id": "x", "status_details": "canary"},
    "a known reason": {"object": "response", "incomplete_details": {"reason": "steered"}},
    "a moderation": {"object": "response", "id": "x", "moderation": {"input": {"type": "x"}}},
    "a moderation of no shape": {"object": "response", "id": "x", "moderation": "x"},
    "data of no list": {"object": "list", "data": "x"},
    "no object": {"a": {"error": "canary"}},
    "a health check": {"status": "ok", "message": "all systems up"},
    "what was done": {"success": True, "message": "deleted"},
}


@pytest.mark.parametrize("value", CONTENT.values(), ids=CONTENT)
def test_content_is_left_as_it_is(value: Json) -> None:
    account = ledger(OTHER)
    assert read_resource(copy.deepcopy(value), account) == Ordinary(None)
    assert not account.incidents


def test_a_reason_that_is_not_known_is_not_told() -> None:
    got, _ = read({"object": "response", "id": "x", "incomplete_details": {"reason": "canary"}})
    assert got["incomplete_details"] is None


def test_a_job_without_an_error_yet_is_left_as_it_is() -> None:
    job = {"object": "x", "id": "x", "error": {"code": None, "message": None, "param": None}}
    got, account = read(job)
    assert got == job
    assert not account.incidents


@pytest.mark.parametrize(
    "value",
    [
        {"error": ERROR},
        {"object": "error", "id": "x", "message": "canary"},
        {"type": "error", "message": "canary"},
        {"id": "x", "error": ERROR},
        {"object": "x", "error": ERROR},
        {"base_resp": {"status_code": 1008}},
        {"success": False, "message": "canary"},
        {"code": 5, "msg": "canary"},
        {"success": True, "error": "canary"},
    ],
)
def test_an_object_that_is_an_error_and_no_resource_is_one(value: Json) -> None:
    assert isinstance(read_resource(value, ledger(OTHER)), UpstreamError)


def test_objects_are_looked_into_only_so_deep() -> None:
    value: Json = {"object": "x", "error": ERROR}
    for _ in range(100):
        value = {"response": value}
    assert not clean(value, ledger(OTHER))


def test_thousands_of_failures_are_all_replaced_and_the_first_noted() -> None:
    items = [{"type": "mcp_call", "error": "canary"} for _ in range(1000)]
    got, account = read({"object": "response", "id": "x", "output": items})
    assert "canary" not in json.dumps(got)
    assert len(account.incidents) == 16
    assert account.dropped == 984


def test_a_response_is_new_only_where_this_answer_made_it() -> None:
    stored = {"id": "resp_1", "object": "response", "status": "failed", "error": ERROR}
    account = ledger(OTHER)
    new = read_response(copy.deepcopy(stored), account)
    assert isinstance(new, UpstreamError)
    assert new.code == "rate_limit_exceeded"


def test_a_value_nested_absurdly_never_raises() -> None:
    nested: object = "canary"
    for _ in range(980):
        nested = [nested]
    verdict = read_resource({"object": "x", "id": "x", "error": nested}, ledger(OTHER))
    assert isinstance(verdict, Ordinary)
    assert b"canary" not in (verdict.body or b"canary")
