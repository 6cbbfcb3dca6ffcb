"""The review of a table's change: what it would say of errors that were logged.

Read are the proxy's own log (JSON lines with an `original`) and saved incidents: one JSON
object a line, of which those without an error are passed over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from proxy.core.errors import Credentials, Origin, UpstreamError
from proxy.core.failures import Failure
from proxy.core.jsontext import parse_json
from proxy.core.surfaces.names import SURFACE_NAMES
from proxy.core.table import Context, Resolution, Table


@dataclass(frozen=True, slots=True)
class Logged:
    """An error that was logged: where it was met, and what the client was told of it."""

    error: UpstreamError
    context: Context
    reply: str
    line: int


def read_incidents(text: str, table: Table) -> Iterator[Logged]:
    """Read logged errors from JSON lines."""
    for number, line in enumerate(text.splitlines(), 1):
        value = parse_json(line)
        entries = value if isinstance(value, list) else [value]
        for entry in entries:
            if isinstance(entry, dict) and isinstance(entry.get("reply"), str):
                yield logged_error(entry, table, number)


def logged_error(entry: dict[str, Any], table: Table, line: int = 0) -> Logged:
    """Read one logged error: its original where it was kept, else what was noted of it."""
    raw = entry.get("original")
    said = entry.get("said")
    noted = said if isinstance(said, dict) else _from_log(entry)
    failure = _failure(entry.get("failure"))
    status = noted.get("status")
    status = status if isinstance(status, int) else None
    origin = _origin(entry.get("origin"))
    error = UpstreamError(
        origin=origin,
        status=status,
        failure=failure,
        code=_word(noted.get("code")),
        type=_word(noted.get("type")),
        param=_word(noted.get("param")),
        message=" ".join(_word(noted.get("message")).split()),
        provider=_word(entry.get("provider")),
    )
    delay = noted.get("retry_after")
    if isinstance(raw, str) and raw and failure is None:
        # The original was cut when it is long; then what was noted tells more.
        read = table.reader.read_bytes(raw.encode("utf-8", "replace"), origin, status=status)
        error = read if read.code or read.type or not noted.get("message") else error
    if isinstance(delay, int | float):
        error = replace(error, retry_after=float(delay))
    surface = entry.get("surface")
    credentials: Credentials = "proxy" if entry.get("credentials") == "proxy" else "client"
    context = Context(
        surface=surface if surface in SURFACE_NAMES else SURFACE_NAMES[0],
        credentials=credentials,
        reference=_word(entry.get("reference")),
    )
    return Logged(error, context, str(entry["reply"]), line)


def _from_log(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "status": entry.get("upstream_status"),
        "code": entry.get("upstream_code"),
        "type": entry.get("upstream_type"),
        "message": entry.get("upstream_message"),
    }


def _word(value: object) -> str:
    return value if isinstance(value, str) else ""


def _failure(value: object) -> Failure | None:
    return next((one for one in Failure if one.value == value), None)


def _origin(value: object) -> Origin:
    return next((one for one in Origin if one.value == value), Origin.HTTP)


def compare(incidents: Iterator[Logged], table: Table) -> Iterator[str]:
    """Write what would change for clients, as a diff, the most frequent first."""
    changes: Counter[tuple[str, str, str]] = Counter()
    examples: dict[tuple[str, str, str], Logged] = {}
    same = 0
    for logged in incidents:
        found: Resolution = table.resolve(logged.error, logged.context)
        if found.reply.code == logged.reply:
            same += 1
            continue
        rule = found.rule.name if found.rule else "the default"
        key = (logged.reply, found.reply.code, rule)
        changes[key] += 1
        examples.setdefault(key, logged)
    read = same + changes.total()
    yield f"{read} errors read, {changes.total()} would be answered otherwise"
    if not read:
        yield "It reads the proxy's log (--log-format json) and `discreet incidents --json`."
    for key, count in changes.most_common():
        old, new, rule = key
        shown = examples[key]
        told = next(iter(shown.error.layers()))
        what = told.message or told.code or told.type or str(told.failure or told.status or "")
        times = "once" if count == 1 else f"{count} times"
        yield ""
        yield f"@@ {times}, by {rule}; first in line {shown.line}: {what[:160]}"
        yield f"- {_reply_line(table, old)}"
        yield f"+ {_reply_line(table, new)}"


def _reply_line(table: Table, name: str) -> str:
    spec = table.replies.get(name)
    if spec is None:
        return f"{name} (not in this table)"
    return f"{spec.status} {name}: {spec.messages[-1].text}"
