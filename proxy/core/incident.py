"""The errors of one exchange and what was said of them instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from proxy.core.errors import Origin, Reply, UpstreamError
from proxy.core.evidence import Reader
from proxy.core.table import Context, Resolution, Table

# One answer may hold thousands of failed tool calls; the log needs the first few.
_MAX_INCIDENTS: Final = 16
# Resolving takes half a millisecond; after so many, what is left is answered alike.
_MAX_RESOLVED: Final = 200


@dataclass(frozen=True, slots=True)
class Incident:
    """One error and its resolution."""

    error: UpstreamError
    resolution: Resolution


class Ledger:
    """Where an exchange's errors are answered and noted, each fault once.

    now: seconds since the epoch when the exchange began, for `created_at`.
    """

    __slots__ = ("_rest", "_told", "context", "dropped", "incidents", "now", "table")

    def __init__(self, table: Table, context: Context, now: int) -> None:
        self.table = table
        self.context = context
        self.now = now
        self.incidents: list[Incident] = []
        self.dropped = 0
        self._told: dict[str, Reply] = {}
        self._rest: Reply | None = None  # what is said of errors that nobody looked at

    @property
    def reader(self) -> Reader:
        """The table's reader of evidence."""
        return self.table.reader

    def answer(self, error: UpstreamError, once: object = None) -> Reply:
        """Resolve `error` and note it.

        once: what has the error, when it is told of more than once (an item's id, in its own
            event and again in the whole response): one fault is noted once.
        """
        if isinstance(once, str) and once in self._told:
            return self._told[once]
        if self.dropped >= _MAX_RESOLVED:
            # Twenty thousand failed items would hold up every other stream for seconds.
            self.dropped += 1
            return self._for_the_rest(error.origin)
        resolution = self.table.resolve(error, self.context)
        if len(self.incidents) < _MAX_INCIDENTS:
            self.incidents.append(Incident(error, resolution))
        else:
            self.dropped += 1
        if isinstance(once, str) and len(self._told) < _MAX_INCIDENTS:
            self._told[once] = resolution.reply
        return resolution.reply

    def _for_the_rest(self, origin: Origin) -> Reply:
        """Return what is said of an error that nobody looked at."""
        if self._rest is None:
            self._rest = self.table.resolve(UpstreamError(origin=origin), self.context).reply
        return self._rest
