"""The record of one exchange: what the log's line and the metrics are made of."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal

from proxy.core.incident import Incident

Ending = Literal["answered", "failed", "client_gone"]


@dataclass(slots=True, kw_only=True)
class Record:
    """What is known of an exchange so far. Times are seconds since `began`.

    connected_after: None where a connection to the upstream was there already.
    """

    reference: str
    method: str
    path: str
    surface: str
    credentials: str
    client_request_id: str = ""
    traceparent: str = ""
    began: float = field(default_factory=time.monotonic)
    status_in: int | None = None
    status_out: int | None = None
    upstream_request_id: str = ""
    bytes_out: int = 0
    events: int = 0
    gate: Literal["", "held", "promoted"] = ""
    connected_after: float | None = None
    headers_after: float | None = None
    first_event_after: float | None = None
    ended_after: float | None = None
    ending: Ending = "answered"
    incidents: list[Incident] = field(default_factory=list)
    last_events: tuple[str, ...] = ()
    detail: str = ""

    def elapsed(self) -> float:
        """Seconds since the exchange began."""
        return time.monotonic() - self.began
