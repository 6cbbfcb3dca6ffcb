"""What is alike is the same object with another text, or it is not alike."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.core.jsontext import write_json
from proxy.core.surfaces.alike import Alike


def chunk_of(text: str) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice]}


def taught(text: str = "Hello") -> Alike:
    alike = Alike("content")
    alike.learn(write_json(chunk_of(text)), text)
    return alike


BEFORE, AFTER = write_json(chunk_of("|")).split(b"|")


@given(st.text())
def test_another_text_that_is_written_as_it_is_fits(text: str) -> None:
    plainly = text.isprintable() and not {'"', "\\"} & set(text)
    assert taught().fits(write_json(chunk_of(text))) == plainly


HOSTILE = [
    b"",
    b'"},"finish_reason":"error"}],"error":{"message":"x',
    b'\\"',
    b"\\",
    b'"',
    b"\\u0000",
    b"\n",
    b"\x00",
    b"\xff",
    b"\xed\xa0\x80",  # half a surrogate pair
    "\u2028".encode(),
    b'x"},"error":{"a":"b',
]


@given(st.binary() | st.sampled_from(HOSTILE))
@example(HOSTILE[1])
def test_what_fits_is_the_same_object(inside: bytes) -> None:
    data = BEFORE + inside + AFTER
    if taught().fits(data):
        assert json.loads(data) == chunk_of(inside.decode())


@given(st.binary(), st.integers(0, len(BEFORE)), st.integers(0, len(AFTER)))
def test_what_differs_elsewhere_does_not_fit(inside: bytes, first: int, last: int) -> None:
    data = BEFORE[:first] + inside + AFTER[last:]
    if taught().fits(data):
        assert data.startswith(BEFORE)
        assert data.endswith(AFTER)
        assert json.loads(data) == chunk_of(data[len(BEFORE) : -len(AFTER)].decode())


def test_before_anything_was_learned_nothing_fits() -> None:
    assert not Alike("content").fits(b"")
    assert not Alike("content").fits(write_json(chunk_of("Hello")))


def test_the_bytes_before_and_after_do_not_overlap() -> None:
    assert not taught().fits(BEFORE[:-1] + AFTER)
    assert not taught().fits(BEFORE + AFTER[1:])


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
    alike = Alike("content")
    alike.learn(data, "Hello")
    assert not alike.fits(data)


@pytest.mark.parametrize("text", [None, 1, ["Hello"], {}])
def test_only_a_string_is_learned(text: object) -> None:
    alike = Alike("content")
    alike.learn(write_json({"content": text}), text)
    assert not alike.fits(write_json({"content": text}))


def test_a_provider_whose_events_are_never_alike_is_not_asked_for_ever() -> None:
    alike = Alike("content")
    for number in range(100):
        alike.learn(b'{"id":%d,"content":"Hello"}' % number, "Hello")
    assert not alike.fits(b'{"id":99,"content":"Hello"}')
