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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final

from proxy.core.embedded import MAX_NESTED, embedded, is_html, read_frames
from proxy.core.errors import Origin, UpstreamError
from proxy.core.failures import Failure
from proxy.core.fields import Layer, read_fields, read_layout, squash, status_in, text_of
from proxy.core.jsontext import parse_json
from proxy.core.layout import Layouts
from proxy.core.pattern import Pattern

# What is kept for the operator: the largest recorded body is 6 KiB.
MAX_RAW: Final = 8 * 1024
# The deepest recorded nesting is 4 (gateway, provider, its backend, that one's message).
_MAX_DEPTH: Final = 6
_MAX_LAYERS: Final = 8

# What can wrap another error, as `squash` leaves its name.
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
    "providererror",
    "errordetails",
    "responsebody",
    "err",
    "msg",
    "data",
    "status",
)
_INNER_TEXT: Final = frozenset({"raw", "body", "responsebody", "exception", "originalmessage"})
_EXCEPTION: Final = re.compile(r"[A-Za-z]\w{0,60}(?:Exception|Error|_exception|_error)")


@lru_cache(maxsize=32)  # asked for by every stream, and the same for all of a table's
def _marks(keys: frozenset[str], also: frozenset[str]) -> frozenset[str]:
    return keys | also | {"error"}


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads evidence with a table's layouts and its patterns for delays in messages."""

    layouts: Layouts = field(default_factory=Layouts)
    delays: Sequence[Pattern] = ()

    def marks(self, also: frozenset[str]) -> frozenset[str]:
        """Return the keys of which an object without any bears no error mark but its type.

        also: what is one of them on a surface.
        """
        return _marks(self.layouts.keys, also)

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
        layers: list[Layer] = []
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

    def _layers(self, value: object, depth: int) -> Iterator[Layer]:
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
            yield Layer(message=text_of(value), status=status_in(value))
            yield from self._layers(embedded(value), depth + 1)

    def _object_layers(self, value: dict[str, Any], depth: int) -> Iterator[Layer]:
        layout = self.layouts.find(value)
        if layout is not None:
            yield read_layout(value, layout)
        fields: dict[str, Any] = {}
        for key, entry in value.items():
            if isinstance(key, str):  # a Python dict's keys need not be
                fields.setdefault(squash(key), entry)
        layer = read_fields(fields)
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
                yield Layer(type=key)
                yield from self._layers(inner, depth + 1)


def _settle(layers: list[Layer], status: int | None) -> list[Layer]:
    """Drop layers that say nothing and those that repeat; hand statuses down."""
    told: list[Layer] = []
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
