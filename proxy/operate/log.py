"""The log: one line for each exchange, joined to the client's reply by the reference."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable
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


_Processor = Callable[[Any, str, Any], Any]


class StructuredLog:
    """The log, to standard error unless told otherwise.

    Its lines are made by structlog's processors. structlog's loggers are not asked: they copy
    and look up for each line what is the same for all, at more than its rendering costs.
    """

    def __init__(self, form: LogFormat, originals: Originals, out: TextIO | None = None) -> None:
        self._originals = originals
        self._processors: tuple[_Processor, ...] = (
            (_Stamp(), structlog.processors.dict_tracebacks, _json)
            if form == "json"
            else (_Stamp(), structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()), _encoded)
        )
        self._outlet = Outlet(out or sys.stderr, self._said_of_dropped)
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

    def _said_of_dropped(self, count: int) -> bytes:
        said = {"count": count, "event": "nobody read the log: lines were left out"}
        return self._line("warning", said)

    def _line(self, level: str, fields: dict[str, Any]) -> bytes:
        line: Any = fields
        for process in self._processors:
            line = process(None, level, line)
        return bytes(line)

    def exchange(self, record: Record) -> None:
        """Write one line: short where all went well, whole where it did not."""
        line: dict[str, Any] = {
            "reference": record.reference,
            "method": one_line(record.method),
            "path": one_line(record.path),
            "surface": record.surface,
            "credentials": record.credentials,
            "ending": record.ending,
            "bytes": record.bytes_out,
        }
        known = (
            ("model", record.model or None),
            ("status_in", record.status_in),
            ("status", record.status_out),
            ("seconds", _rounded(record.ended_after)),
            ("headers_after", _rounded(record.headers_after)),
            ("first_event_after", _rounded(record.first_event_after)),
            ("events", record.events or None),
            ("gate", record.gate or None),
            ("client_request_id", _short(record.client_request_id)),
            ("upstream_request_id", _short(record.upstream_request_id)),
            ("traceparent", _short(record.traceparent)),
            ("detail", (record.detail and self._original(record.detail)) or None),
        )
        line |= {name: value for name, value in known if value is not None}
        for incident in record.incidents[:1]:
            line |= self._incident(incident)
        if len(record.incidents) > 1:
            line["more"] = [self._incident(incident) for incident in record.incidents[1:]]
        line["event"] = "exchange"
        self._outlet.write(self._line("warning" if record.incidents else "info", line))

    def say(self, event: str, *, urgent: bool = False, **fields: object) -> None:
        """Write a line about the proxy itself; `urgent` where somebody should read it."""
        self._outlet.write(self._line("warning" if urgent else "info", {**fields, "event": event}))

    def bug(self, event: str, reference: str) -> None:
        """Write the exception that is being handled, with its traceback."""
        said = {"reference": reference, "exc_info": True, "event": event}
        self._outlet.write(self._line("error", said))

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


def _json(_: object, __: str, fields: dict[str, Any]) -> bytes:
    """Write a line's JSON; what is not ASCII as escapes, for terminals and old log readers."""
    try:
        line = orjson.dumps(fields, default=str)
    except orjson.JSONEncodeError:  # half a surrogate pair, from a header that is no UTF-8
        return json.dumps(fields, default=str).encode("ascii")
    return line if line.isascii() else json.dumps(fields, default=str).encode("ascii")


def _encoded(_: object, __: str, line: str) -> bytes:
    return line.encode("utf-8", "backslashreplace")


def _short(text: str) -> str | None:
    return one_line(text)[:200] if text else None


def _rounded(seconds: float | None) -> float | None:
    # Down to tenths of milliseconds; `round` takes ten times as long.
    return None if seconds is None else int(seconds * 10_000) / 10_000
