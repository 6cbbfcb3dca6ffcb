"""JSON text, as lenient as the clients are.

orjson is fast and strict. Providers are not: a model's emoji split over two deltas comes as
lone surrogates, a log probability as -Infinity. Clients read both, so they are ordinary.

A name that stands twice in one object is where parsers differ: this one keeps the last value, a
client's may keep the first. What is judged must be what is read, so a text in which a second value
hides an error, or a whole object, is no JSON here.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import orjson

# `{}` is two bytes of text and seventy of memory. Sixteen thousand tokens, each with twenty
# alternatives, have 700,000 of them in an answer; so many more are made to fill the memory.
_MAX_CONTAINERS: Final = 1_000_000

# Bytes a string, on average, from which strings are looked at one by one.
_LARGE: Final = 4096

# Letters of the word "error" as `\u0065`: nobody escapes ASCII letters but to hide them.
_ESCAPED_LETTERS: Final = re.compile(rb"\\u00[67]")
_ESCAPED_QUOTE: Final = b"\\u0022"

# Between these, both parsers read integers as integers.
_INTEGERS: Final = range(-(2**63), 2**64)

_BACKSLASH: Final = ord("\\")
_QUOTE: Final = ord('"')


def has_no_error(data: bytes) -> bool:
    """Tell whether nothing in a JSON text can be named or called "error".

    In a string's text the quotes are escaped, so this finds names and whole values only.
    """
    # From the end: twice as quick as from the start.
    if _says_error(data) if len(data) >= _LARGE else data.rfind(b'"error"') >= 0:
        return False
    return _BACKSLASH not in data or _ESCAPED_LETTERS.search(data) is None


def has_names_once(data: bytes) -> bool:
    """Tell whether a JSON text is strict, and has surely no name twice in one object."""
    try:
        return _are_once(data, orjson.loads(data))
    except orjson.JSONDecodeError:
        return False


def _are_once(data: bytes, value: object) -> bool:
    # Written again, the second of two has gone, with its quotes. An escape could be one too.
    if data.rfind(_ESCAPED_QUOTE) >= 0:
        return False
    return write_json(value).count(_QUOTE) == data.count(_QUOTE)


def _says_error(data: bytes) -> bool:
    places, rest = _first(data, _QUOTE)
    is_there = any(data.startswith(b'"error"', at) for at in places)
    return is_there or data.rfind(b'"error"', rest) >= 0


def is_out_of_measure(data: bytes) -> bool:
    """Tell whether a JSON text could have so many parts that to parse it would fill the memory."""
    return len(data) > _MAX_CONTAINERS and _containers(data) > _MAX_CONTAINERS


def _containers(data: bytes) -> int:
    found = 0
    for byte in b"{[":
        places, rest = _first(data, byte)
        found += len(places) + data.count(byte, rest)
    return found


def _first(data: bytes, byte: int) -> tuple[list[int], int]:
    """Return the first places of a byte, and from where on nobody looked.

    An image is one long string: from quote to quote is a hundred times quicker than all of it.
    """
    places: list[int] = []
    at = -1
    for _ in range(len(data) // _LARGE):
        at = data.find(byte, at + 1)
        if at < 0:
            return places, len(data)
        places.append(at)
    return places, at + 1


def parse_json(data: bytes | str) -> Any:
    """Parse JSON; None when it is not (a bare `null` says as little), or is out of all measure."""
    raw = data.encode("utf-8", "replace") if isinstance(data, str) else data
    if is_out_of_measure(raw):
        return None
    try:
        value = orjson.loads(raw)
        if has_no_error(raw) or _are_once(raw, value):
            return value
    except orjson.JSONDecodeError:
        pass
    return _parse_slowly(data)


def _parse_slowly(data: bytes | str) -> Any:
    try:
        return json.loads(data, object_pairs_hook=_object, parse_int=_integer)
    except (ValueError, RecursionError):
        return None


def _integer(digits: str) -> int | float:
    """Read a number as orjson does: as a float beyond 64 bits."""
    number = int(digits)
    return number if number in _INTEGERS else float(digits)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        for name, hidden in pairs:
            if hidden is value[name] or not hidden:
                continue
            if name == "error" or isinstance(hidden, dict | list):
                raise ValueError(name)
    return value


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
