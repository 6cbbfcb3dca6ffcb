"""What is fuzzed, and what must hold: no input leaks, hangs, crashes or ends twice.

A target takes any bytes and raises when it finds the invariant broken. Whatever else it needs,
such as where to cut, it draws from the same bytes, so that an input is all there is to keep.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Final
from unittest.mock import patch

from yarl import URL

from proxy.core import table_file
from proxy.core.errors import Origin, Reply
from proxy.core.evidence import MAX_RAW
from proxy.core.failures import Failure
from proxy.core.jsontext import parse_json
from proxy.core.problem import TableError
from proxy.core.sse import KEEP_ALIVE, Decoder, Event, EventTooLargeError, encode
from proxy.core.stream import StreamSanitizer
from proxy.core.surfaces import SURFACES
from proxy.core.surfaces.names import CHAT, COMPLETIONS, MESSAGES, RESPONSES
from proxy.core.surfaces.surface import Target as Asked
from proxy.core.table import Table
from proxy.core.table_check import check
from proxy.operate.secrets import mask, one_line
from proxy.settings import SettingsError, read_settings
from proxy.transport.encoding import Decompressor, EncodingError, decompressor
from proxy.transport.target import safe_target
from tests.fuzz.draw import Draw
from tests.fuzz.seeds import DIRTS
from tests.playbook import decode, encode_all, ledger, parsed, sanitizer, shipped
from tests.playbook import well_formed_failure as closing_events_of
from tests.upstreams import CANARY

Target = Callable[[bytes], None]

_CANARY: Final = CANARY.encode()
# Bounds on an event that inputs of this size can reach; under the second all seeds' events are.
_SMALL: Final = 256
_MEDIUM: Final = 700


# The decoder


def fuzz_decoder(data: bytes) -> None:
    draw = Draw(data)
    bound = draw.choice((16, _SMALL, 1 << 20))
    cuts = draw.fork(16)
    stream = draw.rest()
    whole = _decode((stream,), bound)
    assert _decode(cuts.pieces(stream), bound) == whole
    assert _decode(_bytewise(stream, cuts.number(len(stream) or 1)), bound) == whole
    events, closed, too_large = whole
    if not too_large:
        by_the_standard, unfinished = _decode_by_the_standard(stream)
        assert events == by_the_standard
        # What has grown too large is no evidence any more.
        assert closed == unfinished or len(stream) > bound
    for event in events:
        if event.data is not None:
            (again,) = decode(encode(event.data, event.name))
            assert again == Event(event.data, event.name)


def _decode(
    pieces: Iterator[bytes] | tuple[bytes, ...], bound: int
) -> tuple[list[Event], Event | None, bool]:
    decoder = Decoder(bound)
    events: list[Event] = []
    for piece in pieces:
        try:
            events += decoder.feed(piece)
        except EventTooLargeError as error:
            return events + error.events, None, True
    return events, decoder.close(), False


def _decode_by_the_standard(stream: bytes) -> tuple[list[Event], Event | None]:
    """Read line by line, as WHATWG's section on interpreting an event stream tells it."""
    text = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    *lines, last = text.split(b"\n")
    events: list[Event] = []
    data: list[bytes] = []
    stray: list[bytes] = []
    name = b""
    done = 0
    for number, line in enumerate([*lines, last, b""]):
        if number == len(lines):
            done = len(events)
        if line.startswith(b":"):
            events.append(KEEP_ALIVE)
        elif line:
            field, colon, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field == b"data":
                data.append(value)
            elif field == b"event":
                name = value
            elif field not in (b"id", b"retry"):
                stray.append(value if colon and field == b"error" else line)
        else:
            joined = b"\n".join(data) or None
            if joined is not None or stray:
                events.append(Event(joined, name, b"\n".join(stray)))
            data, stray, name = [], [], b""
    unfinished = [event for event in events[done:] if event is not KEEP_ALIVE]
    return events[:done], unfinished[0] if unfinished else None


# The stream sanitizer, on every surface


def fuzz_stream(surface: str, data: bytes) -> None:
    draw = Draw(data)
    bound = draw.choice((_MEDIUM, 1 << 20, 1 << 20, _SMALL))
    ending = draw.choice((None, Failure.RESET_AFTER, Failure.IDLE, Failure.DRAINING))
    cuts = draw.fork(16)
    stream = _with_dirt(draw)
    window = cuts.number(len(stream) or 1)

    def open_one() -> StreamSanitizer:
        return sanitizer(surface, table=_few_rules(), max_event=bound)

    one = open_one()
    out = _play(one, (stream,), ending)
    _check_one_ending(surface, one, out)
    assert _CANARY not in out, "the upstream's own words came through"
    for name, pieces in (
        ("in pieces", cuts.pieces(stream)),
        ("byte by byte", _bytewise(stream, window)),
        ("event by event", _eventwise(stream)),
    ):
        other = open_one()
        assert _play(other, pieces, ending) == out, f"{name} it is another stream"
        assert _state(other) == _state(one), f"{name} it ends in another state"
    longer = open_one()
    longer.feed = longer._feed  # type: ignore[method-assign]
    assert _play(longer, _eventwise(stream), ending) == out, "the quick way goes elsewhere"
    assert _state(longer) == _state(one)


@functools.cache
def _few_rules() -> Table:
    """Return the shipped table without most of its rules, which `evidence` has all of."""
    return replace(shipped(), rules=shipped().rules[::20])


# What no surface takes for content. Each begins a block; what follows may continue it.
_DIRT: Final = (
    b": %b\n",
    b"%b\n",
    b"id: %b\n",
    b"retry: %b\n",
    b"error: %b\n\n",
    b"event: %b\n",
    b"data: %b\n",
    b"data: %b\n\n",
    b'data: "%b"\n\n',
    b'data: ["%b"]\n\n',
    b'data: {"error": "%b"}\n\n',
    b'data: {"error": {"message": "%b", "code": "%b"}}\n\n',
    b'data: {"error": {"message": "%b"}, "choices": []}\n\n',
    b'data: {"type": "error", "message": "%b"}\n\n',
    b'data: {"type": "error", "error": {"type": "%b", "message": "%b"}}\n\n',
    b'event: error\ndata: {"%b": "%b"}\n\n',
    b'data: {"object": "error", "message": "%b"}\n\n',
    b'data: {"type": "response.failed", "response": {"id": "r", "error": {"message": "%b"}}}\n\n',
    (
        b'data: {"type": "response.completed", "sequence_number": 9, "response": {"id": "r",'
        b' "status": "completed", "error": {"code": "%b", "message": "%b"}}}\n\n'
    ),
    (
        b'data: {"type": "response.output_item.done", "sequence_number": 5, "item":'
        b' {"type": "mcp_call", "id": "i", "error": "%b"}}\n\n'
    ),
    (
        b'data: {"object": "chat.completion.chunk", "choices": [{"index": 0,'
        b' "finish_reason": "error", "error": {"message": "%b"}}]}\n\n'
    ),
    b'data: {"base_resp": {"status_code": 1002, "status_msg": "%b"}, "choices": []}\n\n',
)
assert len(_DIRT) == DIRTS
_PLANTED: Final = b"\x00"  # in an input, this byte and the next stand for a piece of dirt


def _with_dirt(draw: Draw) -> bytes:
    """Plant canaries where the input says so; they stand nowhere else."""
    first, *rest = draw.rest().replace(_CANARY, b"").split(_PLANTED)
    out = [first]
    for piece in rest:
        kind = _DIRT[piece[0] % len(_DIRT)] if piece else _DIRT[0]
        out += [b"\n\n\n", kind.replace(b"%b", _CANARY), piece[1:]]
    return b"".join(out)


def _play(
    one: StreamSanitizer, pieces: Iterator[bytes] | tuple[bytes, ...], ending: Failure | None
) -> bytes:
    out = b"".join([one.feed(piece) for piece in pieces])
    out += one.close() if ending is None else one.fail(ending)
    assert one.closed
    assert one.feed(b'data: {"late": true}\n\n') == b""
    assert one.close() == one.fail(Failure.IDLE) == b"", "it ends twice"
    return out


def _state(one: StreamSanitizer) -> tuple[Reply | None, bool, bool, int]:
    return one.reply, one.ended, one.content_seen, one.events


def _check_one_ending(surface: str, one: StreamSanitizer, out: bytes) -> None:
    events = decode(out)
    assert encode_all(events) == out, "some of this our encoder did not write"
    events = [event for event in events if event is not KEEP_ALIVE]
    before = events
    if one.reply is not None:
        check_reply(one.reply)
        before = events[: len(events) - closing_events_of(surface, events, one.reply)]
    endings = [event for event in before if _ends(surface, event)]
    done = [event for event in before if event.data == b"[DONE]"]
    assert not (endings and one.reply is not None), "an ending and a failure"
    assert len(done) <= 1
    assert not done or before[-1] is done[0], "something comes after [DONE]"
    if surface == RESPONSES:
        assert len(endings) == (one.reply is None)
    if surface == MESSAGES:
        assert len(endings) == (one.reply is None)
        assert not endings or before[-1] is endings[0]
    if surface in (CHAT, COMPLETIONS) and one.reply is None:
        assert any(_finishes(event) for event in before), "a silent end"


_ENDS: Final = ("response.completed", "response.incomplete", "response.cancelled")
_FAILS: Final = ("response.failed", "error")


def _ends(surface: str, event: Event) -> bool:
    if event.data == b"[DONE]":
        return surface in (CHAT, COMPLETIONS)
    kind = parsed(event).get("type")
    if surface == RESPONSES:
        assert kind not in _FAILS, "a failure that is not ours"
        return kind in _ENDS
    return surface == MESSAGES and kind == "message_stop"


def _finishes(event: Event) -> bool:
    if event.data == b"[DONE]":
        return False
    choices = parsed(event).get("choices") or []
    return any(choice.get("finish_reason") for choice in choices)


# Evidence, and what is said of it


def fuzz_evidence(data: bytes) -> None:
    draw = Draw(data)
    status = draw.choice((None, 200, 400, 404, 429, 500, 529))
    origin = draw.choice(tuple(Origin))
    failure = draw.choice((None, None, None, *Failure))
    account = ledger(draw.choice(tuple(SURFACES)))
    body = draw.rest()
    error = account.reader.read_bytes(body, origin, status=status, failure=failure)
    assert error.raw == body[:MAX_RAW]
    layers = list(error.layers())
    assert len(layers) <= 10
    for layer in layers:
        assert len(layer.message) <= 4096
        assert all(len(word) <= 200 for word in (layer.code, layer.type, layer.param))
        assert layer.status is None or 100 <= layer.status <= 599
        assert layer.retry_after is None or 0 <= layer.retry_after <= 86_400
    check_reply(account.answer(error))
    logged = mask(one_line(error.raw.decode("utf-8", "replace")))
    assert len(logged.splitlines()) <= 1, "an upstream writes log lines"


def fuzz_bodies(data: bytes) -> None:
    draw = Draw(data)
    surface = SURFACES[draw.choice(tuple(SURFACES))]
    asked = draw.choice(_ASKED)
    account = ledger(surface.name)
    body = draw.rest().replace(_CANARY, b"")
    value = parse_json(body)
    if draw.flag() and isinstance(value, dict):
        value["error"] = {"message": CANARY, "code": CANARY}
    verdict = surface.read_body(value, account, asked)
    told = getattr(verdict, "body", None)
    assert told is None or isinstance(json.loads(told), dict | list)
    assert _CANARY not in (told or b"")
    for incident in account.incidents:
        reply = incident.resolution.reply
        check_reply(reply)
        assert isinstance(json.loads(surface.error_body(reply)), dict)


_ASKED: Final = (
    Asked("POST", "/v1/responses"),
    Asked("GET", "/v1/responses/resp_1"),
    Asked("POST", "/v1/chat/completions"),
    Asked("GET", "/v1/chat/completions"),
    Asked("POST", "/v1/messages"),
    Asked("POST", "/v1/embeddings"),
)


def check_reply(reply: Reply) -> None:
    """A reply's every word is the table's, but for numbers, field names and our reference."""
    table = shipped()
    assert reply.code in table.replies
    assert _sentences().fullmatch(reply.message), reply.message
    assert reply.param is None or _NAME.fullmatch(reply.param)
    assert 400 <= reply.status <= 599
    assert reply.retry_after is None or 0 <= reply.retry_after <= 86_400


_SLOT: Final = re.compile(r"\\\{\w+\\\}")
_NAME: Final = re.compile(r"[A-Za-z_][\w.\[\]-]{0,199}")


@functools.cache
def _sentences() -> re.Pattern[str]:
    sentences = [
        _SLOT.sub(r"[\\w.\\[\\]-]{1,200}", re.escape(sentence.text))
        for reply in shipped().replies.values()
        for sentence in reply.messages
    ]
    return re.compile("|".join(sentences))


# The operator's side


def fuzz_table(data: bytes) -> None:
    with patch.object(table_file, "load", shipped), suppress(TableError):
        check(table_file.parse(data, "fuzzed.yaml"))


def fuzz_settings(data: bytes) -> None:
    draw = Draw(data)
    name = draw.choice(("max_event", "max_body", "upstream_headers", "listen", "upstream", "gate"))
    text = draw.rest().decode("utf-8", "replace")
    flags = {"upstream": "https://api.example.com", name: text}
    problems: list[str] = []
    try:
        settings = read_settings(flags, {})
    except SettingsError as error:
        problems = error.problems
    if problems:
        assert all(len(problem.splitlines()) == 1 for problem in problems)
        return
    assert settings.max_event > 0
    assert 0 <= settings.listen.port <= 65535
    assert settings.upstream.host
    for key, value in settings.added_headers().items():
        assert not set("\r\n\0") & set(key + value)


# The transport's small parts


def fuzz_target(data: bytes) -> None:
    target = safe_target(data.decode("latin-1"))
    if target is None:
        return
    url = URL(f"http://up.example/prefix{target}", encoded=True)
    assert (url.raw_host, url.port, url.user) == ("up.example", 80, None)
    assert url.raw_path.startswith("/prefix/")
    path, _, query = target.partition("?")
    assert (url.raw_path, url.raw_query_string) == (f"/prefix{path}", query)
    assert not any(character <= " " or character >= "\x7f" for character in target)
    assert ".." not in url.path.replace("\\", "/").split("/")


def fuzz_encoding(data: bytes) -> None:
    draw = Draw(data)
    encoding = draw.choice(("gzip", "deflate", "br", "zstd", "identity", "x-gzip", "what"))
    pieces = list(draw.fork(16).pieces(packed := draw.rest()))
    whole = _unpack(encoding, [packed])
    again = _unpack(encoding, pieces)
    if whole is not None and again is not None:
        shorter = min(len(whole), len(again))
        assert whole[:shorter] == again[:shorter]
    assert (whole is None) == (again is None)


_BOMB: Final = 4 * 1024 * 1024


def _unpack(encoding: str, pieces: list[bytes]) -> bytes | None:
    out = bytearray()
    try:
        inner: Decompressor = decompressor(encoding)
        for piece in pieces:
            for part in inner.feed(piece):
                assert len(part) <= max(1 << 20, len(piece))
                out += part
                if len(out) > _BOMB:
                    return bytes(out)
    except EncodingError:
        return None
    return bytes(out)


# Ways to cut


def _bytewise(data: bytes, start: int = 0) -> Iterator[bytes]:
    """Cut after every byte of a window; it costs most, and moves with the input."""
    end = start + _WINDOW
    if start:
        yield data[:start]
    yield from (data[i : i + 1] for i in range(start, min(end, len(data))))
    if end < len(data):
        yield data[end:]


_WINDOW: Final = 64


def _eventwise(data: bytes) -> Iterator[bytes]:
    return (piece for piece in re.split(rb"(?<=\n\n)", data) if piece)


TARGETS: Final[Mapping[str, Target]] = {
    "decoder": fuzz_decoder,
    **{f"stream-{name}": functools.partial(fuzz_stream, name) for name in SURFACES},
    "evidence": fuzz_evidence,
    "bodies": fuzz_bodies,
    "table": fuzz_table,
    "settings": fuzz_settings,
    "target": fuzz_target,
    "encoding": fuzz_encoding,
}
