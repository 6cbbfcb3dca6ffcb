"""Where an exchange is told of: the log, the metrics and the incidents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from proxy.operate.incidents import Entry, entries_of
from proxy.operate.log import Log
from proxy.operate.metrics import Metrics
from proxy.operate.record import Originals, Record


class Observer(Protocol):
    """Is told of every exchange's beginning and end."""

    def began(self) -> None:
        """An exchange began."""

    def ended(self, record: Record) -> None:
        """An exchange ended."""

    def bug(self, event: str, reference: str) -> None:
        """Our own code raised; the exception is being handled."""


class Operator:
    """Tells the log, the metrics, and whoever keeps the incidents.

    keep: takes an incident's entry.
    """

    def __init__(
        self, log: Log, metrics: Metrics, keep: Callable[[Entry], None], originals: Originals
    ) -> None:
        self._log = log
        self._metrics = metrics
        self._keep = keep
        self._originals = originals

    def began(self) -> None:
        """Count it."""
        self._metrics.began()

    def ended(self, record: Record) -> None:
        """Count it, write its line, keep its errors."""
        self._metrics.ended(record)
        self._log.exchange(record)
        if record.incidents:
            for entry in entries_of(record, self._originals):
                self._keep(entry)

    def bug(self, event: str, reference: str) -> None:
        """Write the traceback."""
        self._log.bug(event, reference)
