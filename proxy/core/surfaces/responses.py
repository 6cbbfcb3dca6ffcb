"""The Responses API: a stream of typed events around one response object.

A failure is told thrice in one breath, because no single telling reaches every client: an
`error` event that has both of its shapes (openai-python and openai-node raise on the nested
one, the documented one is flat), then `response.failed` (codex ignores `error`), then the end
of the stream at once (several clients hang on an open socket).

The upstream tells one fault twice too, an `error` event and then `response.failed`: the first
of them ends the stream here, so it counts once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from proxy.core.errors import Origin, Reply, UpstreamError
from proxy.core.failures import Failure
from proxy.core.incident import Ledger
from proxy.core.jsontext import parse_json, write_json
from proxy.core.spec import RESPONSE_EVENTS
from proxy.core.sse import Event, encode
from proxy.core.surfaces.alike import Alike
from proxy.core.surfaces.burst import Burst
from proxy.core.surfaces.chat import DONE, PADDING
from proxy.core.surfaces.names import RESPONSES
from proxy.core.surfaces.resource import clean, fault_of, read_resource, read_response
from proxy.core.surfaces.surface import (
    BodyVerdict,
    Mark,
    Rewritten,
    Target,
    Verdict,
    is_error,
    not_ordinary,
    openai_error,
    openai_error_body,
    read_stray,
    tells_of_error,
)

_PRELUDE: Final = frozenset({"response.created", "response.queued", "response.in_progress"})
# `response.done` is codex's backend's word for it.
_END: Final = frozenset(
    {"response.completed", "response.incomplete", "response.cancelled", "response.done"}
)
_MARKS: Final = dict.fromkeys(_PRELUDE, Mark.PRELUDE) | dict.fromkeys(_END, Mark.END)

_EMBEDDED: Final = frozenset({"response", "item"})
# What holds neither of them, and so nothing that could be an error.
_USUAL_NAMES: Final = {
    kind: kind.encode()
    for kind in RESPONSE_EVENTS
    if kind not in {"error", "response.failed", *_MARKS} and "output_item" not in kind
}

# Unknown types that are no `response.` events: OpenAI's own heartbeat, and codex's.
_OTHER_KINDS: Final = ("keepalive", "ping", "codex.")

# What a failed response says of the response that began, by field: the type it must have, and
# what stands there otherwise. The first five are what the strictest clients require; all others
# are what the request said. openai-python 3.54.0, types/responses/response.py.
_NULLABLE: Final = (object, None)
_FIELDS: Final[dict[str, tuple[type | tuple[type, ...], object]]] = {
    "model": (str, "unknown"),
    "created_at": ((int, float), None),
    "parallel_tool_calls": (bool, True),
    "tool_choice": ((str, dict), "auto"),
    "tools": (list, []),
    "background": _NULLABLE,
    "instructions": _NULLABLE,
    "max_output_tokens": _NULLABLE,
    "metadata": _NULLABLE,
    "previous_response_id": _NULLABLE,
    "reasoning": _NULLABLE,
    "service_tier": _NULLABLE,
    "store": _NULLABLE,
    "temperature": _NULLABLE,
    "text": _NULLABLE,
    "top_p": _NULLABLE,
    "truncation": _NULLABLE,
    "user": _NULLABLE,
}


class ResponsesStream:
    """One stream of response events."""

    def __init__(self, ledger: Ledger, response_id: str = "", after: int = -1) -> None:
        self._alike = Alike(self._note_number)
        self.quick: Alike | Burst = self._alike
        self._ledger = ledger
        self._id = response_id  # known beforehand when a stream is resumed
        self._first = b""  # the first event that held the response, for the failed one
        self._sequence = after  # the last that the client has read
        self._written = False
        self._ended = False
        self._marks = ledger.reader.marks(_EMBEDDED)

    def read(self, event: Event) -> Verdict:
        """Judge one event."""
        data, name, stray = event
        if data is None:
            return read_stray(event, self._ledger.reader) if stray else Mark.DROP
        value = parse_json(data)
        if self._ended:
            return self._after_end(data)
        if type(value) is not dict:
            return self._read_text(event, data, value)
        if self._note_usual((value,), name):
            self._learn(data, value, name)
            return Mark.CONTENT
        kind, sequence = value.get("type"), value.get("sequence_number")
        if type(kind) is not str or is_error(value.get("error")) or not _is_ordinary(kind, value):
            return not_ordinary(event, value, self._ledger.reader)
        if kind == "response.failed":
            response = value.get("response")
            self._remember(response, data)
            return fault_of(response if type(response) is dict else value, self._ledger, data)
        rewritten: bytes | None = None
        if "response" in value or "item" in value:
            verdict = self._read_embedded(value, data, event)
            if isinstance(verdict, UpstreamError):
                return verdict
            rewritten = verdict
        self._written = True
        self._sequence = sequence if type(sequence) is int else self._sequence + 1
        mark = _MARKS.get(kind, Mark.CONTENT)
        if mark is Mark.END:
            self._ended = True
        if rewritten is not None or (name and name.decode("utf-8", "replace") != kind):
            safe_name = kind.encode() if name and kind in RESPONSE_EVENTS else b""
            return Rewritten(data if rewritten is None else rewritten, safe_name, mark)
        return mark

    def _note_usual(self, values: Iterable[Any], name: bytes) -> int:
        """Return how many are usual, from the first on: of a known type, no response, no item."""
        count = 0
        for value in values:
            if type(value) is not dict:
                break
            kind, sequence = value.get("type"), value.get("sequence_number")
            usual_name = _USUAL_NAMES.get(kind) if type(kind) is str else None
            if not (
                usual_name is not None
                and (not name or name == usual_name)
                and type(sequence) is int
                and self._marks.isdisjoint(value)
            ):
                break
            self._sequence = sequence
            count += 1
        self._written = self._written or count > 0
        return count

    def _note_number(self, number: int) -> None:
        self._sequence = number

    def _learn(self, data: bytes, value: dict[str, Any], name: bytes) -> None:
        if isinstance(self.quick, Burst):
            self.quick.look_for(name)
        elif type(value.get("delta")) is str:
            slots = [("delta", value["delta"]), ("sequence_number", value["sequence_number"])]
            if type(value.get(PADDING)) is str:
                slots.append((PADDING, value[PADDING]))
            self._alike.learn(data, slots, name)
            if not self._alike.lessons:
                self.quick = Burst(self._note_usual)

    def _read_embedded(
        self, value: dict[str, Any], data: bytes, event: Event
    ) -> bytes | UpstreamError | None:
        """Look into the response or item of an event; return new data if it was cleaned."""
        response = value.get("response")
        if type(response) is dict:
            if response.get("status") == "failed":
                self._remember(response, data)
                return fault_of(response, self._ledger, data)
        elif response is not None or value.get("type") in _MARKS:
            return not_ordinary(event, value, self._ledger.reader)
        cleaned = write_json(value) if clean(value, self._ledger) else None
        self._remember(response, cleaned or data)
        return cleaned

    def _remember(self, response: object, data: bytes) -> None:
        if type(response) is dict and not self._first:
            self._first = data

    def _read_text(self, event: Event, data: bytes, value: object) -> Verdict:
        text = data.strip()
        if text == DONE:
            return UpstreamError(origin=Origin.PROXY, failure=Failure.DONE_EARLY)
        if not text:
            return Mark.DROP
        return not_ordinary(event, value, self._ledger.reader)

    def _after_end(self, data: bytes) -> Verdict:
        """Let the `[DONE]` pass that some send here, and nothing else."""
        return Rewritten(DONE, b"", Mark.CLOSE) if data.strip() == DONE else Mark.DROP

    def complete(self, *, cleanly: bool) -> bool:
        """A response has ended when its own last event said so."""
        del cleanly
        return self._ended

    def closing(self, reply: Reply) -> bytes:
        """Write `response.created` if nothing came before, `error` and `response.failed`."""
        out = b""
        response = self._template(reply)
        if not self._written and not self._id:
            created = {**response, "status": "in_progress", "error": None}
            out += self._event("response.created", {"response": created})
        error = openai_error(reply)
        flat = {"code": reply.code, "message": reply.message, "param": reply.param}
        out += self._event("error", {**flat, "error": error})
        return out + self._event("response.failed", {"response": response})

    def _event(self, kind: str, fields: dict[str, Any]) -> bytes:
        self._sequence += 1
        value = {"type": kind, "sequence_number": self._sequence, **fields}
        return encode(write_json(value), kind.encode())

    def _template(self, reply: Reply) -> dict[str, Any]:
        """Build the failed response on what the stream's own first event said."""
        first = parse_json(self._first) if self._first else None
        began: dict[str, Any] = first["response"] if isinstance(first, dict) else {}
        known = began.get("id")
        response: dict[str, Any] = {
            "id": known if isinstance(known, str) else self._id or self._made_up_id(),
            "object": "response",
            "status": "failed",
            "error": {"code": reply.responses_code, "message": reply.message},
            "incomplete_details": None,
            "output": [],
            "usage": None,
        }
        for key, (kind, default) in _FIELDS.items():
            value = began.get(key)
            response[key] = value if isinstance(value, kind) else default
        if response["created_at"] is None:
            response["created_at"] = self._ledger.now
        return response

    def _made_up_id(self) -> str:
        return f"resp_{self._ledger.context.reference}"


def _is_ordinary(kind: str, value: dict[str, Any]) -> bool:
    """Tell whether an event is of this API's kind; newer ones are, if they tell of no error."""
    if kind in RESPONSE_EVENTS:
        return kind != "error"
    return kind.startswith(("response.", *_OTHER_KINDS)) and not tells_of_error(value)


class ResponsesSurface:
    """The Responses API and what lies below it."""

    name = RESPONSES

    def open(self, ledger: Ledger, target: Target) -> ResponsesStream:
        """Begin a stream, or resume one: `GET /responses/{id}?stream=true`."""
        *_, before, last = ("", *target.path.rstrip("/").split("/"))
        resumed = target.method == "GET" and before == "responses" and last.isascii()
        if not resumed:
            return ResponsesStream(ledger)
        after = re.search(r"(?:^|&)starting_after=(\d{1,9})(?:&|$)", target.query)
        return ResponsesStream(ledger, last, int(after[1]) if after else -1)

    def read_body(self, value: object, ledger: Ledger, target: Target) -> BodyVerdict:
        """An answer to `POST /responses` is a response object; below it lie resources."""
        last = target.path.rstrip("/").rsplit("/", 1)[-1]
        if target.method == "POST" and last == "responses":
            return read_response(value, ledger)
        return read_resource(value, ledger)

    def error_body(self, reply: Reply) -> bytes:
        """Write the body of an HTTP error."""
        return openai_error_body(reply)


responses: Final = ResponsesSurface()
