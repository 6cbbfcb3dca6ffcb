"""The operator's side of a process: who is told what, and what can be asked.

One per process that answers an admin port. A worker has none: it sends what it would tell to
its supervisor's.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any, Final

from proxy.core.table import Table
from proxy.operate.incidents import Entry, Incidents
from proxy.operate.review import logged_error
from proxy.operate.tables import Tables, named

_MINUTES: Final = 60


class Office:
    """What an admin port shows.

    tables: the table in force and how its last reload went.
    ready: whether clients are served.
    in_flight: how many exchanges are under way.
    figures: the metrics in Prometheus's text format.
    """

    def __init__(
        self,
        tables: Tables,
        ready: Callable[[], bool],
        in_flight: Callable[[], int],
        figures: Callable[[], bytes],
    ) -> None:
        self.tables = tables
        self.ready = ready
        self.figures = figures
        self.incidents = Incidents()
        self._in_flight = in_flight
        self._minutes: OrderedDict[int, Counter[str]] = OrderedDict()
        self._began = time.time()

    def tell(self, entry: Entry) -> None:
        """Keep an incident."""
        self.incidents.add(entry)
        minute = int(entry["at"] // 60)
        counts = self._minutes.setdefault(minute, Counter())
        counts[f"reply:{entry['reply']}"] += 1
        counts[f"rule:{entry['rule'] or '(default)'}"] += 1
        while next(iter(self._minutes)) <= minute - _MINUTES:
            self._minutes.popitem(last=False)

    def status(self) -> dict[str, Any]:
        """Return how things stand now."""
        return {
            "ready": self.ready(),
            "in_flight": self._in_flight(),
            "since": round(self._began, 3),
            "now": round(time.time(), 3),
            "table": self._table_state(),
        }

    def history(self) -> dict[str, dict[str, list[int]]]:
        """Return errors by reply and by rule for each of the last 60 minutes, oldest first."""
        last = int(time.time() // 60)
        minutes = range(last - _MINUTES + 1, last + 1)
        recent = [counts for minute, counts in self._minutes.items() if minute in minutes]
        names = {name for counts in recent for name in counts}
        found: dict[str, dict[str, list[int]]] = {"reply": {}, "rule": {}}
        for name in sorted(names):
            kind, _, word = name.partition(":")
            found[kind][word] = [self._minutes.get(m, Counter())[name] for m in minutes]
        return found

    def unmapped(self) -> list[Entry]:
        """Return what no rule matched, and which rule of the table in force does, if any."""
        groups = self.incidents.unmapped()
        table = self.tables.table
        for group in groups:
            logged = logged_error(group["example"], table)
            rule = table.resolve(logged.error, logged.context).rule
            group["now"] = rule.name if rule and not rule.by_status_only else None
        return groups

    def table(self) -> dict[str, Any]:
        """Return the table in force, with how often each rule was hit since the start."""
        table: Table = self.tables.table
        hits = self.incidents.hits
        rules = [
            {"name": r.name, "reply": r.reply, "place": r.place, "hits": hits.get(r.name, 0)}
            for r in table.rules
        ]
        replies = [
            {"name": s.name, "status": s.status, "message": s.messages[-1].text}
            for s in table.replies.values()
        ]
        default = {"name": table.default, "hits": hits.get("default", 0)}
        return {**self._table_state(), "rules": rules, "replies": replies, "default": default}

    def _table_state(self) -> dict[str, Any]:
        return {
            "file": named(self.tables.path),
            "shipped": self.tables.path is None,
            "version": self.tables.version,
            "loaded_at": round(self.tables.loaded_at, 3),
            "refused": self.tables.refused,
        }
