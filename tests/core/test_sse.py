"""The decoder keeps to the WHATWG rules whatever the chunks; the encoder is its inverse."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.sse import (
    ENCODED_KEEP_ALIVE,
    KEEP_ALIVE,
    Decoder,
    Event,
    EventTooLargeError,
    encode,
)
from tests.playbook import pieces

BOM = b"\xef\xbb\xbf"
BOUND = 1024 * 1024


def decode(*chunks: bytes, bound: int = BOUND) -> list[Event]:
    decoder = Decoder(bound)
    return [event for chunk in chunks for event in decoder.feed(chunk)]


def outcome(chunks: Iterable[bytes], bound: int) -> tuple[list[Event], Event | str | None]:
    decoder = Decoder(bound)
    events: list[Event] = []
    for chunk in chunks:
        try:
            events += decoder.feed(chunk)
        except EventTooLargeError as error:
            return events + error.events, "too large"
    return events, decoder.close()


CASES = {
    "one line": (b"data: a\n\n", [Event(b"a")]),
    "a name": (b"event: n\ndata: a\n\n", [Event(b"a", b"n")]),
    "a name after the data": (b"data: a\nevent: n\n\n", [Event(b"a", b"n")]),
    "the last name counts": (b"event: n\nevent: m\ndata: a\n\n", [Event(b"a", b"m")]),
    "CR": (b"event: n\rdata: a\r\rdata: b\r\r", [Event(b"a", b"n"), Event(b"b")]),
    "CRLF": (b"event: n\r\ndata: a\r\n\r\n", [Event(b"a", b"n")]),
    "mixed line ends": (b"event: n\rdata: a\ndata: b\r\n\ndata: c\n\r", [
        Event(b"a\nb", b"n"),
        Event(b"c"),
    ]),
    "CRLF CR is a blank line": (b"data: a\r\n\r", [Event(b"a")]),
    "LF CR is a blank line": (b"data: a\n\r", [Event(b"a")]),
    "several blank lines": (b"\n\n\ndata: a\n\n\n\n\ndata: b\n\n", [Event(b"a"), Event(b"b")]),
    "BOM": (BOM + b"data: a\n\n", [Event(b"a")]),
    "BOM before a comment": (BOM + b": hi\n\n", [KEEP_ALIVE]),
    "BOM before a blank line": (BOM + b"\ndata: a\n\n", [Event(b"a")]),
    "only the first BOM is one": (BOM * 2 + b"data: a\n\n", [Event(None, b"", BOM + b"data: a")]),
    "a BOM later is text": (b"data: a\n\n" + BOM + b"data: b\n\n", [
        Event(b"a"),
        Event(None, b"", BOM + b"data: b"),
    ]),
    "no space after the colon": (b"event:n\ndata:a\n\n", [Event(b"a", b"n")]),
    "one space is taken off": (b"data:  a \n\n", [Event(b" a ")]),
    "a tab stays": (b"data:\ta\n\n", [Event(b"\ta")]),
    "several data lines": (b"data: a\ndata:\ndata: b\n\n", [Event(b"a\n\nb")]),
    "two empty data lines": (b"data\ndata\n\n", [Event(b"\n")]),
    "empty data is no event": (b"data:\n\ndata\n\ndata: \n\n", []),
    "a name alone is no event": (b"event: n\n\n", []),
    "a name does not stay": (b"event: n\n\ndata: a\n\n", [Event(b"a")]),
    "colons in the value": (b"data: a: b:c\n\n", [Event(b"a: b:c")]),
    "a field without colon": (b"data: a\ndata\n\n", [Event(b"a\n")]),
    "an event field without colon": (b"event: n\nevent\ndata: a\n\n", [Event(b"a")]),
    "id and retry are nothing": (b"id: 7\nretry: 10\nid\ndata: a\n\n", [Event(b"a")]),
    "id alone is no event": (b"id: 7\n\n", []),
    "a comment": (b": hello\n\n", [KEEP_ALIVE]),
    "a bare comment": (b":\n\n", [KEEP_ALIVE]),
    "a comment inside an event": (b"data: a\n: x\ndata: b\n\n", [KEEP_ALIVE, Event(b"a\nb")]),
    "an unknown field": (b"data: a\nfoo: bar\n\n", [Event(b"a", b"", b"foo: bar")]),
    "fields are told apart by case": (b"Data: a\n\n", [Event(None, b"", b"Data: a")]),
    "an unknown field alone": (b"foo: bar\n\n", [Event(None, b"", b"foo: bar")]),
    "an error field": (b"error: {}\n\n", [Event(None, b"", b"{}")]),
    "an error field beside data": (b"data: a\nerror: b\n\n", [Event(b"a", b"", b"b")]),
    "a bare JSON line": (b'{"error":1}\n\n', [Event(None, b"", b'{"error":1}')]),
    "several stray lines": (b"Trace:\n  here\n\n", [Event(None, b"", b"Trace:\n  here")]),
    "a space before the field is part of it": (b" data: a\n\n", [Event(None, b"", b" data: a")]),
    "U+2028, U+2029 and U+0085 end no line": (
        "data: a\u2028b\u2029c\u0085d\x0be\x0cf\n\n".encode(),
        [Event("a\u2028b\u2029c\u0085d\x0be\x0cf".encode())],
    ),
    "NUL and half characters": (b"data: \x00\xff\xe2\x82\n\n", [Event(b"\x00\xff\xe2\x82")]),
}  # fmt: skip


@pytest.mark.parametrize(("stream", "wanted"), CASES.values(), ids=CASES)
class TestDecoder:
    def test_reads_it_whole(self, stream: bytes, wanted: list[Event]) -> None:
        assert decode(stream) == wanted

    def test_reads_it_byte_by_byte(self, stream: bytes, wanted: list[Event]) -> None:
        assert decode(*pieces(stream, 1)) == wanted

    def test_reads_it_cut_anywhere(self, stream: bytes, wanted: list[Event]) -> None:
        for at in range(len(stream) + 1):
            assert decode(stream[:at], b"", stream[at:]) == wanted, at

    def test_reads_it_after_another_event(self, stream: bytes, wanted: list[Event]) -> None:
        if not stream.startswith(BOM):
            assert decode(b"data: first\n\n" + stream)[1:] == wanted


UNFINISHED = {
    "a line without its end": (b"data: a", Event(b"a")),
    "a line with its end": (b"event: n\ndata: a\n", Event(b"a", b"n")),
    "a line that begins": (b"data: a\nda", Event(b"a", b"", b"da")),
    "a stray line": (b'{"error":1}', Event(None, b"", b'{"error":1}')),
    "a BOM before it": (BOM + b"data: a", Event(b"a")),
    "a name alone": (b"event: n\n", None),
    "a comment": (b": hi", None),
    "a comment after a line": (b"data: a\n: hi", Event(b"a")),
    "nothing": (b"", None),
    "a whole event before it": (b"data: a\n\n", None),
}


@pytest.mark.parametrize(("stream", "left"), UNFINISHED.values(), ids=UNFINISHED)
def test_an_unfinished_event_is_evidence_and_never_an_event(
    stream: bytes, left: Event | None
) -> None:
    for chunks in ([stream], pieces(stream, 1)):
        decoder = Decoder(BOUND)
        events = [event for chunk in chunks for event in decoder.feed(chunk)]
        assert events in ([], [Event(b"a")])
        assert (events == [Event(b"a")]) == stream.endswith(b"\n\n")
        assert decoder.close() == left


@pytest.mark.parametrize("bound", [40, 5000])
@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
@pytest.mark.parametrize(
    "event",
    [
        b"data: %b",
        b"data:%b",
        b"event: name\ndata: %b",
        b"data: x\ndata: %b",
        b"id: 1\ndata: %b",
        b"stray %b",
        b": %b",
    ],
)
class TestTheBound:
    def test_passes_an_event_of_its_size(self, event: bytes, end: bytes, bound: int) -> None:
        stream = _filled(event, bound, end)
        for size in (None, 1, 7):
            assert len(decode(*pieces(stream, size), bound=bound)) == 1

    def test_passes_it_behind_a_bom(self, event: bytes, end: bytes, bound: int) -> None:
        stream = BOM + _filled(event, bound, end)
        for size in (None, 1, 7):
            assert len(decode(*pieces(stream, size), bound=bound)) == 1

    @pytest.mark.parametrize("more", [1, 2, 3, 4, 5, 4000])
    def test_refuses_a_larger_event_with_those_before_it(
        self, event: bytes, end: bytes, bound: int, more: int
    ) -> None:
        stream = b"data: before\n\n" + _filled(event, bound + more, end)
        for size in (None, 1, 7):
            assert outcome(pieces(stream + b"data: after\n\n", size), bound) == (
                [Event(b"before")],
                "too large",
            )


def _filled(event: bytes, size: int, end: bytes) -> bytes:
    """CRLF is one line end: it counts for one byte."""
    text = event % (b"x" * (size - len(event) + 2))
    return text.replace(b"\n", end) + end + end


def test_the_bound_is_each_events_own() -> None:
    stream = b"data: 0123456789\n\n" * 100
    assert len(decode(stream, bound=20)) == 100


def test_a_comment_does_not_count_towards_the_event_around_it() -> None:
    stream = b"data: " + b"a" * 80 + b"\n:" + b"c" * 50 + b"\n\n"
    whole = decode(stream, bound=100)
    assert whole == [KEEP_ALIVE, Event(b"a" * 80)]
    for at in range(len(stream)):
        assert decode(stream[:at], stream[at:], bound=100) == whole, at


def test_an_endless_line_is_refused_before_it_ends() -> None:
    with pytest.raises(EventTooLargeError):
        decode(*[b"x" * 100] * 100, bound=1000)


def test_an_endless_event_of_short_lines_is_refused() -> None:
    with pytest.raises(EventTooLargeError):
        decode(*[b"data: x\n"] * 1000, bound=1000)


def test_a_large_event_comes_whole_out_of_small_pieces() -> None:
    payload = bytes(range(32, 127)) * (16 * 1024 * 1024 // 95)
    stream = b"event: image\ndata: " + payload + b"\n\n"
    decoder = Decoder(20 * 1024 * 1024)
    events = [event for piece in pieces(stream, 16 * 1024) for event in decoder.feed(piece)]
    assert events == [Event(payload, b"image")]


def test_a_large_event_between_small_ones() -> None:
    image = b"i" * 200_000
    stream = b"data: a\n\ndata: " + image + b"\n\n: b\n\ndata: c\n\n"
    wanted = [Event(b"a"), Event(image), KEEP_ALIVE, Event(b"c")]
    for size in (None, 1000, 65_536):
        assert decode(*pieces(stream, size)) == wanted


class TestEncoder:
    def test_writes_data(self) -> None:
        assert encode(b"a") == b"data: a\n\n"

    def test_writes_a_name(self) -> None:
        assert encode(b"a", b"n") == b"event: n\ndata: a\n\n"

    def test_writes_each_line_of_data(self) -> None:
        assert encode(b"a\n\nb", b"n") == b"event: n\ndata: a\ndata: \ndata: b\n\n"

    def test_its_keep_alive_is_a_comment_without_text(self) -> None:
        assert decode(ENCODED_KEEP_ALIVE) == [KEEP_ALIVE]
        assert ENCODED_KEEP_ALIVE == b":\n\n"


def _decodable(text: bytes) -> bool:
    return b"\r" not in text


_DATA = st.binary(min_size=1).filter(_decodable)
_NAME = st.binary().filter(lambda name: _decodable(name) and b"\n" not in name)


@given(st.lists(st.tuples(_DATA, _NAME)))
def test_decoding_undoes_encoding(events: list[tuple[bytes, bytes]]) -> None:
    stream = b"".join(encode(*event) for event in events)
    assert decode(stream) == [Event(*event) for event in events]


# The enemy's alphabet: what the framing is made of, and what only looks like it.
_TOKENS = st.sampled_from(
    [
        *(b"data: ", b"data:", b"data", b"event: e", b"id: 1", b"retry", b"error: {}", b": c"),
        *(
            b":",
            b"\r",
            b"\n",
            b"\r\n",
            b"\n\n",
            b"\r\r",
            BOM,
            b"\xef\xbb",
            b"\xbf",
            b"\xe2\x80\xa8",
        ),
        *(b"x", b" ", b"{}", b"y" * 30, b"z" * 5000),
    ]
)


@given(
    st.lists(_TOKENS, max_size=40).map(b"".join),
    st.lists(st.integers(0, 400), max_size=8),
    st.sampled_from([12, 64, 4999, BOUND]),
)
def test_chunks_never_show(stream: bytes, cuts: list[int], bound: int) -> None:
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    whole = outcome([stream], bound)
    assert outcome([stream[a:b] for a, b in pairwise(edges)], bound) == whole
    assert outcome(pieces(stream, 1), bound) == whole
