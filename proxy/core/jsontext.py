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

_ERROR: Final = b'"error"'
# What every response object says while all is well. Two of them in one object hide nothing.
_NO_ERROR: Final = (b'"error":null', b'"error": null')
# Letters of the word as `\u0065`: nobody escapes ASCII letters but to hide them.
_ESCAPED_LETTERS: Final = re.compile(rb"\\u00[67]")

_BACKSLASH: Final = ord("\\")
_QUOTE: Final = ord('"')


def has_no_error(data: bytes) -> bool:
    """Tell whether nothing in a JSON text can be named or called "error", but a null.

    In a string's text the quotes are escaped, so this finds names and whole values only.
    """
    if _says_error(data) if len(data) >= _LARGE else _says_error_from(data, 0):
        return False
    return _BACKSLASH not in data or _ESCAPED_LETTERS.search(data) is None


def has_names_once(data: bytes) -> bool:
    """Tell whether a JSON text is strict, and has surely no name twice in one object."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    # Written again, the second of two has gone, with its quotes. An escape could be one too.
    return b"\\u" not in data and write_json(value).count(_QUOTE) == data.count(_QUOTE)


def _says_error(data: bytes) -> bool:
    places, rest = _first(data, _QUOTE)
    said = (at for at in places if data.startswith(_ERROR, at))
    return any(not data.startswith(_NO_ERROR, at) for at in said) or _says_error_from(data, rest)


def _says_error_from(data: bytes, start: int) -> bool:
    # From the end: twice as quick as from the start.
    at = data.rfind(_ERROR, start)
    while at >= 0 and data.startswith(_NO_ERROR, at):
        at = data.rfind(_ERROR, start, at)
    return at >= 0


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
    if len(raw) > _MAX_CONTAINERS and _containers(raw) > _MAX_CONTAINERS:
        return None
    try:
        if has_no_error(raw):
            return orjson.loads(raw)
    except orjson.JSONDecodeError:
        pass
    return _parse_slowly(data)


def _parse_slowly(data: bytes | str) -> Any:
    try:
        return json.loads(data, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        return None


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
