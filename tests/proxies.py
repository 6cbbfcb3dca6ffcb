"""The proxy in this process, and a client that can send any bytes and reads the raw answer."""

from __future__ import annotations

import asyncio
import io
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pytest
from multidict import CIMultiDict

from proxy.app import Running, serving
from proxy.core.table import Table
from proxy.core.table_file import load_checked
from proxy.operate.log import StructuredLog
from proxy.settings import read_settings
from proxy.transport.server import Protocol
from proxy.transport.wire import Wire
from tests.upstreams import PATIENCE, Script, Upstream

RESPONSES = "/v1/responses"
CHAT = "/v1/chat/completions"


@dataclass(slots=True)
class Answer:
    """An answer as it came. whole: its body ended as its framing says."""

    status: int
    headers: CIMultiDict[str]
    body: bytes
    whole: bool
    raw: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        error = self.json()["error"]
        assert isinstance(error, dict)
        return error

    @property
    def events(self) -> list[Any]:
        return events_of(self.body)


def events_of(body: bytes) -> list[Any]:
    """Read the data of a well-formed event stream, JSON parsed where it is JSON."""
    assert body == b"" or body.endswith(b"\n\n"), "the last event is not finished"
    found: list[Any] = []
    for block in body.decode().split("\n\n"):
        data = [line[6:] for line in block.split("\n") if line.startswith("data: ")]
        if data:
            text = "\n".join(data)
            found.append(text if text == "[DONE]" else json.loads(text))
    return found


class Client:
    """One connection to the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._raw = b""

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def ask(
        self,
        method: str = "POST",
        target: str = RESPONSES,
        body: bytes = b"",
        **headers: str,
    ) -> Answer:
        """Send a request and read its answer."""
        await self.send(request(method, target, body, **headers))
        return await self.answer(to=method)

    async def head(self) -> tuple[int, CIMultiDict[str]]:
        """Read an answer's head."""
        async with asyncio.timeout(PATIENCE):
            raw = await self.reader.readuntil(b"\r\n\r\n")
        self._raw = raw
        first, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
        version, status, _ = first.split(" ", 2)
        assert version in ("HTTP/1.0", "HTTP/1.1")
        pairs = (line.partition(": ") for line in lines)
        return int(status), CIMultiDict((name, value) for name, _, value in pairs)

    async def answer(self, *, to: str = "POST") -> Answer:
        """Read a whole answer, or as much of it as comes."""
        status, headers = await self.head()
        body, whole = b"", True
        if to != "HEAD" and status not in (204, 304) and status >= 200:
            async with asyncio.timeout(PATIENCE):
                body, whole = await self._body(headers)
        return Answer(status, headers, body, whole, self._raw)

    async def _body(self, headers: CIMultiDict[str]) -> tuple[bytes, bool]:
        body = b""
        try:
            if headers.get("Transfer-Encoding") == "chunked":
                while size := int(await self._exactly(until=b"\r\n"), 16):
                    body += await self._exactly(size)
                    await self._exactly(2)
                await self._exactly(2)
            elif "Content-Length" in headers:
                length = int(headers["Content-Length"])
                while len(body) < length:
                    body += await self._some(length - len(body))
            else:
                while piece := await self.reader.read(65536):
                    self._raw += piece
                    body += piece
        except (asyncio.IncompleteReadError, ConnectionError):
            return body, False
        return body, True

    async def _exactly(self, size: int = 0, until: bytes = b"") -> bytes:
        read = self.reader.readuntil(until) if until else self.reader.readexactly(size)
        piece = await read
        self._raw += piece
        return piece

    async def _some(self, size: int) -> bytes:
        piece = await self.reader.read(size)
        if not piece:
            raise ConnectionResetError
        self._raw += piece
        return piece

    async def until(self, text: bytes) -> bytes:
        """Read until `text` has come."""
        async with asyncio.timeout(PATIENCE):
            return await self.reader.readuntil(text)

    async def rest(self) -> bytes:
        """Read until the connection ends."""
        async with asyncio.timeout(PATIENCE):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    def leave(self) -> None:
        """Close the connection at once."""
        self.writer.transport.abort()


def request(
    method: str = "POST", target: str = RESPONSES, body: bytes = b"", **headers: str
) -> bytes:
    """Write a request; underscores in a header's name stand for hyphens."""
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


class Proxy:
    """A running proxy, its log and its clients."""

    def __init__(self, running: Running, out: io.StringIO) -> None:
        self.running = running
        self.port = running.address.port
        self.url = f"http://{running.address}"
        self._out = out
        self._clients: list[Client] = []

    async def connect(self) -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**20)
        client = Client(reader, writer)
        self._clients.append(client)
        return client

    async def ask(
        self, method: str = "POST", target: str = RESPONSES, body: bytes = b"", **headers: str
    ) -> Answer:
        """Send one request on a connection of its own."""
        client = await self.connect()
        answer = await client.ask(method, target, body, **headers)
        client.leave()
        return answer

    async def send(self, raw: bytes) -> Answer:
        """Send any bytes on a connection of its own."""
        client = await self.connect()
        await client.send(raw)
        answer = await client.answer()
        client.leave()
        return answer

    @property
    def log(self) -> str:
        return self._out.getvalue()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.splitlines()]

    async def exchanges(self, count: int = 1) -> list[dict[str, Any]]:
        """Wait until the log has the lines of so many exchanges, and return them."""
        async with asyncio.timeout(PATIENCE):
            while True:
                found = [line for line in self.lines() if line["event"] == "exchange"]
                if len(found) >= count and not self.running.relay.running:
                    assert len(found) == count, found
                    return found
                await asyncio.sleep(0.01)

    async def exchange(self) -> dict[str, Any]:
        """Wait for the line of the only exchange."""
        (line,) = await self.exchanges()
        return line

    def leave(self) -> None:
        for client in self._clients:
            client.leave()


def send_little(patch: pytest.MonkeyPatch, side: type[Protocol | Wire]) -> None:
    """Let the kernel take as little as it can of what the proxy sends on one of its sides."""
    made = side.connection_made

    def narrow(protocol: Any, transport: asyncio.BaseTransport) -> None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        made(protocol, transport)

    patch.setattr(side, "connection_made", narrow)


@lru_cache
def shipped() -> Table:
    """The shipped table, read once."""
    return load_checked(None)


@asynccontextmanager
async def proxy_for(url: str, **settings: Any) -> AsyncIterator[Proxy]:
    """Run the proxy in front of `url`. The gate is off and the drain short unless told."""
    out = io.StringIO()
    given: dict[str, Any] = {"gate": 0, "drain_timeout": 0.1, "listen": "127.0.0.1:0"}
    chosen = read_settings(given | settings | {"upstream": url})
    log = StructuredLog("json", chosen.log_originals, out)
    async with serving(chosen, shipped(), log) as running:
        proxy = Proxy(running, out)
        try:
            yield proxy
        finally:
            proxy.leave()


@asynccontextmanager
async def relaying(script: Script, **settings: Any) -> AsyncIterator[tuple[Upstream, Proxy]]:
    """Run an upstream that follows `script`, and the proxy in front of it."""
    async with Upstream(script) as upstream, proxy_for(upstream.url, **settings) as proxy:
        yield upstream, proxy
