"""OpenTelemetry: a span for each exchange, and counts, by OTLP. An extra: `discreet-proxy[otel]`.

The exporter is set up by OpenTelemetry's own variables (OTEL_EXPORTER_OTLP_ENDPOINT and its
like). No attribute holds content, a path, a key or a word of an upstream's.
Source: OpenTelemetry's semantic conventions for HTTP and for generative AI clients.
"""

from __future__ import annotations

import logging
import time
from typing import Any, Final

from opentelemetry import metrics, propagate, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

from proxy.operate.observer import Observer
from proxy.operate.record import Record

# Seconds for a collector to answer; a proxy that stops waits for it twice.
_PATIENCE: Final = 2.0

_OPERATIONS: Final = {
    "responses": "chat",
    "chat": "chat",
    "completions": "text_completion",
    "messages": "chat",
}


class Telemetry:
    """Tells OpenTelemetry of each exchange, after `inner`."""

    def __init__(self, inner: Observer, processor: SpanProcessor, reader: MetricReader) -> None:
        resource = Resource.create({"service.name": "discreet"})
        self._inner = inner
        self._traces = TracerProvider(resource=resource)
        self._traces.add_span_processor(processor)
        self._tracer: trace.Tracer = self._traces.get_tracer("discreet")
        self._meters = MeterProvider([reader], resource)
        meter: metrics.Meter = self._meters.get_meter("discreet")
        self._duration = meter.create_histogram(
            "gen_ai.client.operation.duration", "s", "How long exchanges took."
        )
        self._errors = meter.create_counter("discreet.errors", "{error}", "Errors replaced.")

    def began(self) -> None:
        """Pass it on; a span is written when its exchange has ended."""
        self._inner.began()

    def ended(self, record: Record) -> None:
        """Write the exchange's span and count it."""
        self._inner.ended(record)
        now = time.time_ns()
        seconds = record.ended_after or 0.0
        attributes = self._attributes(record)
        parent = propagate.extract({"traceparent": record.traceparent})
        span = self._tracer.start_span(
            f"{record.method} {record.surface}",
            context=parent,
            kind=trace.SpanKind.SERVER,
            start_time=now - int(seconds * 1e9),
            attributes=attributes,
        )
        if record.incidents:
            span.set_status(trace.StatusCode.ERROR)
        span.end(now)
        self._duration.record(seconds, attributes)
        for incident in record.incidents:
            self._errors.add(1, {"discreet.reply": incident.resolution.reply.code})

    def _attributes(self, record: Record) -> dict[str, Any]:
        attributes: dict[str, Any] = {
            "http.request.method": record.method,
            "discreet.surface": record.surface,
            "discreet.ending": record.ending,
        }
        if record.surface in _OPERATIONS:
            attributes["gen_ai.operation.name"] = _OPERATIONS[record.surface]
        if record.model:
            attributes["gen_ai.request.model"] = record.model
        if record.status_out is not None:
            attributes["http.response.status_code"] = record.status_out
        if record.incidents:
            error, resolution = record.incidents[0].error, record.incidents[0].resolution
            reply = resolution.reply.code
            attributes["error.type"] = error.failure.value if error.failure else reply
            attributes["discreet.reply"] = reply
            attributes["discreet.rule"] = resolution.rule.name if resolution.rule else "default"
        return attributes

    def bug(self, event: str, reference: str) -> None:
        """Pass it on."""
        self._inner.bug(event, reference)

    def close(self) -> None:
        """Send what is not sent yet."""
        self._traces.shutdown()
        self._meters.shutdown()


def by_otlp(inner: Observer) -> Telemetry:
    """Tell OpenTelemetry by OTLP over HTTP."""
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    # Its own words would stand between the log's lines.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(timeout=_PATIENCE))
    return Telemetry(inner, BatchSpanProcessor(OTLPSpanExporter(timeout=_PATIENCE)), reader)
