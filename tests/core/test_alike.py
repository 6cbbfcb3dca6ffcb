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
from proxy.core.surfaces.names import CHAT, MESSAGES, RESPONSES
from tests.playbook import sanitizer


def chunk_of(text: str) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice]}


def taught(text: str = "Hello", name: bytes = b"") -> Alike:
    alike = Alike()
    alike.learn(write_json(chunk_of(text)), [("content", text)], name)
    return alike


def run(alike: Alike, chunk: bytes, start: int) -> tuple[int, int]:
    """Ask as the sanitizer asks."""
    is_there = alike.begin and chunk.startswith(alike.begin, start)
    return alike.run(chunk, start) if is_there else (start, 0)


BEFORE, AFTER = write_json(chunk_of("|")).split(b"|")


def framed(*insides: bytes) -> bytes:
    return b"".join(encode(BEFORE + inside + AFTER) for inside in insides)


def numbered_of(text: Any, padding: Any, number: Any) -> dict[str, Any]:
    said = {"type": "delta", "delta": text, "logprobs": [], "obfuscation": padding}
    return {**said, "sequence_number": number, "index": 0}


def taught_numbers(passed: list[int]) -> Alike:
    alike = Alike(passed.append)
    slots = [("delta", "Hello"), ("sequence_number", 7), ("obfuscation", "xyz")]
    alike.learn(write_json(numbered_of("Hello", "xyz", 7)), slots)
    return alike


FIRST, TO_PADDING, TO_NUMBER, REST = write_json(numbered_of("|", "|", "|")).split(b'"|"')


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


@pytest.mark.parametrize("slots", [1, 3])
def test_a_run_ends_before_an_event_of_which_any_byte_around_is_another(slots: int) -> None:
    alike = taught() if slots == 1 else taught_numbers([])
    usual = framed(b"~") if slots == 1 else encode(write_json(numbered_of("~", "~", 7)))
    for at in range(len(usual)):
        if usual[at : at + 1] not in b"~7":
            other = usual[:at] + b"#" + usual[at + 1 :]
            assert run(alike, other, 0) == (0, 0)
            end, count = run(alike, usual * 2 + other + usual, 0)
            assert count in (1, 2)
            assert end == len(usual) * count


@pytest.mark.parametrize("end", [b"\r", b"\n"])
def test_a_line_end_between_words_is_not_alike(end: bytes) -> None:
    other = b"data: %b%b%b\n\n" % (BEFORE[:-1] + end + b'"', b"a", AFTER)
    assert run(taught(), other, 0) == (0, 0)
    assert run(taught(), framed(b"a") + other, 0) == (len(framed(b"a")), 1)


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


@given(st.lists(st.tuples(st.text(), st.text(), st.integers(-(2**63), 2**64 - 1)), min_size=1))
def test_events_with_a_number_and_padding_are_one_run(said: list[tuple[str, str, int]]) -> None:
    chunk = b"".join(encode(write_json(numbered_of(*slots))) for slots in said)
    passed: list[int] = []
    assert run(taught_numbers(passed), chunk, 0) == (len(chunk), len(said))
    assert passed == [said[-1][2]]


# What could stand inside of such an event, and be read as what is expected there.
PIECES = [
    *(b'"a"', b"7", b" 7", b"7.0", b"-0", b"null", b"true", b",", b",null,\n", b",true,\n", b"\n"),
    *(TO_PADDING, TO_NUMBER, TO_PADDING[1:], TO_NUMBER[:-1], b'"', b'"a', b"\r", b" ", b"[", b"]"),
    *(b"{", b"}", b'"error":{}', b"\\", b"1e5", b"9" * 30, b"\xff"),
    *(b'"a"' + TO_PADDING + b'"b"' + TO_NUMBER + b"8",) * 8,
]


@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=6), min_size=1, max_size=4))
@example([[b'"a"', TO_PADDING, b'"b"', TO_NUMBER, b"7", b",", b'"a"'], [TO_PADDING, b'"b"']])
@example([[b'"a', TO_PADDING, b'b"', b",", b"null", b",", b'"b"', TO_NUMBER, b"7"]])
@example([[b'"a"', b",", b"null", b",", b'"b"', TO_NUMBER, b"7"]])
@example([[b'"a"', TO_PADDING, b'"b"', b",", b"true", b",", b"7"]])
@example([[b'"a"', TO_NUMBER, b'"b"', TO_PADDING, b"7"]])
@example([[b'"a"', TO_PADDING, b'"b"', TO_NUMBER, b"\r", b"7"]])
@example([[b'"a"', b",null,\n", b'"b"', TO_NUMBER, b"7"]])
@example([[b'"a"', TO_PADDING, b'"b"', TO_NUMBER, b"7", b"\n"]])
def test_a_run_with_numbers_is_what_each_event_is_by_itself(insides: list[list[bytes]]) -> None:
    chunk = b"".join(b"data: %b%b%b\n\n" % (FIRST, b"".join(one), REST) for one in insides)
    passed: list[int] = []
    end, count = run(taught_numbers(passed), chunk, 0)
    *blocks, rest = chunk[:end].split(b"\n\n")
    assert (rest, len(blocks)) == (b"", count)
    values = []
    for block in blocks:
        assert b"\n" not in block
        assert b"\r" not in block
        value = json.loads(block.removeprefix(b"data: "))
        text, padding, number = value["delta"], value["obfuscation"], value["sequence_number"]
        assert list(value.items()) == list(numbered_of(text, padding, number).items())
        assert list(map(type, (text, padding, number))) == [str, str, int]
        values.append(number)
    assert passed == values[-1:]


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_it_is_learned_from_json_as_anyone_writes_it(separators: tuple[str, str]) -> None:
    written = [encode(json.dumps(chunk_of(text), separators=separators).encode()) for text in "abc"]
    alike = Alike()
    alike.learn(written[0][6:-2], [("content", "a")])
    assert run(alike, b"".join(written), 0) == (sum(map(len, written)), 3)


def test_lessons_that_were_worth_it_are_given_again() -> None:
    alike = Alike()
    for number in range(100):
        data = b'{"id":%d,"content":"Hello"}' % number
        alike.learn(data, [("content", "Hello")])
        chunk = encode(data) * 20
        assert run(alike, chunk, 0) == (len(chunk), 20)
    assert alike.lessons


def test_before_anything_was_learned_nothing_is_alike() -> None:
    assert run(Alike(), framed(b"a"), 0) == (0, 0)
    assert run(Alike(), b"", 0) == (0, 0)


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":"\\"content\\":\\"Hello\\"","delta":{"text":"Hello"}}',
        b'{"content" : "Hello"}',
        b'{"delta":{"content":"Hello"},"content":"Hello"}',
        b'{"content":"\\u0048ello"}',
        b'{"content":["Hello"]}',
    ],
)
def test_a_text_that_cannot_be_found_with_certainty_teaches_nothing(data: bytes) -> None:
    alike = Alike()
    alike.learn(data, [("content", "Hello")])
    assert run(alike, encode(data), 0) == (0, 0)


@pytest.mark.parametrize("text", [None, 1, ["Hello"], {}])
def test_only_a_string_is_learned(text: object) -> None:
    alike = Alike()
    alike.learn(write_json({"content": text}), [("content", text)])
    for count in (1, 2):
        assert run(alike, encode(write_json({"content": text})) * count, 0) == (0, 0)


def test_a_provider_whose_events_are_never_alike_is_not_asked_for_ever() -> None:
    alike = Alike()
    for number in range(100):
        alike.learn(b'{"id":%d,"content":"Hello"}' % number, [("content", "Hello")])
    assert run(alike, encode(b'{"id":99,"content":"Hello"}'), 0) == (0, 0)


def block_of(delta: dict[str, Any]) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": delta}


@pytest.mark.parametrize(
    ("surface", "usual", "own"),
    [
        pytest.param(CHAT, chunk_of("%"), [], id="chat"),
        pytest.param(CHAT, chunk_of("%") | {"obfuscation": "%"}, [], id="padded chat"),
        pytest.param(CHAT, chunk_of("%"), ["id"], id="an id in each"),
        pytest.param(CHAT, chunk_of("%"), ["created"], id="a time in each"),
        pytest.param(CHAT, chunk_of("%"), ["id", "created"], id="both in each"),
        pytest.param(
            RESPONSES,
            {"type": "response.output_text.delta", "delta": "%", "obfuscation": "%"},
            ["sequence_number"],
            id="responses",
        ),
        pytest.param(MESSAGES, block_of({"type": "text_delta", "text": "%"}), [], id="text"),
        pytest.param(MESSAGES, block_of({"thinking": "%"}), [], id="thinking"),
        pytest.param(MESSAGES, block_of({"partial_json": "%"}), [], id="a tool's input"),
    ],
)
def test_what_providers_send_is_alike(surface: str, usual: dict[str, Any], own: list[str]) -> None:
    events = []
    for number in range(40):
        numbers = {name: f"{number}" if name == "id" else number for name in own}
        text = json.dumps(usual | numbers).replace("%", f"word{number}")
        events.append(encode(text.encode()))
    one = sanitizer(surface)
    for said in events[:4]:
        assert one.feed(said) == said
    quick = one._stream.quick
    assert isinstance(quick, Alike)
    whole = b"".join(events[4:])
    assert run(quick, whole, 0) == (len(whole), 36)


def delta_of(fields: str) -> bytes:
    return encode(b'{"type":"response.output_text.delta",%b}' % fields.encode())


def chunk_with(own: str) -> bytes:
    choices = b'"choices":[{"index":0,"delta":{"content":"a"}}]'
    return encode(b'{"object":"chat.completion.chunk",%b,%b}' % (own.encode(), choices))


def far_choice(said: str, finish: str = "null") -> bytes:
    delta = f'"index":{2**64},"delta":{{"content":"{said}"}},"finish_reason":{finish}'
    return encode(b'{"object":"chat.completion.chunk","choices":[{%b}]}' % delta.encode())


def text_of(said: str) -> bytes:
    return encode(write_json(block_of({"type": "text_delta", "text": said})))


DONE = encode(b'{"type":"response.output_text.done","text":"q","sequence_number":9}')
TWICE = '"x":{"a":1},"x":2'
DOUBLED = {
    CHAT: chunk_with(TWICE).replace(b'"a"}', b'"%"}'),
    RESPONSES: delta_of(f'{TWICE},"delta":"%","sequence_number":1'),
    MESSAGES: encode(b'{"type":"content_block_delta",%b,"delta":{"text":"%%"}}' % TWICE.encode()),
}
DEEP = "[" * 1000 + "]" * 1000


@pytest.mark.parametrize(
    ("surface", "events"),
    [
        pytest.param(
            RESPONSES,
            [
                delta_of('"delta":"a","sequence_number":57,"sequence_number" :5'),
                delta_of('"delta":"b","sequence_number":07,"sequence_number" :5'),
            ],
            id="a number that begins like the one that was judged",
        ),
        pytest.param(
            RESPONSES,
            [delta_of('"delta":"a","sequence_number":5.0,"sequence_number" :5')] * 2,
            id="a number that is none",
        ),
        pytest.param(
            CHAT,
            [
                chunk_with('"created":1'),
                chunk_with('"created":57,"created" :5'),
                chunk_with('"created":07,"created" :5'),
            ],
            id="a time that begins like the one that was judged",
        ),
        pytest.param(
            RESPONSES,
            [
                delta_of('"delta":"a","x":{"sequence_number":5},"sequence_number" :5'),
                delta_of('"delta":"b","x":{"sequence_number":8},"sequence_number" :5'),
            ],
            id="a number of the same name elsewhere",
        ),
        pytest.param(
            RESPONSES,
            [
                delta_of('"obfuscation":70,"delta":"a","sequence_number":1'),
                delta_of('"obfuscation":71,"delta":"b","sequence_number":2'),
            ],
            id="padding that is a number",
        ),
        pytest.param(
            RESPONSES,
            [
                delta_of('"delta":"a","sequence_number" :5'),
                DONE,
                delta_of('"delta":"b","sequence_number" :5'),
            ],
            id="a number that cannot be found",
        ),
        *(
            pytest.param(
                surface,
                [made.replace(b"%", text) for text in (b"a", said)],
                id=f"a doubled name in {surface} beside {said[:6].decode()}",
            )
            for surface, made in DOUBLED.items()
            for said in (b"error", b"\\u0065", b"\\u0072" + b"x" * 10_000)
        ),
        pytest.param(
            CHAT,
            [chunk_with(f'"id":{DEEP}'), chunk_with(f'"id":{DEEP},"k":1')] * 2,
            id="an id that is nested absurdly",
        ),
        pytest.param(
            CHAT,
            [far_choice("error"), far_choice("a"), far_choice("b"), far_choice("error", '"stop"')],
            id="an index beyond 64 bits",
        ),
        pytest.param(
            MESSAGES,
            [text_of("a"), text_of("[" * 1_000_001)],
            id="a text of brackets that would be too many parts",
        ),
    ],
)
def test_what_is_odd_is_judged_as_it_is_by_itself(surface: str, events: list[bytes]) -> None:
    quick, slow = sanitizer(surface), sanitizer(surface)
    for said in events:
        assert quick.feed(said) == slow._feed(said)
    assert quick.events == slow.events
    assert quick.close() == slow.close()


def test_anthropics_blocks_are_learned_one_after_another() -> None:
    one = sanitizer(MESSAGES)
    for index in range(10):  # the lessons that there are, and two more
        blocks = [
            encode(write_json(block_of({"text": f"{n}"}) | {"index": index}))
            for n in range(2 if index < 7 else 40)
        ]
        assert one.feed(b"".join(blocks)) == b"".join(blocks)
        quick = one._stream.quick
        assert isinstance(quick, Alike)
        assert run(quick, blocks[0], 0) == (len(blocks[0]), 1)
