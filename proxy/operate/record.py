"""The record of one exchange: what the log's line and the metrics are made of."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal

from proxy.core.incident import Incident

LogFormat = Literal["json", "console"]
Originals = Literal["off", "masked", "full"]
Ending = Literal["answered", "failed", "client_gone"]


@dataclass(slots=True, kw_only=True)
class Record:
    """What is known of an exchange so far. Times are seconds since `began`.

    model: as the request names it.
    connected_after: None where a connection to the upstream was there already.
    asked_in: of the proxy's own time, until the request was on its way.
    judged_in: the same, from an answer's arrival to the decision on it: of a stream's first
        content, or of a whole body.
    dropped_events, dropped_incidents: what was passed over, and what was one too many to keep.
    """

    reference: str
    method: str
    path: str
    surface: str
    credentials: str
    client_request_id: str = ""
    traceparent: str = ""
    model: str = ""
    began: float = field(default_factory=time.monotonic)
    status_in: int | None = None
    status_out: int | None = None
    upstream_request_id: str = ""
    bytes_out: int = 0
    events: int = 0
    dropped_events: int = 0
    dropped_incidents: int = 0
    gate: Literal["", "held", "promoted"] = ""
    asked_in: float | None = None
    judged_in: float | None = None
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
