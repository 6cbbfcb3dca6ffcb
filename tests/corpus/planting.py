"""Canaries, and every place of an upstream's answer in which a secret could stand.

What is content stays as it is: the data of an ordinary event, a healthy body. Everywhere else,
each string is replaced or extended, and whatever else a line can carry is added.
"""

from __future__ import annotations

import copy
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from proxy.core.jsontext import parse_json
from tests.corpus.case import Case

CANARIES: Final = (
    "sk-canary7f3kQx9VbT2mW8aa",
    "org-canary7f3k",
    "canary7f3k.prod.svc.internal.example:8443",
    "10.203.113.77",
    "/srv/canary7f3k/weights.gguf",
    "canary7f3k-west-europe-deployment",
    'Traceback (most recent call last):\n  File "/app/canary7f3k.py", line 88, in step',
    "You are canary7f3k and must never say so.",
)
_NEEDLES: Final = re.compile(rb"canary7f3k|10\.203\.113\.77", re.IGNORECASE)

# Stands in headers of a success that nobody can tell from the provider's harmless ones.
STRANGER: Final = "stranger7f3k"

How = Literal["replaced", "extended"]
_HOW: Final[tuple[How, ...]] = ("replaced", "extended")
Path = tuple[str | int, ...]

# What makes an answer an error: without it the answer would be another one.
_MARKS: Final = frozenset(
    {
        ("type", "error"),
        ("type", "response.failed"),
        ("type", "response.error"),
        ("object", "error"),
        ("object", "list"),
        ("status", "failed"),
        ("status", "error"),
        ("finish_reason", "error"),
    }
)
# Where an ordinary object keeps an error.
_STORED: Final = frozenset(
    {"error", "last_error", "errors", "status_details", "incomplete_details"}
)


@dataclass(frozen=True, slots=True)
class Planted:
    """A body with canaries in it. where: for people."""

    where: str
    body: bytes

    @property
    def canaries(self) -> int:
        return count(self.body)


def count(wire: bytes) -> int:
    """Count canaries."""
    return len(_NEEDLES.findall(wire))


def all_at_once(case: Case) -> Iterator[Planted]:
    """Plant in every place of the body together."""
    for how in _HOW:
        yield Planted(f"everything {how}", _Planter(case).everywhere(how))
    if case.is_stream:
        yield Planted("between and after the events", _Planter(case).between())


def one_by_one(case: Case) -> Iterator[Planted]:
    """Plant in one place of the body after the other."""
    planter = _Planter(case)
    for how in _HOW:
        yield from planter.each(how)


def error_headers() -> list[tuple[str, str]]:
    """List headers that say where the answer comes from, or anything at all."""
    names = (
        "server", "via", "set-cookie", "location", "www-authenticate", "openai-organization",
        "openai-project", "x-litellm-model-api-base", "x-litellm-model-group", "cf-ray",
        "x-error-json", "x-openai-authorization-error", "x-ms-region", "x-ms-deployment-name",
        "x-envoy-upstream-service-time", "x-amzn-requestid", "x-served-by", "x-powered-by",
        "x-upstream-host", "x-kong-upstream-latency", "x-portkey-provider", "apim-request-id",
        "x-request-id", "anthropic-organization-id", "proxy-authenticate", "alt-svc", "trailer",
        "x-azure-ref", "x-backend-server", "llm_provider-server", "strict-transport-security",
    )  # fmt: skip
    return list(zip(names, itertools.cycle(_one_line(c) for c in CANARIES), strict=False))


def _one_line(text: str) -> str:
    return text.replace("\n", " ")


class _Planter:
    """Plants in one case's body."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._canaries = itertools.cycle(CANARIES)

    def everywhere(self, how: How) -> bytes:
        if self._case.passes:
            return self._case.body
        if self._case.is_stream:
            blocks = _blocks(self._case.body)
            for at in self._faulty(blocks):
                blocks[at] = self._block(blocks[at], how)
            return _joined(blocks, self._case.body)
        return self._text(self._case.body, how)

    def each(self, how: How) -> Iterator[Planted]:
        case = self._case
        if case.passes:
            return
        if not case.is_stream:
            for where, body in self._each_text(case.body, how):
                yield Planted(f"{where} {how}", body)
            return
        blocks = _blocks(case.body)
        for at in self._faulty(blocks):
            name, data = _opened(blocks[at])
            for where, planted in self._each_text(data, how):
                some = [*blocks[:at], _closed(name, planted), *blocks[at + 1 :]]
                yield Planted(f"event {at}, {where} {how}", _joined(some, case.body))

    def between(self) -> bytes:
        """Plant wherever a line of a stream can carry text that is no event's data."""
        canary = self._line()
        out = [b": %b\n\n%b\n\n" % (canary, canary)]
        for block in _blocks(self._case.body):
            name, data = _opened(block)
            canary = self._line()
            lines = [b": " + canary, b"id: " + canary, b"retry: " + canary, block]
            if name not in (b"error", b"done"):
                lines += [b"event: " + canary]
            lines += [canary, b"x-" + canary + b": " + canary, b"error: " + canary]
            out.append(b"\n".join(lines) + b"\n\n")
            if data.strip() == b"[DONE]":
                break
        tail = self._line()
        out.append(b'data: {"error":{"message":"%b"}}\n\n' % tail)
        out.append(b'event: %b\ndata: {"error":{"message":"%b' % (tail, tail))
        return b"".join(out)

    def _faulty(self, blocks: list[bytes]) -> list[int]:
        """Find the events that are no ordinary ones: what fails the stream, and all after it."""
        if self._case.in_place:
            return [at for at, block in enumerate(blocks) if self._leaves_of(_opened(block)[1])]
        first = next((at for at, block in enumerate(blocks) if not _is_content(block)), None)
        return [] if first is None else list(range(first, len(blocks)))

    def _block(self, block: bytes, how: How) -> bytes:
        name, data = _opened(block)
        return _closed(name, self._text(data, how))

    def _text(self, text: bytes, how: How) -> bytes:
        value = parse_json(text)
        if not isinstance(value, dict | list):
            return text if self._case.in_place else self._plain(text, how)
        for path in self._leaves_of(text):
            value = _set(value, path, self._said(_get(value, path), how))
        return json.dumps(value if self._case.in_place else self._with_more_keys(value)).encode()

    def _each_text(self, text: bytes, how: How) -> Iterator[tuple[str, bytes]]:
        value = parse_json(text)
        if not isinstance(value, dict | list):
            if not self._case.in_place:
                yield "the text", self._plain(text, how)
            return
        for path in self._leaves_of(text):
            planted = _set(copy.deepcopy(value), path, self._said(_get(value, path), how))
            yield ".".join(map(str, path)), json.dumps(planted).encode()

    def _leaves_of(self, text: bytes) -> list[Path]:
        """List the strings of a JSON text that are no content."""
        value = parse_json(text)
        found = list(_leaves(value))
        if self._case.status >= 300:
            return found
        found = [path for path in found if (path[-1], _get(value, path)) not in _MARKS]
        if self._case.in_place:
            return [path for path in found if _is_stored(path)]
        return [path for path in found if not _is_ordinary(path)]

    def _line(self) -> bytes:
        return _one_line(next(self._canaries)).encode()

    def _said(self, text: str, how: How) -> str:
        canary = next(self._canaries)
        return canary if how == "replaced" else f"{text} ({canary})"

    def _plain(self, text: bytes, how: How) -> bytes:
        canary = self._line()
        if how == "replaced":
            return canary
        middle = len(text) // 2
        return canary + b" " + text[:middle] + canary + text[middle:] + b" " + canary

    def _with_more_keys(self, value: Any, path: Path = ()) -> Any:
        """Add keys nobody knows, with canaries for names and values."""
        if self._case.status < 300 and _is_ordinary(path):
            return value
        if isinstance(value, list):
            return [self._with_more_keys(entry, (*path, at)) for at, entry in enumerate(value)]
        if not isinstance(value, dict):
            return value
        more = {key: self._with_more_keys(entry, (*path, key)) for key, entry in value.items()}
        return {**more, next(self._canaries): next(self._canaries), "debug": [next(self._canaries)]}


def _blocks(body: bytes) -> list[bytes]:
    text = body.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return [block for block in re.split(rb"\n{2,}", text) if block]


def _joined(blocks: list[bytes], body: bytes) -> bytes:
    ended = body.endswith((b"\n\n", b"\r\r", b"\r\n\r\n"))
    return b"\n\n".join(blocks) + (b"\n\n" if ended else b"")


def _opened(block: bytes) -> tuple[bytes, bytes]:
    """Return an event's name and data; what has no data is all data."""
    name = b""
    data: list[bytes] = []
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"event":
            name = value.removeprefix(b" ")
        elif field in (b"data", b"error"):
            data.append(value.removeprefix(b" "))
    return name, b"\n".join(data) if data else block


def _closed(name: bytes, data: bytes) -> bytes:
    lines = [b"event: " + name] if name else []
    return b"\n".join([*lines, *(b"data: " + line for line in data.split(b"\n"))])


def _is_content(block: bytes) -> bool:
    """Tell whether an event of the corpus is an ordinary one, by what its author meant."""
    name, data = _opened(block)
    value = parse_json(data)
    if not isinstance(value, dict):
        return block.startswith(b":")
    choices = value.get("choices")
    kind = value.get("type", value.get("object") if choices is None else "chunk")
    response = value.get("response")
    return (
        name != b"error"
        and not block.startswith(b"error:")
        and not value.get("error")
        and value.get("object") != "error"
        and isinstance(kind, str)
        and kind not in ("", "error", "response.failed", "response.error")
        and not (isinstance(response, dict) and response.get("status") == "failed")
        and not (choices and choices[0].get("finish_reason") == "error")
        and value.get("base_resp", {}).get("status_code", 0) == 0
    )


def _leaves(value: object, path: Path = ()) -> Iterator[Path]:
    """Yield the paths of the strings in a JSON value."""
    if isinstance(value, str):
        if path:
            yield path
    elif isinstance(value, dict):
        for key, entry in value.items():
            yield from _leaves(entry, (*path, key))
    elif isinstance(value, list):
        for at, entry in enumerate(value):
            yield from _leaves(entry, (*path, at))


def _get(value: Any, path: Path) -> Any:
    for key in path:
        value = value[key]
    return value


def _set(value: Any, path: Path, leaf: str) -> Any:
    _get(value, path[:-1])[path[-1]] = leaf
    return value


def _is_stored(path: Path) -> bool:
    """Tell whether a string stands in an error that an ordinary object holds."""
    if "moderation" in path:
        return path[-1] in ("code", "message")
    return not _STORED.isdisjoint(path)


def _is_ordinary(path: Path) -> bool:
    """Tell whether a string is what every response says of itself, failed or not."""
    return len(path) > 1 and path[0] == "response" and path[1] != "error"
