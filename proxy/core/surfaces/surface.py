"""What every surface can do.

A surface recognises what is ordinary and names everything else an error. It never looks for
a word: `content_filter_result.error` in a healthy Azure chunk, `"error": null` in a lifecycle
event and a tool whose schema has a field named `error` are all ordinary.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Final, NamedTuple, Protocol

from proxy.core.errors import Origin, Reply, UpstreamError
from proxy.core.evidence import Reader
from proxy.core.failures import Failure
from proxy.core.incident import Ledger
from proxy.core.jsontext import parse_json, write_json
from proxy.core.sse import Event


class Mark(Enum):
    """What an ordinary event is to the stream."""

    PRELUDE = "prelude"  # ordinary, but no content yet: the gate may still hold it
    CONTENT = "content"
    END = "end"  # the last event of a stream that went well
    CLOSE = "close"  # the same, and nothing may follow it
    DROP = "drop"  # nothing that a client needs


class Rewritten(NamedTuple):
    """An ordinary event of which a part was replaced."""

    data: bytes
    name: bytes
    mark: Mark


Verdict = Mark | Rewritten | UpstreamError


class Quick(Protocol):
    """The quick way for many usual events that come together.

    begin: what the first of them begins with, framed; b"" while there is no such way.
    """

    begin: bytes

    def run(self, chunk: bytes, start: int) -> tuple[int, int]:
        """Return where such events, of which the first begins at `start`, end, and their number.

        They pass as they are: `read` would have returned `Mark.CONTENT` for each.
        """


class SurfaceStream(Protocol):
    """One event stream of a surface."""

    @property
    def quick(self) -> Quick:
        """The quick way for its usual events."""

    def read(self, event: Event) -> Verdict:
        """Judge one event; a Mark means that it may be written as it is."""

    def complete(self, *, cleanly: bool) -> bool:
        """Tell whether the upstream may end the stream here.

        cleanly: by a clean end between two events; else it broke, hung or was given up.
        """

    def closing(self, reply: Reply) -> bytes:
        """Write the events of a well-formed failure."""


class Surface(Protocol):
    """One API."""

    name: str

    def open(self, ledger: Ledger, target: Target) -> SurfaceStream:
        """Begin an event stream."""

    def read_body(self, value: object, ledger: Ledger, target: Target) -> BodyVerdict:
        """Judge a 2xx answer's parsed JSON."""

    def error_body(self, reply: Reply) -> bytes:
        """Write the body of an HTTP error."""


class Target(NamedTuple):
    """What was asked for. path: without the query, which is `query`."""

    method: str
    path: str
    query: str = ""


class Ordinary(NamedTuple):
    """A body that may pass; `body` is None where it may pass as it is."""

    body: bytes | None = None


BodyVerdict = Ordinary | UpstreamError


def is_error(value: object) -> bool:
    """Tell whether what stands under `error` says something.

    OpenAI's jobs carry `{"code": null, "message": null, "param": null}` while all is well.
    """
    return any(value.values()) if isinstance(value, dict) else bool(value)


def has_error_mark(value: dict[str, Any], reader: Reader) -> bool:
    """Tell whether an object says of itself that it is an error, by the known paths."""
    return bool(
        is_error(value.get("error"))
        or value.get("type") == "error"
        or value.get("object") == "error"
        or reader.layouts.find(value)
    )


def is_stored(value: dict[str, Any]) -> bool:
    """Tell whether an object is something stored: a named object, or an item such as a call."""
    if not isinstance(value.get("id"), str):
        return False
    name, kind = value.get("object"), value.get("type")
    is_item = isinstance(kind, str) and (kind.startswith("mcp_") or kind.endswith("_call"))
    return is_item or (isinstance(name, str) and name != "error")


# Fields in which an error that marks itself in no known way still says what happened.
TELLING: Final = frozenset(
    {
        "message",
        "detail",
        "errors",
        "error_code",
        "error_message",
        "error_msg",
        "errorMessage",
        "err",
        "errmsg",
        "exception",
        "fault",
        "msg",
        "reason",
        "title",
        "Message",
        "__type",
    }
)


def tells_of_error(value: dict[str, Any]) -> bool:
    """Tell whether an object of no known type has a field that errors have and content has not."""
    return any(isinstance(value.get(name), str | list) for name in TELLING)


def last_words(event: Event, reader: Reader) -> UpstreamError | None:
    """Read what an upstream left unfinished: no event, but it may say what went wrong."""
    value = parse_json(event.data or event.stray)
    if not isinstance(value, dict):
        return None
    response = value.get("response")
    failed = isinstance(response, dict) and (response.get("error") or response)
    if value.get("type") == "response.failed" and failed:
        return reader.read(failed, Origin.STREAM, raw=event.data or b"")
    if has_error_mark(value, reader) or (event.stray and not event.data):
        return reader.read(value, Origin.STREAM, raw=event.data or event.stray)
    return None


def not_ordinary(event: Event, value: object, reader: Reader) -> UpstreamError:
    """Read an event that is nothing this surface knows."""
    raw = b"\n".join(part for part in (event.data, event.stray) if part)
    if event.stray and event.data:  # JSON over several lines of which only the first is framed
        value = parse_json(raw)
    objects = value if isinstance(value, list) else [value]  # Gemini: [{"error": {...}}]
    if any(isinstance(one, dict) and has_error_mark(one, reader) for one in objects):
        return reader.read(value, Origin.STREAM, raw=raw)
    if isinstance(value, dict | list):
        return reader.read(value, Origin.PROXY, failure=Failure.MALFORMED_EVENT, raw=raw)
    return reader.read_bytes(raw, Origin.PROXY, failure=Failure.MALFORMED_EVENT)


def read_stray(event: Event, reader: Reader) -> Verdict:
    """Judge lines outside every field: an object that says it is an error is one."""
    value = parse_json(event.stray)
    if isinstance(value, dict) and (
        has_error_mark(value, reader) or ("message" in value and "choices" not in value)
    ):
        return reader.read(value, Origin.STREAM, raw=event.stray)
    return Mark.DROP


def openai_error(reply: Reply) -> dict[str, object]:
    """Return the error object of OpenAI's APIs."""
    return {
        "message": reply.message,
        "type": reply.type,
        "param": reply.param,
        "code": reply.code,
    }


def openai_error_body(reply: Reply) -> bytes:
    """Write the HTTP error body of OpenAI's APIs."""
    return write_json({"error": openai_error(reply)})
