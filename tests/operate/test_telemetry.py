from __future__ import annotations

from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from proxy.core.errors import Origin, UpstreamError
from proxy.core.failures import Failure
from proxy.core.incident import Incident
from proxy.core.table import Context
from proxy.core.table_file import load
from proxy.operate.record import Record
from proxy.operate.telemetry import Telemetry

TRACE = "0af7651916cd43dd8448eb211c80319c"
CANARY = "sk-fake-canary"


class _Quiet:
    def began(self) -> None: ...

    def ended(self, record: Record) -> None: ...

    def bug(self, event: str, reference: str) -> None: ...


def _record(**more: object) -> Record:
    record = Record(
        reference="ref",
        method="POST",
        path=f"/v1/{CANARY}/chat/completions",
        surface="chat",
        credentials="client",
        traceparent=f"00-{TRACE}-b7ad6b7169203331-01",
    )
    record.status_out = 200
    record.ended_after = 1.5
    for name, value in more.items():
        setattr(record, name, value)
    return record


def test_an_exchange_is_a_span_of_the_clients_trace_and_holds_no_content() -> None:
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    telemetry = Telemetry(_Quiet(), SimpleSpanProcessor(spans), reader)
    error = UpstreamError(
        origin=Origin.PROXY, failure=Failure.IDLE, raw=CANARY.encode(), message=CANARY
    )
    resolution = load().resolve(error, Context("chat", "client", "ref"))
    telemetry.ended(_record())
    telemetry.ended(_record(incidents=[Incident(error, resolution)], ending="failed"))
    healthy, failed = spans.get_finished_spans()
    assert healthy.kind is SpanKind.SERVER
    assert healthy.status.status_code is StatusCode.UNSET
    assert f"{healthy.context.trace_id:032x}" == TRACE
    assert healthy.end_time is not None
    assert healthy.start_time is not None
    assert healthy.end_time - healthy.start_time == 1_500_000_000
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.attributes is not None
    assert failed.attributes["error.type"] == "stream_idle_timeout"
    assert failed.attributes["discreet.reply"] == "upstream_timeout"
    assert failed.attributes["discreet.rule"] == "upstream-silent"
    told = str([span.to_json() for span in (healthy, failed)]) + str(reader.get_metrics_data())
    assert "gen_ai.client.operation.duration" in told
    assert CANARY not in told
    telemetry.close()
