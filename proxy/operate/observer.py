"""Where an exchange is told of: the log, the metrics and the incidents."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from proxy.operate.incidents import Entry, entries_of
from proxy.operate.log import Log
from proxy.operate.metrics import Metrics
from proxy.operate.record import Originals, Record

# Seconds in which exchanges gather: a busy proxy has dozens in them, and nobody reads faster.
_GATHERING: Final = 0.01


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

    It tells of many exchanges at a time: one by one, between the work of others, each would cost
    three times as much. An error is told at once, so that its reference can be looked up by
    whoever was just shown it.

    keep: takes an incident's entry.
    """

    def __init__(
        self, log: Log, metrics: Metrics, keep: Callable[[Entry], None], originals: Originals
    ) -> None:
        self._log = log
        self._metrics = metrics
        self._keep = keep
        self._originals = originals
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._begun = 0
        self._ended: list[Record] = []

    def began(self) -> None:
        """Count it, soon."""
        self._begun += 1
        self._tell_soon()

    def ended(self, record: Record) -> None:
        """Count it, write its line, keep its errors: soon, or now where there are any."""
        self._ended.append(record)
        if record.incidents:
            self.tell()
        else:
            self._tell_soon()

    def _tell_soon(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(_GATHERING, self.tell)

    def tell(self) -> None:
        """Tell of all that began and ended since the last time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        begun, ended = self._begun, self._ended
        self._begun, self._ended = 0, []
        self._metrics.exchanges(begun, ended)
        for record in ended:
            try:
                self._log.exchange(record)
                for entry in entries_of(record, self._originals) if record.incidents else ():
                    self._keep(entry)
            except Exception:  # one that cannot be told of must not keep the others away
                self._log.bug("an exchange could not be told of", record.reference)

    def bug(self, event: str, reference: str) -> None:
        """Write the traceback."""
        self._log.bug(event, reference)
