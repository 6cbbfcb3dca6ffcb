"""Evidence: any HTTP body or event, of any shape, to an `UpstreamError`.

Invariant: total. Any bytes give an `UpstreamError`; nothing here raises, and everything is
bounded. What is read is only ever matched on and logged.

Shapes are read by one rule instead of one branch each: an object is a layer, its fields are
looked up by the names that providers use, and what can wrap another error (`error`,
`detail`, `metadata.raw`, JSON inside a message, ...) is read as a layer below. A layer that
says nothing is dropped; what it knows of status and delay goes to the layer it wraps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from proxy.core.embedded import MAX_NESTED, embedded, is_html, read_frames
from proxy.core.errors import Origin, UpstreamError
from proxy.core.failures import Failure
from proxy.core.jsontext import parse_json
from proxy.core.layout import Layout, Layouts, look_up
from proxy.core.pattern import Pattern

# What is kept for the operator: the largest recorded body is 6 KiB.
MAX_RAW: Final = 8 * 1024
# What message patterns search: telling words come first; a traceback can be megabytes.
_MAX_MESSAGE: Final = 4 * 1024
# The deepest recorded nesting is 4 (gateway, provider, its backend, that one's message).
_MAX_DEPTH: Final = 6
_MAX_LAYERS: Final = 8
_MAX_WORD: Final = 200
_MAX_INT: Final = 10**18

_DAY: Final = 86_400.0

# Field names as `squash` leaves them: errorCode, error_code and ErrorCode are one.
_CODE: Final = ("code", "errorcode", "errcode", "errno", "grpccode", "reason")
_TYPE: Final = ("type", "errortype", "exceptiontype", "exception", "status")
_MESSAGE: Final = (
    "message",
    "msg",
    "errormessage",
    "errormsg",
    "errmsg",
    "errordescription",
    "faultstring",
    "statusmsg",
    "statusmessage",
    "detail",
    "details",
    "error",
    "errors",
    "description",
    "title",
    "reason",
)
_PARAM: Final = ("param", "parameter", "loc", "field")
_STATUS: Final = (
    "status",
    "statuscode",
    "httpstatus",
    "httpstatuscode",
    "httpcode",
    "originalstatuscode",
    "rawstatuscode",
    "code",
    "errorcode",
    "errcode",
)
_INNER: Final = (
    "error",
    "errors",
    "innererror",
    "detail",
    "details",
    "message",
    "fault",
    "cause",
    "exception",
    "metadata",
    "raw",
    "body",
    "providerspecificfields",
    "upstreamerror",
    "originalerror",
    "originalmessage",
    "response",
    "extensions",
    "externalmodelerror",
)
_INNER_TEXT: Final = frozenset({"raw", "body", "exception", "originalmessage"})
_DELAYS: Final[Mapping[str, float]] = {
    "retryafterms": 0.001,
    "retryafter": 1.0,
    "retryafterseconds": 1.0,
    "retrydelay": 1.0,
    "resetsinseconds": 1.0,
    "estimatedtime": 1.0,
}
_NOTHING: Final = frozenset({"", "none", "null", "undefined", "nil", "unknown", "error", "n/a"})

_EXCEPTION: Final = re.compile(r"[A-Za-z]\w{0,60}(?:Exception|Error|_exception|_error)")
_ONE_WORD: Final = re.compile(r"[A-Za-z][\w.-]{2,63}")
_STATUS_PREFIX: Final = re.compile(
    r"\s*(?:(?:error|status|http)[ _]?(?:code|error)?[ :]{1,2}|<|\[)?([45]\d\d)(?=[>\]:, ]|\s*-)",
    re.IGNORECASE,
)
_DELAY_TEXT: Final = re.compile(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*(ms|s)?\s*\Z")


def squash(text: str) -> str:
    """Reduce a word to what is compared: RateLimitExceeded is rate_limit_exceeded."""
    return "".join(filter(str.isalnum, text)).lower()


@dataclass(slots=True)
class _Layer:
    code: str = ""
    type: str = ""
    param: str = ""
    message: str = ""
    status: int | None = None
    retry_after: float | None = None
    provider: str = ""

    def says_something(self) -> bool:
        return bool(self.code or self.type or self.message)


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads evidence with a table's layouts and its patterns for delays in messages."""

    layouts: Layouts = field(default_factory=Layouts)
    delays: Sequence[Pattern] = ()

    @property
    def marks(self) -> frozenset[str]:
        """The keys of which an object without any bears no error mark but its type."""
        return self.layouts.keys | {"error"}

    def read_http(
        self, status: int, body: bytes, *, retry_after: float | None = None
    ) -> UpstreamError:
        """Read an answer that its status says is an error.

        retry_after: seconds, from the answer's headers.
        """
        return self.read_bytes(body, Origin.HTTP, status=status, retry_after=retry_after)

    def read_bytes(
        self,
        body: bytes,
        origin: Origin,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        failure: Failure | None = None,
    ) -> UpstreamError:
        """Read a body, or an event's data, of any kind."""
        value: object
        if is_html(body):
            value = None  # a page's words are written for nobody: Flask's 500 says "overloaded"
        else:
            value = parse_json(body)
            if value is None:
                value = read_frames(body) or body[:MAX_NESTED].decode("utf-8", "replace")
        return self.read(
            value, origin, status=status, retry_after=retry_after, failure=failure, raw=body
        )

    def read(
        self,
        value: object,
        origin: Origin,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        failure: Failure | None = None,
        raw: bytes = b"",
    ) -> UpstreamError:
        """Read a parsed value of any kind.

        failure: what the proxy saw; the value is then only what it saw it in.
        """
        layers: list[_Layer] = []
        for layer in self._layers(value, 0):
            layers.append(layer)
            if len(layers) == _MAX_LAYERS:
                break
        told = _settle(layers, status)
        delay = retry_after
        for layer in layers:
            delay = layer.retry_after if delay is None else delay
        for layer in told:
            if delay is None:
                delay = self._delay_in(layer.message)
        error: UpstreamError | None = None
        for layer in reversed(told):
            error = UpstreamError(
                origin=origin,
                status=layer.status,
                code=layer.code,
                type=layer.type,
                param=layer.param,
                message=layer.message,
                provider=layer.provider,
                retry_after=delay,
                inner=error,
            )
        if error is None or failure is not None:
            # A layer that says nothing but its status was dropped; its status was not.
            known = [layer.status for layer in layers if layer.status is not None]
            status = known[-1] if known and error is None else status
            error = UpstreamError(
                origin=origin, failure=failure, status=status, retry_after=delay, inner=error
            )
        return replace(error, raw=raw[:MAX_RAW])

    def _delay_in(self, message: str) -> float | None:
        for pattern in self.delays:
            found = pattern.match(message)
            if found:
                return float(next(iter(found.values())))
        return None

    def _layers(self, value: object, depth: int) -> Iterator[_Layer]:
        """Yield layers, outermost first."""
        if depth > _MAX_DEPTH:
            return
        if isinstance(value, dict):
            yield from self._object_layers(value, depth)
        elif isinstance(value, list):
            for entry in value[:_MAX_LAYERS]:
                yield from self._layers(entry, depth + 1)
        elif isinstance(value, str) and value.strip():
            # In a sentence, a value such as "Unauthorized" is all there is.
            yield _Layer(message=_text(value), status=_status_prefix(value))
            yield from self._layers(embedded(value), depth + 1)

    def _object_layers(self, value: dict[str, Any], depth: int) -> Iterator[_Layer]:
        layout = self.layouts.find(value)
        if layout is not None:
            yield _read_layout(value, layout)
        fields: dict[str, Any] = {}
        for key, entry in value.items():
            if isinstance(key, str):  # a Python dict's keys need not be
                fields.setdefault(squash(key), entry)
        layer = _read_fields(fields)
        yield layer
        if layer.message:
            yield from self._layers(embedded(layer.message), depth + 1)
        for name in _INNER:
            inner = fields.get(name)
            if isinstance(inner, dict | list) or (isinstance(inner, str) and name in _INNER_TEXT):
                yield from self._layers(inner, depth + 1)
        for key, inner in value.items():
            # Some name the key after the exception: {"throttlingException": {"message": ...}}.
            if isinstance(inner, dict) and isinstance(key, str) and _EXCEPTION.fullmatch(key):
                yield _Layer(type=key)
                yield from self._layers(inner, depth + 1)


def _read_fields(fields: Mapping[str, Any]) -> _Layer:
    layer = _Layer(
        code=_first_word(fields, _CODE),
        type=_first_word(fields, _TYPE),
        message=next(
            (_text(fields[n]) for n in _MESSAGE if isinstance(fields.get(n), str) and fields[n]), ""
        ),
        status=next((s for n in _STATUS if (s := _as_status(fields.get(n))) is not None), None),
    )
    word = fields.get("error")
    if not layer.code and isinstance(word, str) and _ONE_WORD.fullmatch(word):
        layer.code = _word(word)  # {"error": "rate_limit_exceeded", "error_description": ...}
    for name in _PARAM:
        entry = fields.get(name)
        if isinstance(entry, list) and entry:  # FastAPI's loc: ["body", "messages", 0, "content"]
            entry = ".".join(str(part) for part in entry if part != "body")
        if isinstance(entry, str) and entry.lower() not in _NOTHING:
            layer.param = entry[:_MAX_WORD]
            break
    layer.retry_after = next(
        (d for n, unit in _DELAYS.items() if (d := _as_delay(fields.get(n), unit)) is not None),
        None,
    )
    if layer.status is None:
        layer.status = _status_prefix(layer.message)
    return layer


def _read_layout(value: dict[str, Any], layout: Layout) -> _Layer:
    message = look_up(value, layout.message) if layout.message else None
    return _Layer(
        code=_word(look_up(value, layout.code)) if layout.code else "",
        type=_word(look_up(value, layout.type)) if layout.type else "",
        param=_word(look_up(value, layout.param)) if layout.param else "",
        message=_text(message) if isinstance(message, str) else "",
        status=_as_status(look_up(value, layout.status)) if layout.status else None,
        retry_after=(
            _as_delay(look_up(value, layout.retry_after), 1.0) if layout.retry_after else None
        ),
        provider=layout.provider,
    )


def _settle(layers: list[_Layer], status: int | None) -> list[_Layer]:
    """Drop layers that say nothing and those that repeat; hand statuses down."""
    told: list[_Layer] = []
    for layer in layers:
        if layer.status is not None:
            status = layer.status
        if not layer.says_something():
            continue
        layer.status = status
        if told and (told[-1].code, told[-1].type, told[-1].message) == (
            layer.code,
            layer.type,
            layer.message,
        ):
            continue
        told.append(layer)
    if len(told) == 1:
        told[0].status = status
    return told


def _first_word(fields: Mapping[str, Any], names: Sequence[str]) -> str:
    return next((word for name in names if (word := _word(fields.get(name)))), "")


def _word(value: object) -> str:
    """Read a code or a type: one word, or a number that is not an HTTP status."""
    word = _scalar(value)
    if _as_status(word) is not None:
        return ""
    if word.lower() in _NOTHING or len(word) > _MAX_WORD:
        return ""
    # AWS puts a namespace and # before the word, RFC 9457 makes it a URI, or about:blank.
    word = re.split(r"[#/]", word.rstrip("/#"))[-1]
    return "" if word.lower() == "about:blank" else word


def _text(value: str) -> str:
    """Read a message: with single spaces, as patterns are."""
    return " ".join(value[:_MAX_MESSAGE].replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").split())


def _scalar(value: object) -> str:
    """Write a string or an integer as text; "" for anything else, and for absurd numbers."""
    if isinstance(value, str):
        return value[: _MAX_WORD + 1].strip()
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _MAX_INT:
        return str(value)
    return ""


def _as_status(value: object) -> int | None:
    text = _scalar(value)
    if len(text) == 3 and text.isascii() and text.isdigit() and text[0] in "45":
        return int(text)
    return None


def _status_prefix(message: str) -> int | None:
    """Read `500: Internal server error`, `Error code: 429 - {...}`, `<400> Bad input`."""
    found = _STATUS_PREFIX.match(message)
    return int(found[1]) if found else None


def _as_delay(value: object, unit: float) -> float | None:
    """Read 5, "5", "34.4s" and Google's {"seconds": 5}."""
    if isinstance(value, dict):
        value = value.get("seconds")
    found = _DELAY_TEXT.match(f"{value:.3f}" if isinstance(value, float) else _scalar(value))
    if not found:
        return None
    seconds = float(found[1]) * (0.001 if found[2] == "ms" else 1.0 if found[2] else unit)
    return seconds if 0 < seconds <= 366 * _DAY else None
