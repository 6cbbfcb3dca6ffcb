"""Anthropic Messages: typed, named events from `message_start` to `message_stop`.

The SDK raises on the event's *name* and skips unnamed events, so a failure is written as
`event: error` with `{"type":"error","error":{...}}`.
Source: docs.anthropic.com, "Streaming Messages" and "Errors".
"""

from __future__ import annotations

from typing import Any, Final

from proxy.core.errors import Origin, Reply, UpstreamError
from proxy.core.failures import Failure
from proxy.core.incident import Ledger
from proxy.core.jsontext import parse_json, write_json
from proxy.core.sse import Event, encode
from proxy.core.surfaces.alike import Alike
from proxy.core.surfaces.names import MESSAGES
from proxy.core.surfaces.resource import read_resource
from proxy.core.surfaces.surface import (
    TELLING,
    BodyVerdict,
    Mark,
    Rewritten,
    Target,
    Verdict,
    has_error_mark,
    not_ordinary,
    read_stray,
    tells_of_error,
)

_MARKS: Final = {
    "message_start": Mark.PRELUDE,
    "ping": Mark.PRELUDE,
    "message_stop": Mark.CLOSE,
}

# "New event types may be added, and your code should handle unknown event types gracefully":
# so far each is a message's or a content block's, and a client must do without any other.
_KINDS: Final = ("message_", "content_block_")
_DELTA: Final = "content_block_delta"
_DELTA_NAME: Final = _DELTA.encode()
_SAID: Final = ("text", "thinking", "partial_json")

# The API's own error types, by status; anything else is an api_error.
_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class MessagesStream:
    """One stream of message events."""

    def __init__(self, ledger: Ledger) -> None:
        self.quick = Alike()
        self._ledger = ledger
        self._ended = False
        self._marks = ledger.reader.marks(TELLING)

    def read(self, event: Event) -> Verdict:
        """Judge one event."""
        data, name, stray = event
        reader = self._ledger.reader
        if data is None:
            return read_stray(event, reader) if stray else Mark.DROP
        value = parse_json(data)
        if type(value) is not dict:
            return not_ordinary(event, value, reader) if data.strip() else Mark.DROP
        kind = value.get("type")
        if kind == _DELTA and name in (b"", _DELTA_NAME) and self._marks.isdisjoint(value):
            delta = value.get("delta")  # the usual event
            if type(delta) is dict:
                said = next((one for one in _SAID if one in delta), "")
                self.quick.learn(data, [(said, delta.get(said))], name)
            return Mark.CONTENT
        if name == b"error":
            return reader.read(value, Origin.STREAM, raw=data)
        if type(kind) is not str or has_error_mark(value, reader) or tells_of_error(value):
            return not_ordinary(event, value, reader)
        if kind != "ping" and not kind.startswith(_KINDS):
            return Mark.DROP
        mark = _MARKS.get(kind, Mark.CONTENT)
        self._ended = mark is Mark.CLOSE
        if name and name.decode("utf-8", "replace") != kind:
            return Rewritten(data, b"", mark)
        return mark

    def complete(self, *, cleanly: bool) -> bool:
        """A message has ended when `message_stop` said so."""
        del cleanly
        return self._ended

    def closing(self, reply: Reply) -> bytes:
        """Write the error event."""
        return encode(_error(reply), b"error")


def _error(reply: Reply) -> bytes:
    error: dict[str, Any] = {
        "type": _TYPES.get(reply.status, "api_error"),
        "message": reply.message,
    }
    return write_json({"type": "error", "error": error, "request_id": reply.reference})


class MessagesSurface:
    """Anthropic Messages."""

    name = MESSAGES

    def open(self, ledger: Ledger, target: Target) -> MessagesStream:
        """Begin a stream."""
        del target
        return MessagesStream(ledger)

    def read_body(self, value: object, ledger: Ledger, target: Target) -> BodyVerdict:
        """An answer to `POST /messages` is a message."""
        if target.method == "POST" and target.path.rstrip("/").endswith("/messages"):
            if isinstance(value, dict) and isinstance(value.get("content"), list):
                return read_resource(value, ledger)
            return self._not_a_message(value, ledger)
        return read_resource(value, ledger)

    def _not_a_message(self, value: object, ledger: Ledger) -> UpstreamError:
        marked = isinstance(value, dict) and has_error_mark(value, ledger.reader)
        failure = None if marked else Failure.MALFORMED_BODY
        return ledger.reader.read(value, Origin.BODY, failure=failure)

    def error_body(self, reply: Reply) -> bytes:
        """Write the body of an HTTP error."""
        return _error(reply)


messages: Final = MessagesSurface()
