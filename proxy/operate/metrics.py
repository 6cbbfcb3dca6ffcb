"""Metrics, by Prometheus's conventions.

Every label has a bound: surfaces, replies, rules, failures and endings are named by the
program or the table, statuses are classes of their own. No label ever holds a path, a model or
a word of an upstream's.
"""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)

from proxy.operate.record import Record

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each, of no use

# From a judgement in a few microseconds to one that waited for a busy processor.
_OWN_SECONDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0)
# From the same host to a handshake across the world.
_CONNECT_SECONDS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
# From a cached answer to a reasoning model's first word.
_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


class Metrics:
    """What is counted, in a registry of its own.

    registry: None where several processes share their figures through files.
    """

    def __init__(self, registry: CollectorRegistry | None) -> None:
        self._requests = Counter(
            "discreet_requests",
            "Requests answered, by surface and by the status that the client got.",
            ("surface", "status"),
            registry=registry,
        )
        self._endings = Counter(
            "discreet_endings",
            "How exchanges ended: answered, failed, or given up by the client.",
            ("surface", "ending"),
            registry=registry,
        )
        self._errors = Counter(
            "discreet_errors",
            "Errors replaced, by reply, rule, where they were found, and failure if we saw one.",
            ("reply", "rule", "origin", "failure"),
            registry=registry,
        )
        self._unmapped = Counter(
            "discreet_unmapped_errors",
            "Errors that no rule matched, so that the default was given.",
            registry=registry,
        )
        self._promotions = Counter(
            "discreet_gate_promotions",
            "Streams whose early error became an HTTP status.",
            registry=registry,
        )
        self._headers = Histogram(
            "discreet_upstream_headers_seconds",
            "Time until the upstream's response headers.",
            ("surface",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._first_event = Histogram(
            "discreet_time_to_first_event_seconds",
            "Time until the first event with content.",
            ("surface",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._connect = Histogram(
            "discreet_upstream_connect_seconds",
            "Time to connect to the upstream, TLS included, where no connection was kept.",
            buckets=_CONNECT_SECONDS,
            registry=registry,
        )
        self._added = Histogram(
            "discreet_added_latency_seconds",
            "The proxy's own time before the answer's first content: asking, and judging.",
            ("surface",),
            buckets=_OWN_SECONDS,
            registry=registry,
        )
        self._hits = Counter(
            "discreet_table_hits",
            "Errors that a rule of the table matched, by rule.",
            ("rule",),
            registry=registry,
        )
        self._dropped = Counter(
            "discreet_dropped",
            "What was left out: events that held nothing for a client, incidents beyond the limit.",
            ("what",),
            registry=registry,
        )
        self._running = Gauge(
            "discreet_exchanges_in_flight",
            "Exchanges under way.",
            registry=registry,
            multiprocess_mode="livesum",
        )

        self._reload = Gauge(
            "discreet_table_reload_success",
            "Whether the table's last reload took effect: 1 or 0.",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self._reload.set(1)
        self._reloaded_at = Gauge(
            "discreet_table_loaded_timestamp_seconds",
            "When the table in force was loaded.",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self._reloaded_at.set_to_current_time()

        self._version = Gauge(
            "discreet_table_version",
            "The number of the table in force, counted from 1 at the start.",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self._version.set(1)

        self._draining = Gauge(
            "discreet_draining",
            "Whether the proxy is shutting down and waits for its exchanges: 1 or 0.",
            registry=registry,
            multiprocess_mode="livemax",
        )

        # A child is found by its labels' texts, under a lock; these are asked for each time.
        self._of = lru_cache(maxsize=4096)(_labelled)

    def draining(self) -> None:
        """Note that the proxy is shutting down."""
        self._draining.set(1)

    def reloaded(self, version: int, *, took_effect: bool) -> None:
        """Note a reload of the table. version: of the one that is in force now."""
        self._reload.set(int(took_effect))
        self._version.set(version)
        if took_effect:
            self._reloaded_at.set_to_current_time()

    def exchanges(self, begun: int, ended: Sequence[Record]) -> None:
        """Count the exchanges that began and those that ended, since the last time."""
        if begun != len(ended):
            self._running.inc(begun - len(ended))
        requests = Counts((record.surface, record.status_out or "none") for record in ended)
        endings = Counts((record.surface, record.ending) for record in ended)
        for counter, counts in ((self._requests, requests), (self._endings, endings)):
            for labels, count in counts.items():
                self._of(counter, *labels).inc(count)
        for record in ended:
            self._observe(record)

    def _observe(self, record: Record) -> None:
        surface, of = record.surface, self._of
        if record.gate == "promoted":
            self._promotions.inc()
        if record.connected_after is not None:
            self._connect.observe(record.connected_after)
        if record.asked_in is not None and record.judged_in is not None:
            of(self._added, surface).observe(record.asked_in + record.judged_in)
        if record.dropped_events:
            of(self._dropped, "event").inc(record.dropped_events)
        if record.dropped_incidents:
            of(self._dropped, "incident").inc(record.dropped_incidents)
        if record.headers_after is not None:
            of(self._headers, surface).observe(record.headers_after)
        if record.first_event_after is not None:
            of(self._first_event, surface).observe(record.first_event_after)
        for incident in record.incidents:
            error, resolution = incident.error, incident.resolution
            rule = resolution.rule.name if resolution.rule else "default"
            failure = error.failure.value if error.failure else "none"
            origin = error.origin.value
            self._errors.labels(resolution.reply.code, rule, origin, failure).inc()
            if resolution.rule is None:
                self._unmapped.inc()
            else:
                of(self._hits, rule).inc()


def _labelled(metric: Any, *labels: object) -> Any:
    return metric.labels(*labels)
