"""An upstream on loopback that sends exactly the bytes of its script, also what no server should.

    async def script(visit: Visit) -> None:
        await visit.send(head(200, "text/event-stream", CHUNKED))
        await visit.send(chunk(b"data: ..."))
        visit.reset()

    async with Upstream(script) as upstream:
        ... upstream.url, upstream.visits

A connection stays open for the next request unless the script closes or resets it.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Self

from multidict import CIMultiDict

# What no client may ever see, planted wherever an upstream can say something.
CANARY: Final = "CANARY-org-9f2c"

# Longer than anything here takes on a machine that has much else to do: only a hang reaches it.
PATIENCE: Final = 90.0


class Visit:
    """One request as it came, and the raw way to answer it."""

    def __init__(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.head = head
        first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        self.method, self.target, self.version = first.split(" ")
        pairs = (line.partition(": ") for line in lines)
        self.headers: CIMultiDict[str] = CIMultiDict((name, value) for name, _, value in pairs)
        self.closed = False
        self.ended = asyncio.Event()  # the script has come to its end, or was cut off
        self._reader = reader
        self._writer = writer
        self._body: bytes | None = None

    async def body(self) -> bytes:
        """Read the whole request body."""
        if self._body is None:
            self._body = b"".join([piece async for piece in self.pieces()])
        return self._body

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the request body as it comes."""
        self._body = b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(await self._reader.readline(), 16):
                yield await self._reader.readexactly(size)
                await self._reader.readline()
            await self._reader.readline()
            return
        left = int(self.headers.get("Content-Length", "0"))
        while left:
            piece = await self._reader.read(min(left, 65536))
            if not piece:
                raise ConnectionResetError
            left -= len(piece)
            yield piece

    async def send(self, *pieces: bytes) -> None:
        """Send bytes as they are, each piece on its own."""
        for piece in pieces:
            self._writer.write(piece)
            await self._writer.drain()

    def take_nothing(self) -> None:
        """Read no more of the request."""
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]

    async def left(self) -> None:
        """Wait until the peer closes the connection."""
        with suppress(ConnectionError):
            while await self._reader.read(65536):
                pass

    def close(self) -> None:
        """End the connection cleanly."""
        self.closed = True
        self._writer.close()

    def reset(self) -> None:
        """End the connection with a RST."""
        self.closed = True
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


Script = Callable[[Visit], Awaitable[None]]


class Upstream:
    """Listens while its block runs, and follows its script at each request."""

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None) -> None:
        self.visits: list[Visit] = []
        self.visited = asyncio.Event()
        self.connections = 0
        self.port = 0
        self._script = script
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def visit(self) -> Visit:
        """The only visit."""
        (visit,) = self.visits
        return visit

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        # A closed connection is what many scripts are about; a test that needs the bytes
        # of a request misses them in `visits`.
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._answer(reader, writer):
                pass
        self._tasks.discard(task)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        visit = Visit(await reader.readuntil(b"\r\n\r\n"), reader, writer)
        self.visits.append(visit)
        self.visited.set()
        try:
            await self._script(visit)
            if not visit.closed:
                await visit.body()
        finally:
            visit.ended.set()
        return not visit.closed

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, ssl=self._tls, limit=2**20
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=PATIENCE)


def head(
    status: int = 200, content_type: str = "application/json", *framing: str, **headers: str
) -> bytes:
    """Write the head of an answer.

    framing: header lines as they are. In other headers' names underscores stand for hyphens.
    """
    named = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    first = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"
    lines = [first, f"Content-Type: {content_type}", *framing, *named, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def answer(
    body: bytes, status: int = 200, content_type: str = "application/json", **headers: str
) -> bytes:
    """Write a whole answer."""
    return head(status, content_type, f"Content-Length: {len(body)}", **headers) + body


def chunk(data: bytes) -> bytes:
    """Frame one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK: Final = b"0\r\n\r\n"
CHUNKED: Final = "Transfer-Encoding: chunked"
STREAM_HEAD: Final = head(200, "text/event-stream", CHUNKED)
STREAM_HEAD_UNTIL_CLOSE: Final = head(200, "text/event-stream", Connection="close")


def says(raw: bytes) -> Script:
    """Always send `raw`, whatever was asked."""

    async def script(visit: Visit) -> None:
        await visit.body()
        await visit.send(raw)

    return script


def says_json(value: object, status: int = 200, **headers: str) -> Script:
    """Always answer with `value`."""
    return says(answer(json.dumps(value).encode(), status, **headers))


def streams(*events: bytes) -> Script:
    """Always answer with a whole event stream, each event in a chunk of its own."""

    async def script(visit: Visit) -> None:
        await visit.body()
        await visit.send(STREAM_HEAD, *map(chunk, events), LAST_CHUNK)

    return script


def event(value: dict[str, Any], *, named: bool = True) -> bytes:
    """Write one event, with its type as its name."""
    name = f"event: {value['type']}\n" if named and "type" in value else ""
    return f"{name}data: {json.dumps(value)}\n\n".encode()


# A short Responses stream

RESPONSE: Final[dict[str, Any]] = {
    "id": "resp_recorded",
    "object": "response",
    "created_at": 1_760_000_000,
    "status": "in_progress",
    "model": "model-1",
    "output": [],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "error": None,
}


def created(sequence: int = 0) -> bytes:
    return event({"type": "response.created", "sequence_number": sequence, "response": RESPONSE})


def in_progress(sequence: int = 1) -> bytes:
    return event(
        {"type": "response.in_progress", "sequence_number": sequence, "response": RESPONSE}
    )


def delta(text: str, sequence: int = 2) -> bytes:
    return event(
        {
            "type": "response.output_text.delta",
            "sequence_number": sequence,
            "item_id": "msg_1",
            "output_index": 0,
            "content_index": 0,
            "delta": text,
            "logprobs": [],
        }
    )


def completed(sequence: int = 3) -> bytes:
    response = RESPONSE | {"status": "completed"}
    return event({"type": "response.completed", "sequence_number": sequence, "response": response})


def error_event(code: str, sequence: int = 2, message: str = CANARY) -> bytes:
    error = {"type": "server_error", "code": code, "message": message, "param": None}
    return event({"type": "error", "error": error, "sequence_number": sequence})


# A short Chat Completions stream


def chat_chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return event(
        {
            "id": "chatcmpl-recorded",
            "object": "chat.completion.chunk",
            "created": 1_760_000_000,
            "model": "model-1",
            "choices": [choice],
        }
    )


CHAT_ROLE: Final = chat_chunk({"role": "assistant", "content": ""})
CHAT_FINISH: Final = chat_chunk({}, "stop")
DONE: Final = b"data: [DONE]\n\n"


def chat_text(text: str) -> bytes:
    return chat_chunk({"content": text})


CHAT_OBJECT: Final[dict[str, Any]] = {
    "id": "chatcmpl-recorded",
    "object": "chat.completion",
    "created": 1_760_000_000,
    "model": "model-1",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello."},
            "finish_reason": "stop",
        }
    ],
}
