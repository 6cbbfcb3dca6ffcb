"""Conversations with the stream sanitizer, as scripts.

    assert (
        play(CHAT)
        >> chunk("Hel")
        << same()
        >> cut()
        << failure("server_error")
    )

`>>` is what the upstream does, `<<` what the client gets for it, line by line. A script runs
when it is asked whether it is true: once as written and once byte by byte. Where it goes
otherwise, it raises with both transcripts as a diff. Whatever is said on the way, every
byte out has to be our encoder's, and every failure has to be well formed.
"""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from proxy.core.errors import Credentials, Reply
from proxy.core.failures import Failure
from proxy.core.incident import Ledger
from proxy.core.spec import RESPONSE_ERROR_CODES
from proxy.core.sse import ENCODED_KEEP_ALIVE, KEEP_ALIVE, Decoder, Event, encode
from proxy.core.stream import StreamSanitizer
from proxy.core.surfaces import SURFACES
from proxy.core.surfaces.names import CHAT, COMPLETIONS, MESSAGES, OTHER, RESPONSES
from proxy.core.surfaces.surface import Target
from proxy.core.table import Context, Table
from proxy.core.table_file import load_checked

Json = dict[str, Any]

NOW: Final = 1_700_000_000
REFERENCE: Final = "ref0playbook"
MAX_EVENT: Final = 1024 * 1024

TARGETS: Final[Mapping[str, Target]] = {
    RESPONSES: Target("POST", "/v1/responses"),
    CHAT: Target("POST", "/v1/chat/completions"),
    COMPLETIONS: Target("POST", "/v1/completions"),
    MESSAGES: Target("POST", "/v1/messages"),
    OTHER: Target("POST", "/v1/audio/transcriptions"),
}


@functools.cache
def shipped() -> Table:
    """Return the shipped table, read once."""
    return load_checked()


def ledger(surface: str, table: Table | None = None, credentials: Credentials = "client") -> Ledger:
    """Begin the account of one exchange."""
    return Ledger(table or shipped(), Context(surface, credentials, REFERENCE), NOW)


def sanitizer(
    surface: str,
    target: Target | None = None,
    *,
    table: Table | None = None,
    max_event: int = MAX_EVENT,
) -> StreamSanitizer:
    """Begin one stream."""
    account = ledger(surface, table)
    stream = SURFACES[surface].open(account, target or TARGETS[surface])
    return StreamSanitizer(stream, account, max_event)


def decode(data: bytes) -> list[Event]:
    """Read a whole stream; nothing may be left over."""
    decoder = Decoder(64 * MAX_EVENT)
    events = decoder.feed(data)
    assert decoder.close() is None, f"unfinished output: {data[-200:]!r}"
    return events


def events_of(data: bytes) -> list[Event]:
    """Read a whole stream without its keep-alives."""
    return [event for event in decode(data) if event is not KEEP_ALIVE]


def encode_all(events: Iterable[Event]) -> bytes:
    """Write events as the sanitizer would."""
    return b"".join(
        ENCODED_KEEP_ALIVE if event is KEEP_ALIVE else encode(event.data or b"", event.name)
        for event in events
    )


def parsed(event: Event) -> Json:
    """Return an event's JSON object."""
    value = json.loads(event.data or b"")
    assert isinstance(value, dict)
    return value


# What an upstream says


@dataclass(frozen=True)
class Said:
    """Bytes of the upstream."""

    data: bytes
    title: str = ""


@dataclass(frozen=True)
class Broke:
    """The upstream's connection, or our patience, came to an end."""

    failure: Failure | None
    title: str


def raw(data: bytes | str) -> Said:
    """Any bytes."""
    return Said(data.encode() if isinstance(data, str) else data)


def data(value: object, name: str = "") -> Said:
    """One event with any JSON, or text, as its data."""
    text = value if isinstance(value, str) else json.dumps(value)
    return Said(encode(text.encode(), name.encode()))


def event(kind: str, name: str | None = None, **fields: Any) -> Said:
    """One typed event, named by its type."""
    return data({"type": kind, **fields}, kind if name is None else name)


def chunk(
    content: str | None = None, finish: str | None = None, index: int = 0, **fields: Any
) -> Said:
    """One chunk of Chat Completions."""
    delta = {} if content is None else {"content": content}
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return data(
        {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice], **fields}
    )


def done() -> Said:
    """The end mark of Chat Completions."""
    return data("[DONE]")


def eof() -> Broke:
    """A clean end of the body."""
    return Broke(None, "eof")


def cut() -> Broke:
    """A connection that breaks."""
    return Broke(Failure.RESET_AFTER, "cut")


def fails(failure: Failure) -> Broke:
    """Any other failure that the proxy sees."""
    return Broke(failure, f"fails {failure}")


# What a client gets


@dataclass(frozen=True)
class Expected:
    """One line of the transcript; `same` stands for what the upstream just said."""

    line: str
    same: bool = False


def same() -> Expected:
    """What the upstream just said, unchanged."""
    return Expected("", same=True)


def gets(said: Said) -> Expected:
    """Another event."""
    (only,) = decode(said.data)
    return Expected(_show(only))


def keep_alive() -> Expected:
    """A bare comment."""
    return Expected("keep-alive")


def failure(code: str) -> Expected:
    """The closing events of a failure, and the end."""
    return Expected(f"failure {code}")


def the_end() -> Expected:
    """The end, without a word."""
    return Expected("end")


# The play


@dataclass(frozen=True)
class Play:
    """A script: steps of the upstream, each with what the client is to get."""

    open: Callable[[], StreamSanitizer]
    surface: str
    steps: tuple[Said | Broke | Expected, ...] = ()

    def __rshift__(self, step: Said | Broke) -> Play:
        return replace(self, steps=(*self.steps, step))

    def __lshift__(self, step: Expected) -> Play:
        return replace(self, steps=(*self.steps, step))

    def __bool__(self) -> bool:
        wanted = self._script()
        for title, size in (("as written", None), ("byte by byte", 1)):
            got = self._perform(size)
            if got != wanted:
                diff = (one for one in difflib.ndiff(wanted, got) if not one.startswith("?"))
                raise AssertionError("\n".join([f"{title} (- wanted, + got):", *diff]))
        return True

    def _script(self) -> list[str]:
        lines: list[str] = []
        said: list[str] = []
        for step in self.steps:
            if isinstance(step, Said):
                lines.append(f">> {_short(step.data)}")
                said = [_show(event) for event in Decoder(MAX_EVENT).feed(step.data)]
            elif isinstance(step, Broke):
                lines.append(f">> {step.title}")
            elif step.same:
                lines.extend(f"<< {line}" for line in said)
            else:
                lines.append(f"<< {step.line}")
        return lines

    def _perform(self, size: int | None) -> list[str]:
        lines: list[str] = []
        one = self.open()
        for step in self.steps:
            was_closed = one.closed
            if isinstance(step, Said):
                lines.append(f">> {_short(step.data)}")
                out = b"".join(one.feed(piece) for piece in pieces(step.data, size))
            elif isinstance(step, Broke):
                lines.append(f">> {step.title}")
                out = one.close() if step.failure is None else one.fail(step.failure)
            else:
                continue
            lines.extend(f"<< {line}" for line in self._transcribe(out, one))
            if one.closed and not was_closed and one.reply is None and not out:
                lines.append("<< end")
        return lines

    def _transcribe(self, out: bytes, one: StreamSanitizer) -> list[str]:
        events = decode(out)
        assert encode_all(events) == out, f"not what our encoder writes: {out!r}"
        if not events or one.reply is None:
            return list(map(_show, events))
        closing = well_formed_failure(self.surface, events, one.reply)
        return [*map(_show, events[:-closing]), f"failure {one.reply.code}"]


def play(surface: str, target: Target | None = None, **limits: Any) -> Play:
    """Begin a script."""
    return Play(lambda: sanitizer(surface, target, **limits), surface)


def pieces(data: bytes, size: int | None) -> Iterable[bytes]:
    """Cut bytes into pieces of one size."""
    if size is None:
        return (data,)
    return (data[i : i + size] for i in range(0, len(data), size))


def well_formed_failure(surface: str, events: list[Event], reply: Reply) -> int:
    """Check the closing events of a failure; return how many there are."""
    assert reply.message
    assert 400 <= reply.status <= 599
    if surface in (CHAT, COMPLETIONS):
        told, end = events[-2:]
        assert end == Event(b"[DONE]")
        assert told.name == b""
        assert parsed(told) == {"error": _openai_error(reply)}
        return 2
    if surface == MESSAGES:
        value = parsed(events[-1])
        assert events[-1].name == b"error"
        assert value["type"] == "error"
        assert value["error"]["message"] == reply.message
        return 1
    if surface == OTHER:
        assert events[-1].name == b"error"
        error = _openai_error(reply)
        assert parsed(events[-1]) == {**error, "type": "error", "error": error}
        return 1
    return _responses_failure(events, reply)


def _responses_failure(events: list[Event], reply: Reply) -> int:
    told, failed = map(parsed, events[-2:])
    assert [e.name for e in events[-2:]] == [b"error", b"response.failed"]
    assert told["type"] == "error"
    assert told["error"] == _openai_error(reply)
    assert (told["code"], told["message"]) == (reply.code, reply.message)
    assert failed["sequence_number"] == told["sequence_number"] + 1
    response = failed["response"]
    assert response["status"] == "failed"
    assert response["error"] == {"code": reply.responses_code, "message": reply.message}
    assert reply.responses_code in RESPONSE_ERROR_CODES
    created = parsed(events[-3]) if len(events) > 2 else {}
    ours = created.get("response") == {**response, "status": "in_progress", "error": None}
    return 3 if ours else 2


def _openai_error(reply: Reply) -> Json:
    return {
        "message": reply.message,
        "type": reply.type,
        "param": reply.param,
        "code": reply.code,
    }


def _show(event: Event) -> str:
    if event is KEEP_ALIVE:
        return "keep-alive"
    name = f"[{event.name.decode()}] " if event.name else ""
    return f"{name}{_short(event.data or b'')}"


def _short(data: bytes) -> str:
    text = repr(data)[2:-1]
    return text if len(text) <= 300 else f"{text[:200]}...{text[-80:]} ({len(data)} bytes)"
