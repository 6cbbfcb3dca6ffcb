"""The last errors, kept in bounded memory, and what no rule matched, grouped.

An entry is plain data (the admin port gives it as JSON, a worker sends it to its supervisor):
what the client was told, by which rule, and what had been said, with secrets masked.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, Final

from proxy.core.errors import UpstreamError
from proxy.core.incident import Incident
from proxy.operate.record import Originals, Record
from proxy.operate.secrets import mask, one_line
from proxy.operate.suggest import Suggestion, suggest_rule

Entry = dict[str, Any]

# An hour of one error a second would fill it seven times over; it holds what a person can read.
_MAX_ENTRIES: Final = 500
_MAX_GROUPS: Final = 100
# What an entry keeps of the original: the largest recorded body is 6 KiB.
_MAX_RAW: Final = 8 * 1024

_VARIABLE: Final = re.compile(r"[\"'`][^\"'`]{0,200}[\"'`]|\S*\d\S*|https?://\S+|/\S+/\S*")


def entries_of(record: Record, originals: Originals) -> list[Entry]:
    """Make the entries of an exchange's errors."""
    return [_entry(record, incident, originals) for incident in record.incidents]


def _entry(record: Record, incident: Incident, originals: Originals) -> Entry:
    error, resolution = incident.error, incident.resolution
    rule = resolution.rule
    said = next(iter(error.layers()))
    return {
        "reference": record.reference,
        "at": round(time.time(), 3),
        "surface": record.surface,
        "method": one_line(record.method),
        "path": one_line(record.path),
        "status_in": record.status_in,
        "status": record.status_out,
        "credentials": record.credentials,
        "ending": record.ending,
        "reply": resolution.reply.code,
        "message": resolution.reply.message,
        "rule": rule.name if rule else None,
        "place": rule.place if rule else None,
        "by_status_only": bool(rule and rule.by_status_only),
        "failure": error.failure.value if error.failure else None,
        "origin": error.origin.value,
        "provider": error.provider or None,
        "said": _said(said, originals),
        "originals": originals,
        "original": _kept(error.raw.decode("utf-8", "replace")[:_MAX_RAW], originals),
        "last_events": list(record.last_events),
    }


def _said(error: UpstreamError, originals: Originals) -> Entry:
    return {
        "status": error.status,
        "code": one_line(mask(error.code)),
        "type": one_line(mask(error.type)),
        "param": one_line(mask(error.param)),
        "retry_after": error.retry_after,
        "message": one_line(_kept(error.message, originals)),
    }


def _kept(text: str, originals: Originals) -> str:
    if originals == "off":
        return ""
    return text if originals == "full" else mask(text)


class Group:
    """Errors that look alike, and that no rule matched, or one that asks for a status only."""

    def __init__(self, entry: Entry) -> None:
        self.count = 0
        self.first = entry["at"]
        self.last = entry["at"]
        self.example = entry
        self.suggestion: Suggestion | None = None
        self.asked = False  # a suggestion is proven when somebody looks, not while streams wait

    def as_entry(self) -> Entry:
        """Return it as plain data."""
        if not self.asked:
            example = self.example
            self.suggestion = suggest_rule(example["said"], example["failure"], example["reply"])
            self.asked = True
        suggested = self.suggestion
        return {
            "count": self.count,
            "first": self.first,
            "last": self.last,
            "example": self.example,
            "suggested_rule": suggested.text if suggested else None,
        }


class Incidents:
    """What happened lately.

    listen: functions that are told each entry as it comes.
    """

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=_MAX_ENTRIES)
        self._groups: OrderedDict[str, Group] = OrderedDict()
        self.hits: dict[str, int] = {}
        self.listen: list[Callable[[Entry], None]] = []

    def add(self, entry: Entry) -> None:
        """Keep an entry; forget the oldest."""
        self._entries.append(entry)
        rule = entry["rule"]
        self.hits[rule or "default"] = self.hits.get(rule or "default", 0) + 1
        said = entry["said"]
        telling = said["code"] or said["type"] or said["message"]
        if rule is None or (entry.get("by_status_only") and telling):
            self._group(entry)
        for listener in self.listen:
            listener(entry)

    def _group(self, entry: Entry) -> None:
        key = fingerprint(entry)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(entry)
            if len(self._groups) > _MAX_GROUPS:
                self._groups.popitem(last=False)
        group.count += 1
        group.last = entry["at"]
        self._groups.move_to_end(key)

    def latest(self) -> list[Entry]:
        """Return all entries, the newest first."""
        return list(reversed(self._entries))

    def find(self, reference: str) -> list[Entry]:
        """Return an exchange's entries."""
        return [entry for entry in self._entries if entry["reference"] == reference]

    def unmapped(self) -> list[Entry]:
        """Return the groups of errors that no rule matched, the most frequent first."""
        groups = sorted(self._groups.values(), key=lambda group: -group.count)
        return [group.as_entry() for group in groups]


def fingerprint(entry: Entry) -> str:
    """Reduce an error to what does not vary from one time to the next."""
    said = entry["said"]
    words = _VARIABLE.sub("_", said["message"])[:200]
    parts = (entry["failure"], said["status"], said["code"], said["type"], words)
    return "|".join(str(part) for part in parts)
