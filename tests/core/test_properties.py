"""What holds for every stream, made from the enemy's alphabet.

HYPOTHESIS_PROFILE=deep python -m pytest tests/core/test_properties.py
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.core.errors import UpstreamError
from proxy.core.evidence import MAX_RAW
from proxy.core.failures import Failure
from proxy.core.incident import Incident
from proxy.core.jsontext import parse_json
from proxy.core.sse import ENCODED_KEEP_ALIVE, KEEP_ALIVE, Event, encode
from proxy.core.surfaces import SURFACES
from proxy.core.surfaces.names import CHAT, MESSAGES, OTHER, RESPONSES
from proxy.core.surfaces.surface import Target
from tests.core.enemy import (
    CARRIERS,
    CONTENT,
    ERRORS,
    FRAMING,
    HEALTHY,
    SECRET,
    Enemy,
    alike,
    streams,
)
from tests.playbook import (
    chunk,
    decode,
    encode_all,
    events_of,
    ledger,
    parsed,
    pieces,
    sanitizer,
    shipped,
    well_formed_failure,
)

MAX_EVENT = 4000


@dataclass(frozen=True)
class Outcome:
    """What became of a stream."""

    out: bytes
    code: str | None
    events: int
    dropped: int
    content_seen: bool
    finished: bool
    ended: bool
    incidents: list[Incident]


def run(enemy: Enemy, cuts: list[int] | None = None, size: int | None = None) -> Outcome:
    """Let a stream through, cut as asked."""
    one = sanitizer(enemy.surface, max_event=MAX_EVENT)
    data = enemy.data
    if cuts is None:
        chunks = list(pieces(data, size))
    else:
        edges = sorted({0, len(data), *(at % (len(data) + 1) for at in cuts)})
        chunks = [data[a:b] for a, b in pairwise(edges)]
    out = b"".join(map(one.feed, chunks))
    out += one.fail(Failure.RESET_AFTER, SECRET) if enemy.cut else one.close()
    assert one.closed
    assert one.feed(data) == one.close() == one.fail(Failure.IDLE) == b""
    return Outcome(
        out,
        one.reply.code if one.reply else None,
        one.events,
        one.dropped,
        one.content_seen,
        one.finished,
        one.ended,
        one._ledger.incidents,
    )


CUTS = st.lists(st.integers(0, 10_000), max_size=6)

# A usual event over two lines teaches nothing: with a bare line in it, it is no event.
_IN_TWO_LINES, BARE = alike(CHAT)[-3:-1]
TAUGHT = chunk("a").data + _IN_TWO_LINES


@given(streams(ERRORS, CARRIERS, FRAMING, stored=True), CUTS)
@example(Enemy(CHAT, chunk("a").data + b"event: \n" + chunk("b").data, cut=False), [])
@example(Enemy(CHAT, chunk("a").data + b'data: {"choices":\r[]}\n\n', cut=False), [])
@example(Enemy(CHAT, b"\xef\xbb\xbf", cut=False), [1])
@example(Enemy(CHAT, b"\xef\xbb\xbf" + chunk("a").data, cut=False), [0, 2])
@example(Enemy(CHAT, chunk("a").data[:-1] + b"\r" + chunk("b").data, cut=True), [])
@example(Enemy(CHAT, TAUGHT + BARE, cut=True), [len(TAUGHT)])
def test_chunks_never_show(enemy: Enemy, cuts: list[int]) -> None:
    whole = run(enemy)
    assert run(enemy, cuts) == whole
    assert run(enemy, size=1) == whole


@given(streams(ERRORS, CARRIERS, FRAMING, stored=True))
def test_our_writer_writes(enemy: Enemy) -> None:
    out = run(enemy).out
    assert encode_all(decode(out)) == out


@given(streams(ERRORS, CARRIERS, FRAMING, stored=True))
@example(Enemy(OTHER, b"data: {}\n\ndata: [DONE]\n\n", cut=True))
def test_a_stream_has_one_ending(enemy: Enemy) -> None:
    outcome = run(enemy)
    events = events_of(outcome.out)
    endings = sum(is_failure(enemy.surface, event) for event in events)
    if outcome.code is None:
        assert endings == 0
        assert is_complete(enemy, events)
    else:
        assert endings == 1
        reply = outcome.incidents[-1].resolution.reply
        closing = well_formed_failure(enemy.surface, events, reply)
        assert decode(outcome.out)[-closing:] == events[-closing:]


def is_failure(surface: str, event: Event) -> bool:
    """Tell whether an event is the telling one of a failure."""
    value = parse_json(event.data or b"")
    if not isinstance(value, dict):
        return False
    if surface == RESPONSES:
        return value.get("type") == "response.failed"
    return bool(value.get("error")) or event.name == b"error"


def is_complete(enemy: Enemy, events: list[Event]) -> bool:
    """Tell whether a provider may end its stream so, by what a client read of it."""
    values = [parse_json(event.data or b"") for event in events]
    objects = [value for value in values if isinstance(value, dict)]
    kinds = {value.get("type") for value in objects}
    if enemy.surface == CHAT:
        choices = [one for value in objects for one in value.get("choices", ())]
        begun = {one["index"] for one in choices}
        return begun == {one["index"] for one in choices if one["finish_reason"]} != set()
    untyped = any(not isinstance(value.get("type"), str) for value in objects)
    is_done = bool(events) and events[-1].data == b"[DONE]"
    if enemy.surface == OTHER and (is_done or not enemy.cut) and untyped:
        return True  # a server of another make, whose events have no types, has no last one
    last = {RESPONSES: "response.completed", MESSAGES: "message_stop"}
    return last.get(enemy.surface, "transcript.text.done") in kinds


@given(streams(ERRORS, CARRIERS, stored=True))
def test_nothing_leaks(enemy: Enemy) -> None:
    for tail in (b"", b"data: CANARY", b'data: {"error":"CANARY"}', b": CANARY", b"CANARY\n"):
        outcome = run(Enemy(enemy.surface, enemy.data + tail, enemy.cut))
        assert SECRET.encode() not in outcome.out
    without = Enemy(enemy.surface, enemy.data.replace(SECRET.encode(), b"CHOUGH"), enemy.cut)
    assert run(without).out == run(enemy).out


@given(ERRORS, st.sampled_from(sorted(HEALTHY)), st.booleans())
def test_every_error_ends_the_stream_before_anything_else_is_said(
    error: bytes,
    surface: str,
    started: bool,  # noqa: FBT001
) -> None:
    start = HEALTHY[surface][0] if started else b""
    outcome = run(Enemy(surface, start + error + HEALTHY[surface][1], cut=False))
    assert outcome.code is not None
    assert SECRET.encode() not in outcome.out


@given(streams())
def test_ordinary_content_passes_byte_for_byte(enemy: Enemy) -> None:
    first, second, *_ = HEALTHY[enemy.surface]
    outcome = run(Enemy(enemy.surface, first + second, enemy.cut))
    assert outcome.out.startswith(first + second)
    assert CONTENT.encode() in outcome.out


@pytest.mark.parametrize("surface", HEALTHY)
def test_a_healthy_stream_passes_byte_for_byte(surface: str) -> None:
    events = [one for one in HEALTHY[surface] if b'"index": 1' not in one]
    enemy = Enemy(surface, b"".join(events), cut=False)
    for size in (None, 1, 7, 100):
        outcome = run(enemy, size=size)
        assert outcome.out == enemy.data
        assert outcome.code is None
        assert not outcome.incidents


@given(streams(CARRIERS, FRAMING))
def test_every_event_that_passes_is_the_upstreams_own(enemy: Enemy) -> None:
    outcome = run(enemy)
    for event in decode(outcome.out)[: outcome.events]:
        if event is not KEEP_ALIVE:
            assert (event.data or b"").split(b"\n")[0] in enemy.data


@given(streams(ERRORS, CARRIERS, FRAMING, stored=True))
def test_evidence_is_bounded(enemy: Enemy) -> None:
    for incident in run(enemy).incidents:
        for layer in incident.error.layers():
            assert len(layer.message) <= 4096
            assert len(layer.raw) <= MAX_RAW
            assert max(map(len, (layer.code, layer.type, layer.param))) <= 200


_KEYS = st.sampled_from(
    [
        *("error", "type", "object", "choices", "response", "item", "output", "data", "status"),
        *("finish_reason", "index", "delta", "id", "errors", "last_error", "moderation", "input"),
        *("incomplete_details", "reason", "status_details", "content", "message", "code"),
    ]
)
_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(
        [
            *("error", "response", "list", "response.created", "response.completed", "mcp_call"),
            *("file", "failed", "message_stop", "content_block_delta", "chat.completion.chunk"),
            *("stop", "response.failed", "mcp_protocol_error", "transcript.text.done", "\ud800"),
        ]
    ),
)
JSON = st.recursive(
    _VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=6),
    max_leaves=25,
)


@given(JSON, st.sampled_from(sorted(HEALTHY)), st.sampled_from([b"", b"x", b"error", b"\xff"]))
def test_any_json_is_judged(value: Any, surface: str, name: bytes) -> None:
    said = encode(json.dumps(value).encode(), name)
    for start in (b"", HEALTHY[surface][0], b"".join(HEALTHY[surface][:2])):
        enemy = Enemy(surface, start + said + said, cut=True)
        whole = run(enemy)
        assert encode_all(decode(whole.out)) == whole.out
        assert run(enemy, size=1) == whole


@given(JSON, st.sampled_from(sorted(SURFACES)), st.sampled_from(["POST", "GET"]))
def test_any_body_is_judged(value: Any, surface: str, method: str) -> None:
    paths = {
        RESPONSES: "/v1/responses",
        CHAT: "/v1/chat/completions",
        "completions": "/v1/completions",
        MESSAGES: "/v1/messages",
        OTHER: "/v1/models",
    }
    account = ledger(surface)
    verdict = SURFACES[surface].read_body(value, account, Target(method, paths[surface]))
    if isinstance(verdict, UpstreamError):
        reply = account.answer(verdict)
        assert reply.code in shipped().replies
        assert parsed(Event(SURFACES[surface].error_body(reply)))["error"]["message"]
    elif verdict.body is not None:
        assert account.incidents or b"incomplete_details" in verdict.body


@given(st.binary(max_size=300), st.sampled_from(sorted(HEALTHY)), CUTS)
def test_any_bytes_are_a_stream(data: bytes, surface: str, cuts: list[int]) -> None:
    enemy = Enemy(surface, data, cut=False)
    whole = run(enemy)
    assert run(enemy, cuts) == whole
    assert whole.code is not None or whole.out == ENCODED_KEEP_ALIVE
