"""How a provider writes: one answer, piece by piece, as either API has it.

Rule 1. The same words give the same bytes: ids and times are fixed.
Rule 2. Events are framed as providers frame them, so that a stream that goes well can pass
        a proxy byte for byte.
"""

from __future__ import annotations

import json
from typing import Any, Final, Protocol

Json = dict[str, Any]

_CREATED: Final = 1_763_474_589


class Writer(Protocol):
    """Writes one answer."""

    def begin(self) -> bytes:
        """Write what comes before the first word."""

    def tool_failed(self, error: str) -> bytes:
        """Write a tool call that failed on the way to the answer."""

    def word(self, text: str) -> bytes:
        """Write the next piece of the answer."""

    def error(self, error: Json) -> bytes:
        """Write an error, and whatever this API sends after one."""

    def end(self) -> bytes:
        """Write the end of an answer that went well."""

    def whole(self, text: str) -> bytes:
        """Write the answer as one JSON object."""


def encode(value: object) -> bytes:
    """Write JSON as providers do: compact, in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


class ResponsesWriter:
    """The Responses API: numbered events around one response."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._sequence = 0
        self._output: list[Json] = []
        self._text = ""

    def begin(self) -> bytes:
        """Write `response.created` and `response.in_progress`."""
        response = self._response("in_progress")
        created = self._event("response.created", response=response)
        return created + self._event("response.in_progress", response=response)

    def tool_failed(self, error: str) -> bytes:
        """Write a failed call of a tool server."""
        item = {
            "id": "mcp_demo",
            "type": "mcp_call",
            "server_label": "tickets",
            "name": "search",
            "arguments": "{}",
            "output": None,
            "error": {"type": "http_error", "code": 502, "message": error},
            "status": "failed",
        }
        self._output.append(item)
        return self._event("response.output_item.done", output_index=0, item=item)

    def word(self, text: str) -> bytes:
        """Write a delta; before the first one, open the message."""
        out = b""
        if not self._text:
            item, part = self._message("", "in_progress")
            out = self._event("response.output_item.added", **self._index(), item=item)
            out += self._event("response.content_part.added", **self._place(), part=part)
        self._text += text
        delta = {"delta": text, "logprobs": []}
        return out + self._event("response.output_text.delta", **self._place(), **delta)

    def error(self, error: Json) -> bytes:
        """Write an `error` event and `response.failed`: one fault, told twice."""
        said = {"code": error.get("code"), "message": error["message"]}
        failed = {**self._response("failed"), "error": said}
        told = self._event("error", error=error)
        return told + self._event("response.failed", response=failed)

    def end(self) -> bytes:
        """Close the message and the response."""
        item, part = self._message(self._text, "completed")
        done = {"text": self._text, "logprobs": []}
        out = self._event("response.output_text.done", **self._place(), **done)
        out += self._event("response.content_part.done", **self._place(), part=part)
        out += self._event("response.output_item.done", **self._index(), item=item)
        self._output.append(item)
        return out + self._event("response.completed", response=self._response("completed"))

    def whole(self, text: str) -> bytes:
        """Write the response object."""
        self._output.append(self._message(text, "completed")[0])
        return encode(self._response("completed"))

    def _index(self) -> Json:
        return {"output_index": len(self._output)}

    def _place(self) -> Json:
        return {"item_id": "msg_demo", **self._index(), "content_index": 0}

    def _message(self, text: str, status: str) -> tuple[Json, Json]:
        part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        content = [part] if status == "completed" else []
        item = {"id": "msg_demo", "type": "message", "role": "assistant"}
        return {**item, "status": status, "content": content}, part

    def _response(self, status: str) -> Json:
        return {
            "id": "resp_demo",
            "object": "response",
            "created_at": _CREATED,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "model": self._model,
            "output": list(self._output),
            "parallel_tool_calls": True,
            "temperature": 1.0,
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
        }

    def _event(self, kind: str, **fields: object) -> bytes:
        data = encode({"type": kind, "sequence_number": self._sequence, **fields})
        self._sequence += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


class ChatWriter:
    """Chat Completions: chunks without names, and `[DONE]`."""

    def __init__(self, model: str) -> None:
        self._model = model

    def begin(self) -> bytes:
        """Write the chunk that names the role."""
        return self._chunk({"role": "assistant", "content": ""})

    def tool_failed(self, error: str) -> bytes:
        """Write nothing: here it is the client that runs the tools."""
        del error
        return b""

    def word(self, text: str) -> bytes:
        """Write a chunk with content."""
        return self._chunk({"content": text})

    def error(self, error: Json) -> bytes:
        """Write an error chunk and `[DONE]`, which many servers send after it."""
        return _data(encode({"error": error})) + _data(b"[DONE]")

    def end(self) -> bytes:
        """Write the `finish_reason` and `[DONE]`."""
        return self._chunk({}, "stop") + _data(b"[DONE]")

    def whole(self, text: str) -> bytes:
        """Write the completion object."""
        message = {"role": "assistant", "content": text}
        return self._object("chat.completion", {"message": message, "finish_reason": "stop"})

    def _chunk(self, delta: Json, finish: str | None = None) -> bytes:
        choice = {"delta": delta, "finish_reason": finish}
        return _data(self._object("chat.completion.chunk", choice))

    def _object(self, kind: str, choice: Json) -> bytes:
        head = {"id": "chatcmpl-demo", "object": kind, "created": _CREATED, "model": self._model}
        return encode({**head, "choices": [{"index": 0, **choice}]})


def _data(data: bytes) -> bytes:
    return b"data: %b\n\n" % data
