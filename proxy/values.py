"""The kinds of values that settings have, and how people write them."""

from __future__ import annotations

import json
import re
from typing import Annotated, Final, NamedTuple

from pydantic import BeforeValidator, Field
from yarl import URL

from proxy.transport.limits import KIB, MIB


class Address(NamedTuple):
    """Where to listen."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


_ADDRESS: Final = re.compile(
    r"(?:\[(?P<ip6>[0-9a-fA-F:.%]+)\]|(?P<host>[\w.-]+)):(?P<port>\d{1,5})"
)


def _address(value: object) -> object:
    if isinstance(value, Address):
        return value
    found = _ADDRESS.fullmatch(str(value).strip())
    if found is None or int(found["port"]) > 65535:
        msg = "write HOST:PORT, such as 127.0.0.1:8080"
        raise ValueError(msg)
    return Address(found["ip6"] or found["host"], int(found["port"]))


def _upstream(value: object) -> object:
    try:
        url = URL(str(value).strip())
    except ValueError:
        url = URL()
    if url.scheme not in ("http", "https") or not url.host:
        msg = "write scheme, host and an optional path, such as https://api.example.com"
        raise ValueError(msg)
    if url.raw_query_string or url.raw_fragment or url.raw_user or url.raw_password:
        msg = "only scheme, host, port and path are allowed; credentials have their own settings"
        raise ValueError(msg)
    return url


# RFC 9110, section 5.6.2.
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def _headers(value: object) -> object:
    """Read a JSON object, or `Name: value` lines."""
    if isinstance(value, dict):
        return value
    text = str(value).strip()
    if text.startswith("{"):
        try:
            found = json.loads(text)
        except ValueError:
            found = None
    else:
        pairs = [line.partition(":") for line in text.splitlines() if line.strip()]
        found = {name.strip(): v.strip() for name, colon, v in pairs if colon}
        found = found if len(found) == len(pairs) else None
    if not isinstance(found, dict) or not all(
        isinstance(v, str) and _TOKEN.fullmatch(name) and v.isprintable() and v.isascii()
        for name, v in found.items()
    ):
        msg = 'write a JSON object such as {"api-key": "..."}, or one "Name: value" a line'
        raise ValueError(msg)
    return found


class Bytes(int):
    """A size that reads as people write it."""

    def __str__(self) -> str:
        for unit, name in ((MIB, "MiB"), (KIB, "KiB")):
            if self and self % unit == 0:
                return f"{self // unit}{name}"
        return int.__repr__(self)


_UNITS: Final = {"b": 1, "kib": KIB, "mib": MIB, "k": KIB, "m": MIB, "": 1}


def _size(value: object) -> object:
    text = str(value).strip().lower()
    digits = text.rstrip("bkimBKIM ")
    unit = text[len(digits) :].strip()
    if not digits.isdecimal() or unit not in _UNITS:
        msg = "write a number of bytes, or one such as 64KiB or 16MiB"
        raise ValueError(msg)
    return int(digits) * _UNITS[unit]


ListenAddress = Annotated[Address, BeforeValidator(_address)]
UpstreamUrl = Annotated[URL, BeforeValidator(_upstream)]
HeaderMap = Annotated[dict[str, str], BeforeValidator(_headers)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Size = Annotated[int, BeforeValidator(_size), Field(gt=0)]
