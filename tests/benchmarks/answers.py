"""Healthy answers as the provider would give them, made of what the request's target asks for.

    Script("chat", events=50).target   →  /v1/chat/completions?events=50&...
    script_of(target)                  →  the same script, on the provider's side

Both sides make the same bytes of the same script, so the client's side knows what must arrive.
An event that carries text also carries a stamp: the time at which a paced stream wrote it.
"""

from __future__ import annotations

import base64
import json
import random
import re
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, urlencode

Api = Literal["chat", "padded", "responses", "json"]
"""padded: chat as OpenAI sends it, with a field of letters of any number in each chunk."""

_PATHS: Final[dict[Api, str]] = {
    "chat": "/v1/chat/completions",
    "padded": "/v1/chat/completions",
    "responses": "/v1/responses",
    "json": "/v1/chat/completions",
}

STAMP: Final = re.compile(rb"@(\d{19})")
"""Nanoseconds of the monotonic clock, which all processes of a machine share."""

NO_STAMP: Final = b"@" + b"0" * 19
_SLOT: Final = NO_STAMP.decode()

_SENTENCE: Final = (
    "the proxy reads every event of the stream and writes it again so that nothing of what "
    'a provider says in anger ever reaches the people who only asked a "question"\n'
)
_WORDS: Final = _SENTENCE.split(" ")
_MODEL: Final = "gpt-5.2-2025-12-11"
_CREATED: Final = 1_790_000_000
_RESPONSE: Final = "resp_0b6d4c2f9e81a7530068f1c2d3e4b5a6978"
_ITEM: Final = "msg_0b6d4c2f9e81a7530068f1c2d3e4b5a6979"


@dataclass(frozen=True, slots=True)
class Script:
    """What to answer.

    events: of the whole stream, those that open and end it and `[DONE]` included.
    rate: events a second; 0 is as fast as they are taken.
    largest: one event in the middle has a text of so many bytes more. Of JSON: the body's size.
    """

    api: Api = "chat"
    events: int = 50
    rate: float = 0.0
    largest: int = 0

    @property
    def target(self) -> str:
        """Where to ask for this answer."""
        return f"{_PATHS[self.api]}?{urlencode(asdict(self))}"


def script_of(target: str) -> Script:
    """Return what a request's target asks for."""
    asked = dict(parse_qsl(target.partition("?")[2]))
    api: Api = next(api for api in _PATHS if api == asked["api"])
    return Script(api, int(asked["events"]), float(asked["rate"]), int(asked["largest"]))


@lru_cache(maxsize=8)
def body(script: Script) -> bytes:
    """Return the answer's whole body, without stamps."""
    return _json(script.largest) if script.api == "json" else b"".join(events(script))


@lru_cache(maxsize=8)
def events(script: Script) -> tuple[bytes, ...]:
    """Return the stream's events as they are framed, without stamps."""
    if script.api == "responses":
        return tuple(_responses(script.events, script.largest))
    return tuple(_chat(script.events, script.largest, is_padded=script.api == "padded"))


def _texts(count: int, largest: int) -> list[str]:
    """Return what the model says, piece by piece: no two pieces in a row are alike."""
    texts = [f" {_WORDS[i % len(_WORDS)]}{i % 997} {_SLOT}" for i in range(count)]
    if largest:
        # Letters without escapes, as an image's would be; the same in every process.
        raw = random.Random(largest).randbytes(largest * 3 // 4)  # noqa: S311 - not a secret
        texts[count // 2] += base64.b64encode(raw).decode()
    return texts


def _padding(number: int) -> str:
    return "kT4vQz9dR2mXw7Lh"[: 1 + number * 7 % 16]


def _chat(count: int, largest: int, *, is_padded: bool) -> list[bytes]:
    def chunk(delta: dict[str, str] | None, finish: str | None = None, number: int = 0) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        value = {
            "id": "chatcmpl-CUvX7mJq2Rk9TzN4wYb8LdPfGhS1e",
            "object": "chat.completion.chunk",
            "created": _CREATED,
            "model": _MODEL,
            "choices": [] if delta is None else [choice],
        }
        if delta is None:
            value["usage"] = _usage("prompt", "completion", count)
        elif is_padded:
            value["obfuscation"] = _padding(number)
        return b"data: " + _dump(value) + b"\n\n"

    return [
        chunk({"role": "assistant", "content": ""}),
        *(chunk({"content": text}, None, n) for n, text in enumerate(_texts(count - 4, largest))),
        chunk({}, "stop"),
        chunk(None),
        b"data: [DONE]\n\n",
    ]


def _responses(count: int, largest: int) -> list[bytes]:
    texts = _texts(count - 8, largest)
    text = "".join(texts) if not largest else "a text that was too long to be told again"
    place: dict[str, Any] = {"item_id": _ITEM, "output_index": 0, "content_index": 0}
    whole = {"type": "output_text", "annotations": [], "logprobs": [], "text": text}
    item = {"id": _ITEM, "type": "message", "role": "assistant"}
    done = item | {"status": "completed", "content": [whole]}
    values: list[dict[str, Any]] = [
        {"type": "response.created", "response": _response("in_progress")},
        {"type": "response.in_progress", "response": _response("in_progress")},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": item | {"status": "in_progress", "content": []},
        },
        {"type": "response.content_part.added", **place, "part": whole | {"text": ""}},
        *(
            {"type": "response.output_text.delta", **place, "delta": text, "logprobs": []}
            | {"obfuscation": _padding(number)}
            for number, text in enumerate(texts)
        ),
        {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": whole},
        {"type": "response.output_item.done", "output_index": 0, "item": done},
        {"type": "response.completed", "response": _response("completed", [done], count)},
    ]
    return [
        b"event: %b\ndata: %b\n\n"
        % (value["type"].encode(), _dump({**value, "sequence_number": number}))
        for number, value in enumerate(values)
    ]


def _response(status: str, output: list[Any] | None = None, count: int = 0) -> dict[str, Any]:
    return {
        "id": _RESPONSE,
        "object": "response",
        "created_at": _CREATED,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": "You are a helpful assistant.",
        "max_output_tokens": None,
        "model": _MODEL,
        "output": output or [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": "none", "summary": None},
        "service_tier": "default",
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": _usage("input", "output", count) if output else None,
        "user": None,
        "metadata": {},
    }


def _json(size: int) -> bytes:
    """Return a chat completion of about `size` bytes."""

    def completion(text: str) -> bytes:
        message: dict[str, Any] = {
            "role": "assistant",
            "content": text,
            "refusal": None,
            "annotations": [],
        }
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        value = {
            "id": "chatcmpl-CUvX7mJq2Rk9TzN4wYb8LdPfGhS1e",
            "object": "chat.completion",
            "created": _CREATED,
            "model": _MODEL,
            "choices": [choice],
            "usage": _usage("prompt", "completion", size // 4),
            "service_tier": "default",
        }
        return _dump(value)

    text = _SENTENCE * (size // 100)
    return completion(text[: size - len(completion(""))])


def _usage(asked: str, given: str, count: int) -> dict[str, Any]:
    return {
        f"{asked}_tokens": 31,
        f"{given}_tokens": count,
        "total_tokens": 31 + count,
        f"{asked}_tokens_details": {"cached_tokens": 0},
        f"{given}_tokens_details": {"reasoning_tokens": 0},
    }


def _dump(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
