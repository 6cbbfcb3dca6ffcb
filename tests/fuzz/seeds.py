"""Where fuzzing begins: a few inputs for each target, and the words that matter to it."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Mapping
from typing import Final

import brotli

from proxy.core.surfaces.names import CHAT, COMPLETIONS, MESSAGES, OTHER, RESPONSES
from proxy.core.table_file import shipped_file
from tests.upstreams import (
    CHAT_FINISH,
    CHAT_ROLE,
    DONE,
    chat_text,
    completed,
    created,
    delta,
    event,
    in_progress,
)

DIRTS: Final = 22
"""How many kinds of dirt `targets` plants where an input has a NUL and the kind's number."""

WORDS: Final = (
    b"data: ", b"data:", b"event: ", b"event: error\n", b"id: ", b"retry: ", b"error: ", b":",
    b"\n", b"\n\n", b"\r", b"\r\n", b"\r\n\r\n", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"[DONE]",
    b"data: [DONE]\n\n", b"{", b"}", b"[", b"]", b'"', b"null", b"1e999", b"\\ud800", b"NaN",
    b'"error":', b'"error":null,', b'"message":', b'"code":', b'"type":', b'"status":"failed"',
    b'"type":"error"', b'"response":', b'"item":', b'"choices":', b'"finish_reason":"stop"',
    b'"finish_reason":"error"', b'"object":', b'"sequence_number":', b'"base_resp":',
    b"response.created", b"response.output_text.delta", b"response.completed",
    b"response.failed", b"response.incomplete", b"message_start", b"message_stop",
    b"content_block_delta", b"chat.completion.chunk", b"<html>", b"<!--", b"-->", b"429", b"500",
    *(bytes((0, kind)) for kind in range(DIRTS)), b"long" * 100,
)  # fmt: skip


def _responses() -> Iterable[bytes]:
    item = {"type": "mcp_call", "id": "i1", "status": "completed", "error": None}
    done = event({"type": "response.output_item.done", "sequence_number": 4, "item": item})
    healthy = [created(), in_progress(), delta("Hel"), delta("lo", 3)]
    yield b"".join([*healthy, completed(4)])
    yield b"".join([*healthy, done, completed(5), DONE])
    yield b"".join(healthy)
    yield b"".join([created(), delta("a"), delta("b", 3) + b"\x00\x05", completed(4)])


def _chat() -> Iterable[bytes]:
    usage = event({"object": "chat.completion.chunk", "choices": [], "usage": {"total_tokens": 3}})
    healthy = [CHAT_ROLE, chat_text("Hel"), chat_text("lo"), chat_text("!")]
    yield b"".join([*healthy, CHAT_FINISH, usage, DONE])
    yield b"".join([*healthy, CHAT_FINISH])
    yield b"".join([*healthy, DONE])
    yield b": ping\n\n" + b"".join(healthy).replace(b"\n", b"\r\n") + b"\x00\x09"


def _messages() -> Iterable[bytes]:
    start = event({"type": "message_start", "message": {"id": "m", "content": []}})
    ping = event({"type": "ping"})
    block = event({"type": "content_block_start", "index": 0, "content_block": {"type": "text"}})
    text = {"type": "text_delta", "text": "Hi"}
    said = event({"type": "content_block_delta", "index": 0, "delta": text})
    stop = event({"type": "content_block_stop", "index": 0})
    end = event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}})
    last = event({"type": "message_stop"})
    yield b"".join([start, ping, block, said, said, stop, end, last])
    yield b"".join([start, block, said, b"\x00\x0e", said])


def _other() -> Iterable[bytes]:
    yield b"".join(
        [
            event({"type": "transcript.text.delta", "delta": "Hi"}),
            event({"type": "transcript.text.done", "text": "Hi there"}),
        ]
    )
    yield event({"object": "thread.run", "id": "run_1", "last_error": {"message": "no"}}) + DONE


def _bodies() -> Iterable[bytes]:
    for value in (
        {"error": {"message": "Rate limit reached", "type": "requests", "code": 429}},
        {"detail": [{"loc": ["body", "model"], "msg": "field required", "type": "missing"}]},
        {"object": "error", "message": "'max_tokens' is too large: 9999", "code": 400},
        {"base_resp": {"status_code": 1002, "status_msg": "rate limit"}},
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        {"error": {"message": "litellm.BadRequestError: {'error': {'code': 'x'}} - 400"}},
        {"id": "resp_1", "object": "response", "status": "completed", "output": []},
        {"id": "chatcmpl-1", "object": "chat.completion", "choices": []},
    ):
        yield json.dumps(value).encode()
    yield b"<html><head><title>502 Bad Gateway</title></head></html>"
    yield b"upstream connect error or disconnect/reset before headers"
    yield b'event: error\ndata: {"error": {"message": "Try again in 20s"}}\n\n'


def _tables() -> Iterable[bytes]:
    yield (
        b"version: 1\nextends: shipped\nrules:\n  - name: mine\n    when: {code: [abc]}\n"
        b"    reply: server_error\n    example: {code: abc}\n"
    )
    yield (
        b"version: 1\nextends: none\ndefault: oops\nreplies:\n  oops:\n    status: 500\n"
        b"    type: server_error\n    message: [Something went wrong.]\n    retryable: true\n"
        b'rules:\n  - name: r\n    when: {message: "only {n:int} left ... here", status: 5xx}\n'
        b"    reply: oops\n    example: {status: 500, message: only 3 left over here}\n"
    )
    yield shipped_file().read_bytes()[:3000]


def _settings() -> Iterable[bytes]:
    values = (b"16MiB", b"64 KiB", b"1_000", b"-1", b"9" * 5000, "٣k".encode())
    yield from (bytes((0,)) + value for value in values)
    yield b'\x02{"api-key": "abc", "x": "y"}'
    yield b"\x02api-key: abc\nx-team: blue"
    yield b"\x03[::1]:8080"
    yield b"\x04https://user@host/a?b#c"
    yield b"\x052.5"


def _targets() -> Iterable[bytes]:
    yield b"/v1/responses?stream=true#x"
    yield b"/v1/%2e%2e/%252e%252e/..;a/x\\..\\y"
    yield b"//evil.example/v1@x:80"


def _encodings() -> Iterable[bytes]:
    text = b"data: {}\n\n" * 50
    cuts = bytes(range(16))
    for number, packed in enumerate((gzip.compress(text, mtime=0), zlib.compress(text))):
        yield bytes((number,)) + cuts + packed
        yield bytes((number,)) + cuts + packed + packed
        yield bytes((number,)) + cuts + packed + b"after the end"
    yield b"\x01" + cuts + zlib.compress(text, wbits=-15)
    yield b"\x02" + cuts + brotli.compress(text)
    yield b"\x03" + cuts + b"\x28\xb5\x2f\xfd\x04\x00\x19\x00\x00abc\xff\xff\xff\xff"


_CUTS: Final = bytes(range(3, 19))


_TEXTS: Final = (b'"delta": "', b'"content": "', b'"text": "')


def _with_plans(streams: Iterable[bytes]) -> tuple[bytes, ...]:
    """Put choices before each stream, and every kind of dirt into the first."""
    first, *others = streams
    text = next(key for key in _TEXTS if key in first)
    before, _, after = first.rpartition(text)
    large = before + text + b"long" * 300 + after
    middle = first.index(b"\n\n", len(first) // 2) + 2
    dirty = [first[:middle] + bytes((0, kind)) + first[middle:] for kind in range(DIRTS)]
    whole = [b"\x01\x00" + _CUTS + stream for stream in (first, *others, *dirty)]
    return (*whole, b"\x00\x00" + _CUTS + first, b"\x00\x00" + _CUTS + large)


_STREAMS: Final = {
    RESPONSES: _responses(),
    CHAT: _chat(),
    COMPLETIONS: _chat(),
    MESSAGES: _messages(),
    OTHER: _other(),
}

SEEDS: Final[Mapping[str, tuple[bytes, ...]]] = {
    "decoder": tuple(b"\x02" + _CUTS + seed for seed in (*_responses(), *_chat())),
    **{f"stream-{name}": _with_plans(streams) for name, streams in _STREAMS.items()},
    "evidence": tuple(b"\x02\x01\x00\x00" + seed for seed in _bodies()),
    "bodies": tuple(b"\x00\x00\x00" + seed for seed in _bodies()),
    "table": tuple(_tables()),
    "settings": tuple(_settings()),
    "target": tuple(_targets()),
    "encoding": tuple(_encodings()),
}
