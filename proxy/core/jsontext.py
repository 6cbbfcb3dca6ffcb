"""JSON text, as lenient as the clients are.

orjson is fast and strict. Providers are not: a model's emoji split over two deltas comes as
lone surrogates, a log probability as -Infinity. Clients read both, so they are ordinary.
"""

from __future__ import annotations

import json
from typing import Any

import orjson


def parse_json(data: bytes | str) -> Any:
    """Parse JSON; None when it is not (a bare `null` says as little)."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def write_json(value: object) -> bytes:
    """Write JSON on one line, in UTF-8, or in ASCII where UTF-8 cannot say it.

    A value nested a thousand levels deep, which can be read but not written, is null.
    """
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        pass
    try:
        return json.dumps(value, separators=(",", ":")).encode("ascii")
    except RecursionError:
        return b"null"
