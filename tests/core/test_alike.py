"""What is alike is the same object with another text, or it is not alike."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.core.jsontext import write_json
from proxy.core.sse import encode
from proxy.core.surfaces.alike import Alike


def chunk_of(text: str) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice]}


def taught(text: str = "Hello", name: bytes = b"") -> Alike:
    alike = Alike()
    alike.learn(write_json(chunk_of(text)), "content", text, name)
    return alike


def run(alike: Alike, chunk: bytes, start: int) -> tuple[int, int]:
    """Ask as the sanitizer asks."""
    is_there = alike.begin and chunk.startswith(alike.begin, start)
    return alike.run(chunk, start) if is_there else (start, 0)


BEFORE, AFTER = write_json(chunk_of("|")).split(b"|")


def framed(*insides: bytes) -> bytes:
    return b"".join(encode(BEFORE + inside + AFTER) for inside in insides)


@given(st.lists(st.text(), min_size=1), st.sampled_from([b"", b"delta"]))
def test_other_texts_are_one_run(texts: list[str], name: bytes) -> None:
    chunk = b"".join(encode(write_json(chunk_of(text)), name) for text in texts)
    assert run(taught(name=name), chunk, 0) == (len(chunk), len(texts))


def test_a_run_begins_where_it_is_asked_for() -> None:
    before, two = b"data: x\n\n", framed(b"a", b"b")
    assert run(taught(), before + two, len(before)) == (len(before) + len(two), 2)
    assert run(taught(), before + two, 0) == (0, 0)


def test_a_run_ends_before_what_is_not_whole() -> None:
    two = framed(b"a", b"b")
    for size in range(1, len(framed(b"c"))):
        assert run(taught(), two + framed(b"c")[:size], 0) == (len(two), 2)


@pytest.mark.parametrize("other", [b"data: [DONE]\n\n", b": ping\n\n", b"\n", b"data: {}\n\n"])
def test_a_run_ends_before_another_event(other: bytes) -> None:
    two = framed(b"a", b"b")
    assert run(taught(), two + other + framed(b"c"), 0) == (len(two), 2)


HOSTILE = [
    b"",
    b'"},"finish_reason":"error"}],"error":{"message":"x',
    b'x","y',
    b'",\n"',
    b'\\"',
    b"\\",
    b'"',
    b"\\u0041",
    b"\\ud83d",
    b"\n",
    b"\n\n",
    b"\x00",
    b"\xff",
    b"\xc3",
    b"\xa4",
    b"\xed\xa0\x80",  # half a surrogate pair
    "\u2028".encode(),
    b'x"},"error":{"a":"b',
    b'a",["x',
    b'd"],"e',
    b'a",{"x":"y',
    b'd"},"e',
    AFTER,
    AFTER + b"\n\ndata: " + BEFORE,
]


@given(st.lists(st.binary() | st.sampled_from(HOSTILE), min_size=1, max_size=5))
@example([b"x\\", b'y","z'])
@example([b"\xc3", b"\xa4"])
@example([b'a",["x', b"c", b'd"],"e'])
@example([b'a",{"x":"', b'"},"e'])
@example([b'x","y', b"z\\"])
def test_a_run_is_what_each_event_is_by_itself(insides: list[bytes]) -> None:
    chunk = framed(*insides)
    end, count = run(taught(), chunk, 0)
    *blocks, rest = chunk[:end].split(b"\n\n")
    assert (rest, len(blocks)) == (b"", count)
    for block in blocks:
        value = json.loads(block.removeprefix(b"data: "))
        assert value == chunk_of(value["choices"][0]["delta"]["content"])


def test_before_anything_was_learned_nothing_is_alike() -> None:
    assert run(Alike(), framed(b"a"), 0) == (0, 0)
    assert run(Alike(), b"", 0) == (0, 0)


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":"\\"content\\":\\"Hello\\"","delta":{"text":"Hello"}}',
        b'{"content" : "Hello"}',
        b'{"content":"\\u0048ello"}',
        b'{"content":["Hello"]}',
    ],
)
def test_a_text_that_cannot_be_found_with_certainty_teaches_nothing(data: bytes) -> None:
    alike = Alike()
    alike.learn(data, "content", "Hello")
    assert run(alike, encode(data), 0) == (0, 0)


@pytest.mark.parametrize("text", [None, 1, ["Hello"], {}])
def test_only_a_string_is_learned(text: object) -> None:
    alike = Alike()
    alike.learn(write_json({"content": text}), "content", text)
    assert run(alike, encode(write_json({"content": text})), 0) == (0, 0)


def test_a_provider_whose_events_are_never_alike_is_not_asked_for_ever() -> None:
    alike = Alike()
    for number in range(100):
        alike.learn(b'{"id":%d,"content":"Hello"}' % number, "content", "Hello")
    assert run(alike, encode(b'{"id":99,"content":"Hello"}'), 0) == (0, 0)
