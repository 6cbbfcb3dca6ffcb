"""Every wait and every size, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Times in seconds, sizes in bytes. What is a setting has its default in `settings`."""

    gate: float
    connect: float
    response: float
    first_event: float
    idle: float
    stream: float
    drain_delay: float
    drain: float
    keep_alive: float
    send: float
    request_head: float
    request_idle: float
    client_unused: float
    upstream_unused: float
    connections: int
    in_flight: int
    event: int
    body: int
    request: int

    # An error's body is read for evidence only; the largest recorded one is 6 KiB, and the
    # client waits for it.
    error_body: int = 64 * KIB
    error_body_time: float = 5.0

    # What the gate holds: comments and the first events, which echo the request's tools.
    held: int = 4 * MIB

    # After the event that ends a response, some upstreams send [DONE] and some keep the
    # connection open for minutes; clients wait for the end.
    after_end: float = 0.5

    # After every choice has its finish_reason come a usage chunk and [DONE], or nothing: some
    # servers leave the connection open.
    after_finish: float = 3.0
