"""Where an exchange is told of: the log and the metrics."""

from __future__ import annotations

from typing import Protocol

from proxy.operate.log import Log
from proxy.operate.metrics import Metrics
from proxy.operate.record import Record


class Observer(Protocol):
    """Is told of every exchange's beginning and end."""

    def began(self) -> None:
        """An exchange began."""

    def ended(self, record: Record) -> None:
        """An exchange ended."""

    def bug(self, event: str, reference: str) -> None:
        """Our own code raised; the exception is being handled."""


class Operator:
    """Tells the log and the metrics."""

    def __init__(self, log: Log, metrics: Metrics) -> None:
        self._log = log
        self._metrics = metrics

    def began(self) -> None:
        """Count it."""
        self._metrics.began()

    def ended(self, record: Record) -> None:
        """Count it and write its line."""
        self._metrics.ended(record)
        self._log.exchange(record)

    def bug(self, event: str, reference: str) -> None:
        """Write the traceback."""
        self._log.bug(event, reference)
