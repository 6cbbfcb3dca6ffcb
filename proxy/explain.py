"""Explain: one captured error through the table, step by step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from proxy.core.errors import Credentials, Origin, Reply, UpstreamError
from proxy.core.failures import Failure
from proxy.core.incident import Ledger
from proxy.core.jsontext import parse_json
from proxy.core.sse import Decoder
from proxy.core.stream import StreamSanitizer
from proxy.core.surfaces import SURFACES
from proxy.core.surfaces.surface import Surface, Target
from proxy.core.table import Context, Step, Table
from proxy.operate.secrets import one_line

# The path of each surface, as far as it decides how an answer is read.
_PATHS = {
    "responses": "/v1/responses",
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "messages": "/v1/messages",
    "other": "/v1/embeddings",
}
_MAX_EVENT = 64 * 1024 * 1024
_REFERENCE = "ref0example"


@dataclass(frozen=True, slots=True)
class Explained:
    """What became of one error: the rules tried, the reply, and the client's bytes."""

    error: UpstreamError
    steps: tuple[Step, ...]
    reply: Reply
    client: bytes


class Explainer:
    """Explains errors by a table, as the relay would treat them.

    now: seconds since the epoch, for `created_at`.
    """

    def __init__(
        self, table: Table, surface: str, credentials: Credentials, now: int = 1_700_000_000
    ) -> None:
        self._table = table
        self._surface: Surface = SURFACES[surface]
        self._context = Context(surface, credentials, _REFERENCE)
        self._target = Target("POST", _PATHS[surface])
        self._now = now

    def http(self, status: int, body: bytes) -> Explained | None:
        """Explain an HTTP answer; None where it would pass."""
        ledger = self._ledger()
        if status >= 400:
            return self._as_http(ledger, ledger.reader.read_http(status, body))
        value = parse_json(body)
        if value is None:
            failure = Failure.MALFORMED_BODY
            return self._as_http(
                ledger, ledger.reader.read_bytes(body, Origin.PROXY, failure=failure)
            )
        verdict = self._surface.read_body(value, ledger, self._target)
        return self._as_http(ledger, verdict) if isinstance(verdict, UpstreamError) else None

    def failure(self, failure: Failure) -> Explained:
        """Explain a failure that the proxy sees before a stream has begun."""
        return self._as_http(self._ledger(), UpstreamError(origin=Origin.PROXY, failure=failure))

    def error(self, error: UpstreamError) -> Explained:
        """Explain an error that was read already."""
        return self._as_http(self._ledger(), error)

    def event(self, data: bytes) -> Explained | None:
        """Explain one event, as whole frames or as its data alone; None where it would pass."""
        framed = any(event.data for event in Decoder(_MAX_EVENT).feed(data + b"\n\n"))
        stream = data + b"\n\n" if framed else b"data: " + data.strip() + b"\n\n"
        ledger, client, _ = self._run(stream)
        return self._as_stream(ledger, client)

    def stream(self, data: bytes) -> tuple[Explained | None, bytes]:
        """Explain a whole stream; also return all that the client would get."""
        ledger, client, sanitizer = self._run(data)
        client += sanitizer.close()
        return self._as_stream(ledger, client), client

    def _ledger(self) -> Ledger:
        return Ledger(self._table, self._context, self._now)

    def _run(self, data: bytes) -> tuple[Ledger, bytes, StreamSanitizer]:
        ledger = self._ledger()
        stream = self._surface.open(ledger, self._target)
        sanitizer = StreamSanitizer(stream, ledger, _MAX_EVENT)
        return ledger, sanitizer.feed(data), sanitizer

    def _as_http(self, ledger: Ledger, error: UpstreamError) -> Explained:
        reply = ledger.answer(error)
        return self._explained(error, reply, self._surface.error_body(reply))

    def _as_stream(self, ledger: Ledger, client: bytes) -> Explained | None:
        if not ledger.incidents:
            return None
        incident = ledger.incidents[-1]
        return self._explained(incident.error, incident.resolution.reply, client)

    def _explained(self, error: UpstreamError, reply: Reply, client: bytes) -> Explained:
        steps = tuple(self._table.trace(error, self._context))
        return Explained(error, steps, reply, client)


def describe(explained: Explained, *, every: bool = False) -> Iterator[str]:
    """Write an explanation, a line each: what was read, which rules were tried, the reply.

    every: one line for each rule; else neighbours that fail for one reason share a line.
    """
    yield from _evidence(explained.error)
    yield "tried"
    matched = None
    for why, group in groupby(explained.steps, lambda step: step.why_not):
        steps = list(group)
        if not why:
            matched = steps[0].rule
        elif every or len(steps) < 3:
            yield from (f"  no   {step.rule.name}: {one_line(why)}" for step in steps)
        else:
            names = f"{steps[0].rule.name} ... {steps[-1].rule.name}"
            yield f"  no   {names} ({len(steps)} rules): {one_line(why)}"
    if matched is None:
        yield "  no rule matches, so the default is given"
    else:
        yield f"  yes  {matched.name}, {matched.place}"
    yield f"reply  {explained.reply.code}, status {explained.reply.status}"
    if matched is not None and explained.reply.code != matched.reply:
        yield f"  instead of {matched.reply}, because the key is the proxy's own"


def _evidence(error: UpstreamError) -> Iterator[str]:
    for depth, layer in enumerate(reversed(tuple(error.layers()))):
        known = {
            "failure": layer.failure,
            "status": layer.status,
            "code": layer.code,
            "type": layer.type,
            "param": layer.param,
            "provider": layer.provider,
            "message": layer.message[:300],
        }
        fields = "  ".join(f"{name}={one_line(str(v))!r}" for name, v in known.items() if v)
        yield f"{'read as' if depth == 0 else '  inner'}  {fields or 'nothing that tells anything'}"
    if error.retry_after is not None:
        yield f"  retry after {error.retry_after:g} seconds"


def list_incidents(entries: list[dict[str, Any]], groups: list[dict[str, Any]]) -> Iterator[str]:
    """Write incidents and unmapped groups for a terminal, a few lines each."""
    if not entries:
        yield "no incidents"
    for entry in entries:
        at = datetime.fromtimestamp(entry["at"], UTC).strftime("%H:%M:%S")
        said, rule = entry["said"], entry["rule"] or "no rule matched"
        what = entry["failure"] or " ".join(
            str(word) for word in (said["status"], said["code"] or said["type"]) if word
        )
        yield one_line(f"{at}  {entry['reference']}  {entry['method']} {entry['path']}")
        yield one_line(f"  said  {what}  {said['message'][:300] or entry['original'][:300]}")
        yield one_line(f"  told  {entry['status']} {entry['reply']}  by {rule}")
    for group in groups:
        yield ""
        yield f"no rule matched {group['count']} times; a rule that does, for your `rules:`"
        suggested = group["suggested_rule"] or "nothing about it is telling\n"
        yield from (f"  {one_line(line)}" for line in suggested.rstrip().splitlines())
