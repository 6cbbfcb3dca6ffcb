"""Fields: what one object of an error says, by the names that providers use.

Invariant: total and bounded. A field's value of any kind gives a word, a text, a status, a delay,
or nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from proxy.core.layout import Layout, look_up

# What message patterns search: telling words come first; a traceback can be megabytes.
_MAX_MESSAGE: Final = 4 * 1024
_MAX_WORD: Final = 200
_MAX_INT: Final = 10**18


def squash(text: str) -> str:
    """Reduce a word to what is compared: RateLimitExceeded is rate_limit_exceeded."""
    return "".join(filter(str.isalnum, text)).lower()


_DAY: Final = 86_400.0

# Field names as `squash` leaves them: errorCode, error_code and ErrorCode are one.
_CODE: Final = ("code", "errorcode", "errcode", "errno", "grpccode", "reason")
_TYPE: Final = (
    "type",
    "errortype",
    "exceptiontype",
    "exception",
    "status",
    "errorname",
    "name",
)
_MESSAGE: Final = (
    "message",
    "msg",
    "errormessage",
    "errormsg",
    "errmsg",
    "errordescription",
    "faultstring",
    "statusmsg",
    "statusmessage",
    "htmlmessage",
    "detail",
    "details",
    "error",
    "errors",
    "description",
    "title",
    "reason",
)
# What stands above the message: RFC 9457's title, Express's and Spring's error.
_HEADING: Final = ("title", "error")
_PARAM: Final = ("param", "parameter", "loc", "field")
_STATUS: Final = (
    "status",
    "statuscode",
    "httpstatus",
    "httpstatuscode",
    "httpcode",
    "originalstatuscode",
    "rawstatuscode",
    "code",
    "errorcode",
    "errcode",
)
_DELAYS: Final[Mapping[str, float]] = {
    "retryafterms": 0.001,
    "retryafter": 1.0,
    "retryafterseconds": 1.0,
    "retrydelay": 1.0,
    "resetsinseconds": 1.0,
    "estimatedtime": 1.0,
}
_PHRASES: Final = frozenset(squash(status.phrase) for status in HTTPStatus)
_NOTHING: Final = frozenset({"", "none", "null", "undefined", "nil", "unknown", "error", "n/a"})

_ONE_WORD: Final = re.compile(r"[A-Za-z][\w.-]{2,63}")
_STATUS_PREFIX: Final = re.compile(
    r"\s*(?:(?:error|status|http)[ _]?(?:code|error)?[ :]{1,2}|<|\[)?([45]\d\d)(?=[>\]:, ]|\s*-)",
    re.IGNORECASE,
)
_STATUS_INSIDE: Final = re.compile(r"\bError code: ([45]\d\d) - ")
_DELAY_TEXT: Final = re.compile(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*(ms|s)?\s*\Z")


@dataclass(slots=True)
class Layer:
    """What one object says; "" and None where it does not."""

    code: str = ""
    type: str = ""
    param: str = ""
    message: str = ""
    status: int | None = None
    retry_after: float | None = None
    provider: str = ""

    def says_something(self) -> bool:
        """Tell whether it says more than a status or a delay."""
        return bool(self.code or self.type or self.message)


def read_fields(fields: Mapping[str, Any]) -> Layer:
    """Read an object by the names of its fields, as `squash` leaves them."""
    layer = Layer(
        code=_first_word(fields, _CODE),
        type=_first_word(fields, _TYPE),
        message=_message(fields),
        status=next((s for n in _STATUS if (s := _as_status(fields.get(n))) is not None), None),
    )
    # Some say the code where a text is due.
    for word in (fields.get("error"), "" if layer.type else layer.message):
        if not layer.code and isinstance(word, str) and _ONE_WORD.fullmatch(word):
            layer.code = _word(word)
    for name in _PARAM:
        entry = fields.get(name)
        if isinstance(entry, list) and entry:  # FastAPI's loc: ["body", "messages", 0, "content"]
            entry = ".".join(str(part) for part in entry if part != "body")
        if isinstance(entry, str) and entry.lower() not in _NOTHING:
            layer.param = entry[:_MAX_WORD]
            break
    layer.retry_after = next(
        (d for n, unit in _DELAYS.items() if (d := _as_delay(fields.get(n), unit)) is not None),
        None,
    )
    if layer.status is None:
        layer.status = status_in(layer.message)
    return layer


def _message(fields: Mapping[str, Any]) -> str:
    """Read the first text there is, below its heading where that says more than a status."""
    texts = [text_of(one) for n in _MESSAGE if isinstance(one := fields.get(n), str) and one]
    if not texts:
        return ""
    headings = (text_of(one) for n in _HEADING if isinstance(one := fields.get(n), str))
    told = [one for one in headings if one != texts[0] and squash(one) not in _PHRASES]
    return ": ".join(one for one in (*told, texts[0]) if one)


def read_layout(value: dict[str, Any], layout: Layout) -> Layer:
    """Read an object by a layout of the table's."""
    message = look_up(value, layout.message) if layout.message else None
    return Layer(
        code=_word(look_up(value, layout.code)) if layout.code else "",
        type=_word(look_up(value, layout.type)) if layout.type else "",
        param=_word(look_up(value, layout.param)) if layout.param else "",
        message=text_of(message) if isinstance(message, str) else "",
        status=_as_status(look_up(value, layout.status)) if layout.status else None,
        retry_after=(
            _as_delay(look_up(value, layout.retry_after), 1.0) if layout.retry_after else None
        ),
        provider=layout.provider,
    )


def _first_word(fields: Mapping[str, Any], names: Sequence[str]) -> str:
    return next((word for name in names if (word := _word(fields.get(name)))), "")


def _word(value: object) -> str:
    """Read a code or a type: one word, or a number that is not an HTTP status."""
    word = _scalar(value)
    if _as_status(word) is not None:
        return ""
    if word.lower() in _NOTHING or len(word) > _MAX_WORD:
        return ""
    # AWS puts a namespace and # before the word, RFC 9457 makes it a URI, or about:blank.
    word = re.split(r"[#/]", word.rstrip("/#"))[-1]
    return "" if word.lower() == "about:blank" else word


def text_of(value: str) -> str:
    """Read a message: with single spaces, as patterns are."""
    return " ".join(value[:_MAX_MESSAGE].replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").split())


def _scalar(value: object) -> str:
    """Write a string or an integer as text; "" for anything else, and for absurd numbers."""
    if isinstance(value, str):
        return value[: _MAX_WORD + 1].strip()
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _MAX_INT:
        return str(value)
    return ""


def _as_status(value: object) -> int | None:
    text = _scalar(value)
    if len(text) == 3 and text.isascii() and text.isdigit() and text[0] in "45":
        return int(text)
    return None


def status_in(message: str) -> int | None:
    """Read `500: Internal server error`, `<400> Bad input`, `XError: Error code: 429 - {...}`."""
    found = _STATUS_PREFIX.match(message) or _STATUS_INSIDE.search(message)
    return int(found[1]) if found else None


def _as_delay(value: object, unit: float) -> float | None:
    """Read 5, "5", "34.4s" and Google's {"seconds": 5}."""
    if isinstance(value, dict):
        value = value.get("seconds")
    found = _DELAY_TEXT.match(f"{value:.3f}" if isinstance(value, float) else _scalar(value))
    if not found:
        return None
    seconds = float(found[1]) * (0.001 if found[2] == "ms" else 1.0 if found[2] else unit)
    return seconds if 0 < seconds <= 366 * _DAY else None
