"""A case through the core alone: no socket, no gate."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import fields
from functools import cache
from typing import Final

from proxy.core.errors import Credentials, UpstreamError
from proxy.core.failures import Failure
from proxy.core.incident import Incident, Ledger
from proxy.core.stream import StreamSanitizer
from proxy.core.table import Context, Resolution, Table
from tests.corpus.case import Case
from tests.proxies import shipped

REFERENCE: Final = "reference000"
_MAX_EVENT: Final = 1 << 20


@cache
def _resolve(error: UpstreamError, context: Context) -> Resolution:
    return shipped().resolve(error, context)


class _Table(Table):
    """The shipped table, which looks for each error's rule once: most pieces end in the same."""

    def resolve(self, error: UpstreamError, context: Context) -> Resolution:
        return _resolve(error, context)


_TABLE: Final = _Table(**{one.name: getattr(shipped(), one.name) for one in fields(Table)})


def sanitizer_for(
    case: Case, credentials: Credentials = "client"
) -> tuple[StreamSanitizer, Ledger]:
    ledger = Ledger(_TABLE, Context(case.surface.name, credentials, REFERENCE), 1_700_000_000)
    return StreamSanitizer(case.surface.open(ledger, case.target), ledger, _MAX_EVENT), ledger


def play(
    case: Case, pieces: Iterable[bytes], credentials: Credentials = "client"
) -> tuple[bytes, list[Incident]]:
    """Return what the client gets for a stream that comes in these pieces, and its faults."""
    sanitizer, ledger = sanitizer_for(case, credentials)
    out = b"".join([sanitizer.feed(piece) for piece in pieces])
    out += sanitizer.fail(Failure.RESET_AFTER) if case.cut else sanitizer.close()
    return out, ledger.incidents


def singly(body: bytes) -> list[bytes]:
    """Cut into single bytes."""
    return by(1, body)


def by(size: int, body: bytes) -> list[bytes]:
    """Cut into pieces of `size` bytes."""
    return [body[i : i + size] for i in range(0, len(body), size)]


def by_event(body: bytes) -> list[bytes]:
    """Cut after every event."""
    return re.findall(rb"(?s).+?(?:\n\n|\r\n\r\n|\Z)", body)


def splits(body: bytes, most: int) -> Iterator[list[bytes]]:
    """Cut in two at every position, or at `most` positions spread over a longer body."""
    step = max(1, -(-len(body) // most))
    for at in range(1, len(body), step):
        yield [body[:at], body[at:]]


def without_comments(body: bytes) -> bytes:
    """Leave of each comment its colon: all that passes of it."""
    return re.sub(rb"(?m)^:.*$", b":", body)
