"""The Responses API: a stream of typed events around one response object.

A failure is told thrice in one breath, because no single telling reaches every client: an
`error` event that has both of its shapes (openai-python and openai-node raise on the nested
one, the documented one is flat), then `response.failed` (codex ignores `error`), then the end
of the stream at once (several clients hang on an open socket).

The upstream tells one fault twice too, an `error` event and then `response.failed`: the first
of them ends the stream here, so it counts once.
"""

from __future__ import annotations

from typing import Any, Final

from proxy.core.errors import Origin, Reply, UpstreamError
from proxy.core.failures import Failure
from proxy.core.incident import Ledger
from proxy.core.jsontext import parse_json, write_json
from proxy.core.sse import Event, encode
from proxy.core.surfaces.chat import DONE
from proxy.core.surfaces.names import RESPONSES
from proxy.core.surfaces.resource import clean, fault_of, read_resource, read_response
from proxy.core.surfaces.surface import (
    BodyVerdict,
    Mark,
    Rewritten,
    Target,
    Verdict,
    has_error_mark,
    not_ordinary,
    openai_error,
    openai_error_body,
    read_stray,
)

_PRELUDE: Final = frozenset({"response.created", "response.queued", "response.in_progress"})
_END: Final = frozenset({"response.completed", "response.incomplete", "response.cancelled"})
_MARKS: Final = dict.fromkeys(_PRELUDE, Mark.PRELUDE) | dict.fromkeys(_END, Mark.END)

# What a client's strictest types require of a response object, where the upstream's own
# `response.created` did not say it. openai-python 3.54.0, types/responses/response.py.
_REQUIRED: Final[dict[str, Any]] = {
    "model": "unknown",
    "output": [],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "instructions": None,
    "metadata": {},
    "temperature": None,
    "top_p": None,
    "usage": None,
}
_REQUIRED_TYPES: Final[dict[str, type | tuple[type, ...]]] = {
    "model": str,
    "output": list,
    "parallel_tool_calls": bool,
    "tool_choice": (str, dict),
    "tools": list,
}


class ResponsesStream:
    """One stream of response events."""

    def __init__(self, ledger: Ledger, response_id: str) -> None:
        self._ledger = ledger
        self._id = response_id  # known beforehand when a stream is resumed
        self._first = b""  # the first event that held the response, for the failed one
        self._sequence = -1  # the last that the client has read
        self._written = False
        self._ended = False

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
        kind = value.get("type")
        if type(kind) is not str or kind == "error" or value.get("error"):
            return self._fault(event, value)
        if kind == "response.failed":
            response = value.get("response")
            self._remember(response, data)
            return fault_of(response if type(response) is dict else value, self._ledger, data)
        sequence = value.get("sequence_number")
        self._sequence = sequence if type(sequence) is int else self._sequence + 1
        rewritten: bytes | None = None
        if "response" in value or "item" in value:
            verdict = self._read_embedded(value, data, event)
            if isinstance(verdict, UpstreamError):
                return verdict
            rewritten = verdict
        self._written = True
        mark = _MARKS.get(kind, Mark.CONTENT)
        if mark is Mark.END:
            self._ended = True
        if rewritten is not None or (name and name != kind.encode()):
            safe_name = kind.encode() if name and kind.isascii() and kind.isprintable() else b""
            return Rewritten(data if rewritten is None else rewritten, safe_name, mark)
        return mark

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

    def _fault(self, event: Event, value: dict[str, Any]) -> UpstreamError:
        reader = self._ledger.reader
        if value.get("type") == "error" or has_error_mark(value, reader):
            return reader.read(value, Origin.STREAM, raw=event.data or b"")
        return not_ordinary(event, value, reader)

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

    def complete(self) -> bool:
        """A response has ended when its own last event said so."""
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
        response: dict[str, Any] = first["response"] if isinstance(first, dict) else {}
        for key, default in _REQUIRED.items():
            if not isinstance(response.get(key), _REQUIRED_TYPES.get(key, object)):
                response[key] = default
            response.setdefault(key, default)
        if not isinstance(response.get("id"), str):
            response["id"] = self._id or f"resp_{self._ledger.context.reference}"
        if type(response.get("created_at")) not in (int, float):
            response["created_at"] = self._ledger.now
        response["object"] = "response"
        response["status"] = "failed"
        response["incomplete_details"] = None
        response["error"] = {"code": reply.responses_code, "message": reply.message}
        return response


class ResponsesSurface:
    """The Responses API and what lies below it."""

    name = RESPONSES

    def open(self, ledger: Ledger, target: Target) -> ResponsesStream:
        """Begin a stream, or resume one: `GET /responses/{id}?stream=true`."""
        *_, before, last = ("", *target.path.rstrip("/").split("/"))
        resumed = target.method == "GET" and before == "responses" and last.isascii()
        return ResponsesStream(ledger, last if resumed else "")

    def read_body(self, value: object, ledger: Ledger, target: Target) -> BodyVerdict:
        """An answer to `POST /responses` is a response object; below it lie resources."""
        last = target.path.rstrip("/").rsplit("/", 1)[-1]
        if target.method == "POST" and last == "responses":
            return read_response(value, ledger, created_now=True)
        return read_resource(value, ledger)

    def error_body(self, reply: Reply) -> bytes:
        """Write the body of an HTTP error."""
        return openai_error_body(reply)


responses: Final = ResponsesSurface()
