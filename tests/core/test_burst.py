"""A burst is split at once, and each of its events is judged as if it had come alone."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.core.sse import Decoder, encode
from proxy.core.surfaces.burst import Burst
from proxy.core.surfaces.names import CHAT, RESPONSES
from tests.playbook import chunk, encode_all, event, sanitizer

NAMES = [b"", b"delta"]


def finder(name: bytes = b"") -> tuple[Burst, list[Any]]:
    """Return one to which objects with an "n" are usual, and what it has noted."""
    noted: list[Any] = []

    def usual(values: Iterable[Any], of: bytes) -> int:
        count = 0
        for value in values:
            if not (isinstance(value, dict) and "n" in value and of == name):
                break
            noted.append(value)
            count += 1
        return count

    burst = Burst(usual)
    burst.look_for(name)
    return burst, noted


def numbered(*numbers: int, name: bytes = b"") -> bytes:
    return b"".join(encode(b'{"n":%d}' % number, name) for number in numbers)


@pytest.mark.parametrize("name", NAMES)
def test_all_that_came_whole_pass(name: bytes) -> None:
    three = numbered(1, 2, 3, name=name)
    for size in range(len(three), len(three + numbered(4, name=name))):
        burst, noted = finder(name)
        data = (three + numbered(4, name=name))[:size]
        assert burst.run(b"\n" + data, 1) == (1 + len(three), 3)
        assert noted == [{"n": 1}, {"n": 2}, {"n": 3}]


OTHERS = [
    b"data: [DONE]\n\n",
    b": ping\n\n",
    b"\n",
    b"data: {}\n\n",
    b"event: error\ndata: {}\n\n",
    b'id: 1\ndata: {"n":9}\n\n',
    b'data: {"n":\n9}\n\n',
    b'data: {"n":\r9}\n\n',
    b'data: {"n":9}\ndata: {"n":9}\n\n',
    b'data: {"n":9},{"n":9}\n\n',
    b'data: [{"n":9}\n\ndata: {"n":9}]\n\n',
    b'data: {"n":9,"error":{}}\n\n',
    b"data: \xff\n\n",
    b'data: {"n":"\xff"}\n\n',
    b'data: {"n":9}',
]


@given(st.lists(st.sampled_from([numbered(1), numbered(2), *OTHERS]), min_size=1, max_size=6))
@example([numbered(1), b'data: {"n":\r9}\n\n'])
@example([b'data: {"n":9,"error":{}}\n\n', numbered(1), b"event: error\ndata: {}\n\n"])
def test_a_burst_is_what_each_event_is_by_itself(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    burst, noted = finder()
    if not data.startswith(burst.begin):
        return
    end, count = burst.run(data, 0)
    events = Decoder(4000).feed(data[:end])
    assert encode_all(events) == data[:end]
    assert [json.loads(one.data or b"") for one in events] == noted
    assert len(noted) == count
    assert all(set(one) == {"n"} for one in noted)


def test_a_bursts_events_are_those_of_the_long_way() -> None:
    """Numbers go on: the failure's events have those that follow."""
    deltas = [
        event("response.output_text.delta", delta=f"{n}", sequence_number=n) for n in range(9)
    ]
    data = b"".join(said.data for said in deltas)
    ends = []
    for size in (1, len(data)):
        one = sanitizer(RESPONSES)
        out = b"".join(one.feed(data[at : at + size]) for at in range(0, len(data), size))
        assert (out, one.events) == (data, 9)
        ends.append(one.close())
    assert ends[0] == ends[1]
    assert b'"sequence_number":9' in ends[0]


def test_chunks_that_are_never_alike_are_found_in_bursts() -> None:
    one = sanitizer(CHAT)
    for number in range(40):
        value = json.loads(chunk("Hello").data[6:]) | {"n": number}
        data = encode(json.dumps(value).encode())
        assert one.feed(data) == data
    assert isinstance(one._stream.quick, Burst)
    assert one.events == 40
