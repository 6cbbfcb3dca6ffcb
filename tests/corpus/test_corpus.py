"""Every case of the corpus: the right reply, said once, in the shape of its surface."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

import pytest

from proxy.core.errors import Credentials
from proxy.core.spec import RESPONSE_ERROR_CODES
from proxy.core.surfaces.names import MESSAGES
from tests.corpus.case import CASES, CONTROLS, STREAMS, Case
from tests.corpus.core import by, by_event, play, singly, splits, without_comments
from tests.corpus.wire import Stage, said_by
from tests.proxies import Answer, events_of, shipped

FAULTS = tuple(case for case in CASES if not case.passes)
IN_PLACE = tuple(case for case in FAULTS if case.in_place)
ENDINGS = tuple(case for case in FAULTS if case.is_stream and not case.in_place)

# Where a resource or an event keeps the errors that are replaced inside it.
STORED = {"error", "last_error", "errors", "status_details", "incomplete_details", "moderation"}


def test_the_corpus_is_consistent() -> None:
    ids = [case.id for case in CASES]
    assert len(set(ids)) == len(ids)
    for case in CASES:
        assert case.passes or case.in_place or case.reply, case.id
        assert case.reply is None or case.reply in shipped().replies, case.id
        assert all(leak.encode() in case.body + repr(case.headers).encode() for leak in case.leaks)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", FAULTS, ids=str)
@pytest.mark.parametrize("credentials", ["client", "proxy"])
async def test_a_fault_is_answered(
    case: Case, credentials: Credentials, stages: dict[Credentials, Stage]
) -> None:
    answer, incidents = await stages[credentials].ask(case)
    assert answer.whole
    assert [leak for leak in case.leaks if leak.encode() in answer.raw] == []
    assert len(incidents) == case.incidents
    if not incidents:
        return
    reply = incidents[0].resolution.reply
    assert reply.code == case.reply_for(credentials)
    assert reply.message.encode() in answer.body
    if case.in_place:
        assert answer.status == case.status
    elif answer.status >= 400:
        assert answer.status == reply.status
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-should-retry"] == str(reply.retryable).lower()
        check_error_object(answer.json(), case, reply.code)
    else:
        check_ending(answer.body, case, reply.code)
    if case.retry_after is not None and credentials == "client":
        assert told_delay(answer, reply.message) == math.ceil(case.retry_after)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", CONTROLS, ids=str)
async def test_a_false_friend_passes_byte_for_byte(case: Case, proxy: Stage) -> None:
    answer, incidents = await proxy.ask(case, said_by(case, by(7, case.body)))
    assert incidents == []
    assert answer.status == case.status
    assert answer.whole
    assert answer.body == without_comments(case.body)


@pytest.mark.parametrize("case", STREAMS, ids=str)
def test_chunking_never_shows(case: Case) -> None:
    whole = play(case, [case.body])
    assert play(case, singly(case.body)) == whole
    assert play(case, by_event(case.body)) == whole
    for pieces in splits(case.body, 120):
        assert play(case, pieces) == whole


@pytest.mark.parametrize("case", ENDINGS, ids=str)
@pytest.mark.parametrize("credentials", ["client", "proxy"])
def test_a_stream_ends_in_one_failure(case: Case, credentials: Credentials) -> None:
    out, incidents = play(case, [case.body], credentials)
    assert len(incidents) == 1
    assert incidents[0].resolution.reply.code == case.reply_for(credentials)
    assert [leak for leak in case.leaks if leak.encode() in out] == []
    check_ending(out, case, incidents[0].resolution.reply.code)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", IN_PLACE, ids=str)
async def test_only_the_stored_error_differs(case: Case, proxy: Stage) -> None:
    answer, _ = await proxy.ask(case)
    if case.is_stream:
        before, after = events_of(case.body), events_of(answer.body)
    else:
        before, after = [json.loads(case.body)], [answer.json()]
    assert len(before) == len(after)
    changed = set(differences(before, after))
    assert changed
    assert [path for path in changed if not STORED & set(path)] == []


def told_delay(answer: Answer, message: str) -> int:
    """Read what the client reads: the header, or the sentence."""
    header = answer.headers.get("retry-after")
    found = re.search(r" in (\d+)s\.", message)
    return int(header) if header else int(found[1]) if found else 0


def check_error_object(body: dict[str, Any], case: Case, code: str) -> None:
    """Look at an HTTP error's body."""
    reply = shipped().replies[code]
    if case.surface.name == MESSAGES:
        assert set(body) == {"type", "error", "request_id"}
        assert body["type"] == "error"
        assert set(body["error"]) == {"type", "message"}
        return
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["code"] == code
    assert body["error"]["type"] == reply.type


def check_ending(out: bytes, case: Case, code: str) -> None:
    """Look at how a stream that has begun ends."""
    events = events_of(out)
    match case.surface.name:
        case "chat" | "completions":
            assert events[-1] == "[DONE]"
            assert events.count("[DONE]") == 1
            check_error_object(events[-2], case, code)
            assert not any("error" in event for event in events[:-2] if event.get("error"))
        case "responses":
            check_responses_ending(events, case, code)
        case "messages":
            assert out.rpartition(b"\n\nevent: ")[2].startswith(b"error\n") or len(events) == 1
            assert events[-1]["type"] == "error"
            assert set(events[-1]["error"]) == {"type", "message"}
        case _:
            assert events[-1]["type"] == "error"
            assert events[-1]["code"] == events[-1]["error"]["code"] == code


def check_responses_ending(events: list[Any], case: Case, code: str) -> None:
    *before, error, failed = events
    assert (error["type"], failed["type"]) == ("error", "response.failed")
    assert not any(event["type"] in ("error", "response.failed") for event in before)
    assert error["code"] == error["error"]["code"] == code
    assert error["message"] == error["error"]["message"] == failed["response"]["error"]["message"]
    assert failed["response"]["status"] == "failed"
    assert failed["response"]["error"]["code"] in RESPONSE_ERROR_CODES
    assert failed["sequence_number"] == error["sequence_number"] + 1
    ids = {e["response"]["id"] for e in (*before, failed) if isinstance(e.get("response"), dict)}
    assert len(ids) == 1
    if case.method == "POST":
        assert events[0]["type"] == "response.created"


def differences(before: object, after: object, path: tuple[str, ...] = ()) -> Iterator[Any]:
    """Yield the paths at which two JSON values differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in before.keys() | after.keys():
            yield from differences(before.get(key), after.get(key), (*path, key))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for one, other in zip(before, after, strict=True):
            yield from differences(one, other, path)
    elif before != after:
        yield path
