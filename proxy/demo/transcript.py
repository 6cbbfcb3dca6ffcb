"""What came over the wire, and what a person reads in it.

Rule 1. `Answer` holds the bytes as they came: leaks are counted in them and nowhere else.
Rule 2. Both sides are read by the same eyes, which know nothing of the proxy.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import Any

import aiohttp

from proxy.demo.scenarios import Api, Scenario

_PATHS: dict[Api, str] = {"responses": "/v1/responses", "chat": "/v1/chat/completions"}
_ENDS = frozenset({"response.completed", "response.failed", "[DONE]"})


class Close(StrEnum):
    """How the connection ended."""

    ENDED = auto()
    CUT = auto()
    SILENT = auto()  # nothing came for as long as we waited


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it came."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    close: Close

    def header(self, name: str) -> str:
        """Return a header's value, or nothing."""
        return next((value for key, value in self.headers if key.lower() == name), "")

    @property
    def is_stream(self) -> bool:
        """Tell whether it is an event stream."""
        return self.header("content-type").startswith("text/event-stream")

    @property
    def reference(self) -> str:
        """What joins it to the proxy's log."""
        return self.header("x-request-id")

    def holds(self, secrets: tuple[str, ...]) -> tuple[str, ...]:
        """Return those of `secrets` that stand anywhere in it, in headers or body."""
        lines = [self.reason, *(f"{name}: {value}" for name, value in self.headers)]
        body = self.body.decode("utf-8", "replace")
        # Once as it is, once without JSON's escapes.
        whole = "\n".join([*lines, body, body.replace('\\"', '"')])
        return tuple(secret for secret in secrets if secret in whole)


async def ask(
    session: aiohttp.ClientSession, base: str, scenario: Scenario, patience: float
) -> Answer:
    """Play a scenario and keep every byte of its answer.

    patience: seconds to wait for the next byte.
    """
    request = {"model": scenario.name, "stream": True, "input": "Name the longest rivers."}
    body = bytearray()
    close = Close.ENDED
    async with session.post(base + _PATHS[scenario.api], json=request) as response:
        try:
            while True:
                async with asyncio.timeout(patience):
                    piece = await response.content.readany()
                if not piece:
                    break
                body += piece
        except TimeoutError:
            close = Close.SILENT
        except aiohttp.ClientError:
            close = Close.CUT
        headers = tuple(response.headers.items())
        return Answer(response.status, response.reason or "", headers, bytes(body), close)


@dataclass(slots=True)
class Transcript:
    """What an answer says.

    text: the model's words. tool_error: what became of a tool call.
    events: the names of what ended a stream. code, message, details: of the error.
    """

    text: str = ""
    tool_error: str = ""
    events: list[str] = field(default_factory=list)
    code: str = ""
    message: str = ""
    details: list[str] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        """Tell whether a client can know that this is all: the end mark of a stream is there."""
        return any(name in _ENDS for name in self.events)


def read(answer: Answer) -> Transcript:
    """Read an answer."""
    found = Transcript()
    text = answer.body.decode("utf-8", "replace")
    if answer.is_stream:
        for name, data in _events(text):
            _read_event(found, name, data)
        return found
    value = _json(text)
    if isinstance(value, dict):
        _read_error(found, value.get("error"))
    else:
        found.message = "\n".join(line for line in text.splitlines() if line.strip())
    return found


def _events(text: str) -> Iterator[tuple[str, str]]:
    """Yield the finished events of a stream."""
    *blocks, _unfinished = text.split("\n\n")
    for block in blocks:
        fields = dict(line.partition(": ")[::2] for line in block.split("\n"))
        yield fields.get("event", ""), fields.get("data", "")


def _read_event(found: Transcript, name: str, data: str) -> None:
    if data == "[DONE]":
        found.events.append(data)
        return
    value = _json(data)
    if not isinstance(value, dict):
        return
    for choice in value.get("choices") or ():
        found.text += choice["delta"].get("content") or ""
    response, item = value.get("response") or {}, value.get("item") or {}
    if name == "response.output_text.delta":
        found.text += value["delta"]
    if item.get("error"):
        found.tool_error = item["error"]["message"]
    if value.get("error"):
        found.events.append("error")
        _read_error(found, value["error"])
    if name in _ENDS:
        found.events.append(name)
        _read_error(found, response.get("error"))


def _read_error(found: Transcript, error: object) -> None:
    """Keep the first error: a second one in the same answer is the same fault."""
    if not isinstance(error, dict) or found.message:
        return
    found.code = str(error.get("code") or "")
    found.message = str(error.get("message") or "")
    for key, value in (error.get("metadata") or {}).items():
        inner = _json(value)
        text = inner["error"]["message"] if isinstance(inner, dict) else value
        found.details.append(f"{key}: {text}")


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
