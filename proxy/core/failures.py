"""What the proxy itself sees go wrong, by name.

A failure is ours to state: the provider said nothing of the kind. Where Envoy has a word
for it (its response code details and response flags), that word is used, because the
people who read these names in a log know them from there.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class Failure(StrEnum):
    """One cause. The value is its name in the table, the log and the metrics."""

    meaning: str

    def __new__(cls, value: str, meaning: str) -> Self:
        """Keep the sentence for people beside the name."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    # Before there is an answer
    DNS = "dns_resolution_failure", "the upstream's host name did not resolve"
    CONNECT = "upstream_connection_failure", "the upstream refused the connection"
    CONNECT_TIMEOUT = "upstream_connect_timeout", "no connection to the upstream in time"
    TLS = "upstream_tls_failure", "the upstream's certificate or TLS handshake failed"
    RESET_BEFORE = (
        "upstream_reset_before_response_started",
        "the upstream closed the connection before it answered",
    )
    RESPONSE_TIMEOUT = "upstream_response_timeout", "no response headers in time"
    PROTOCOL = "upstream_protocol_error", "the upstream's answer is not valid HTTP"
    REDIRECT = "upstream_redirect", "the upstream answered with a redirect"

    # While the answer is read
    RESET_AFTER = (
        "upstream_reset_after_response_started",
        "the upstream's connection broke in the middle of its answer",
    )
    CUT_IN_EVENT = "stream_cut_inside_event", "the stream ended in the middle of an event"
    NO_END = "stream_ended_without_end", "the stream ended cleanly but without its end mark"
    DONE_EARLY = "stream_done_without_finish", "[DONE] came before any finish_reason"
    IDLE = "stream_idle_timeout", "the upstream sent nothing for too long"
    FIRST_EVENT = "stream_first_event_timeout", "no event with content came in time"
    TOO_LONG = "max_duration_timeout", "the stream lasted longer than it may"
    EVENT_TOO_LARGE = "event_too_large", "one event is larger than the limit"
    BODY_TOO_LARGE = "response_payload_too_large", "the answer's body is larger than the limit"
    MALFORMED_EVENT = "event_malformed", "an event is not what this API's events are"
    MALFORMED_BODY = "body_malformed", "the body is not what this API answers with"
    CONTENT_TYPE = "unexpected_content_type", "the answer has a content type nobody asked for"
    ENCODING = "content_encoding_error", "the answer's compression is unknown or broken"

    # On our own side
    BAD_REQUEST = "invalid_http_request", "the client's request is not valid HTTP"
    METHOD = "method_not_supported", "the client used a method that is not proxied"
    UPGRADE = "upgrade_not_supported", "the client asked for another protocol, such as WebSocket"
    TARGET = (
        "invalid_request_target",
        "the client's request target is not a path below the upstream",
    )
    REQUEST_TOO_LARGE = "request_payload_too_large", "the client's request body is over the limit"
    HEADERS_TOO_LARGE = "request_headers_too_large", "the client's request head is over the limit"
    REQUEST_TIMEOUT = "request_timeout", "the client did not send its request in time"
    OVERLOADED = "too_many_requests_in_flight", "the proxy is at its own limit"
    DRAINING = "draining", "the proxy is shutting down"
    INTERNAL = "internal_error", "the proxy itself failed; the log has the traceback"
