"""The log: one line for each exchange, joined to the client's reply by the reference."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol, TextIO

import orjson
import structlog

from proxy.core.incident import Incident
from proxy.operate.outlet import Outlet
from proxy.operate.record import LogFormat, Originals, Record
from proxy.operate.secrets import mask, one_line

# Enough to recognise what was said; the largest recorded error message is 1,900 characters.
_MAX_ORIGINAL: Final = 2_000


class Log(Protocol):
    """What the rest of the program says to the operator."""

    def exchange(self, record: Record) -> None:
        """Write an exchange's line."""

    def say(self, event: str, *, urgent: bool = False, **fields: object) -> None:
        """Write a line about the proxy itself; `urgent` where somebody should read it."""

    def bug(self, event: str, reference: str) -> None:
        """Write the exception that is being handled, with its traceback."""


class _Stamp:
    """Puts level and time on a line; the time's text is made anew once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def __call__(self, _: object, level: str, fields: dict[str, Any]) -> dict[str, Any]:
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        fields["level"] = level
        fields["timestamp"] = f"{self._text}.{int((now - second) * 1e6):06d}Z"
        return fields


class _Sink:
    """What structlog calls a logger: it takes a finished line, whatever its level."""

    def __init__(self, outlet: Outlet) -> None:
        self.info = self.warning = self.error = outlet.write


class StructuredLog:
    """The log as structlog writes it, to standard error unless told otherwise."""

    def __init__(self, form: LogFormat, originals: Originals, out: TextIO | None = None) -> None:
        self._originals = originals
        renderer: Any = (
            structlog.processors.JSONRenderer(_json)
            if form == "json"
            else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        )
        processors: list[Any] = [
            _Stamp(),
            *([structlog.processors.dict_tracebacks] if form == "json" else []),
            renderer,
        ]
        self._outlet = Outlet(out or sys.stderr, self._said_of_dropped)
        self._log = structlog.wrap_logger(_Sink(self._outlet), processors=processors).bind()
        self._render = renderer
        # What libraries log may quote a request; ours is the only log.
        logging.getLogger("aiohttp").setLevel(logging.CRITICAL)
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)

    @asynccontextmanager
    async def attached(self) -> AsyncIterator[None]:
        """Do not wait for the log's reader while the block runs."""
        self._outlet.attach(asyncio.get_running_loop())
        try:
            yield
        finally:
            self._outlet.close()

    def _said_of_dropped(self, count: int) -> str:
        said = {"event": "nobody read the log: lines were left out", "level": "warning"}
        return str(self._render(None, "warning", {**said, "count": count}))

    def exchange(self, record: Record) -> None:
        """Write one line: short where all went well, whole where it did not."""
        fields: dict[str, object] = {
            "reference": record.reference,
            "method": one_line(record.method),
            "path": one_line(record.path),
            "surface": record.surface,
            "model": record.model or None,
            "credentials": record.credentials,
            "status_in": record.status_in,
            "status": record.status_out,
            "ending": record.ending,
            "seconds": _rounded(record.ended_after),
            "headers_after": _rounded(record.headers_after),
            "first_event_after": _rounded(record.first_event_after),
            "bytes": record.bytes_out,
            "events": record.events or None,
            "gate": record.gate or None,
            "client_request_id": one_line(record.client_request_id)[:200] or None,
            "upstream_request_id": one_line(record.upstream_request_id)[:200] or None,
            "traceparent": one_line(record.traceparent)[:200] or None,
            "detail": self._original(record.detail) or None,
        }
        for incident in record.incidents[:1]:
            fields |= self._incident(incident)
        if len(record.incidents) > 1:
            fields["more"] = [self._incident(incident) for incident in record.incidents[1:]]
        shown = {name: value for name, value in fields.items() if value is not None}
        level = self._log.warning if record.incidents else self._log.info
        level("exchange", **shown)

    def say(self, event: str, *, urgent: bool = False, **fields: object) -> None:
        """Write a line about the proxy itself; `urgent` where somebody should read it."""
        write = self._log.warning if urgent else self._log.info
        write(event, **fields)

    def bug(self, event: str, reference: str) -> None:
        """Write the exception that is being handled, with its traceback."""
        self._log.error(event, reference=reference, exc_info=True)

    def _incident(self, incident: Incident) -> dict[str, object]:
        error, rule = incident.error, incident.resolution.rule
        said = next(iter(error.layers()))
        fields = {
            "reply": incident.resolution.reply.code,
            "rule": rule.name if rule else "(default)",
            "failure": error.failure,
            "origin": error.origin.value,
            "provider": error.provider or None,
            "upstream_status": error.status,
            "upstream_code": one_line(mask(said.code)) or None,
            "upstream_type": one_line(mask(said.type)) or None,
            "upstream_message": self._original(said.message) or None,
            "original": self._original(error.raw.decode("utf-8", "replace")) or None,
        }
        return {name: value for name, value in fields.items() if value is not None}

    def _original(self, text: str) -> str:
        if self._originals == "off":
            return ""
        text = one_line(text)[: 2 * _MAX_ORIGINAL]
        return (text if self._originals == "full" else mask(text))[:_MAX_ORIGINAL]


def _json(fields: object, **_: object) -> str:
    """Write a line's JSON; what is not ASCII as escapes, for terminals and old log readers."""
    try:
        line = orjson.dumps(fields, default=str)
    except orjson.JSONEncodeError:  # half a surrogate pair, from a header that is no UTF-8
        return json.dumps(fields, default=str)
    return line.decode() if line.isascii() else json.dumps(fields, default=str)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)
